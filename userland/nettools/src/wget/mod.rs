//! wget: fetches URLs into files.
//!
//! Output and exit status follow GNU wget: 3 for files, 4 for the network, 5 for
//! TLS, 6 for refused passwords, 8 for errors that the server tells. A transfer
//! that breaks off goes on where it was, if the server's file is still the same
//! one; what is not whole in the end is an error.

mod options;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Args;
use crate::cli::{Failure, Message as _, OrFail, finish};
use crate::http::range::{Resume, resume};
use crate::http::url::Url;
use crate::http::{self, Body, Client, HttpError, Request, Response, Step};
use crate::progress::{Progress, Style, human};
use crate::sys::is_terminal;
use options::{Options, Saying, USAGE};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

pub fn main(args: Args) -> i32 {
    let options = match options::read(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return 0;
        }
        Err(failure) => return finish("wget", Err(failure)),
    };
    let fetcher = Fetcher::new(options);
    let mut worst = 0;
    for (i, url) in fetcher.options.urls.iter().enumerate() {
        let status = match fetcher.fetch(url, i == 0) {
            Ok(()) => 0,
            Err(failure) => {
                if fetcher.options.saying != Saying::Nothing {
                    eprintln!("wget: {}", failure.message);
                }
                failure.status
            }
        };
        // Of several the lower number counts, as in GNU wget.
        if status != 0 && (worst == 0 || status < worst) {
            worst = status;
        }
    }
    worst
}

struct Fetcher {
    options: Options,
    client: Client,
}

/// Where a body goes.
enum Target {
    Standard,
    /// The file, and whether there is more to come behind what it has.
    File(PathBuf),
}

/// What one try came to.
enum Tried {
    Done,
    /// Nothing to do: it was there.
    Complete,
    /// May work next time.
    Again(Failure),
}

/// What is known of the resource from an earlier try.
#[derive(Default)]
struct Known {
    /// Strong ETag, or date: a part of another version must not be appended.
    validator: Option<String>,
    /// Bytes that this run has put into the file.
    received: bool,
}

impl Fetcher {
    fn new(mut options: Options) -> Fetcher {
        let settings = std::mem::take(&mut options.settings);
        Fetcher {
            options,
            client: Client::new(settings),
        }
    }

    fn say(&self, text: impl std::fmt::Display) {
        if self.options.saying == Saying::All {
            eprintln!("{text}");
        }
    }

    fn fetch(&self, text: &str, first: bool) -> Result<(), Failure> {
        let url = Url::parse(text).or_fail_at(1, text)?;
        let target = self.target(&url);
        if let Target::File(path) = &target
            && self.options.keep
            && path.exists()
        {
            self.say(format_args!(
                "File '{}' already there; not retrieving.",
                path.display()
            ));
            return Ok(());
        }
        // With -O files of several URLs are put one behind the other.
        if let (Target::File(path), Some(_), false) =
            (&target, &self.options.output, self.options.resume)
            && first
        {
            File::create(path).or_fail_at(3, path.display())?;
        }
        let mut known = Known::default();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_once(&url, &target, &mut known)? {
                Tried::Done | Tried::Complete => return Ok(()),
                Tried::Again(failure) => {
                    if tries == self.options.tries {
                        return Err(failure);
                    }
                    let pause = Duration::from_secs(tries).min(MAX_PAUSE);
                    self.say(format_args!("{}; trying again.", failure.message));
                    std::thread::sleep(pause);
                }
            }
        }
    }

    fn target(&self, url: &Url) -> Target {
        match self.options.output.as_deref() {
            Some("-") => Target::Standard,
            Some(name) => Target::File(name.into()),
            None => {
                let name = url.file_name().unwrap_or_else(|| "index.html".into());
                let folder = self.options.folder.clone().unwrap_or_default();
                let path = folder.join(name);
                match self.options.resume || self.options.keep {
                    true => Target::File(path),
                    false => Target::File(unused(&path)),
                }
            }
        }
    }

    /// Whether several URLs go into one file, one behind the other.
    fn shared(&self) -> bool {
        let options = &self.options;
        options.output.is_some() && options.urls.len() > 1 && !options.resume
    }

    /// Bytes that need not be fetched.
    fn offset(&self, target: &Target, known: &Known) -> u64 {
        let wanted = self.options.resume || (known.received && !self.shared());
        match target {
            Target::File(path) if wanted => std::fs::metadata(path).map_or(0, |meta| meta.len()),
            _ => 0,
        }
    }

    fn try_once(&self, url: &Url, target: &Target, known: &mut Known) -> Result<Tried, Failure> {
        let offset = self.offset(target, known);
        let mut response = match self.follow(url, offset, known) {
            Ok(response) => response,
            Err(error) => return judged(error),
        };
        let range = response.header("content-range");
        let resumed = match offset {
            0 => Resume::Restart,
            offset => resume(offset, response.status, range),
        };
        let status = response.status;
        match resumed {
            Resume::Complete => {
                self.say("The file is already fully retrieved; nothing to do.");
                return Ok(Tried::Complete);
            }
            Resume::Mismatch => {
                let text = "the server's file does not continue the one here";
                return Err(Failure::new(8, text));
            }
            _ => {}
        }
        if !(200..300).contains(&status) {
            let reason = reason(&response);
            let failure = Failure::new(
                if status == 401 { 6 } else { 8 },
                format!("server returned error: {status} {reason}"),
            );
            return match status {
                // Busy, not wrong.
                429 | 503 if self.options.tries != 1 && known.received => Ok(Tried::Again(failure)),
                _ => Err(failure),
            };
        }
        if self.options.spider {
            self.say("Remote file exists.");
            return Ok(Tried::Done);
        }
        let (start, total) = match resumed {
            Resume::Append(total) => (
                offset,
                total.or(response.length.map(|l| l.saturating_add(offset))),
            ),
            _ => (0, response.length),
        };
        known.validator = validator(&response);
        self.announce(&response, total, target);
        self.save(&mut response, target, start, total, known)
    }

    /// Sends the request, to where redirections lead in the end.
    fn follow(&self, url: &Url, offset: u64, known: &Known) -> Result<Response, HttpError> {
        let options = &self.options;
        let mut url = url.clone();
        let origin = url.clone();
        let method = options.method.as_deref();
        let default = if options.spider { "HEAD" } else { "GET" };
        let mut method = method.unwrap_or(default).to_owned();
        let mut body = options.body.as_ref();
        for _ in 0..=options.max_redirects {
            self.say(format_args!("--{}--  {url}", now()));
            let mut headers = options.headers.clone();
            if body.is_none() {
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            }
            let ours = url.same_server(&origin);
            if !ours {
                headers.retain(|(name, _)| {
                    !name.eq_ignore_ascii_case("authorization")
                        && !name.eq_ignore_ascii_case("cookie")
                });
            }
            let user = url.user.clone().or(options.user.clone().filter(|_| ours));
            if let Some(user) = user {
                let word = url.password.clone().filter(|_| url.user.is_some());
                let word = word.or(options.password.clone()).unwrap_or_default();
                headers.push(("Authorization".into(), Some(http::basic(&user, &word))));
            }
            if offset > 0 {
                headers.push(("Range".into(), Some(format!("bytes={offset}-"))));
                if let Some(validator) = &known.validator {
                    headers.push(("If-Range".into(), Some(validator.clone())));
                }
            }
            let response = self.client.send(Request {
                method: &method,
                url: &url,
                headers,
                body: body.map_or(Body::None, |body| Body::Bytes(body.clone())),
            })?;
            self.say(format_args!(
                "HTTP request sent, awaiting response... {} {}",
                response.status,
                reason(&response)
            ));
            if options.show_headers {
                let head = String::from_utf8_lossy(&response.head);
                for line in head.lines().filter(|line| !line.is_empty()) {
                    eprintln!("  {line}");
                }
            }
            let Some(to) = response.redirection() else {
                return Ok(response);
            };
            self.say(format_args!("Location: {to} [following]"));
            let next = url
                .join(to)
                .map_err(|why| HttpError::new(Step::Protocol, why))?;
            // 301 and 302 by custom, 303 by definition.
            if matches!(response.status, 301..=303) && method != "HEAD" {
                method = "GET".into();
                body = None;
            }
            url = next;
        }
        let text = format!("{} redirections exceeded.", options.max_redirects);
        Err(HttpError::new(Step::Protocol, text))
    }

    fn announce(&self, response: &Response, total: Option<u64>, target: &Target) {
        let kind = response.header("content-type").unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("");
        match total {
            Some(total) => self.say(format_args!("Length: {total} ({}) [{kind}]", human(total))),
            None => self.say(format_args!("Length: unspecified [{kind}]")),
        }
        match target {
            Target::Standard => self.say("Saving to: 'STDOUT'"),
            Target::File(path) => self.say(format_args!("Saving to: '{}'", path.display())),
        }
        self.say("");
    }

    fn save(
        &self,
        response: &mut Response,
        target: &Target,
        start: u64,
        total: Option<u64>,
        known: &mut Known,
    ) -> Result<Tried, Failure> {
        let (mut out, name): (Box<dyn Write>, String) = match target {
            Target::Standard => (Box::new(io::stdout()), "-".into()),
            Target::File(path) => {
                if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
                    std::fs::create_dir_all(folder).or_fail_at(3, folder.display())?;
                }
                let appended = start > 0 || self.shared();
                let file = match appended {
                    true => OpenOptions::new().append(true).create(true).open(path),
                    false => File::create(path),
                };
                (
                    Box::new(file.or_fail_at(3, path.display())?),
                    path.display().to_string(),
                )
            }
        };
        let visible = is_terminal(2) && self.options.saying == Saying::All;
        let short = Path::new(&name)
            .file_name()
            .map_or(name.as_str().into(), |n| n.to_string_lossy());
        let style = match visible || self.options.progress {
            true => Style::Bar(short.into_owned()),
            false => Style::None,
        };
        let mut progress = Progress::new(style, start, total, false);
        let mut buffer = vec![0; CHUNK_BYTES];
        let error = loop {
            match response.read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) => {
                    out.write_all(&buffer[..count]).map_err(|e| {
                        Failure::new(3, format!("cannot write to '{name}' ({})", e.message()))
                    })?;
                    known.received = true;
                    progress.add(count as u64);
                }
                Err(error) => break Some(error),
            }
        };
        out.flush().or_fail_at(3, &name)?;
        progress.finish();
        drop(out);
        if let Some(error) = error {
            // What went to standard output, or behind other files, cannot be taken back.
            let once = matches!(target, Target::Standard) || self.shared();
            return match judged(error)? {
                Tried::Again(failure) if once => Err(failure),
                other => Ok(other),
            };
        }
        if let Target::File(path) = target
            && self.options.output.is_none()
        {
            keep_date(path, response);
        }
        let all = start + progress.bytes();
        match self.options.saying {
            Saying::Nothing => {}
            Saying::Little => eprintln!("{} -> \"{name}\" [{all}]", now()),
            Saying::All => eprintln!(
                "{} ({}B/s) - '{name}' saved [{all}{}]\n",
                now(),
                human(progress.average() as u64),
                total.map_or(String::new(), |total| format!("/{total}"))
            ),
        }
        Ok(Tried::Done)
    }
}

/// What an error means: another try, or the end.
fn judged(error: HttpError) -> Result<Tried, Failure> {
    let status = match error.step {
        Step::Url => 1,
        Step::CaFile | Step::Handshake | Step::Certificate => 5,
        Step::Protocol => 8,
        _ => 4,
    };
    let failure = Failure::new(status, &error.text);
    match error.step {
        Step::Timeout | Step::Empty | Step::Send | Step::Receive | Step::Partial => {
            Ok(Tried::Again(failure))
        }
        _ => Err(failure),
    }
}

/// What identifies this version of a resource (RFC 9110, 13.1.5: no weak tags).
fn validator(response: &Response) -> Option<String> {
    let tag = response.header("etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| response.header("last-modified"))
        .map(str::to_owned)
}

/// The words behind the status.
fn reason(response: &Response) -> String {
    let head = String::from_utf8_lossy(&response.head);
    let line = head.lines().next().unwrap_or("");
    line.splitn(3, ' ').nth(2).unwrap_or("").trim().to_owned()
}

/// `path`, or `path.1`, `path.2`...: the first that is not there.
fn unused(path: &Path) -> PathBuf {
    let mut candidate = path.to_owned();
    let mut number = 0u32;
    while candidate.symlink_metadata().is_ok() {
        number += 1;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        candidate = name.into();
    }
    candidate
}

/// Gives the file the date that the server's has.
fn keep_date(path: &Path, response: &Response) {
    let Some(seconds) = response.header("last-modified").and_then(http::date::parse) else {
        return;
    };
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // The bytes are what matters.
    let _ = OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(time));
}

fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    crate::ntp::date(since.as_secs())
        .trim_end_matches(" UTC")
        .to_owned()
}

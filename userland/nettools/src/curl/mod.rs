//! curl: transfers data from and to URLs (`http`, `https`, `file`).
//!
//! Messages and exit status are curl's. Not there: other protocols, HTTP/2,
//! compression, cookie jars, forms (`-F`).

mod body;
mod exchange;
mod options;
mod sink;
mod writeout;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Args;
use crate::cli::Message as _;
use crate::http::range;
use crate::http::url::{Url, decoded};
use crate::http::{self, Client, HttpError, Response, Step};
use crate::progress::{Progress, Style};
use crate::sys::is_terminal;
use options::{Asked, Options, Output, Resume, Upload};
use sink::Sink;
use writeout::{Facts, fill};

const CHUNK_BYTES: usize = 64 * 1024;
/// Longest pause that a server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What went wrong, by curl's number.
struct Trouble {
    code: i32,
    text: String,
}

impl Trouble {
    fn new(code: i32, text: impl std::fmt::Display) -> Trouble {
        Trouble {
            code,
            text: text.to_string(),
        }
    }
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Trouble {
        let code = match error.step {
            Step::Url if error.text.starts_with("Protocol") => 1,
            Step::Url => 3,
            Step::Proxy => 5,
            Step::Resolve => 6,
            Step::Connect => 7,
            Step::Protocol => 8,
            Step::Partial => 18,
            Step::Timeout => 28,
            Step::Handshake => 35,
            Step::Empty => 52,
            Step::Send => 55,
            Step::Receive => 56,
            Step::Certificate => 60,
            Step::CaFile => 77,
        };
        Trouble::new(code, error.text)
    }
}

pub fn main(args: Args) -> i32 {
    let mut options = match options::read(args) {
        Ok(Asked::Transfers(options)) => *options,
        Ok(Asked::Help) => {
            println!("{}", options::USAGE);
            return 0;
        }
        Ok(Asked::Version) => {
            println!(
                "curl {} (Oxbow) rustls\nProtocols: file http https",
                env!("CARGO_PKG_VERSION")
            );
            return 0;
        }
        Err(failure) => {
            eprintln!("curl: {}", failure.message);
            return failure.status;
        }
    };
    let settings = std::mem::take(&mut options.settings);
    let mut curl = Curl {
        options,
        client: Client::new(settings),
    };
    let mut status = 0;
    for i in 0..curl.options.urls.len() {
        status = curl.transfer(i);
    }
    status
}

struct Curl {
    options: Options,
    client: Client,
}

impl Curl {
    /// One URL with its retries; returns the exit status.
    fn transfer(&mut self, i: usize) -> i32 {
        let text = self.options.urls[i].clone();
        let mut retries = self.options.retry.count;
        let mut pause = Duration::from_secs(1);
        loop {
            let start = Instant::now();
            self.client.settings.deadline = self.options.max_time.map(|limit| start + limit);
            let mut facts = Facts {
                url: text.clone(),
                ..Facts::default()
            };
            let mut wait = None;
            let result = self.attempt(&text, i, &mut facts, start, &mut wait);
            facts.total = start.elapsed();
            if retries > 0 && self.worth_retrying(&result, facts.status) {
                retries -= 1;
                let pause_now = self.options.retry.delay.or(wait).unwrap_or(pause);
                if !self.options.silent || self.options.show_errors {
                    let what = match &result {
                        Err(trouble) => trouble.text.clone(),
                        Ok(()) => format!("HTTP error {}", facts.status),
                    };
                    eprintln!(
                        "Warning: Problem: {what}. Will retry in {} seconds. {retries} retries left.",
                        pause_now.as_secs_f64()
                    );
                }
                std::thread::sleep(pause_now);
                pause = (pause * 2).min(Duration::from_secs(600));
                continue;
            }
            let code = match result {
                Ok(()) => 0,
                Err(trouble) => {
                    if !self.options.silent || self.options.show_errors {
                        eprintln!("curl: ({}) {}", trouble.code, trouble.text);
                    }
                    facts.error = trouble.text;
                    trouble.code
                }
            };
            facts.exit_code = code;
            if let Some(format) = &self.options.write_out {
                print!("{}", fill(format, &facts));
                // A closed pipe is found by the next write.
                let _ = io::stdout().flush();
            }
            return code;
        }
    }

    fn worth_retrying(&self, result: &Result<(), Trouble>, status: u16) -> bool {
        let retry = &self.options.retry;
        let busy = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
        match result {
            Ok(()) => busy,
            Err(_) if retry.all => true,
            Err(Trouble { code: 28 | 6, .. }) => true,
            Err(Trouble { code: 7, .. }) => retry.refused,
            Err(Trouble { code: 22, .. }) => busy,
            Err(_) => false,
        }
    }

    fn attempt(
        &self,
        text: &str,
        i: usize,
        facts: &mut Facts,
        start: Instant,
        wait: &mut Option<Duration>,
    ) -> Result<(), Trouble> {
        let mut url =
            Url::parse(text).map_err(|why| Trouble::new(3, format!("URL rejected: {why}")))?;
        let path = self.path_for(&url, i)?;
        facts.file = path
            .as_ref()
            .map_or(String::new(), |p| p.display().to_string());
        let mut sink = Sink {
            path,
            file: None,
            create_folders: self.options.create_folders,
        };
        if url.scheme == "file" {
            facts.scheme = "file".into();
            return self.file_transfer(&url, &mut sink, facts);
        }
        self.shape(&mut url);
        let offset = self.offset(&sink)?;
        let mut response = self.follow(url, offset, &mut sink, facts, start)?;
        *wait = response
            .header("retry-after")
            .and_then(|value| value.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
        self.receive(&mut response, offset, &mut sink, facts)?;
        if self.options.remote_time
            && let Some(path) = &sink.path
            && let Some(time) = response.header("last-modified").and_then(http::date::parse)
            && let Ok(seconds) = u64::try_from(time)
        {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
            // The bytes are what matters.
            let _ = OpenOptions::new()
                .append(true)
                .open(path)
                .and_then(|f| f.set_modified(time));
        }
        if self.options.fail_with_body && response.status >= 400 {
            return Err(refused(response.status));
        }
        Ok(())
    }

    /// The file that a URL's body goes to; `None` for standard output.
    fn path_for(&self, url: &Url, i: usize) -> Result<Option<PathBuf>, Trouble> {
        let name = match self.options.outputs.get(i) {
            Some(Output::File(name)) if name == "-" => return Ok(None),
            Some(Output::File(name)) => name.clone(),
            Some(Output::RemoteName) => remote_name(url)?,
            None if self.options.remote_names => remote_name(url)?,
            None => return Ok(None),
        };
        let folder = self.options.folder.clone().unwrap_or_default();
        Ok(Some(folder.join(name)))
    }

    /// Puts what belongs there into the URL: data of -G, the name of -T.
    fn shape(&self, url: &mut Url) {
        match &self.options.upload {
            Upload::Bytes(data) if self.options.data_in_url => {
                let sign = if url.path.contains('?') { '&' } else { '?' };
                let text = String::from_utf8_lossy(data);
                let longer = format!("{}{sign}{text}", url.path);
                url.path = url.join(&longer).map_or(longer, |joined| joined.path);
            }
            Upload::File(name) if name != "-" && url.path.ends_with('/') => {
                let name = Path::new(name)
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                url.path += &name;
            }
            _ => {}
        }
    }

    fn offset(&self, sink: &Sink) -> Result<u64, Trouble> {
        match (self.options.resume, &sink.path) {
            (Resume::No, _) => Ok(0),
            (Resume::At(offset), _) => Ok(offset),
            (Resume::Auto, Some(path)) => match std::fs::metadata(path) {
                Ok(meta) => Ok(meta.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                Err(error) => Err(Trouble::new(23, error.message())),
            },
            (Resume::Auto, None) => Ok(0),
        }
    }

    fn meter_style(&self, sink: &Sink, upload: bool) -> Style {
        let options = &self.options;
        let to_terminal = sink.path.is_none() && is_terminal(1);
        if options.silent || options.no_meter || (to_terminal && !upload) || options.head {
            Style::None
        } else if options.bar {
            Style::Hashes
        } else {
            Style::Table
        }
    }

    fn receive(
        &self,
        response: &mut Response,
        offset: u64,
        sink: &mut Sink,
        facts: &mut Facts,
    ) -> Result<(), Trouble> {
        let status = response.status;
        let mut append = false;
        if offset > 0 && self.options.upload == Upload::Nothing && !self.options.head {
            match range::resume(offset, status, response.header("content-range")) {
                range::Resume::Append(_) => append = true,
                range::Resume::Complete => return Ok(()),
                _ if status >= 400 && status != 416 => {}
                _ => {
                    let text = "HTTP server does not seem to support byte ranges. Cannot resume.";
                    return Err(Trouble::new(33, text));
                }
            }
        }
        if self.options.fail && status >= 400 {
            return Err(refused(status));
        }
        let style = match response.length {
            _ if self.options.upload != Upload::Nothing => Style::None,
            _ => self.meter_style(sink, false),
        };
        let before = if append { offset } else { 0 };
        let total = response.length.map(|length| length.saturating_add(before));
        let mut progress = Progress::new(style, before, total, false);
        let mut buffer = vec![0; CHUNK_BYTES];
        let result = loop {
            match response.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(trouble) = sink.write(&buffer[..count], append) {
                        break Err(trouble);
                    }
                    progress.add(count as u64);
                }
                Err(error) => break Err(error.into()),
            }
        };
        facts.downloaded = progress.bytes();
        let result = result.and_then(|()| sink.finish(append));
        progress.finish();
        result
    }

    fn file_transfer(&self, url: &Url, sink: &mut Sink, facts: &mut Facts) -> Result<(), Trouble> {
        let path = decoded(url.path.split('?').next().unwrap_or(""));
        if let Upload::File(name) = &self.options.upload {
            let copied = match name.as_str() {
                "-" => File::create(&path).and_then(|mut to| io::copy(&mut io::stdin(), &mut to)),
                name => std::fs::copy(name, &path),
            };
            facts.uploaded =
                copied.map_err(|e| Trouble::new(26, format!("{name}: {}", e.message())))?;
            return Ok(());
        }
        let failed = |_| Trouble::new(37, format!("Couldn't open file {path}"));
        let mut file = File::open(&path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return Err(Trouble::new(37, format!("Couldn't open file {path}")));
        }
        if self.options.head {
            let text = format!(
                "Content-Length: {}\r\nAccept-ranges: bytes\r\n\r\n",
                meta.len()
            );
            return sink.write(text.as_bytes(), false);
        }
        let offset = self.offset(sink)?;
        if offset > 0 {
            let moved = io::Seek::seek(&mut file, io::SeekFrom::Start(offset));
            moved.map_err(|e| Trouble::new(36, e.message()))?;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return sink.finish(offset > 0),
                Ok(count) => {
                    facts.downloaded += count as u64;
                    sink.write(&buffer[..count], offset > 0)?;
                }
                Err(error) => return Err(Trouble::new(26, error.message())),
            }
        }
    }
}

fn refused(status: u16) -> Trouble {
    Trouble::new(22, format!("The requested URL returned error: {status}"))
}

fn remote_name(url: &Url) -> Result<String, Trouble> {
    url.file_name()
        .ok_or_else(|| Trouble::new(23, "Remote file name has no length"))
}

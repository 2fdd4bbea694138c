//! curl's command line.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Args;
use crate::cli::{Failure, OrFail, number, parser, seconds, text};
use crate::http::Settings;
use crate::sys::Family;

pub const USAGE: &str = "\
Usage: curl [options...] <url>...

 -#, --progress-bar         a bar instead of the table
 -4, -6                     use IPv4 or IPv6
 -A, --user-agent <name>
 -b, --cookie <data>        send this cookie
 -C, --continue-at <offset> resume (-: where the file ends)
 -d, --data <data>          POST; @file: its content; also --data-raw, --data-binary,
                            --data-urlencode, --json
 -D, --dump-header <file>   write the headers there
 -e, --referer <url>
 -f, --fail                 no output on server errors, exit 22; --fail-with-body
 -G, --get                  put --data into the URL
 -H, --header <line>        send a header (\"Name:\": leave it out)
 -i, --include              headers before the body
 -I, --head                 headers only
 -k, --insecure             trust any server
 -L, --location             follow redirections; --max-redirs, --location-trusted
 -m, --max-time <seconds>   for all of it; --connect-timeout
 -o, --output <file>        --output-dir, --create-dirs
 -O, --remote-name          name the file as the URL does; --remote-name-all
 -r, --range <range>
 -R, --remote-time          give the file the server's date
 -s, --silent               no progress and no errors; -S: but errors
 -T, --upload-file <file>   PUT
 -u, --user <user:password>
 -v, --verbose
 -w, --write-out <format>   print this at the end
 -x, --proxy <url>          --noproxy '*'
 -X, --request <method>
 --cacert <file>            trust these authorities
 --retry <number>           --retry-delay, --retry-connrefused, --retry-all-errors
 --url <url>";

/// Where a URL's body goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    File(String),
    RemoteName,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    Nothing,
    Bytes(Vec<u8>),
    /// `-T`; `-` is standard input.
    File(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    No,
    /// From where the file ends.
    Auto,
    At(u64),
}

/// When a failure is tried again.
#[derive(Debug, Default)]
pub struct Retry {
    pub count: u64,
    pub delay: Option<Duration>,
    pub refused: bool,
    pub all: bool,
}

pub struct Options {
    pub urls: Vec<String>,
    pub outputs: Vec<Output>,
    pub remote_names: bool,
    pub folder: Option<PathBuf>,
    pub create_folders: bool,
    pub remote_time: bool,
    pub dump_headers: Option<String>,
    pub include: bool,
    pub head: bool,
    pub silent: bool,
    pub show_errors: bool,
    pub bar: bool,
    pub no_meter: bool,
    pub verbose: bool,
    pub fail: bool,
    pub fail_with_body: bool,
    pub follow: bool,
    pub trust_location: bool,
    /// `None`: no limit.
    pub max_redirects: Option<u64>,
    pub method: Option<String>,
    pub upload: Upload,
    /// Whether the data makes it a POST.
    pub data_in_url: bool,
    /// Name and value; none: leave it out.
    pub headers: Vec<(String, Option<String>)>,
    pub agent: Option<String>,
    pub user: Option<String>,
    pub range: Option<String>,
    pub resume: Resume,
    pub write_out: Option<String>,
    pub max_time: Option<Duration>,
    pub retry: Retry,
    pub settings: Settings,
}

/// What a command line asks for.
pub enum Asked {
    Transfers(Box<Options>),
    Help,
    Version,
}

/// curl's own default.
const MAX_REDIRECTS: u64 = 50;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(300);

pub fn read(args: Args) -> Result<Asked, Failure> {
    let mut o = Options {
        urls: Vec::new(),
        outputs: Vec::new(),
        remote_names: false,
        folder: None,
        create_folders: false,
        remote_time: false,
        dump_headers: None,
        include: false,
        head: false,
        silent: false,
        show_errors: false,
        bar: false,
        no_meter: false,
        verbose: false,
        fail: false,
        fail_with_body: false,
        follow: false,
        trust_location: false,
        max_redirects: Some(MAX_REDIRECTS),
        method: None,
        upload: Upload::Nothing,
        data_in_url: false,
        headers: Vec::new(),
        agent: Some(concat!("curl/", env!("CARGO_PKG_VERSION")).into()),
        user: None,
        range: None,
        resume: Resume::No,
        write_out: None,
        max_time: None,
        retry: Retry::default(),
        settings: Settings {
            connect_timeout: Some(CONNECT_TIMEOUT),
            ..Settings::default()
        },
    };
    let mut args = parser(args);
    while let Some(arg) = args.next().or_fail(2)? {
        match arg {
            Short('#') | Long("progress-bar") => o.bar = true,
            Short('4') | Long("ipv4") => o.settings.family = Family::V4,
            Short('6') | Long("ipv6") => o.settings.family = Family::V6,
            Short('A') | Long("user-agent") => {
                o.agent = Some(text(&mut args, 2)?).filter(|agent| !agent.is_empty());
            }
            Short('b') | Long("cookie") => {
                let cookie = text(&mut args, 2)?;
                if !cookie.contains('=') {
                    return Err(Failure::new(2, "cookie files are not supported"));
                }
                o.headers.push(("Cookie".into(), Some(cookie)));
            }
            Short('C') | Long("continue-at") => {
                o.resume = match text(&mut args, 2)?.as_str() {
                    "-" => Resume::Auto,
                    offset => Resume::At(number(offset, 0..=u64::MAX).or_fail(2)?),
                };
            }
            Short('d') | Long("data" | "data-ascii") => {
                let value = text(&mut args, 2)?;
                let mut bytes = content(&value)?;
                if value.starts_with('@') {
                    bytes.retain(|b| !matches!(b, b'\r' | b'\n' | 0));
                }
                add_data(&mut o, &bytes);
            }
            Long("data-binary") => {
                let bytes = content(&text(&mut args, 2)?)?;
                add_data(&mut o, &bytes);
            }
            Long("data-raw") => {
                let bytes = text(&mut args, 2)?.into_bytes();
                add_data(&mut o, &bytes);
            }
            Long("data-urlencode") => {
                let bytes = url_encoded(&text(&mut args, 2)?)?;
                add_data(&mut o, bytes.as_bytes());
            }
            Long("json") => {
                let bytes = content(&text(&mut args, 2)?)?;
                for name in ["Content-Type", "Accept"] {
                    o.headers
                        .push((name.into(), Some("application/json".into())));
                }
                match &mut o.upload {
                    Upload::Bytes(data) => data.extend(bytes),
                    _ => o.upload = Upload::Bytes(bytes),
                }
            }
            Short('D') | Long("dump-header") => o.dump_headers = Some(text(&mut args, 2)?),
            Short('e') | Long("referer") => {
                let referer = text(&mut args, 2)?;
                o.headers.push(("Referer".into(), Some(referer)));
            }
            Short('f') | Long("fail") => o.fail = true,
            Long("fail-with-body") => o.fail_with_body = true,
            Short('G') | Long("get") => o.data_in_url = true,
            Short('H') | Long("header") => {
                let line = text(&mut args, 2)?;
                o.headers.extend(header(&line));
            }
            Short('i') | Long("include" | "show-headers") => o.include = true,
            Short('I') | Long("head") => o.head = true,
            Short('k') | Long("insecure") => o.settings.insecure = true,
            Short('L') | Long("location") => o.follow = true,
            Long("location-trusted") => (o.follow, o.trust_location) = (true, true),
            Long("max-redirs") => {
                o.max_redirects = match text(&mut args, 2)?.as_str() {
                    "-1" => None,
                    count => Some(number(count, 0..=u64::MAX).or_fail(2)?),
                };
            }
            Short('m') | Long("max-time") => {
                o.max_time = time_limit(&text(&mut args, 2)?)?;
            }
            Long("connect-timeout") => {
                let limit = time_limit(&text(&mut args, 2)?)?;
                o.settings.connect_timeout = limit.or(Some(CONNECT_TIMEOUT));
            }
            Short('o') | Long("output") => {
                o.outputs.push(Output::File(text(&mut args, 2)?));
            }
            Short('O') | Long("remote-name") => o.outputs.push(Output::RemoteName),
            Long("remote-name-all") => o.remote_names = true,
            Long("output-dir") => o.folder = Some(text(&mut args, 2)?.into()),
            Long("create-dirs") => o.create_folders = true,
            Short('r') | Long("range") => o.range = Some(text(&mut args, 2)?),
            Short('R') | Long("remote-time") => o.remote_time = true,
            Short('s') | Long("silent") => o.silent = true,
            Short('S') | Long("show-error") => o.show_errors = true,
            Long("no-progress-meter") => o.no_meter = true,
            Short('T') | Long("upload-file") => o.upload = Upload::File(text(&mut args, 2)?),
            Short('u') | Long("user") => o.user = Some(text(&mut args, 2)?),
            Short('v') | Long("verbose") => o.verbose = true,
            Short('w') | Long("write-out") => {
                let format = text(&mut args, 2)?;
                o.write_out = Some(match format.starts_with('@') {
                    true => String::from_utf8_lossy(&content(&format)?).into_owned(),
                    false => format,
                });
            }
            Short('x') | Long("proxy") => o.settings.proxy = Some(text(&mut args, 2)?),
            Long("noproxy") => match text(&mut args, 2)?.as_str() {
                "*" => o.settings.no_proxy = true,
                _ => {
                    return Err(Failure::new(
                        2,
                        "--noproxy: only '*' is supported; set no_proxy",
                    ));
                }
            },
            Short('X') | Long("request") => o.method = Some(text(&mut args, 2)?),
            Long("cacert") => o.settings.ca_file = Some(text(&mut args, 2)?.into()),
            Long("retry") => {
                o.retry.count = number(&text(&mut args, 2)?, 0..=u64::MAX).or_fail(2)?
            }
            Long("retry-delay") => o.retry.delay = time_limit(&text(&mut args, 2)?)?,
            Long("retry-connrefused") => o.retry.refused = true,
            Long("retry-all-errors") => o.retry.all = true,
            Long("url") => o.urls.push(text(&mut args, 2)?),
            // What is so anyway: no buffering, HTTP/1.1, TLS 1.2 at least, no file of defaults.
            Short('N' | 'q' | '1') => {}
            Long("no-buffer" | "disable" | "http1.1" | "tlsv1" | "tlsv1.2" | "path-as-is") => {}
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Value(url) => o.urls.push(url.string().or_fail(2)?),
            other => {
                let why = other.unexpected();
                let text = format!("{why}\ncurl: try 'curl --help' for more information");
                return Err(Failure::new(2, text));
            }
        }
    }
    if o.urls.is_empty() {
        let text = "no URL specified\ncurl: try 'curl --help' for more information";
        return Err(Failure::new(2, text));
    }
    if matches!(o.upload, Upload::File(_)) && o.head {
        return Err(Failure::new(
            2,
            "you can only select one HTTP request method",
        ));
    }
    Ok(Asked::Transfers(Box::new(o)))
}

/// 0 is no limit.
fn time_limit(text: &str) -> Result<Option<Duration>, Failure> {
    let limit = seconds(text).or_fail(2)?;
    Ok(Some(limit).filter(|limit| !limit.is_zero()))
}

/// The value itself, or after an `@` the content of a file.
fn content(value: &str) -> Result<Vec<u8>, Failure> {
    let Some(name) = value.strip_prefix('@') else {
        return Ok(value.as_bytes().to_vec());
    };
    let read = match name {
        "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        name => std::fs::read(name),
    };
    read.or_fail_at(26, format!("Failed to open {name}"))
}

/// Several pieces of data are joined as in a form.
fn add_data(options: &mut Options, bytes: &[u8]) {
    match &mut options.upload {
        Upload::Bytes(data) => {
            data.push(b'&');
            data.extend_from_slice(bytes);
        }
        _ => options.upload = Upload::Bytes(bytes.to_vec()),
    }
}

/// `name=content`, `=content`, `content` or `name@file`, encoded.
fn url_encoded(value: &str) -> Result<String, Failure> {
    let (name, bytes) = match value.find(['=', '@']) {
        Some(at) if value.as_bytes()[at] == b'=' => {
            (&value[..at], value.as_bytes()[at + 1..].to_vec())
        }
        Some(at) => (&value[..at], content(&value[at..])?),
        None => ("", value.as_bytes().to_vec()),
    };
    let mut out = match name {
        "" => String::new(),
        name => format!("{name}="),
    };
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out += &format!("%{byte:02X}"),
        }
    }
    Ok(out)
}

/// A line of `-H`: `Name: value`; `Name:` leaves out, `Name;` is empty.
fn header(line: &str) -> Option<(String, Option<String>)> {
    if let Some((name, value)) = line.split_once(':') {
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        return Some((name.trim().to_owned(), value));
    }
    let name = line.strip_suffix(';')?;
    Some((name.trim().to_owned(), Some(String::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, Failure> {
        let args = std::iter::once(&"curl")
            .chain(words)
            .map(Into::into)
            .collect();
        match read(args)? {
            Asked::Transfers(options) => Ok(*options),
            _ => panic!("help"),
        }
    }

    #[test]
    fn letters_bundle() {
        let o = options(&["-sSfLo", "file", "http://h/"]).expect("valid");
        assert!(o.silent && o.show_errors && o.fail && o.follow);
        assert_eq!(o.outputs, [Output::File("file".into())]);
        assert_eq!(o.urls, ["http://h/"]);
        let o = options(&["-C", "-", "-OXPUT", "u"]).expect("valid");
        assert_eq!((o.resume, o.method.as_deref()), (Resume::Auto, Some("PUT")));
        assert!(options(&[]).is_err() && options(&["--nonsense", "u"]).is_err());
    }

    #[test]
    fn data_is_joined() {
        let o = options(&["-d", "a=1", "-d", "b=2", "--data-urlencode", "c= &", "u"]);
        let upload = o.expect("valid").upload;
        assert_eq!(upload, Upload::Bytes(b"a=1&b=2&c=%20%26".to_vec()));
    }

    #[test]
    fn header_lines() {
        assert_eq!(header("A: b:c"), Some(("A".into(), Some("b:c".into()))));
        assert_eq!(header("A:"), Some(("A".into(), None)));
        assert_eq!(header("A;"), Some(("A".into(), Some(String::new()))));
        assert_eq!(header("A"), None);
    }
}

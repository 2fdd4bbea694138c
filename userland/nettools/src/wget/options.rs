//! wget's command line.

use std::fs::File;
use std::io::{self, BufRead as _, Read};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Args;
use crate::cli::{Failure, OrFail, number, parser, seconds, text};
use crate::http::Settings;
use crate::sys::Family;

pub const USAGE: &str = "\
Usage: wget [options] URL...

  -c                       continue a file that is partly there
  -i FILE                  take URLs from FILE, one per line (-: standard input)
  -nc                      do not fetch what is there already
  -O FILE                  write everything to FILE (-: standard output)
  -P DIR                   save under DIR
  -q, -nv                  say nothing, or little
  -S                       show the server's headers
  -T SECONDS               time limit for connecting and for silence (900)
  -t NUMBER                tries (20; 0: no end)
  -U AGENT                 User-Agent
  -4, -6                   use IPv4 or IPv6
  --spider                 only look whether it is there
  --header=LINE            send a header
  --post-data=STRING       POST; also --post-file=FILE
  --method=NAME            with --body-data=STRING or --body-file=FILE
  --user=NAME --password=WORD
  --referer=URL  --max-redirect=NUMBER (20)
  --no-check-certificate   trust any server
  --ca-certificate=FILE    trust these authorities
  --no-proxy               take no proxy from the environment";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    Nothing,
    Little,
    All,
}

pub struct Options {
    pub urls: Vec<String>,
    pub resume: bool,
    pub keep: bool,
    pub output: Option<String>,
    pub folder: Option<PathBuf>,
    pub saying: Saying,
    pub show_headers: bool,
    pub spider: bool,
    pub tries: u64,
    pub max_redirects: u64,
    pub method: Option<String>,
    pub body: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<String>)>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub progress: bool,
    pub settings: Settings,
}

pub fn read(args: Args) -> Result<Option<Options>, Failure> {
    let mut options = Options {
        urls: Vec::new(),
        resume: false,
        keep: false,
        output: None,
        folder: None,
        saying: Saying::All,
        show_headers: false,
        spider: false,
        tries: 20,
        max_redirects: 20,
        method: None,
        body: None,
        headers: vec![
            (
                "User-Agent".into(),
                Some(concat!("Wget/", env!("CARGO_PKG_VERSION")).into()),
            ),
            ("Accept".into(), Some("*/*".into())),
        ],
        user: None,
        password: None,
        progress: false,
        settings: Settings {
            connect_timeout: Some(Duration::from_secs(900)),
            idle_timeout: Some(Duration::from_secs(900)),
            ..Settings::default()
        },
    };
    let limit = |value: &str| -> Result<Option<Duration>, Failure> {
        let limit = seconds(value).or_fail(2)?;
        Ok(Some(limit).filter(|limit| !limit.is_zero()))
    };
    let mut args = parser(args);
    while let Some(arg) = args.next().or_fail(2)? {
        match arg {
            Short('c') | Long("continue") => options.resume = true,
            Short('i') | Long("input-file") => {
                let name = text(&mut args, 2)?;
                options.urls.extend(urls_in(&name).or_fail_at(3, &name)?);
            }
            // -nc, -nv and what is so already.
            Short('n') => match text(&mut args, 2)?.as_str() {
                "c" => options.keep = true,
                "v" => options.saying = Saying::Little,
                "d" | "H" => {}
                other => return Err(Failure::new(2, format!("invalid option -- 'n{other}'"))),
            },
            Long("no-clobber") => options.keep = true,
            Long("no-verbose") => options.saying = Saying::Little,
            Short('O') | Long("output-document") => options.output = Some(text(&mut args, 2)?),
            Short('P') | Long("directory-prefix") => {
                options.folder = Some(text(&mut args, 2)?.into());
            }
            Short('q') | Long("quiet") => options.saying = Saying::Nothing,
            Short('v') | Long("verbose") => options.saying = Saying::All,
            Short('S') | Long("server-response") => options.show_headers = true,
            Long("show-progress") => options.progress = true,
            Long("progress") => _ = text(&mut args, 2)?,
            Short('T') | Long("timeout") => {
                let limit = limit(&text(&mut args, 2)?)?;
                options.settings.connect_timeout = limit;
                options.settings.idle_timeout = limit;
            }
            Long("connect-timeout" | "dns-timeout") => {
                options.settings.connect_timeout = limit(&text(&mut args, 2)?)?;
            }
            Long("read-timeout") => options.settings.idle_timeout = limit(&text(&mut args, 2)?)?,
            Short('t') | Long("tries") => {
                options.tries = match text(&mut args, 2)?.as_str() {
                    "inf" => 0,
                    value => number(value, 0..=u64::MAX).or_fail(2)?,
                };
            }
            Short('U') | Long("user-agent") => {
                let agent = Some(text(&mut args, 2)?).filter(|a| !a.is_empty());
                set_header(&mut options.headers, "User-Agent", agent);
            }
            Long("referer") => {
                let referer = Some(text(&mut args, 2)?);
                set_header(&mut options.headers, "Referer", referer);
            }
            Long("header") => {
                let line = text(&mut args, 2)?;
                let (name, value) = line
                    .split_once(':')
                    .ok_or_else(|| format!("invalid header '{line}'"))
                    .or_fail(2)?;
                let value = Some(value.trim().to_owned()).filter(|v| !v.is_empty());
                set_header(&mut options.headers, name.trim(), value);
            }
            Short('4') | Long("inet4-only") => options.settings.family = Family::V4,
            Short('6') | Long("inet6-only") => options.settings.family = Family::V6,
            Long("spider") => options.spider = true,
            Long("post-data") => {
                options.body = Some(text(&mut args, 2)?.into_bytes());
                options.method.get_or_insert_with(|| "POST".into());
            }
            Long("post-file") => {
                options.body = Some(file_argument(&mut args)?);
                options.method.get_or_insert_with(|| "POST".into());
            }
            Long("method") => options.method = Some(text(&mut args, 2)?.to_ascii_uppercase()),
            Long("body-data") => options.body = Some(text(&mut args, 2)?.into_bytes()),
            Long("body-file") => options.body = Some(file_argument(&mut args)?),
            Long("user" | "http-user") => options.user = Some(text(&mut args, 2)?),
            Long("password" | "http-password") => options.password = Some(text(&mut args, 2)?),
            Long("max-redirect") => {
                options.max_redirects = number(&text(&mut args, 2)?, 0..=1000).or_fail(2)?;
            }
            Long("no-check-certificate") => options.settings.insecure = true,
            Long("ca-certificate") => {
                options.settings.ca_file = Some(text(&mut args, 2)?.into());
            }
            Long("no-proxy") => options.settings.no_proxy = true,
            Short('h') | Long("help") => return Ok(None),
            Value(url) => options.urls.push(url.string().or_fail(2)?),
            other => return Err(Failure::new(2, format!("{}\n{USAGE}", other.unexpected()))),
        }
    }
    if options.urls.is_empty() {
        return Err(Failure::new(2, format!("missing URL\n{USAGE}")));
    }
    if options.body.is_some() {
        let form = Some("application/x-www-form-urlencoded".to_owned());
        let given = options
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        if !given {
            options.headers.push(("Content-Type".into(), form));
        }
    }
    Ok(Some(options))
}

fn set_header(headers: &mut Vec<(String, Option<String>)>, name: &str, value: Option<String>) {
    // Those that are sent anyway are replaced, others may come several times.
    if matches!(
        name.to_ascii_lowercase().as_str(),
        "user-agent" | "accept" | "referer" | "host"
    ) {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }
    headers.push((name.to_owned(), value));
}

fn file_argument(args: &mut lexopt::Parser) -> Result<Vec<u8>, Failure> {
    let name = text(args, 2)?;
    std::fs::read(&name).or_fail_at(3, name)
}

fn urls_in(name: &str) -> io::Result<Vec<String>> {
    let reader: Box<dyn Read> = match name {
        "-" => Box::new(io::stdin()),
        name => Box::new(File::open(name)?),
    };
    let mut urls = Vec::new();
    for line in io::BufReader::new(reader).lines() {
        let line = line?;
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            urls.push(line.to_owned());
        }
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, Failure> {
        let args = std::iter::once(&"wget")
            .chain(words)
            .map(Into::into)
            .collect();
        read(args).map(|options| options.expect("no help asked for"))
    }

    #[test]
    fn options_are_read() {
        let o = options(&["-qO-", "-T", "5", "--header", "X-Y: z", "http://h/"]).expect("valid");
        assert_eq!(o.output.as_deref(), Some("-"));
        assert_eq!(o.saying, Saying::Nothing);
        assert_eq!(o.settings.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(o.headers.last(), Some(&("X-Y".into(), Some("z".into()))));
        assert!(options(&["-nc", "-c", "u"]).expect("valid").keep);
        assert_eq!(
            options(&["-nv", "u"]).expect("valid").saying,
            Saying::Little
        );
        assert!(options(&[]).is_err() && options(&["--nonsense", "u"]).is_err());
        assert!(options(&["-nx", "u"]).is_err());
    }

    #[test]
    fn own_headers_are_replaced() {
        let o = options(&["-U", "me", "--header=Accept: x", "u"]).expect("valid");
        let agents = o.headers.iter().filter(|(n, _)| n == "User-Agent").count();
        assert_eq!((agents, o.headers.len()), (1, 2));
    }
}

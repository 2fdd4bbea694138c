//! nslookup: what a name stands for, in sentences. Exit status 1 when it stands
//! for nothing or no server answered. Interactive use is not offered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Args;
use crate::cli::{Failure, Message as _, OrFail, Outcome, finish, number};
use crate::dns::client::{Asking, Reply, Unanswered};
use crate::dns::config::Config;
use crate::dns::message::{self, Question};
use crate::dns::name;
use crate::dns::record::{self, Record, type_name};
use crate::sys::{self, Family};

const USAGE: &str = "Usage: nslookup [-type=TYPE] [-port=PORT] [-timeout=SECONDS] [-retry=NUMBER] \
                     [-vc] [-debug] NAME [SERVER]";

struct Options {
    kind: Option<u16>,
    port: u16,
    timeout: Option<Duration>,
    attempts: Option<u32>,
    tcp: bool,
    recurse: bool,
    name: String,
    server: Option<String>,
}

pub fn main(args: Args) -> i32 {
    finish("nslookup", run(args))
}

fn run(args: Args) -> Outcome {
    let words: Vec<String> = args
        .into_iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let options = read_options(&words).or_fail(1)?;
    let config = Config::load();
    let servers: Vec<SocketAddr> = match &options.server {
        Some(name) => sys::resolve(name, options.port, Family::Any).map_err(|_| {
            Failure::new(1, format!("couldn't get address for '{name}': not found"))
        })?,
        None => config.at(options.port),
    };
    let asking = Asking {
        servers,
        tcp: options.tcp,
        keep_truncated: false,
        recursive: options.recurse,
        timeout: options.timeout.unwrap_or(config.timeout),
        attempts: options.attempts.unwrap_or(config.attempts),
    };
    let mut lookup = Lookup {
        asking,
        head_shown: false,
    };
    // An address is asked for backwards.
    if let (Ok(address), None) = (options.name.parse::<IpAddr>(), options.kind) {
        return lookup.run(&[name::reverse(address)], &[record::PTR]);
    }
    let names = config.candidates(&options.name);
    match options.kind {
        Some(kind) => lookup.run(&names, &[kind]),
        None => lookup.run(&names, &[record::A, record::AAAA]),
    }
}

fn read_options(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        kind: None,
        port: 53,
        timeout: None,
        attempts: None,
        tcp: false,
        recurse: true,
        name: String::new(),
        server: None,
    };
    for word in words {
        let Some(option) = word.strip_prefix('-').filter(|o| !o.is_empty()) else {
            match (options.name.is_empty(), &options.server) {
                (true, _) => options.name.clone_from(word),
                (false, None) => options.server = Some(word.clone()),
                _ => return Err(USAGE.to_owned()),
            }
            continue;
        };
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "type" | "querytype" | "query" | "q" | "ty" => {
                let kind = record::type_number(value);
                options.kind = Some(kind.ok_or_else(|| format!("unknown query type: {value}"))?);
            }
            "port" | "po" => options.port = number(value, 1..=65_535)? as u16,
            "timeout" | "t" => {
                options.timeout = Some(Duration::from_secs(number(value, 1..=3600)?));
            }
            "retry" | "ret" => options.attempts = Some(number(value, 1..=100)? as u32),
            "vc" | "v" => options.tcp = true,
            "recurse" | "rec" => options.recurse = true,
            "norecurse" | "norec" => options.recurse = false,
            // More words about the same answer are not offered; the answer is.
            "debug" | "d" | "nodebug" => {}
            _ => return Err(format!("*** Invalid option: {name}\n{USAGE}")),
        }
    }
    match options.name.is_empty() {
        true => Err(USAGE.to_owned()),
        false => Ok(options),
    }
}

struct Lookup {
    asking: Asking,
    head_shown: bool,
}

impl Lookup {
    /// Asks for `kinds` of the first of `names` that exists.
    fn run(&mut self, names: &[String], kinds: &[u16]) -> Outcome {
        for (i, name) in names.iter().enumerate() {
            let mut found = false;
            for (k, kind) in kinds.iter().enumerate() {
                let question = Question {
                    name: name.clone(),
                    kind: *kind,
                    class: 1,
                };
                let reply = self.ask(&question)?;
                let last = i + 1 == names.len();
                if reply.message.code() != 0 {
                    if last {
                        self.head(&reply);
                        let code = message::code_name(reply.message.code());
                        println!("** server can't find {name}: {code}\n");
                        return Ok(1);
                    }
                    break;
                }
                let any = reply
                    .message
                    .answers
                    .iter()
                    .any(|r| r.kind == *kind || *kind == 255);
                // Nothing of the second kind is no news.
                if any || (last && k + 1 == kinds.len() && !found) {
                    self.head(&reply);
                    self.answer(name, *kind, &reply, !found);
                }
                found |= any;
            }
            if found {
                println!();
                return Ok(0);
            }
        }
        println!();
        Ok(0)
    }

    fn ask(&self, question: &Question) -> Result<Reply, Failure> {
        let failed = |server: SocketAddr, error: &io::Error| {
            println!(
                ";; communications error to {}#{}: {}",
                server.ip(),
                server.port(),
                error.message()
            );
        };
        match self.asking.ask(question, failed) {
            Ok(reply) => Ok(reply),
            Err(Unanswered::Name(text)) => Err(Failure::new(1, text)),
            Err(Unanswered::NoServer) => Err(Failure::new(1, ";; no servers could be reached")),
        }
    }

    fn head(&mut self, reply: &Reply) {
        if !std::mem::replace(&mut self.head_shown, true) {
            let (ip, port) = (reply.server.ip(), reply.server.port());
            println!("Server:\t\t{ip}\nAddress:\t{ip}#{port}\n");
        }
    }

    fn answer(&self, name: &str, kind: u16, reply: &Reply, first: bool) {
        let message = &reply.message;
        if first && message.flags & 0x0400 == 0 && !message.answers.is_empty() {
            println!("Non-authoritative answer:");
        }
        for record in &message.answers {
            // Aliases were shown with the first kind.
            if first || record.kind == kind {
                println!("{}", sentence(record));
            }
        }
        if !message
            .answers
            .iter()
            .any(|r| r.kind == kind || kind == 255)
        {
            println!("*** Can't find {name}: No answer");
        }
    }
}

fn sentence(record: &Record) -> String {
    let name = record.name.strip_suffix('.').unwrap_or(&record.name);
    let text = &record.text;
    match record.kind {
        record::A | record::AAAA => format!("Name:\t{name}\nAddress: {text}"),
        record::CNAME => format!("{name}\tcanonical name = {text}"),
        record::PTR => format!("{name}\tname = {text}"),
        record::MX => format!("{name}\tmail exchanger = {text}"),
        2 => format!("{name}\tnameserver = {text}"),
        16 => format!("{name}\ttext = {text}"),
        33 => format!("{name}\tservice = {text}"),
        6 => {
            const LABELS: [&str; 7] = [
                "origin",
                "mail addr",
                "serial",
                "refresh",
                "retry",
                "expire",
                "minimum",
            ];
            let fields = LABELS.iter().zip(text.split(' '));
            let lines: Vec<String> = fields.map(|(l, v)| format!("\t{l} = {v}")).collect();
            format!("{name}\n{}", lines.join("\n"))
        }
        kind => format!("{name}\t{} = {text}", type_name(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        read_options(&words)
    }

    #[test]
    fn options_are_read() {
        let o = options("-type=mx -port=5353 example.com 10.0.2.2").expect("valid");
        assert_eq!((o.kind, o.port), (Some(15), 5353));
        assert_eq!(o.server.as_deref(), Some("10.0.2.2"));
        assert!(options("").is_err() && options("-type=zz x").is_err());
        assert!(options("a b c").is_err());
    }

    #[test]
    fn records_are_told_in_sentences() {
        let record = |kind, text: &str| Record {
            name: "a.example.".into(),
            kind,
            class: 1,
            ttl: 1,
            text: text.into(),
        };
        assert_eq!(
            sentence(&record(record::A, "10.0.0.1")),
            "Name:\ta.example\nAddress: 10.0.0.1"
        );
        assert_eq!(
            sentence(&record(record::MX, "5 m.")),
            "a.example\tmail exchanger = 5 m."
        );
        let soa = sentence(&record(6, "n. r. 1 2 3 4 5"));
        assert!(soa.ends_with("\tminimum = 5"), "{soa}");
    }
}

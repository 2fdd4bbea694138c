//! host: the short form of a lookup. Exit status 1 when there is nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lexopt::prelude::*;

use crate::Args;
use crate::cli::{Failure, OrFail, Outcome, finish, number, parser, text};
use crate::dns::client::{Asking, Unanswered};
use crate::dns::config::Config;
use crate::dns::message::{self, Question};
use crate::dns::name;
use crate::dns::record::{self, Record, type_name};
use crate::sys::{self, Family};

const USAGE: &str = "Usage: host [-4|-6] [-T] [-r] [-t type] [-W seconds] [-R tries] [-p port] \
                     name [server]";

pub fn main(args: Args) -> i32 {
    finish("host", run(args))
}

fn run(args: Args) -> Outcome {
    let config = Config::load();
    let mut asking = Asking {
        servers: Vec::new(),
        tcp: false,
        keep_truncated: false,
        recursive: true,
        timeout: config.timeout,
        attempts: config.attempts,
    };
    let (mut family, mut port, mut kind) = (Family::Any, 53, None);
    let (mut name, mut server) = (None, None);
    let mut args = parser(args);
    while let Some(arg) = args.next().or_fail(1)? {
        match arg {
            Short('4') => family = Family::V4,
            Short('6') => family = Family::V6,
            Short('T') => asking.tcp = true,
            Short('r') => asking.recursive = false,
            Short('t') => {
                let name = text(&mut args, 1)?;
                let number = record::type_number(&name);
                kind = Some(
                    number
                        .ok_or_else(|| format!("invalid type: {name}"))
                        .or_fail(1)?,
                );
            }
            Short('W') => {
                asking.timeout =
                    Duration::from_secs(number(&text(&mut args, 1)?, 1..=3600).or_fail(1)?);
            }
            Short('R') => {
                asking.attempts = number(&text(&mut args, 1)?, 1..=100).or_fail(1)? as u32
            }
            Short('p') => port = number(&text(&mut args, 1)?, 1..=65_535).or_fail(1)? as u16,
            Value(value) if name.is_none() => name = Some(value.string().or_fail(1)?),
            Value(value) if server.is_none() => server = Some(value.string().or_fail(1)?),
            other => return Err(Failure::new(1, format!("{}\n{USAGE}", other.unexpected()))),
        }
    }
    let Some(name) = name else {
        return Err(Failure::new(1, USAGE));
    };
    asking.servers = match &server {
        Some(server) => sys::resolve(server, port, family).map_err(|_| {
            Failure::new(1, format!("couldn't get address for '{server}': not found"))
        })?,
        None => config.at(port),
    };
    match (name.parse::<IpAddr>(), kind) {
        (Ok(address), None) => lookup(&asking, &[name::reverse(address)], &[record::PTR]),
        (_, Some(kind)) => lookup(&asking, &config.candidates(&name), &[kind]),
        (Err(_), None) => {
            let kinds = [record::A, record::AAAA, record::MX];
            lookup(&asking, &config.candidates(&name), &kinds)
        }
    }
}

fn lookup(asking: &Asking, names: &[String], kinds: &[u16]) -> Outcome {
    let mut code = 0;
    for name in names {
        let mut found = 0;
        for kind in kinds {
            let question = Question {
                name: name.clone(),
                kind: *kind,
                class: 1,
            };
            let message = match asking.ask(&question, |_: SocketAddr, _: &io::Error| {}) {
                Ok(reply) => reply.message,
                Err(Unanswered::Name(text)) => return Err(Failure::new(1, text)),
                Err(Unanswered::NoServer) => {
                    println!(";; connection timed out; no servers could be reached");
                    return Ok(1);
                }
            };
            code = message.code();
            if code != 0 {
                break;
            }
            let all = kinds[0] == *kind;
            for record in message.answers.iter().filter(|r| all || r.kind == *kind) {
                println!("{}", sentence(record));
                found += 1;
            }
        }
        if found > 0 {
            return Ok(0);
        }
        if code == 0 {
            println!("{name} has no {} record", type_name(kinds[0]));
            return Ok(0);
        }
    }
    let name = names.last().map_or("", String::as_str);
    println!(
        "Host {name} not found: {code}({})",
        message::code_name(code)
    );
    Ok(1)
}

fn sentence(record: &Record) -> String {
    let name = record.name.strip_suffix('.').unwrap_or(&record.name);
    let text = &record.text;
    match record.kind {
        record::A => format!("{name} has address {text}"),
        record::AAAA => format!("{name} has IPv6 address {text}"),
        record::CNAME => format!("{name} is an alias for {text}"),
        record::PTR => format!("{name} domain name pointer {text}"),
        record::MX => format!("{name} mail is handled by {text}"),
        2 => format!("{name} name server {text}"),
        16 => format!("{name} descriptive text {text}"),
        kind => format!("{name} has {} record {text}", type_name(kind)),
    }
}

//! `ip`: interfaces, addresses, routes and neighbours, in iproute2's words and form. Here: options, objects, and what
//! their commands have in common. Each object is a module, which reads its words and talks to the kernel; `show` has
//! the form of links and addresses.

mod address;
mod link;
mod neighbour;
mod route;
mod show;

use std::ffi::OsString;

use crate::format::error;
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink};
use crate::network::{self, Link};

const HELP: &str = "\
Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }
OBJECT:  address | link | route | neighbour
OPTIONS: -4 | -6 | -br[ief] | -o[neline] | -s[tatistics] | -j[son]
  ip address [ show [ dev ] NAME ]
  ip address { add | del } PREFIX [ broadcast ADDRESS | brd + ] dev NAME
  ip address flush [ dev ] NAME
  ip link [ show [ dev ] NAME ]
  ip link set [ dev ] NAME { up | down | mtu N }
  ip route [ show ]
  ip route { add | del | replace } { default | PREFIX } [ via ADDRESS ] [ dev NAME ]
           [ src ADDRESS ] [ metric N ]
  ip route get ADDRESS
  ip neighbour [ show [ dev ] NAME ]
  ip neighbour { add | del } ADDRESS [ lladdr MAC ] dev NAME
  ip neighbour flush [ dev ] NAME
";

/// How the answer is to look.
#[derive(Clone, Copy, Default)]
struct Look {
    family: Option<u8>,
    brief: bool,
    one_line: bool,
    statistics: bool,
    json: bool,
}

/// man 8 ip.
pub fn ip(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    let mut look = Look::default();
    let mut words = args.iter().map(String::as_str).peekable();
    while let Some(option) = words.next_if(|w| w.starts_with('-')) {
        match option.trim_start_matches('-') {
            "4" => look.family = Some(4),
            "6" => look.family = Some(6),
            "br" | "brief" => look.brief = true,
            "o" | "oneline" => look.one_line = true,
            "s" | "stats" | "statistics" => look.statistics = true,
            "j" | "json" => look.json = true,
            "c" | "color" | "d" | "details" | "n" | "h" | "human" => {}
            "V" | "Version" => {
                println!("ip of oxbox {}", env!("CARGO_PKG_VERSION"));
                return 0;
            }
            _ => {
                eprintln!("Option \"{option}\" is unknown, try \"ip -help\".");
                return 255;
            }
        }
    }
    let words: Vec<&str> = words.collect();
    let Some((object, rest)) = words.split_first() else {
        eprint!("{HELP}");
        return 255;
    };
    if *object == "help" || rest.first() == Some(&"help") {
        crate::print(HELP);
        return 0;
    }
    let of = |name: &str| name.starts_with(object);
    let result = if of("address") {
        address::run(look, rest)
    } else if of("link") {
        link::run(look, rest)
    } else if of("route") {
        route::run(look, rest)
    } else if of("neighbour") || of("neighbor") {
        neighbour::run(look, rest)
    } else {
        eprintln!("Object \"{object}\" is unknown, try \"ip help\".");
        return 1;
    };
    match result {
        Ok(()) => 0,
        Err(Failure::Usage(why)) => {
            eprintln!("{why}");
            1
        }
        Err(Failure::Kernel(e)) => {
            eprintln!("RTNETLINK answers: {}", error(&e));
            2
        }
    }
}

enum Failure {
    Usage(String),
    Kernel(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::Kernel(e)
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Usage(why)
    }
}

type Outcome = Result<(), Failure>;

fn usage<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(why.into()))
}

/// The command and what follows; `show` when there is none.
fn command<'a>(words: &'a [&'a str]) -> (&'a str, &'a [&'a str]) {
    match words.split_first() {
        None => ("show", &[]),
        Some((first, rest)) => (first, rest),
    }
}

fn is(word: &str, name: &str) -> bool {
    !word.is_empty() && name.starts_with(word)
}

/// What a command that changes an object's table asks the kernel for, of messages that make and delete an entry.
fn action(command: &str, object: &str, (new, delete): (u16, u16)) -> Result<(u16, u16), Failure> {
    Ok(if is(command, "add") {
        (new, NLM_F_CREATE | NLM_F_EXCL)
    } else if is(command, "replace") || is(command, "change") {
        (new, NLM_F_CREATE | NLM_F_REPLACE)
    } else if is(command, "delete") {
        (delete, 0)
    } else {
        return usage(format!(
            "Command \"{command}\" is unknown, try \"ip {object} help\"."
        ));
    })
}

/// `[dev] NAME`.
fn device<'a>(words: &[&'a str]) -> Result<Option<&'a str>, Failure> {
    match *words {
        [] => Ok(None),
        ["dev"] => usage("Command line is not complete. Try option \"help\""),
        ["dev", name] | [name] => Ok(Some(name)),
        [_, other, ..] => usage(format!("Error: argument \"{other}\" is wrong.")),
    }
}

fn wanted(socket: &mut Netlink, name: Option<&str>) -> Result<Vec<Link>, Failure> {
    let all = network::links(socket)?;
    let Some(name) = name else {
        return Ok(all);
    };
    let one: Vec<Link> = all.into_iter().filter(|l| l.name == name).collect();
    if one.is_empty() {
        return usage(format!("Device \"{name}\" does not exist."));
    }
    Ok(one)
}

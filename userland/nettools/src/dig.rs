//! dig: asks name servers and shows the answer as it is.
//!
//! Output and exit status follow BIND's dig: 0 for any answer, 9 when no server
//! answered, 1 for wrong usage.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Args;
use crate::cli::{Failure, OrFail, Outcome, finish, number};
use crate::dns::client::{Asking, Reply, Unanswered};
use crate::dns::config::Config;
use crate::dns::message::{self, Question};
use crate::dns::name;
use crate::dns::record::{self, Record, class_name, type_name};
use crate::sys::{self, Family};

const USAGE: &str = "\
Usage: dig [@server] [-p port] [-4|-6] [-c class] [-t type] [-q name] [-x address]
           [name [type] [class]]... [+option...]

  +[no]short +[no]tcp +[no]recurse +[no]ignore +[no]all +[no]cmd +[no]comments
  +[no]question +[no]answer +[no]authority +[no]additional +[no]stats
  +time=<seconds> +tries=<number> +retry=<number>";

/// Parts of the output.
#[derive(Clone, Copy)]
struct Shown {
    short: bool,
    cmd: bool,
    comments: bool,
    question: bool,
    answer: bool,
    authority: bool,
    additional: bool,
    stats: bool,
}

struct Options {
    server: Option<String>,
    port: u16,
    family: Family,
    queries: Vec<Question>,
    shown: Shown,
    tcp: bool,
    ignore: bool,
    recurse: bool,
    timeout: Option<Duration>,
    attempts: u32,
}

pub fn main(args: Args) -> i32 {
    finish("dig", run(args))
}

fn run(args: Args) -> Outcome {
    let words: Vec<String> = args
        .into_iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if matches!(words.first().map(String::as_str), Some("-h" | "--help")) {
        println!("{USAGE}");
        return Ok(0);
    }
    let options = read_options(&words).or_fail(1)?;
    let config = Config::load();
    let servers = match &options.server {
        Some(name) => sys::resolve(name, options.port, options.family).map_err(|_| {
            Failure::new(10, format!("couldn't get address for '{name}': not found"))
        })?,
        None => config.at(options.port),
    };
    let servers = servers.into_iter().filter(|s| options.family.has(s.ip()));
    let asking = Asking {
        servers: servers.collect(),
        tcp: options.tcp,
        keep_truncated: options.ignore,
        recursive: options.recurse,
        timeout: options.timeout.unwrap_or(config.timeout),
        attempts: options.attempts,
    };
    if asking.servers.is_empty() {
        return Err(Failure::new(9, "no servers could be reached"));
    }
    let mut status = 0;
    for (i, question) in options.queries.iter().enumerate() {
        if i == 0 && options.shown.cmd && !options.shown.short {
            println!(
                "\n; <<>> DiG Oxbow {} <<>> {}\n;; global options: +cmd",
                env!("CARGO_PKG_VERSION"),
                words.join(" ")
            );
        }
        let failed = |server: std::net::SocketAddr, error: &std::io::Error| {
            println!(
                ";; communications error to {}#{}: {}",
                server.ip(),
                server.port(),
                crate::cli::Message::message(error)
            );
        };
        match asking.ask(question, failed) {
            Ok(reply) => show(&reply, options.shown),
            Err(Unanswered::Name(text)) => return Err(Failure::new(10, text)),
            Err(Unanswered::NoServer) => {
                println!(";; no servers could be reached");
                status = 9;
            }
        }
    }
    Ok(status)
}

fn read_options(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        server: None,
        port: 53,
        family: Family::Any,
        queries: Vec::new(),
        shown: Shown {
            short: false,
            cmd: true,
            comments: true,
            question: true,
            answer: true,
            authority: true,
            additional: true,
            stats: true,
        },
        tcp: false,
        ignore: false,
        recurse: true,
        timeout: None,
        attempts: 3,
    };
    // What -t and -c said before a name.
    let (mut kind, mut class) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(server) = word.strip_prefix('@') {
            options.server = Some(server.to_owned());
        } else if let Some(option) = word.strip_prefix('+') {
            plus(&mut options, option)?;
        } else if let Some(letter) = word.strip_prefix('-') {
            match letter.chars().next() {
                Some('4') => options.family = Family::V4,
                Some('6') => options.family = Family::V6,
                Some(letter @ ('p' | 't' | 'c' | 'q' | 'x')) => {
                    let value = match &word[2..] {
                        "" => words
                            .next()
                            .ok_or_else(|| format!("option '-{letter}' requires an argument"))?,
                        rest => rest,
                    };
                    match letter {
                        'p' => options.port = number(value, 1..=65_535)? as u16,
                        't' => kind = Some(a_type(value)?),
                        'c' => class = Some(a_class(value)?),
                        'q' => options.queries.push(question(value, kind, class)),
                        _ => {
                            let address: IpAddr = value
                                .parse()
                                .map_err(|_| format!("Invalid IP address {value}"))?;
                            let name = name::reverse(address);
                            let kind = kind.or(Some(record::PTR));
                            options.queries.push(question(&name, kind, class));
                        }
                    }
                }
                _ => return Err(format!("Invalid option: {word}")),
            }
            // -t and -c after a name are for that name.
            if let Some(last) = options.queries.last_mut() {
                last.kind = kind.unwrap_or(last.kind);
                last.class = class.unwrap_or(last.class);
            }
        } else if let (Some(last), Some(kind)) =
            (options.queries.last_mut(), record::type_number(word))
        {
            last.kind = kind;
        } else if let (Some(last), Some(class)) =
            (options.queries.last_mut(), record::class_number(word))
        {
            last.class = class;
        } else if let Some(named) = record::type_number(word).filter(|_| kind.is_none()) {
            // `dig MX example.com`
            kind = Some(named);
        } else {
            options.queries.push(question(word, kind, class));
        }
    }
    if options.queries.is_empty() {
        options.queries.push(question(".", kind.or(Some(2)), class));
    }
    Ok(options)
}

fn question(name: &str, kind: Option<u16>, class: Option<u16>) -> Question {
    Question {
        name: name.to_owned(),
        kind: kind.unwrap_or(record::A),
        class: class.unwrap_or(1),
    }
}

fn a_type(name: &str) -> Result<u16, String> {
    record::type_number(name).ok_or_else(|| format!("invalid type '{name}'"))
}

fn a_class(name: &str) -> Result<u16, String> {
    record::class_number(name).ok_or_else(|| format!("invalid class '{name}'"))
}

/// An option with a plus.
fn plus(options: &mut Options, text: &str) -> Result<(), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let (name, on) = match name.strip_prefix("no") {
        Some(name) => (name, false),
        None => (name, true),
    };
    let shown = &mut options.shown;
    match (name, value) {
        ("short", None) => shown.short = on,
        ("cmd", None) => shown.cmd = on,
        ("comments", None) => shown.comments = on,
        ("question", None) => shown.question = on,
        ("answer", None) => shown.answer = on,
        ("authority", None) => shown.authority = on,
        ("additional", None) => shown.additional = on,
        ("stats", None) => shown.stats = on,
        ("all", None) => {
            *shown = Shown {
                short: shown.short,
                cmd: on,
                comments: on,
                question: on,
                answer: on,
                authority: on,
                additional: on,
                stats: on,
            }
        }
        ("tcp" | "vc", None) => options.tcp = on,
        ("ignore", None) => options.ignore = on,
        ("rec" | "recurse", None) => options.recurse = on,
        // There is no EDNS, nor a search list, in what we send.
        ("edns" | "search" | "cookie" | "dnssec", None) if !on => {}
        ("time" | "timeout", Some(value)) => {
            options.timeout = Some(Duration::from_secs(number(value, 1..=3600)?));
        }
        ("tries", Some(value)) => options.attempts = number(value, 1..=100)? as u32,
        ("retry", Some(value)) => options.attempts = number(value, 0..=99)? as u32 + 1,
        _ => return Err(format!("Invalid option: +{text}")),
    }
    Ok(())
}

fn show(reply: &Reply, shown: Shown) {
    let message = &reply.message;
    if shown.short {
        for record in &message.answers {
            println!("{}", record.text);
        }
        return;
    }
    if shown.comments {
        println!(
            ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {}, id: {}",
            message::code_name(message.code()),
            message.id
        );
        println!(
            ";; flags:{}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}\n",
            flags(message.flags),
            message.questions.len(),
            message.answers.len(),
            message.authority.len(),
            message.additional.len()
        );
    }
    if shown.question && !message.questions.is_empty() {
        if shown.comments {
            println!(";; QUESTION SECTION:");
        }
        for asked in &message.questions {
            let (class, kind) = (class_name(asked.class), type_name(asked.kind));
            println!(";{}\t\t{class}\t{kind}", padded(&asked.name, 23));
        }
        println!();
    }
    for (wanted, name, records) in [
        (shown.answer, "ANSWER", &message.answers),
        (shown.authority, "AUTHORITY", &message.authority),
        (shown.additional, "ADDITIONAL", &message.additional),
    ] {
        if !wanted || records.is_empty() {
            continue;
        }
        if shown.comments {
            println!(";; {name} SECTION:");
        }
        for record in records {
            println!("{}", line(record));
        }
        if shown.comments {
            println!();
        }
    }
    if shown.stats {
        let (ip, port) = (reply.server.ip(), reply.server.port());
        println!(
            ";; Query time: {} msec\n;; SERVER: {ip}#{port}({ip}) ({})\n;; WHEN: {}\n\
             ;; MSG SIZE  rcvd: {}\n",
            reply.time.as_millis(),
            if reply.tcp { "TCP" } else { "UDP" },
            utc_now(),
            reply.bytes
        );
    }
}

/// A record as a line of a zone file, in columns.
pub fn line(record: &Record) -> String {
    format!(
        "{}\t{}\t{}\t{}\t{}",
        padded(&record.name, 23),
        record.ttl,
        class_name(record.class),
        type_name(record.kind),
        record.text
    )
}

/// Filled up with tabs to the column before `width`.
fn padded(text: &str, width: usize) -> String {
    let mut out = text.to_owned();
    let mut column = text.chars().count();
    while column < width - 7 {
        out.push('\t');
        column = (column / 8 + 1) * 8;
    }
    out
}

fn flags(word: u16) -> String {
    const FLAGS: &[(u16, &str)] = &[
        (0x8000, "qr"),
        (0x0400, "aa"),
        (0x0200, "tc"),
        (0x0100, "rd"),
        (0x0080, "ra"),
        (0x0020, "ad"),
        (0x0010, "cd"),
    ];
    let set = FLAGS.iter().filter(|(bit, _)| word & bit != 0);
    set.map(|(_, name)| format!(" {name}")).collect()
}

/// The time of day and the date, in UTC.
fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    crate::ntp::date(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        read_options(&words)
    }

    #[test]
    fn words_come_in_any_order() {
        let o = options("@10.0.2.3 -p5353 example.com MX +short +tcp +time=2").expect("valid");
        assert_eq!(o.server.as_deref(), Some("10.0.2.3"));
        assert_eq!((o.port, o.tcp, o.shown.short), (5353, true, true));
        assert_eq!(o.queries, [question("example.com", Some(15), None)]);
        for same in ["MX example.com", "-t mx example.com", "example.com -t MX"] {
            let o = options(same).expect("valid");
            assert_eq!(
                o.queries,
                [question("example.com", Some(15), None)],
                "{same}"
            );
        }
    }

    #[test]
    fn several_queries() {
        let o = options("a.example b.example AAAA").expect("valid");
        let expected = [
            question("a.example", None, None),
            question("b.example", Some(28), None),
        ];
        assert_eq!(o.queries, expected);
    }

    #[test]
    fn backwards_and_nothing() {
        let o = options("-x 10.0.2.3").expect("valid");
        assert_eq!(o.queries[0].name, "3.2.0.10.in-addr.arpa.");
        assert_eq!(o.queries[0].kind, record::PTR);
        assert_eq!(options("").expect("valid").queries[0].kind, 2);
        assert!(options("-x nonsense").is_err() && options("+nonsense").is_err());
        assert!(options("-p").is_err() && options("-p 0 x").is_err());
    }

    #[test]
    fn noall_then_answer() {
        let shown = options("x +noall +answer").expect("valid").shown;
        assert!(shown.answer && !shown.comments && !shown.stats && !shown.question);
    }
}

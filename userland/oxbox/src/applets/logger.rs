//! logger: messages for the system log, over /dev/log.

use std::io::BufRead as _;
use std::os::unix::net::UnixDatagram;

use super::Args;
use crate::sys::{fail, options, user_name};

const SOCKET: &str = "/dev/log";
/// The longest message; RFC 3164, 4.1 allows 1024 bytes, and programs send more.
const MAX_MESSAGE: usize = 1900;

/// RFC 3164, 4.1.1: names as syslog(3) spells them, by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// Sends its arguments, or each line of its input, as messages.
pub fn logger(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("id", 'i'),
        ("stderr", 's'),
        ("tag", 't'),
        ("priority", 'p'),
        ("file", 'f'),
    ];
    let parsed = match options(args, "is", "tpf", LONG, false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("logger", message, 1),
    };
    let wanted = parsed.value('p').unwrap_or("user.notice");
    let Some(priority) = priority(wanted) else {
        return fail("logger", format!("unknown priority name: {wanted}"), 1);
    };
    let mut tag = match parsed.value('t') {
        Some(tag) => tag.to_owned(),
        None => user_name(nix::unistd::geteuid().as_raw()),
    };
    if parsed.has('i') {
        tag.push_str(&format!("[{}]", std::process::id()));
    }
    let send = |text: &str| send(priority, &tag, text, parsed.has('s'));
    let sent = if parsed.operands.is_empty() {
        let input: Box<dyn std::io::BufRead> = match parsed.value('f') {
            None | Some("-") => Box::new(std::io::stdin().lock()),
            Some(path) => match std::fs::File::open(path) {
                Ok(file) => Box::new(std::io::BufReader::new(file)),
                Err(error) => return fail("logger", format!("{path}: {error}"), 1),
            },
        };
        let mut lines = input.lines().map_while(Result::ok);
        lines.try_for_each(|line| send(&line))
    } else {
        send(&parsed.operands.join(" "))
    };
    match sent {
        Ok(()) => 0,
        Err(error) => fail("logger", format!("{SOCKET}: {error}"), 1),
    }
}

fn send(priority: usize, tag: &str, text: &str, copy: bool) -> std::io::Result<()> {
    if copy {
        eprintln!("{tag}: {text}");
    }
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let message = format!("<{priority}>{tag}: {}", &text[..end]);
    UnixDatagram::unbound()?.send_to(message.as_bytes(), SOCKET)?;
    Ok(())
}

/// The number of `facility.level`, `level` or a number.
fn priority(name: &str) -> Option<usize> {
    if let Ok(number) = name.parse::<usize>() {
        return (number < 8 * FACILITIES.len()).then_some(number);
    }
    let (facility, level) = name.split_once('.').unwrap_or(("user", name));
    let level = match level {
        "panic" => "emerg",
        "error" => "err",
        "warn" => "warning",
        level => level,
    };
    let facility = FACILITIES
        .iter()
        .position(|f| !f.is_empty() && *f == facility)?;
    let level = LEVELS.iter().position(|l| *l == level)?;
    Some(8 * facility + level)
}

#[cfg(test)]
mod tests {
    use super::priority;

    #[test]
    fn priorities_by_name_and_number() {
        for (name, number) in [
            ("user.notice", Some(13)),
            ("err", Some(11)),
            ("auth.warn", Some(36)),
            ("local7.debug", Some(191)),
            ("38", Some(38)),
            ("192", None),
            ("foo.err", None),
            ("", None),
            (".err", None),
        ] {
            assert_eq!(priority(name), number, "{name}");
        }
    }
}

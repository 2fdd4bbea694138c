//! dmesg: the kernel's message ring, over syslog(2); to wait for more, over /dev/kmsg.

use std::io::Write as _;

use super::Args;
use super::archive::plain;
use crate::sys::{Options, fail, local_time, options};

// man 2 syslog.
const READ_ALL: i32 = 3;
const READ_CLEAR: i32 = 4;
const CLEAR: i32 = 5;
const CONSOLE_OFF: i32 = 6;
const CONSOLE_ON: i32 = 7;
const CONSOLE_LEVEL: i32 = 8;
const SIZE_BUFFER: i32 = 10;

/// What to take for the ring's size when the kernel does not say.
const DEFAULT_RING_BYTES: usize = 1 << 18;

pub fn dmesg(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("clear", 'C'),
        ("read-clear", 'c'),
        ("raw", 'r'),
        ("notime", 't'),
        ("console-level", 'n'),
        ("level", 'l'),
        ("follow", 'w'),
        ("follow-new", 'W'),
        ("ctime", 'T'),
        ("human", 'H'),
        ("decode", 'x'),
        ("kernel", 'k'),
        ("nopager", 'P'),
        ("console-on", 'E'),
        ("console-off", 'D'),
        ("buffer-size", 's'),
        ("color", 'L'),
    ];
    let parsed = match options(args, "cCrtTHkxwWPEDL", "nls", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("dmesg", message, 1),
    };
    if !parsed.operands.is_empty() {
        return fail("dmesg", "takes no operands; try 'dmesg --help'", 1);
    }
    if let Some(level) = parsed.value('n') {
        // By number, or everything up to and with a name.
        let named = LEVELS.iter().position(|name| *name == level);
        let number = named.map_or_else(|| level.parse().ok(), |at| i32::try_from(at + 1).ok());
        return match number {
            Some(number) => status(syslog(CONSOLE_LEVEL, &mut [], number)),
            None => fail("dmesg", format!("unknown level '{level}'"), 1),
        };
    }
    for (letter, action) in [('C', CLEAR), ('D', CONSOLE_OFF), ('E', CONSOLE_ON)] {
        if parsed.has(letter) {
            return status(syslog(action, &mut [], 0));
        }
    }
    let view = match View::new(&parsed) {
        Ok(view) => view,
        Err(message) => return fail("dmesg", message, 1),
    };
    if parsed.has('w') || parsed.has('W') {
        return match follow(&view, parsed.has('W')) {
            Ok(()) => 0,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Err(error) => fail("dmesg", format!("/dev/kmsg: {}", plain(&error)), 1),
        };
    }
    let size = syslog(SIZE_BUFFER, &mut [], 0).unwrap_or(DEFAULT_RING_BYTES);
    let mut ring = vec![0; size.max(1)];
    let how = if parsed.has('c') {
        READ_CLEAR
    } else {
        READ_ALL
    };
    let length = i32::try_from(ring.len()).unwrap_or(i32::MAX);
    let count = match syslog(how, &mut ring, length) {
        Ok(count) => count,
        Err(error) => return fail("dmesg", format!("read kernel buffer failed: {error}"), 1),
    };
    let text = String::from_utf8_lossy(&ring[..count.min(ring.len())]);
    let mut out = std::io::stdout().lock();
    for line in text.lines() {
        if let Some(shown) = view.line(line)
            && writeln!(out, "{shown}").is_err()
        {
            return 1;
        }
    }
    0
}

/// What to show of a message.
struct View {
    levels: Option<Vec<String>>,
    raw: bool,
    decode: bool,
    time: Time,
    /// Seconds since 1970 when the machine started.
    boot: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Time {
    SinceBoot,
    OfDay,
    None,
}

impl View {
    fn new(parsed: &Options) -> Result<Self, String> {
        let levels = parsed.value('l').map(|list| {
            let names = list.split(',').map(str::to_owned);
            names.collect::<Vec<_>>()
        });
        for level in levels.iter().flatten() {
            if !LEVELS.contains(&level.as_str()) {
                return Err(format!("unknown level '{level}'"));
            }
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let up = crate::proc::uptime().unwrap_or(0.0);
        Ok(Self {
            levels,
            raw: parsed.has('r'),
            decode: parsed.has('x'),
            time: match (parsed.has('t'), parsed.has('T')) {
                (true, _) => Time::None,
                (_, true) => Time::OfDay,
                _ => Time::SinceBoot,
            },
            boot: now.map_or(0.0, |d| d.as_secs_f64()) - up,
        })
    }

    /// The line `<N>[ SECONDS] TEXT` as it is to be shown; `None`: not at all.
    fn line(&self, line: &str) -> Option<String> {
        let (priority, message) = split_priority(line);
        let level = LEVELS[(priority & 7) as usize];
        if self
            .levels
            .as_ref()
            .is_some_and(|wanted| !wanted.iter().any(|name| name == level))
        {
            return None;
        }
        if self.raw {
            return Some(line.to_owned());
        }
        let shown = match self.time {
            Time::SinceBoot => message.to_owned(),
            Time::None => without_time(message).to_owned(),
            Time::OfDay => match seconds(message) {
                Some(seconds) => {
                    let time = local_time((self.boot + seconds) as i64);
                    format!("[{}] {}", date(&time), without_time(message))
                }
                None => message.to_owned(),
            },
        };
        if self.decode {
            let facility = if priority < 8 { "kern" } else { "user" };
            return Some(format!("{facility:<6}:{level:<6}: {shown}"));
        }
        Some(shown)
    }
}

/// `Sat Nov 21 08:19:05 2026`.
fn date(time: &nix::libc::tm) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let day = usize::try_from(time.tm_wday).unwrap_or(0) % 7;
    let month = usize::try_from(time.tm_mon).unwrap_or(0) % 12;
    format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        DAYS[day],
        MONTHS[month],
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec,
        time.tm_year + 1900
    )
}

/// Shows messages as they come, after those that are there or (`only_new`) without.
/// Each read of /dev/kmsg is one record: `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`
/// and lines that begin with a blank (Documentation/ABI/testing/dev-kmsg).
fn follow(view: &View, only_new: bool) -> std::io::Result<()> {
    use std::io::{Read as _, Seek as _};
    let mut ring = std::fs::File::open("/dev/kmsg")?;
    if only_new {
        ring.seek(std::io::SeekFrom::End(0))?;
    }
    let mut record = vec![0; 8192];
    let mut out = std::io::stdout().lock();
    loop {
        let count = match ring.read(&mut record) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // Overtaken: the next read gives the oldest that is still there.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&record[..count]);
        if let Some(line) = from_record(&text)
            && let Some(shown) = view.line(&line)
        {
            writeln!(out, "{shown}")?;
            out.flush()?;
        }
    }
}

/// A record as a line of the ring.
fn from_record(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    let text = text.lines().next().unwrap_or("");
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    Some(format!("<{priority}>[{seconds:5}.{rest:06}] {text}"))
}

fn status(result: nix::Result<usize>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => fail("dmesg", error, 1),
    }
}

/// syslog(2). `length` is the buffer's length, or an argument of `action`.
fn syslog(action: i32, buffer: &mut [u8], length: i32) -> nix::Result<usize> {
    // SAFETY: `buffer` is writable, and `length` exceeds its length only for
    // actions that do not touch it.
    let result = unsafe { nix::libc::klogctl(action, buffer.as_mut_ptr().cast(), length) };
    let count = nix::errno::Errno::result(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
];

/// Splits `<6>text` into level with facility and the text.
fn split_priority(line: &str) -> (u32, &str) {
    let split = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match split.and_then(|(number, text)| Some((number.parse().ok()?, text))) {
        Some((number, text)) => (number, text),
        None => (6, line),
    }
}

/// The seconds in the `[    1.234567] ` at the start.
fn seconds(line: &str) -> Option<f64> {
    let (seconds, _) = line.strip_prefix('[')?.split_once(']')?;
    seconds.trim().parse().ok()
}

/// Drops the `[    1.234567] ` at the start.
fn without_time(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, text)) => text,
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_apart() {
        assert_eq!(split_priority("<30>x"), (30, "x"));
        assert_eq!(split_priority("plain"), (6, "plain"));
        assert_eq!(seconds("[    0.100000] boot"), Some(0.1));
        let record = "6,42,1500000,-;text\n KEY=value\n";
        assert_eq!(
            from_record(record).as_deref(),
            Some("<6>[    1.500000] text")
        );
        assert_eq!(from_record("nonsense"), None);
        assert_eq!(without_time("[    0.100000] boot"), "boot");
    }
}

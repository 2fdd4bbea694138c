//! watch: runs a command again and again and shows what it prints.

use std::io::{self, Write as _};
use std::process::Command;
use std::time::Duration;

use super::Args;
use crate::sys::{fail, local_time, options, terminal_size};

pub fn watch(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("interval", 'n'),
        ("no-title", 't'),
        ("exec", 'x'),
        ("errexit", 'e'),
        ("chgexit", 'g'),
        ("differences", 'd'),
        ("color", 'c'),
        ("beep", 'b'),
    ];
    let parsed = match options(args, "txegdcb", "n", LONG, false) {
        Ok(parsed) => parsed,
        Err(message) => return fail("watch", message, 1),
    };
    let interval: f64 = match parsed.value('n').unwrap_or("2").parse() {
        Ok(seconds) if seconds >= 0.0 => seconds,
        _ => return fail("watch", "-n: bad number of seconds", 1),
    };
    let interval = Duration::from_secs_f64(interval.clamp(0.1, 86_400.0));
    let Some((program, rest)) = parsed.operands.split_first() else {
        return fail("watch", "no command given", 1);
    };
    let mut last: Option<Vec<u8>> = None;
    loop {
        let output = if parsed.has('x') {
            Command::new(program).args(rest).output()
        } else {
            Command::new("/bin/sh")
                .arg("-c")
                .arg(parsed.operands.join(" "))
                .output()
        };
        let output = match output {
            Ok(output) => output,
            Err(error) => return fail("watch", error, 127),
        };
        let mut text = output.stdout;
        text.extend(output.stderr);
        let before = last.as_deref().filter(|_| parsed.has('d'));
        let title = (!parsed.has('t')).then(|| title(&parsed.operands.join(" "), interval));
        if show(title, &text, before).is_err() {
            return 1;
        }
        if parsed.has('b') && !output.status.success() {
            // A terminal that is gone has ended this above.
            let _ = io::stdout().write_all(b"\x07");
        }
        if parsed.has('e') && !output.status.success() {
            return 8;
        }
        if parsed.has('g') && last.as_ref().is_some_and(|l| *l != text) {
            return 0;
        }
        last = Some(text);
        std::thread::sleep(interval);
    }
}

/// The command on the left, host and time on the right.
fn title(command: &str, interval: Duration) -> String {
    let (_, width) = terminal_size();
    let left = format!("Every {:.1}s: {command}", interval.as_secs_f64());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = local_time(now.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0)));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let right = format!(
        "{}: {:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        host.display(),
        time.tm_year + 1900,
        time.tm_mon + 1,
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec
    );
    let room = width.saturating_sub(right.len() + 1);
    let left: String = left.chars().take(room).collect();
    format!("{left:<room$} {right}")
}

/// Fills the screen; with `before`, what differs from it is reversed.
fn show(title: Option<String>, text: &[u8], before: Option<&[u8]>) -> io::Result<()> {
    let (rows, width) = terminal_size();
    let mut out = String::from("\x1b[H\x1b[J");
    let mut room = rows.saturating_sub(1);
    if let Some(title) = title {
        out.extend(title.chars().take(width));
        out.push_str("\n\n");
        room = room.saturating_sub(2);
    }
    let text = String::from_utf8_lossy(text);
    let before = before.map(String::from_utf8_lossy);
    let mut old = before.as_ref().map(|text| text.lines());
    for line in text.lines().take(room) {
        let old = old.as_mut().map(|lines| lines.next().unwrap_or(""));
        let mut old_letters = old.map(str::chars);
        for letter in line.chars().take(width) {
            let changed = old_letters
                .as_mut()
                .is_some_and(|letters| letters.next() != Some(letter));
            match changed {
                true => out.extend(["\x1b[7m", letter.encode_utf8(&mut [0; 4]), "\x1b[0m"]),
                false => out.push(letter),
            }
        }
        out.push('\n');
    }
    io::stdout().write_all(out.as_bytes())?;
    io::stdout().flush()
}

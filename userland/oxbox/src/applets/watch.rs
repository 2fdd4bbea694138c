//! watch: runs a command again and again and shows what it prints.

use std::io::{self, Write as _};
use std::process::Command;
use std::time::Duration;

use super::Args;
use crate::sys::{fail, options, terminal_size};

pub fn watch(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("interval", 'n'),
        ("no-title", 't'),
        ("exec", 'x'),
        ("errexit", 'e'),
        ("chgexit", 'g'),
    ];
    let parsed = match options(args, "txeg", "n", LONG, false) {
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
        if show(&parsed.operands.join(" "), interval, &text, parsed.has('t')).is_err() {
            return 1;
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

fn show(command: &str, interval: Duration, text: &[u8], bare: bool) -> io::Result<()> {
    let (rows, width) = terminal_size();
    let mut lines = Vec::new();
    if !bare {
        lines.push(format!("Every {:.1}s: {command}", interval.as_secs_f64()));
        lines.push(String::new());
    }
    lines.extend(String::from_utf8_lossy(text).lines().map(str::to_owned));
    let mut out = String::from("\x1b[H\x1b[J");
    for line in lines.iter().take(rows.saturating_sub(1)) {
        out.extend(line.chars().take(width));
        out.push('\n');
    }
    io::stdout().write_all(out.as_bytes())?;
    io::stdout().flush()
}

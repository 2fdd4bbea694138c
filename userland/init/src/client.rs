//! `svc`: shows and steers services by asking the first process.
//!
//! Exit status: 0 done; 1 init said no or cannot be reached; 2 wrong usage;
//! of `status`: 3 not running, 4 no such service.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::control::SOCKET;
use crate::services::log_path;
use crate::unit::is_name;

const USAGE: &str = "\
usage: svc list                           every service and its state
       svc status NAME                    more about one, and its last lines
       svc start|stop|restart NAME...
       svc reload [NAME...]               have it read its files again; without a name: init reads the unit files
       svc enable|disable NAME...         start it at boot or not
       svc log NAME [-n LINES] [-f]       what it printed; -f goes on with what it prints
";

/// A refusal: what to print, and the exit status.
type Refusal = (String, i32);

pub fn main(args: Vec<String>) -> i32 {
    let done = match args.split_first() {
        None => list(),
        Some((verb, rest)) => run(verb, rest),
    };
    match done {
        Ok(status) => status,
        Err((message, status)) => {
            eprint!("{message}");
            status
        }
    }
}

fn usage() -> Refusal {
    (USAGE.to_owned(), 2)
}

fn refuse(message: impl std::fmt::Display) -> Refusal {
    (format!("svc: {message}\n"), 1)
}

fn run(verb: &str, rest: &[String]) -> Result<i32, Refusal> {
    match (verb, rest) {
        ("list", []) => list(),
        ("reload", []) => {
            let (_, mut rest) = ask("reload")?;
            let mut problems = String::new();
            rest.read_to_string(&mut problems).map_err(refuse)?;
            eprint!("{problems}");
            Ok(i32::from(!problems.is_empty()))
        }
        ("status", [name]) => status(name),
        ("log", rest) => log(rest),
        ("start" | "stop" | "restart" | "reload" | "enable" | "disable", [_, ..]) => {
            let mut status = 0;
            for name in rest {
                match ask(&format!("{verb} {name}")) {
                    Ok((word, _)) => println!("{name}: {}", said(verb, &word)),
                    Err((message, refused)) => {
                        eprint!("{message}");
                        status = refused;
                    }
                }
            }
            Ok(status)
        }
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            Ok(0)
        }
        _ => Err(usage()),
    }
}

fn said<'a>(verb: &str, word: &'a str) -> &'a str {
    match verb {
        "enable" => "starts at boot",
        "disable" => "does not start at boot",
        "reload" => "told to reload",
        _ => word,
    }
}

/// Sends a request. Returns the word after `ok`, and the connection for what
/// follows.
fn ask(request: &str) -> Result<(String, BufReader<UnixStream>), Refusal> {
    let what = request.split_once(' ').map(|(_, name)| format!("{name}: "));
    let what = what.unwrap_or_default();
    let mut stream = UnixStream::connect(SOCKET).map_err(|error| {
        let root = nix::unistd::geteuid().is_root();
        refuse(match error.kind() {
            std::io::ErrorKind::PermissionDenied if !root => "only root may".to_owned(),
            _ => format!("cannot reach init at {SOCKET}: {error}"),
        })
    })?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .map_err(refuse)?;
    let mut reader = BufReader::new(stream);
    let mut header = String::new();
    reader.read_line(&mut header).map_err(refuse)?;
    match header.trim_end().split_once(' ') {
        Some(("ok", word)) => Ok((word.to_owned(), reader)),
        Some(("error", message)) => {
            let status = if message.starts_with("unknown service") {
                4
            } else {
                1
            };
            Err((format!("svc: {what}{message}\n"), status))
        }
        _ if header == "ok\n" => Ok((String::new(), reader)),
        _ => Err(refuse(format!("{what}init gave no answer in time"))),
    }
}

/// A service as `control::row` sends it.
struct Row {
    fields: Vec<String>,
}

impl Row {
    fn parse(line: &str) -> Self {
        Self {
            fields: line.split('\t').map(str::to_owned).collect(),
        }
    }

    fn get(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    fn last(&self) -> &str {
        match self.get(7) {
            "" => self.get(5),
            remark => remark,
        }
    }

    fn since(&self) -> String {
        ago(self.get(3).parse().unwrap_or(0))
    }
}

/// A time span in its two largest units.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

fn list() -> Result<i32, Refusal> {
    let (_, mut reader) = ask("list")?;
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(refuse)?;
    let header = [
        "NAME",
        "STATE",
        "PID",
        "SINCE",
        "RESTARTS",
        "BOOT",
        "LAST EXIT",
    ];
    let mut table = vec![header.map(str::to_owned)];
    for row in text.lines().map(Row::parse) {
        table.push([
            row.get(0).to_owned(),
            row.get(1).to_owned(),
            row.get(2).to_owned(),
            row.since(),
            row.get(4).to_owned(),
            row.get(6).to_owned(),
            row.last().to_owned(),
        ]);
    }
    let mut out = String::new();
    for line in &table {
        for (column, cell) in line.iter().enumerate() {
            if column + 1 == line.len() {
                out.push_str(cell);
            } else {
                let width = table.iter().map(|l| l[column].len()).max().unwrap_or(0);
                out.push_str(&format!("{cell:width$}  "));
            }
        }
        out.push('\n');
    }
    print(&out)
}

/// Writes to standard output; a reader that left ends the program quietly.
fn print(text: &str) -> Result<i32, Refusal> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(i32::from(written.is_err()))
}

fn status(name: &str) -> Result<i32, Refusal> {
    let (state, mut reader) = ask(&format!("status {name}"))?;
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(refuse)?;
    let row = Row::parse(text.trim_end_matches('\n'));
    let mut out = format!("{name}: {}\n", row.get(8));
    let mut add = |key: &str, value: &str| out.push_str(&format!("{key:>10}: {value}\n"));
    let reason = match row.get(7) {
        "" => String::new(),
        remark => format!(", {remark}"),
    };
    add("state", &format!("{state} for {}{reason}", row.since()));
    add("process", row.get(2));
    add("restarts", row.get(4));
    add("last exit", row.get(5));
    add("at boot", row.get(6));
    add("command", row.get(9));
    let (_, mut reader) = ask(&format!("lines {name} 10"))?;
    let mut lines = String::new();
    reader.read_to_string(&mut lines).map_err(refuse)?;
    if !lines.is_empty() {
        out.push('\n');
        out.push_str(&lines);
    }
    print(&out)?;
    Ok(if matches!(state.as_str(), "running" | "done") {
        0
    } else {
        3
    })
}

/// Options of `svc log`.
fn log(args: &[String]) -> Result<i32, Refusal> {
    let (mut name, mut count, mut follow) = (None, 20, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-f" => follow = true,
            "-n" => count = args.next().and_then(|n| n.parse().ok()).ok_or_else(usage)?,
            option if option.starts_with("-n") => {
                count = option[2..].parse().map_err(|_| usage())?;
            }
            given if name.is_none() && is_name(given) => name = Some(given),
            _ => return Err(usage()),
        }
    }
    let name = name.ok_or_else(usage)?;
    // Following starts first, so that no line is missing between file and stream.
    let (size, stream) = if follow {
        let (size, stream) = ask(&format!("follow {name}"))?;
        (size.parse().unwrap_or(u64::MAX), Some(stream))
    } else {
        ask(&format!("status {name}"))?;
        (u64::MAX, None)
    };
    let mut lines = last_lines(name, count, size);
    if lines.is_empty() {
        let (_, mut reader) = ask(&format!("lines {name} {count}"))?;
        reader.read_to_end(&mut lines).map_err(refuse)?;
    }
    let mut out = std::io::stdout();
    if out.write_all(&lines).is_err() {
        return Ok(1);
    }
    if let Some(mut stream) = stream {
        let mut buffer = [0; 4096];
        loop {
            let _ = out.flush();
            match stream.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    if out.write_all(&buffer[..length]).is_err() {
                        return Ok(1);
                    }
                }
                _ => return Err(refuse(format!("{name}: init ended the connection"))),
            }
        }
    }
    Ok(i32::from(out.flush().is_err()))
}

/// The last `count` lines of a log: the older file, then the newer one up to
/// byte `size`.
fn last_lines(name: &str, count: usize, size: u64) -> Vec<u8> {
    let path = log_path(name);
    let older = path.with_extension("log.1");
    let mut lines: VecDeque<Vec<u8>> = VecDeque::new();
    for (path, size) in [(older, u64::MAX), (path, size)] {
        let Ok(file) = std::fs::File::open(path) else {
            continue;
        };
        for line in BufReader::new(file.take(size))
            .split(b'\n')
            .map_while(Result::ok)
        {
            if lines.len() >= count {
                lines.pop_front();
            }
            if count > 0 {
                lines.push_back(line);
            }
        }
    }
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        let spans = [0, 59, 61, 3725, 90_000].map(ago);
        assert_eq!(spans, ["0s", "59s", "1m01s", "1h02m", "1d01h"]);
    }

    #[test]
    fn a_row_that_is_cut_short_has_empty_fields() {
        let row = Row::parse("a\trunning\t7");
        assert_eq!((row.get(2), row.get(6), row.last()), ("7", "", ""));
    }
}

//! Unit files: what a service is.
//!
//! One file per service, `/etc/services/NAME.conf`: lines of `key = value`,
//! comments from `#` at the start of a line. Values that are lists are split
//! into words as a shell does it: at blanks, with quotes and backslashes. Pure
//! text in, a [`Unit`] or a message out. `docs/services.md` is the reference.

use std::time::Duration;

use nix::sys::signal::Signal;

/// When a service that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// One service's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub description: String,
    /// The program, an absolute path, and its arguments.
    pub command: Vec<String>,
    /// `argv[0]` starts with a dash, as a login shell's does.
    pub login: bool,
    /// Services that are started before this one, where they are started at all.
    pub after: Vec<String>,
    /// The same, and they are started with this one, and must be up.
    pub needs: Vec<String>,
    /// The service is skipped while one of these files is missing.
    pub needs_files: Vec<String>,
    pub restart: Restart,
    /// It is up when its command has ended well, not while it runs.
    pub one_shot: bool,
    /// A one-shot service that ended well stays "done" until it is stopped.
    pub remain: bool,
    /// Empty: root.
    pub user: String,
    /// Empty: `/`, or with `login` the user's home.
    pub directory: String,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The standard streams are the console, not the log.
    pub console: bool,
    /// Started at boot, unless `svc disable` says otherwise.
    pub enabled: bool,
    pub stop_signal: Signal,
    pub reload_signal: Signal,
    pub stop_timeout: Duration,
    /// How long a one-shot command may take.
    pub start_timeout: Duration,
    /// Output goes to `/var/log/NAME.log`, else to /dev/null.
    pub log: bool,
    /// Bytes after which that file becomes `NAME.log.1`.
    pub log_limit: u64,
}

/// The longest unit file.
pub const MAX_BYTES: u64 = 16 * 1024;

impl Unit {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            command: Vec::new(),
            login: false,
            after: Vec::new(),
            needs: Vec::new(),
            needs_files: Vec::new(),
            restart: Restart::OnFailure,
            one_shot: false,
            remain: false,
            user: String::new(),
            directory: String::new(),
            environment: Vec::new(),
            console: false,
            enabled: true,
            stop_signal: Signal::SIGTERM,
            reload_signal: Signal::SIGHUP,
            stop_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(30),
            log: true,
            log_limit: 512 * 1024,
        }
    }

    /// Reads the unit `name` from `text`. The error is for the administrator
    /// and starts with the line's number where there is one.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut unit = Self::new(name);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let result = line
                .split_once('=')
                .ok_or_else(|| format!("'{line}' is no KEY = VALUE"))
                .and_then(|(key, value)| unit.set(key.trim(), value.trim()));
            result.map_err(|message| format!("line {}: {message}", number + 1))?;
        }
        unit.check()?;
        Ok(unit)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if value.contains('\0') {
            return Err(format!("{key}: holds a zero byte"));
        }
        match key {
            "description" => self.description = value.to_owned(),
            "command" => self.command = words(value)?,
            "login" => self.login = yes_or_no(value)?,
            "after" => self.after.extend(names(value)?),
            "needs" => self.needs.extend(names(value)?),
            "needs-file" => self.needs_files.extend(words(value)?),
            "restart" => {
                self.restart = match value {
                    "always" => Restart::Always,
                    "on-failure" => Restart::OnFailure,
                    "never" => Restart::Never,
                    _ => {
                        return Err(format!("'{value}' is not always, on-failure or never"));
                    }
                }
            }
            "one-shot" => {
                self.one_shot = yes_or_no(value)?;
                if self.one_shot {
                    self.restart = Restart::Never;
                }
            }
            "remain" => self.remain = yes_or_no(value)?,
            "user" => self.user = value.to_owned(),
            "directory" => self.directory = value.to_owned(),
            "environment" => {
                for word in words(value)? {
                    if word.find('=').is_none_or(|at| at == 0) {
                        return Err(format!("'{word}' is no NAME=VALUE"));
                    }
                    self.environment.push(word);
                }
            }
            "console" => self.console = yes_or_no(value)?,
            "enabled" => self.enabled = yes_or_no(value)?,
            "stop-signal" => self.stop_signal = signal(value)?,
            "reload-signal" => self.reload_signal = signal(value)?,
            "stop-timeout" => self.stop_timeout = duration(value)?,
            "start-timeout" => self.start_timeout = duration(value)?,
            "log" => self.log = yes_or_no(value)?,
            "log-limit" => self.log_limit = size(value)?.max(4096),
            _ => return Err(format!("unknown key '{key}'")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let Some(program) = self.command.first() else {
            return Err("no command".to_owned());
        };
        if !program.starts_with('/') {
            return Err(format!("command: '{program}' is no absolute path"));
        }
        if self.one_shot && self.restart == Restart::Always {
            return Err("a one-shot service cannot restart always".to_owned());
        }
        if self.remain && !self.one_shot {
            return Err("remain is for one-shot services".to_owned());
        }
        let before = self.after.iter().chain(&self.needs);
        if before.into_iter().any(|name| *name == self.name) {
            return Err("it cannot start after itself".to_owned());
        }
        Ok(())
    }

    /// What must be settled before this one starts.
    pub fn before_it(&self) -> impl Iterator<Item = &str> {
        self.after.iter().chain(&self.needs).map(String::as_str)
    }
}

/// Whether `name` can name a service: it becomes part of file names.
pub fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let names = words(text)?;
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("'{name}' cannot name a service")),
        None => Ok(names),
    }
}

/// Words as a shell splits them, without any expansion.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(q), l) if q == l => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = letters.next().ok_or("a backslash at the end")?;
                word.get_or_insert_default().push(next);
            }
            (None, l) if l.is_whitespace() => all.extend(word.take()),
            (_, l) => word.get_or_insert_default().push(l),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    all.extend(word);
    Ok(all)
}

fn yes_or_no(value: &str) -> Result<bool, String> {
    match value {
        "yes" | "true" | "on" => Ok(true),
        "no" | "false" | "off" => Ok(false),
        _ => Err(format!("'{value}' is not yes or no")),
    }
}

/// `TERM`, `SIGTERM` or a number.
fn signal(value: &str) -> Result<Signal, String> {
    let unknown = || format!("'{value}' is no signal");
    if let Ok(number) = value.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| unknown());
    }
    let upper = value.to_ascii_uppercase();
    let full = match upper.strip_prefix("SIG") {
        Some(_) => upper,
        None => format!("SIG{upper}"),
    };
    full.parse().map_err(|_| unknown())
}

/// `5`, `5s`, `200ms` or `2m`; up to an hour.
fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("'{value}' is no time"))?;
    let milliseconds = match &value[digits.len()..] {
        "" | "s" => number.saturating_mul(1000),
        "ms" => number,
        "m" => number.saturating_mul(60_000),
        _ => return Err(format!("'{value}' is no time: s, ms or m")),
    };
    if milliseconds > 3_600_000 {
        return Err(format!("'{value}' is more than an hour"));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Bytes, or with `K` and `M`; up to a gigabyte.
fn size(value: &str) -> Result<u64, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'K' | b'k') => (&value[..value.len() - 1], 1024),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 1024 * 1024),
        _ => (value, 1),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes <= 1 << 30);
    bytes.ok_or_else(|| format!("'{value}' is no size up to 1024M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Unit, String> {
        Unit::parse("test", text)
    }

    #[test]
    fn a_daemon() {
        let text = "# The SSH daemon.\n\ncommand = /sbin/oxsshd -D -e\nafter = network firewall\nrestart = always\n\
                    stop-timeout = 200ms\nenvironment = A=1 'B=two words'\nstop-signal = int\nlog-limit=64K\n";
        let unit = parse(text).expect("valid");
        assert_eq!(unit.command, ["/sbin/oxsshd", "-D", "-e"]);
        assert_eq!(unit.after, ["network", "firewall"]);
        assert_eq!(unit.restart, Restart::Always);
        assert_eq!(unit.stop_timeout, Duration::from_millis(200));
        assert_eq!(unit.environment, ["A=1", "B=two words"]);
        assert_eq!(unit.stop_signal, Signal::SIGINT);
        assert_eq!(unit.log_limit, 65536);
        assert!(unit.enabled && unit.log && !unit.one_shot && !unit.console);
    }

    #[test]
    fn one_shot_does_not_restart() {
        let unit = parse("command = /bin/true\none-shot = yes\nremain = yes").expect("valid");
        assert_eq!(unit.restart, Restart::Never);
        assert!(unit.remain);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, message) in [
            ("", "no command"),
            ("command = true", "command: 'true' is no absolute path"),
            ("command = /a\nfoo", "line 2: 'foo' is no KEY = VALUE"),
            ("commnad = /a", "line 1: unknown key 'commnad'"),
            ("command = /a 'b", "line 1: a quote is not closed"),
            (
                "command=/a\nrestart=maybe",
                "line 2: 'maybe' is not always, on-failure or never",
            ),
            ("stop-signal=FOO", "line 1: 'FOO' is no signal"),
            ("stop-timeout=5h", "line 1: '5h' is no time: s, ms or m"),
            ("stop-timeout=90m", "line 1: '90m' is more than an hour"),
            ("log-limit=5000M", "line 1: '5000M' is no size up to 1024M"),
            ("after = ../x", "line 1: '../x' cannot name a service"),
            ("environment = =x", "line 1: '=x' is no NAME=VALUE"),
            ("command=/a\nneeds=test", "it cannot start after itself"),
            ("command=/a\nremain=yes", "remain is for one-shot services"),
            (
                "command=/a\none-shot=yes\nrestart=always",
                "a one-shot service cannot restart always",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text), message);
        }
    }

    #[test]
    fn words_are_split_as_by_a_shell() {
        assert_eq!(
            words(r#"a  "b c" d\ e '\' "" x"y"z"#).expect("valid"),
            ["a", "b c", "d e", "\\", "", "xyz"]
        );
        assert!(words("").expect("valid").is_empty());
        assert!(words("a\\").is_err());
    }

    #[test]
    fn names_stay_within_their_folder() {
        assert!(is_name("sshd") && is_name("getty@ttyS0"));
        for bad in ["", ".x", "-x", "a/b", "a b", &"x".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}

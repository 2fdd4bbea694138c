//! Where units are: reading /etc/services, and which services start at boot.
//!
//! A unit's own `enabled` is what its maker chose; what the administrator chose
//! with `svc enable` and `svc disable` stands in `/etc/services/choices`, one
//! `NAME on` or `NAME off` per line, so that unit files stay as they came.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::unit::{MAX_BYTES, Unit, is_name};

pub const FOLDER: &str = "/etc/services";
const CHOICES: &str = "choices";
const SUFFIX: &str = ".conf";
/// More units than this are not read.
const MAX_UNITS: usize = 128;

/// The console's shell, for when no unit file gives one.
const CONSOLE: &str = "description = shell on the console\ncommand = /bin/sh\nlogin = yes\nconsole = yes\n\
                       restart = always\nstop-signal = HUP\n";

/// What a folder of unit files holds.
pub struct Loaded {
    /// Sorted by name, the console's first.
    pub units: Vec<Unit>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// The unit that most consoles have, read alone: nobody should wait for a
/// prompt. `None` where it does not say everything by itself.
pub fn load_console(folder: &Path) -> Option<Unit> {
    let text = read(&folder.join(format!("console{SUFFIX}"))).ok()?;
    let unit = Unit::parse("console", &text).ok()?;
    let alone = unit.console && unit.enabled && unit.before_it().next().is_none();
    let choices = read(&folder.join(CHOICES)).unwrap_or_default();
    (alone && choice(&choices, "console") != Some(false)).then_some(unit)
}

/// Reads every `NAME.conf` in `folder`. There is always a shell on the console
/// among what comes back, unless the administrator disabled it.
pub fn load(folder: &Path) -> Loaded {
    let mut units = Vec::new();
    let mut problems = Vec::new();
    let mut names: Vec<String> = match fs::read_dir(folder) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(SUFFIX).map(str::to_owned))
            .filter(|name| is_name(name))
            .collect(),
        Err(error) => {
            problems.push(format!("{}: {error}", folder.display()));
            Vec::new()
        }
    };
    names.sort_unstable();
    if names.len() > MAX_UNITS {
        problems.push(format!(
            "{} has {} units, the first {MAX_UNITS} count",
            folder.display(),
            names.len()
        ));
        names.truncate(MAX_UNITS);
    }
    let choices = read(&folder.join(CHOICES)).unwrap_or_default();
    for name in names {
        let path = folder.join(format!("{name}{SUFFIX}"));
        match read(&path).and_then(|text| Unit::parse(&name, &text)) {
            Ok(mut unit) => {
                if let Some(enabled) = choice(&choices, &name) {
                    unit.enabled = enabled;
                }
                units.push(unit);
            }
            Err(message) => problems.push(format!("{}: {message}", path.display())),
        }
    }
    if !units.iter().any(|unit| unit.console) {
        match Unit::parse("console", CONSOLE) {
            Ok(unit) => units.push(unit),
            Err(message) => problems.push(message),
        }
    }
    units.sort_by_key(|unit| !unit.console);
    Loaded { units, problems }
}

/// Reads a small file. Process 1 waits for nobody: what is no file (a pipe, a device)
/// is an error, and opening it does not wait for who is at its other end.
pub fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(|error| error.to_string())?;
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    if !is_file {
        return Err("not a file".to_owned());
    }
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    Ok(text)
}

/// What `choices` says about `name`.
fn choice(choices: &str, name: &str) -> Option<bool> {
    choices.lines().rev().find_map(|line| {
        let (key, value) = line.trim().split_once(' ')?;
        match value.trim() {
            "on" if key == name => Some(true),
            "off" if key == name => Some(false),
            _ => None,
        }
    })
}

/// Writes down whether `name` starts at boot; it is on the disk afterwards.
pub fn choose(folder: &Path, name: &str, enabled: bool) -> std::io::Result<()> {
    let path = folder.join(CHOICES);
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        before => before.unwrap_or_default(),
    };
    let mut text: String = before
        .lines()
        .filter(|line| line.split_whitespace().next() != Some(name))
        .map(|line| format!("{line}\n"))
        .collect();
    let word = if enabled { "on" } else { "off" };
    text.push_str(&format!("{name} {word}\n"));
    let new = folder.join(format!("{CHOICES}.new"));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("init-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (file, text) in files {
            fs::write(folder.join(file), text).expect("a file");
        }
        folder
    }

    #[test]
    fn bad_units_are_reported_and_the_others_count() {
        let folder = folder(
            "bad",
            &[
                ("b.conf", "command = /b"),
                ("a.conf", "command = /a\nenabled = no"),
                ("bad.conf", "hello"),
                (".hidden.conf", "command = /h"),
                ("notes.txt", "x"),
            ],
        );
        let loaded = load(&folder);
        let names: Vec<&str> = loaded.units.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(names, ["console", "a", "b"]);
        assert_eq!(loaded.problems.len(), 1);
        assert!(loaded.problems[0].ends_with("bad.conf: line 1: 'hello' is no KEY = VALUE"));
    }

    #[test]
    fn nothing_is_waited_for() {
        let folder = folder("pipe", &[("a.conf", "command = /a")]);
        for name in ["pipe.conf", CHOICES] {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&folder.join(name), mode).expect("a pipe");
        }
        fs::create_dir(folder.join("dir.conf")).expect("a folder");
        let loaded = load(&folder);
        assert_eq!(loaded.units.len(), 2);
        assert_eq!(loaded.problems.len(), 2);
        assert!(loaded.problems[1].ends_with("pipe.conf: not a file"));
    }

    #[test]
    fn no_folder_still_gives_a_console() {
        let loaded = load(Path::new("/no/such/folder"));
        assert_eq!(loaded.units.len(), 1);
        assert_eq!(loaded.units[0].command, ["/bin/sh"]);
        assert_eq!(loaded.problems.len(), 1);
    }

    #[test]
    fn choices_outlive_the_unit_file() {
        let folder = folder(
            "choices",
            &[("a.conf", "command = /a"), ("b.conf", "command = /b")],
        );
        choose(&folder, "a", false).expect("written");
        choose(&folder, "b", false).expect("written");
        choose(&folder, "b", true).expect("written");
        let units = load(&folder).units;
        let enabled: Vec<bool> = units.iter().map(|u| u.enabled).collect();
        assert_eq!(enabled, [true, false, true]);
        assert_eq!(
            fs::read_to_string(folder.join(CHOICES)).expect("there"),
            "a off\nb on\n"
        );
    }
}

//! mount, umount and mountpoint, over mount(2), umount2(2) and /proc/mounts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};

use super::Args;
use crate::sys::{fail, options};

/// Options of mount(8) that are flags of mount(2); `true` sets the flag.
const FLAGS: &[(&str, MsFlags, bool)] = &[
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("remount", MsFlags::MS_REMOUNT, true),
    ("bind", MsFlags::MS_BIND, true),
    ("move", MsFlags::MS_MOVE, true),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("silent", MsFlags::MS_SILENT, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
];

/// One line of /etc/fstab or /proc/mounts.
struct Entry {
    source: String,
    target: String,
    kind: String,
    options: String,
}

fn entries(path: &str) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(unescape);
            Some(Entry {
                source: fields.next()?,
                target: fields.next()?,
                kind: fields.next()?,
                options: fields.next()?,
            })
        })
        .collect()
}

/// Undoes the octal escapes for blanks and backslashes (man 5 fstab).
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

pub fn mount(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("types", 't'),
        ("options", 'o'),
        ("all", 'a'),
        ("read-only", 'r'),
        ("bind", 'B'),
        ("rbind", 'R'),
        ("move", 'M'),
        ("verbose", 'v'),
        ("rw", 'w'),
        ("read-write", 'w'),
    ];
    let parsed = match options(args, "arBRMvnwli", "to", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("mount", message, 1),
    };
    let mut chosen: Vec<String> = parsed
        .values
        .iter()
        .filter(|(letter, _)| *letter == 'o')
        .map(|(_, value)| value.clone())
        .collect();
    if parsed.has('r') {
        chosen.push("ro".to_owned());
    }
    for (letter, option) in [('w', "rw"), ('B', "bind"), ('R', "rbind"), ('M', "move")] {
        if parsed.has(letter) {
            chosen.push(option.to_owned());
        }
    }
    let chosen = chosen.join(",");
    let kind = parsed.value('t').unwrap_or("auto");
    match parsed.operands.as_slice() {
        [] if parsed.has('a') => mount_all(),
        [] => {
            for entry in entries("/proc/mounts") {
                let listed = kind == "auto" || kind.split(',').any(|k| k == entry.kind);
                if !listed {
                    continue;
                }
                println!(
                    "{} on {} type {} ({})",
                    entry.source, entry.target, entry.kind, entry.options
                );
            }
            0
        }
        [source, target] => mount_one(source, target, kind, &chosen),
        [name] => {
            let remount = chosen.split(',').any(|o| o == "remount");
            let table = if remount {
                "/proc/mounts"
            } else {
                "/etc/fstab"
            };
            let found = entries(table)
                .into_iter()
                .find(|e| e.target == *name || e.source == *name);
            match found {
                Some(entry) => {
                    let all = if remount {
                        chosen
                    } else {
                        format!("{},{chosen}", entry.options)
                    };
                    mount_one(&entry.source, &entry.target, &entry.kind, &all)
                }
                None => fail("mount", format!("{name}: not in {table}"), 1),
            }
        }
        _ => fail("mount", "too many operands", 1),
    }
}

/// Mounts what /etc/fstab names and is not mounted yet.
fn mount_all() -> i32 {
    let mounted = entries("/proc/mounts");
    let mut status = 0;
    for entry in entries("/etc/fstab") {
        let skip = entry.target == "none"
            || entry.kind == "swap"
            || entry.options.split(',').any(|o| o == "noauto")
            || mounted.iter().any(|m| m.target == entry.target);
        if !skip {
            status |= mount_one(&entry.source, &entry.target, &entry.kind, &entry.options);
        }
    }
    status
}

fn mount_one(source: &str, target: &str, kind: &str, chosen: &str) -> i32 {
    let (flags, data) = split_options(chosen);
    let data = (!data.is_empty()).then_some(data.as_str());
    let direct = flags.intersects(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_MOVE);
    let candidates: Vec<String> = if kind != "auto" || direct {
        vec![kind.to_owned()]
    } else {
        // The kernel's filesystems that live on a device, in its order.
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known
            .lines()
            .filter(|line| !line.starts_with("nodev"))
            .map(|line| line.trim().to_owned())
            .collect()
    };
    let mut last = nix::errno::Errno::ENODEV;
    // bind, then the other flags in a second step: the call takes only one of the two at a time.
    let later =
        flags & (MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
    let binds = flags.contains(MsFlags::MS_BIND) && !flags.contains(MsFlags::MS_REMOUNT);
    for kind in candidates {
        match nix::mount::mount(Some(source), target, Some(kind.as_str()), flags, data) {
            Ok(()) if binds && !later.is_empty() => {
                let flags = later | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
                let none = None::<&str>;
                match nix::mount::mount(none, target, none, flags, none) {
                    Ok(()) => return 0,
                    Err(error) => last = error,
                }
            }
            Ok(()) => return 0,
            Err(error) => last = error,
        }
    }
    if last == nix::errno::Errno::EPERM {
        return fail(
            "mount",
            format!("{target}: must be superuser to use mount."),
            1,
        );
    }
    fail(
        "mount",
        format!("mounting {source} on {target} failed: {}", last.desc()),
        32,
    )
}

/// Splits options into flags of mount(2) and the filesystem's own.
fn split_options(chosen: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in chosen.split(',').filter(|o| !o.is_empty()) {
        match FLAGS.iter().find(|(name, _, _)| *name == option) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None if option == "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            None if ["defaults", "auto", "noauto", "user", "nouser"].contains(&option) => {}
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

pub fn umount(args: Args) -> i32 {
    const LONG: &[(&str, char)] = &[
        ("force", 'f'),
        ("lazy", 'l'),
        ("all", 'a'),
        ("recursive", 'R'),
    ];
    let parsed = match options(args, "flarRvn", "t", LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("umount", message, 1),
    };
    let mut flags = MntFlags::empty();
    flags.set(MntFlags::MNT_FORCE, parsed.has('f'));
    flags.set(MntFlags::MNT_DETACH, parsed.has('l'));
    let mounted = entries("/proc/mounts");
    let mut targets: Vec<String> = parsed.operands.clone();
    if parsed.has('a') {
        let kinds = parsed.value('t');
        targets = mounted
            .iter()
            .filter(|m| kinds.is_none_or(|kinds| kinds.split(',').any(|kind| kind == m.kind)))
            .map(|m| m.target.clone())
            .collect();
        targets.retain(|t| t != "/" && t != "/proc" && t != "/dev");
        targets.reverse();
    }
    if parsed.has('R') {
        // What is mounted below comes off first, the last mounted before the others.
        let given = std::mem::take(&mut targets);
        for target in given {
            let whole = fs::canonicalize(&target).unwrap_or_else(|_| target.clone().into());
            let below = mounted.iter().rev().map(|m| &m.target);
            let below = below.filter(|t| Path::new(t) != whole && Path::new(t).starts_with(&whole));
            targets.extend(below.cloned());
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return fail("umount", "no mount point given", 1);
    }
    let mut status = 0;
    for target in targets {
        // A device stands for where it is mounted.
        let target = mounted
            .iter()
            .rev()
            .find(|m| m.source == target && m.source.starts_with('/'))
            .map_or(target, |m| m.target.clone());
        let result = umount2(target.as_str(), flags).or_else(|error| {
            if parsed.has('r') && error == nix::errno::Errno::EBUSY {
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                let none = None::<&str>;
                return nix::mount::mount(none, target.as_str(), none, flags, none);
            }
            Err(error)
        });
        if let Err(error) = result {
            let text = match error {
                nix::errno::Errno::EINVAL => "not mounted.",
                nix::errno::Errno::EBUSY => "target is busy.",
                nix::errno::Errno::EPERM => "must be superuser to unmount.",
                other => other.desc(),
            };
            status = fail("umount", format!("{target}: {text}"), 32);
        }
    }
    status
}

/// Says whether a directory is a mount point, by its status.
pub fn mountpoint(args: Args) -> i32 {
    let parsed = match options(args, "qdx", "", &[("quiet", 'q'), ("fs-devno", 'd')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("mountpoint", message, 1),
    };
    let [path] = parsed.operands.as_slice() else {
        return fail("mountpoint", "give one directory", 1);
    };
    if parsed.has('x') {
        use std::os::unix::fs::FileTypeExt as _;
        return match fs::metadata(path) {
            Ok(meta) if meta.file_type().is_block_device() => {
                println!("{}", device(meta.rdev()));
                0
            }
            Ok(_) => fail("mountpoint", format!("{path}: not a block device"), 32),
            Err(error) => fail("mountpoint", format!("{path}: {error}"), 1),
        };
    }
    let answer = is_mountpoint(Path::new(path));
    match answer {
        Ok(true) if parsed.has('d') => {
            println!(
                "{}",
                fs::metadata(path).map_or(String::new(), |meta| device(meta.dev()))
            );
            0
        }
        Ok(yes) => {
            if !parsed.has('q') {
                println!("{path} is {}a mountpoint", if yes { "" } else { "not " });
            }
            if yes { 0 } else { 32 }
        }
        Err(error) => fail("mountpoint", format!("{path}: {error}"), 1),
    }
}

/// `major:minor`.
fn device(number: u64) -> String {
    format!("{}:{}", nix::libc::major(number), nix::libc::minor(number))
}

fn is_mountpoint(path: &Path) -> std::io::Result<bool> {
    let own = fs::metadata(path)?;
    let parent = fs::metadata(path.join(".."))?;
    if own.dev() != parent.dev() || own.ino() == parent.ino() {
        return Ok(true);
    }
    // A bind mount of the same filesystem.
    let path = fs::canonicalize(path)?;
    Ok(entries("/proc/mounts")
        .iter()
        .any(|m| Path::new(&m.target) == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_split_into_flags_and_data() {
        let (flags, data) = split_options("defaults,ro,noexec,size=16m,rw");
        assert_eq!(flags, MsFlags::MS_NOEXEC);
        assert_eq!(data, "size=16m");
    }

    #[test]
    fn root_is_a_mountpoint() {
        assert!(is_mountpoint(Path::new("/")).expect("root exists"));
        assert_eq!(unescape("a\\040b"), "a b");
    }
}

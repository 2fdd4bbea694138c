//! mv between filesystems.
//!
//! uutils' mv renames well, but what it copies to another filesystem loses times,
//! owners, modes and hard links, and devices stop it. Where a source and the target
//! are on different filesystems, this does what GNU's does: `cp -a`, then `rm -r`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Args;
use super::archive::plain;
use crate::sys::fail;
use crate::uu::catalogue;

pub fn mv(args: Args) -> i32 {
    match Plan::read(&args).filter(Plan::crosses) {
        Some(plan) => plan.run(),
        None => {
            catalogue("uu_mv");
            uu_mv::uumain(args.into_iter())
        }
    }
}

/// A command line without the rarer options, which uutils' mv gets.
#[derive(Debug, Default)]
struct Plan {
    force: bool,
    ask: bool,
    keep: bool,
    verbose: bool,
    sources: Vec<PathBuf>,
    target: PathBuf,
    into: bool,
}

impl Plan {
    fn read(args: &Args) -> Option<Self> {
        let mut plan = Self::default();
        let mut operands: Vec<PathBuf> = Vec::new();
        let mut directory = None;
        let mut exact = false;
        let mut args = args.iter().skip(1);
        while let Some(arg) = args.next() {
            let bytes = arg.as_bytes();
            match bytes {
                b"--" => {
                    operands.extend(args.by_ref().map(PathBuf::from));
                }
                b"--force" => plan.force = true,
                b"--no-clobber" => plan.keep = true,
                b"--verbose" => plan.verbose = true,
                b"--no-target-directory" => exact = true,
                b"--target-directory" => directory = args.next().map(PathBuf::from),
                _ if bytes.starts_with(b"--target-directory=") => {
                    directory = Some(Path::new(OsStr::from_bytes(&bytes[19..])).to_owned());
                }
                _ if bytes.starts_with(b"--") => return None,
                [b'-', letters @ ..] if !letters.is_empty() => {
                    for (at, letter) in letters.iter().enumerate() {
                        match letter {
                            b'f' => (plan.force, plan.ask, plan.keep) = (true, false, false),
                            b'i' => (plan.force, plan.ask, plan.keep) = (false, true, false),
                            b'n' => (plan.force, plan.ask, plan.keep) = (false, false, true),
                            b'v' => plan.verbose = true,
                            b'T' => exact = true,
                            b't' => {
                                let rest = &letters[at + 1..];
                                directory = match rest.is_empty() {
                                    true => args.next().map(PathBuf::from),
                                    false => Some(OsStr::from_bytes(rest).into()),
                                };
                                break;
                            }
                            _ => return None,
                        }
                    }
                }
                _ => operands.push(arg.into()),
            }
        }
        plan.into = match directory {
            Some(directory) => {
                plan.target = directory;
                true
            }
            None => {
                plan.target = operands.pop()?;
                !exact && plan.target.is_dir()
            }
        };
        // What is wrong here uutils' mv tells.
        let sensible = !operands.is_empty()
            && (plan.into || operands.len() == 1)
            && (!plan.into || plan.target.is_dir());
        plan.sources = operands;
        sensible.then_some(plan)
    }

    fn destination(&self, source: &Path) -> Option<PathBuf> {
        match self.into {
            true => Some(self.target.join(source.file_name()?)),
            false => Some(self.target.clone()),
        }
    }

    /// Whether some source is on another filesystem than where it goes.
    fn crosses(&self) -> bool {
        self.sources.iter().any(|source| {
            let own = fs::symlink_metadata(source).map(|meta| meta.dev());
            let there = self.destination(source).and_then(|d| device_above(&d));
            matches!((own, there), (Ok(own), Some(there)) if own != there)
        })
    }

    fn run(&self) -> i32 {
        catalogue("uu_cp");
        let mut status = 0;
        for source in &self.sources {
            if let Err(text) = self.one(source) {
                // What cp did not manage it has told itself.
                status = match text.is_empty() {
                    true => 1,
                    false => fail("mv", text, 1),
                };
            }
        }
        status
    }

    fn one(&self, source: &Path) -> Result<(), String> {
        let shown = source.display();
        let meta = fs::symlink_metadata(source)
            .map_err(|error| format!("cannot stat '{shown}': {}", plain(&error)))?;
        let target = self
            .destination(source)
            .ok_or(format!("cannot move '{shown}': Invalid argument"))?;
        let to = target.display();
        if let Ok(there) = fs::symlink_metadata(&target) {
            if (there.dev(), there.ino()) == (meta.dev(), meta.ino()) {
                return Err(format!("'{shown}' and '{to}' are the same file"));
            }
            if self.keep || !self.may_replace(&target) {
                return Ok(());
            }
            match (meta.is_dir(), there.is_dir()) {
                (false, true) => {
                    return Err(format!(
                        "cannot overwrite directory '{to}' with non-directory"
                    ));
                }
                (true, false) => {
                    return Err(format!(
                        "cannot overwrite non-directory '{to}' with directory '{shown}'"
                    ));
                }
                _ => {}
            }
        }
        if device_above(&target) == Some(meta.dev()) {
            fs::rename(source, &target)
                .map_err(|error| format!("cannot move '{shown}' to '{to}': {}", plain(&error)))?;
            return self.tell(&format!("renamed '{shown}' -> '{to}'"));
        }
        if let Ok(there) = fs::symlink_metadata(&target) {
            let removed = match there.is_dir() {
                true => fs::remove_dir(&target),
                false => fs::remove_file(&target),
            };
            removed.map_err(|error| {
                let why = plain(&error);
                format!(
                    "inter-device move failed: '{shown}' to '{to}'; unable to remove target: {why}"
                )
            })?;
        }
        // It remembers that an earlier source could not be copied whole.
        uucore::error::set_exit_code(0);
        let words = ["cp", "-a", "-T", "--"].map(OsString::from).into_iter();
        let paths = [source.as_os_str().to_owned(), target.as_os_str().to_owned()];
        if uu_cp::uumain(words.chain(paths)) != 0 {
            return Err(String::new());
        }
        if meta.is_dir() {
            let options = uu_rm::Options {
                force: true,
                recursive: true,
                interactive: uu_rm::InteractiveMode::Never,
                ..uu_rm::Options::default()
            };
            if uu_rm::remove(&[source.as_os_str()], &options) {
                return Err(format!("cannot remove '{shown}' whole"));
            }
        } else {
            fs::remove_file(source)
                .map_err(|error| format!("cannot remove '{shown}': {}", plain(&error)))?;
        }
        self.tell(&format!("copied '{shown}' -> '{to}'\nremoved '{shown}'"))
    }

    fn tell(&self, text: &str) -> Result<(), String> {
        if self.verbose {
            println!("{text}");
        }
        Ok(())
    }

    /// Asks where that was asked for, or where the target is write-protected and
    /// somebody is there to answer.
    fn may_replace(&self, target: &Path) -> bool {
        use nix::unistd::{AccessFlags, access};
        let guarded = !self.force
            && io::stdin().is_terminal()
            && !target.is_symlink()
            && access(target, AccessFlags::W_OK).is_err();
        if !self.ask && !guarded {
            return true;
        }
        let verb = if guarded {
            "replace write-protected"
        } else {
            "overwrite"
        };
        eprint!("mv: {verb} '{}'? ", target.display());
        // The question is on the terminal even where it is slow.
        let _ = io::stderr().flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && answer.trim_start().starts_with(['y', 'Y'])
    }
}

/// The filesystem of the directory that `path` is or would be in.
fn device_above(path: &Path) -> Option<u64> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::metadata(parent).ok().map(|meta| meta.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Option<Plan> {
        Plan::read(&["mv"].iter().chain(args).map(OsString::from).collect())
    }

    #[test]
    fn command_lines() {
        let simple = plan(&["-fv", "/etc/passwd", "/tmp"]).expect("simple");
        assert!(simple.into && simple.force && simple.verbose);
        let destination = simple.destination(Path::new("/etc/passwd"));
        assert_eq!(destination, Some("/tmp/passwd".into()));
        assert!(plan(&["-t", "/tmp", "a", "b"]).is_some_and(|p| p.sources.len() == 2));
        assert!(plan(&["-T", "a", "/tmp"]).is_some_and(|p| !p.into));
        // uutils' mv knows more, and what is wrong.
        for other in [
            &["-b", "a", "b"][..],
            &["--update=older", "a", "b"],
            &["a"],
            &[],
            &["a", "b", "c"],
        ] {
            assert!(plan(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn only_other_filesystems_count() {
        assert!(plan(&["/proc/version", "/tmp/x"]).is_some_and(|p| p.crosses()));
        assert!(!plan(&["/tmp", "/tmp/x"]).is_some_and(|p| p.crosses()));
    }
}

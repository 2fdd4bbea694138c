//! zip: makes archives, adds to them and deletes from them. What was there before
//! stays whole until the new archive is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::super::codec::plain;
use super::super::listing::escaped;
use super::super::pattern::{Reach, matches};
use super::super::tar::safe_start;
use super::{Args, explain};
use crate::sys::fail;

// Exit statuses of Info-ZIP's zip.
const BAD_FORMAT: i32 = 3;
const NOTHING_TO_DO: i32 = 12;
const CANNOT_CREATE: i32 = 15;
const BAD_PARAMETERS: i32 = 16;
const CANNOT_READ: i32 = 18;

#[derive(Default)]
struct Job {
    archive: PathBuf,
    names: Vec<OsString>,
    excluded: Vec<Vec<u8>>,
    recursive: bool,
    quiet: bool,
    junk_paths: bool,
    symlinks: bool,
    delete: bool,
    move_in: bool,
    newer_only: bool,
    no_directories: bool,
    level: Option<i64>,
}

pub fn zip(args: Args) -> i32 {
    let mut job = match parse(args) {
        Ok(job) => job,
        Err(message) => return fail("zip error", message, BAD_PARAMETERS),
    };
    if job.archive.extension().is_none() {
        job.archive.as_mut_os_string().push(".zip");
    }
    job.run()
}

fn parse(args: Args) -> Result<Job, String> {
    let mut job = Job::default();
    let mut args = args.into_iter().skip(1).peekable();
    let mut names = Vec::new();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let letters = match bytes.strip_prefix(b"-") {
            Some(b"-recurse-paths") => b"r",
            Some(b"-quiet") => b"q",
            Some(b"-symlinks") => b"y",
            Some(b"-exclude") => b"x",
            Some(b"-delete") => b"d",
            Some(b"-") => {
                names.extend(args.by_ref());
                break;
            }
            Some(long) if long.starts_with(b"-") => {
                return Err(format!("long option '{}' not supported", arg.display()));
            }
            Some(letters) if !letters.is_empty() => letters,
            _ => {
                names.push(arg);
                continue;
            }
        };
        for letter in letters {
            match letter {
                b'r' => job.recursive = true,
                b'q' => job.quiet = true,
                b'j' => job.junk_paths = true,
                b'y' => job.symlinks = true,
                b'd' => job.delete = true,
                b'm' => job.move_in = true,
                b'u' => job.newer_only = true,
                b'D' => job.no_directories = true,
                b'0'..=b'9' => job.level = Some(i64::from(letter - b'0')),
                // No extra fields are written, and all is always verbose enough.
                b'X' | b'v' => {}
                b'@' => {
                    let lines = io::stdin().lock().split(b'\n').map_while(Result::ok);
                    names.extend(lines.filter(|l| !l.is_empty()).map(OsString::from_vec));
                }
                b'x' => {
                    while let Some(pattern) = args.next_if(|a| !a.as_bytes().starts_with(b"-")) {
                        job.excluded.push(pattern.into_vec());
                    }
                }
                other => {
                    return Err(format!(
                        "short option '{}' not supported",
                        char::from(*other)
                    ));
                }
            }
        }
    }
    let mut names = names.into_iter();
    job.archive = names.next().ok_or("Nothing to do: name an archive")?.into();
    job.names = names.collect();
    Ok(job)
}

/// A name in the archive and the file it is made from.
type Plan = BTreeMap<Vec<u8>, (PathBuf, fs::Metadata)>;

impl Job {
    fn say(&self, verb: &str, name: &[u8], more: &str) {
        if !self.quiet {
            let name = escaped(name);
            println!("{verb:>10}: {name}{more}");
        }
    }

    fn run(&self) -> i32 {
        let mut before = match File::open(&self.archive) {
            Ok(file) => match ZipArchive::new(BufReader::new(file)) {
                Ok(archive) => Some(archive),
                Err(error) => {
                    let name = self.archive.display();
                    return fail(
                        "zip error",
                        format!("{name}: {}", explain(error)),
                        BAD_FORMAT,
                    );
                }
            },
            Err(_) => None,
        };
        let mut status = 0;
        let mut plan = Plan::new();
        if !self.delete {
            for name in &self.names {
                if !self.collect(Path::new(name), &mut plan) {
                    status = CANNOT_READ;
                }
            }
            if plan.is_empty() {
                let name = self.archive.display();
                return fail(
                    "\nzip error",
                    format!("Nothing to do! ({name})"),
                    NOTHING_TO_DO,
                );
            }
        } else if before.is_none() {
            return fail("zip error", "no archive to delete from", NOTHING_TO_DO);
        }
        let mut temporary = self.archive.clone().into_os_string();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let made = self
            .write(&temporary, before.as_mut(), &plan)
            .and_then(|unread| {
                let old = fs::metadata(&self.archive).map(|meta| meta.permissions());
                if let Ok(permissions) = old {
                    fs::set_permissions(&temporary, permissions).map_err(|e| plain(&e))?;
                }
                fs::rename(&temporary, &self.archive).map_err(|e| plain(&e))?;
                Ok(unread)
            });
        match made {
            Ok(true) => {}
            Ok(false) => status = CANNOT_READ,
            Err(text) => {
                // It may not even have been made.
                let _ = fs::remove_file(&temporary);
                let name = self.archive.display();
                return fail("zip error", format!("{name}: {text}"), CANNOT_CREATE);
            }
        }
        if self.move_in && status == 0 {
            // The longest names first: what is in a directory before itself.
            for (path, meta) in plan.values().rev() {
                let removed = match meta.is_dir() {
                    true => fs::remove_dir(path),
                    false => fs::remove_file(path),
                };
                if let Err(error) = removed {
                    status = fail(
                        "zip warning",
                        format!("{}: {}", path.display(), plain(&error)),
                        0,
                    );
                }
            }
        }
        status
    }

    /// Adds `path`, and with `-r` what is below it, to the plan. False: something is not there.
    fn collect(&self, path: &Path, plan: &mut Plan) -> bool {
        let found = match self.symlinks {
            true => fs::symlink_metadata(path),
            false => fs::metadata(path),
        };
        let meta = match found {
            Ok(meta) => meta,
            Err(error) => {
                eprintln!("zip warning: {}: {}", path.display(), plain(&error));
                return false;
            }
        };
        let full = path.as_os_str().as_bytes();
        let mut name = full[safe_start(full)..].to_vec();
        while let Some(rest) = name.strip_prefix(b"./") {
            name = rest.to_vec();
        }
        if self.junk_paths {
            let file = path.file_name().unwrap_or_default();
            name = file.as_bytes().to_vec();
        }
        if meta.is_dir() && !name.is_empty() && !name.ends_with(b"/") {
            name.push(b'/');
        }
        if self
            .excluded
            .iter()
            .any(|pattern| matches(pattern, &name, Reach::Whole))
        {
            return true;
        }
        let is_dir = meta.is_dir();
        let own = fs::metadata(&self.archive)
            .is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()));
        let named = !name.is_empty() && name != b"." && name != b"./" && !own;
        let kept = if is_dir {
            !self.no_directories && !self.junk_paths
        } else {
            meta.is_file() || meta.is_symlink()
        };
        if named && kept {
            plan.insert(name, (path.to_owned(), meta));
        }
        if !is_dir || !self.recursive {
            return true;
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                eprintln!("zip warning: {}: {}", path.display(), plain(&error));
                return false;
            }
        };
        let mut all = true;
        // All first, so that no directory stays open on the way down.
        let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        for path in paths {
            all &= self.collect(&path, plan);
        }
        all
    }

    /// Writes the new archive: what stays of the old one, then what is new. False:
    /// a file could not be read.
    fn write(
        &self,
        target: &Path,
        before: Option<&mut ZipArchive<BufReader<File>>>,
        plan: &Plan,
    ) -> Result<bool, String> {
        let file = File::create_new(target).map_err(|e| plain(&e))?;
        let mut writer = ZipWriter::new(BufWriter::new(file));
        let mut known = BTreeMap::new();
        if let Some(before) = before {
            for index in 0..before.len() {
                let old = before.by_index_raw(index).map_err(explain)?;
                let name = old.name_raw().to_vec();
                let doomed = self.delete
                    && self
                        .names
                        .iter()
                        .any(|pattern| matches(pattern.as_bytes(), &name, Reach::Whole));
                if doomed {
                    self.say("deleting", &name, "");
                    continue;
                }
                let time = old.last_modified().map_or(0, seconds);
                let newer = plan
                    .get(&name)
                    .is_some_and(|(_, meta)| !self.newer_only || meta.mtime() > time + 1);
                known.insert(name, !newer);
                if !newer {
                    writer.raw_copy_file(old).map_err(explain)?;
                }
            }
        }
        let mut all = true;
        for (name, (path, meta)) in plan {
            let verb = match known.get(name) {
                // Kept as it was.
                Some(true) => continue,
                Some(false) => "updating",
                None => "adding",
            };
            all &= self.add(&mut writer, verb, name, path, meta)?;
        }
        let buffer = writer.finish().map_err(explain)?;
        buffer
            .into_inner()
            .map_err(|error| plain(error.error()))?
            .sync_data()
            .map_err(|e| plain(&e))?;
        Ok(all)
    }

    fn add(
        &self,
        writer: &mut ZipWriter<BufWriter<File>>,
        verb: &str,
        name: &[u8],
        path: &Path,
        meta: &fs::Metadata,
    ) -> Result<bool, String> {
        let stored = self.level == Some(0) || !meta.is_file() || meta.len() == 0;
        let method = match stored {
            true => CompressionMethod::Stored,
            false => CompressionMethod::Deflated,
        };
        let directory: u32 = if meta.is_dir() { 0x10 } else { 0 };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .compression_level(self.level.filter(|level| *level > 0 && !stored))
            .last_modified_time(moment(meta.mtime()))
            .large_file(meta.len() >= u64::from(u32::MAX))
            .external_attributes(meta.mode() << 16 | directory)
            .name(name);
        let mut read = 0;
        if meta.is_file() {
            let mut input = match File::open(path) {
                Ok(input) => input,
                Err(error) => {
                    eprintln!("zip warning: {}: {}", path.display(), plain(&error));
                    return Ok(false);
                }
            };
            writer.start_file_with_options(options).map_err(explain)?;
            read = io::copy(&mut input, writer).map_err(|e| plain(&e))?;
        } else {
            writer.start_file_with_options(options).map_err(explain)?;
            if meta.is_symlink() {
                let to = fs::read_link(path).map_err(|e| plain(&e))?;
                writer
                    .write_all(to.as_os_str().as_bytes())
                    .map_err(|e| plain(&e))?;
            }
        }
        let how = if stored || read == 0 {
            " (stored 0%)"
        } else {
            " (deflated)"
        };
        self.say(verb, name, how);
        Ok(true)
    }
}

/// Seconds since 1970 as the format has them: local time, from 1980, in steps of two seconds.
fn moment(seconds: i64) -> DateTime {
    let time = crate::sys::local_time(seconds);
    let small = |value: i32| u8::try_from(value).unwrap_or(0);
    DateTime::from_date_and_time(
        u16::try_from(time.tm_year + 1900).unwrap_or(1980),
        small(time.tm_mon + 1),
        small(time.tm_mday),
        small(time.tm_hour),
        small(time.tm_min),
        small(time.tm_sec),
    )
    .unwrap_or_default()
}

/// Seconds since 1970 of a time in an archive.
pub fn seconds(time: DateTime) -> i64 {
    // SAFETY: all bytes zero are a valid `tm`.
    let mut parts: nix::libc::tm = unsafe { std::mem::zeroed() };
    parts.tm_year = i32::from(time.year()) - 1900;
    parts.tm_mon = i32::from(time.month()) - 1;
    parts.tm_mday = i32::from(time.day());
    parts.tm_hour = i32::from(time.hour());
    parts.tm_min = i32::from(time.minute());
    parts.tm_sec = i32::from(time.second());
    parts.tm_isdst = -1;
    // SAFETY: the pointer is to a value that outlives the call.
    unsafe { nix::libc::mktime(&raw mut parts) }
}

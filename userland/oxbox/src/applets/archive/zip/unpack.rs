//! unzip: lists, tests and unpacks archives. Names lose what leads out of the
//! directory; symbolic links are made when all else is done.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ::zip::ZipArchive;

use super::super::codec::plain;
use super::super::listing::escaped;
use super::super::pattern::{Reach, matches};
use super::super::tar::safe_start;
use super::{Args, explain};
use crate::sys::fail;

// Exit statuses of Info-ZIP's unzip.
const WARNING: i32 = 1;
const ERROR: i32 = 2;
const BAD_FORMAT: i32 = 3;
const NO_ARCHIVE: i32 = 9;
const BAD_PARAMETERS: i32 = 10;
const NO_MEMBER: i32 = 11;

#[derive(Clone, Copy, Default, PartialEq)]
enum Overwrite {
    #[default]
    Ask,
    Always,
    Never,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Action {
    #[default]
    Extract,
    List,
    Print,
    Test,
}

#[derive(Default)]
struct Job {
    action: Action,
    quiet: u8,
    overwrite: Overwrite,
    junk_paths: bool,
    update: bool,
    directory: PathBuf,
    wanted: Vec<Vec<u8>>,
    excluded: Vec<Vec<u8>>,
    links: Vec<(PathBuf, PathBuf)>,
    modes: Vec<(PathBuf, u32)>,
}

pub fn unzip(args: Args) -> i32 {
    let (mut job, archive) = match parse(args) {
        Ok(parsed) => parsed,
        Err(message) => return fail("unzip", message, BAD_PARAMETERS),
    };
    let mut found = None;
    for ending in ["", ".zip", ".ZIP"] {
        let mut name = archive.clone();
        name.push(ending);
        if let Ok(file) = File::open(&name) {
            found = Some((name, file));
            break;
        }
    }
    let Some((name, file)) = found else {
        let name = archive.display();
        let text = format!("cannot find or open {name}, {name}.zip or {name}.ZIP.");
        return fail("unzip", text, NO_ARCHIVE);
    };
    if job.quiet == 0 && job.action != Action::Print {
        println!("Archive:  {}", name.display());
    }
    match ZipArchive::new(BufReader::new(file)) {
        Ok(mut archive) => job.all(&mut archive, &name),
        Err(error) => fail(
            "unzip",
            format!("{}: {}", name.display(), explain(error)),
            BAD_FORMAT,
        ),
    }
}

fn parse(args: Args) -> Result<(Job, OsString), String> {
    let mut job = Job::default();
    let mut archive = None;
    let mut args = args.into_iter().skip(1);
    let mut excluding = false;
    while let Some(arg) = args.next() {
        let Some(letters) = arg
            .as_bytes()
            .strip_prefix(b"-")
            .filter(|letters| !letters.is_empty())
        else {
            match archive {
                None => archive = Some(arg),
                Some(_) if excluding => job.excluded.push(arg.into_vec()),
                Some(_) => job.wanted.push(arg.into_vec()),
            }
            continue;
        };
        for (at, letter) in letters.iter().enumerate() {
            match letter {
                b'l' | b'v' | b'Z' => job.action = Action::List,
                b't' => job.action = Action::Test,
                b'p' | b'c' => job.action = Action::Print,
                b'q' => job.quiet += 1,
                b'o' => job.overwrite = Overwrite::Always,
                b'n' => job.overwrite = Overwrite::Never,
                b'j' => job.junk_paths = true,
                b'u' | b'f' => job.update = true,
                b'x' => excluding = true,
                // Names and modes are always kept as they are.
                b'X' | b'K' | b'C' | b'L' => {}
                b'd' => {
                    let rest = &letters[at + 1..];
                    job.directory = match rest.is_empty() {
                        true => args.next().ok_or("-d: name a directory")?.into(),
                        false => OsStr::from_bytes(rest).into(),
                    };
                    break;
                }
                other => return Err(format!("unknown option -{}", char::from(*other))),
            }
        }
    }
    let archive = archive.ok_or("name an archive; try 'unzip --help'")?;
    Ok((job, archive))
}

impl Job {
    fn say(&self, verb: &str, name: &[u8], more: &str) {
        if self.quiet == 0 {
            let name = escaped(name);
            println!("{verb:>11}: {name}{more}");
        }
    }

    fn all(&mut self, archive: &mut ZipArchive<BufReader<File>>, file: &OsStr) -> i32 {
        let listing = self.action == Action::List;
        if listing {
            println!("  Length      Date    Time    Name");
            println!("---------  ---------- -----   ----");
        }
        let (mut bytes, mut count, mut status) = (0, 0, 0);
        let mut matched = vec![false; self.wanted.len()];
        for index in 0..archive.len() {
            let name = match archive.by_index_raw(index) {
                Ok(member) => member.name_raw().to_vec(),
                Err(error) => {
                    status = status.max(fail("unzip", explain(error), BAD_FORMAT));
                    continue;
                }
            };
            let mut wanted = self.wanted.is_empty();
            for (pattern, found) in self.wanted.iter().zip(&mut matched) {
                let fits = matches(pattern, &name, Reach::Whole);
                wanted |= fits;
                *found |= fits;
            }
            let excluded = self
                .excluded
                .iter()
                .any(|pattern| matches(pattern, &name, Reach::Whole));
            if !wanted || excluded {
                continue;
            }
            count += 1;
            if listing {
                match archive.by_index_raw(index) {
                    Ok(member) => {
                        bytes += member.size();
                        let time = member.last_modified().map_or(0, super::pack::seconds);
                        let shown = escaped(&name);
                        let date = super::super::listing::date(time);
                        println!("{:>9}  {date}   {shown}", member.size());
                    }
                    Err(error) => status = fail("unzip", explain(error), BAD_FORMAT),
                }
                continue;
            }
            if let Err(text) = self.member(archive, index, &name) {
                let shown = escaped(&name);
                status = fail("unzip", format!("{shown}: {text}"), ERROR);
            }
        }
        for (pattern, found) in self.wanted.iter().zip(&matched) {
            if !found {
                let shown = String::from_utf8_lossy(pattern).into_owned();
                eprintln!("caution: filename not matched:  {shown}");
                status = status.max(NO_MEMBER);
            }
        }
        if listing {
            println!("---------                     -------");
            let plural = if count == 1 { "" } else { "s" };
            println!("{bytes:>9}                     {count} file{plural}");
        } else if self.action == Action::Test && self.quiet < 2 && status == 0 {
            let file = file.display();
            println!("No errors detected in compressed data of {file}.");
        }
        for (path, link) in std::mem::take(&mut self.links) {
            let result = std::os::unix::fs::symlink(&link, &path);
            if let Err(error) = result {
                let text = format!("{}: {}", path.display(), plain(&error));
                status = status.max(fail("unzip", text, WARNING));
            }
        }
        // Directories may be read-only: the innermost first, when they are full.
        for (path, mode) in std::mem::take(&mut self.modes).iter().rev() {
            // A filesystem that keeps no modes is no error.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(*mode));
        }
        status
    }

    fn member(
        &mut self,
        archive: &mut ZipArchive<BufReader<File>>,
        index: usize,
        name: &[u8],
    ) -> Result<(), String> {
        let mut member = archive.by_index(index).map_err(explain)?;
        if self.action == Action::Print {
            return copy(&mut member, &mut io::stdout().lock());
        }
        if self.action == Action::Test {
            copy(&mut member, &mut io::sink())?;
            self.say("testing", name, "   OK");
            return Ok(());
        }
        let mode = member.unix_mode();
        let is_dir = name.ends_with(b"/") || member.is_dir();
        let mut inner = &name[safe_start(name)..];
        if inner.len() < name.len() {
            eprintln!(
                "unzip: removing what is before {:?}",
                OsStr::from_bytes(inner)
            );
        }
        if self.junk_paths {
            if is_dir {
                return Ok(());
            }
            let start = inner
                .iter()
                .rposition(|b| *b == b'/')
                .map_or(0, |at| at + 1);
            inner = &inner[start..];
        }
        let inner: PathBuf = Path::new(OsStr::from_bytes(inner))
            .components()
            .filter(|component| matches!(component, Component::Normal(_)))
            .collect();
        if inner.as_os_str().is_empty() {
            return Ok(());
        }
        let target = self.directory.join(inner);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| plain(&e))?;
        }
        if is_dir {
            if !target.is_dir() {
                self.say("creating", target.as_os_str().as_bytes(), "");
                fs::create_dir(&target).map_err(|e| plain(&e))?;
            }
            if let Some(mode) = mode.filter(|mode| mode & 0o777 != 0) {
                self.modes.push((target, mode & 0o777));
            }
            return Ok(());
        }
        let time = member.last_modified().map_or(0, super::pack::seconds);
        let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(time).unwrap_or(0));
        if let Ok(meta) = fs::symlink_metadata(&target) {
            if self.update && meta.modified().is_ok_and(|had| had >= time) {
                return Ok(());
            }
            if !self.may_replace(&target) {
                return Ok(());
            }
            fs::remove_file(&target).map_err(|e| plain(&e))?;
        }
        if member.is_symlink() {
            let mut link = Vec::new();
            let mut limited = (&mut member).take(nix::libc::PATH_MAX as u64);
            limited.read_to_end(&mut link).map_err(|e| plain(&e))?;
            let link = PathBuf::from(OsString::from_vec(link));
            let shown = format!(" -> {}", link.display());
            self.say("linking", target.as_os_str().as_bytes(), &shown);
            self.links.push((target, link));
            return Ok(());
        }
        let verb = match member.compression() {
            ::zip::CompressionMethod::Stored => "extracting",
            _ => "inflating",
        };
        self.say(verb, target.as_os_str().as_bytes(), "  ");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode.map_or(0o666, |mode| mode & 0o777))
            .open(&target)
            .map_err(|e| plain(&e))?;
        copy(&mut member, &mut file)?;
        let _ = file.set_modified(time);
        Ok(())
    }

    /// Whether a file that is there may go; asks where nobody said.
    fn may_replace(&mut self, target: &Path) -> bool {
        while self.overwrite == Overwrite::Ask {
            eprint!("replace {}? [y]es, [n]o, [A]ll, [N]one: ", target.display());
            let mut answer = String::new();
            match io::stdin().read_line(&mut answer) {
                Ok(0) | Err(_) => {
                    eprintln!("(EOF or read error, treating as \"[N]one\" ...)");
                    self.overwrite = Overwrite::Never;
                }
                Ok(_) => match answer.trim() {
                    "y" | "Y" | "yes" => return true,
                    "n" | "no" => return false,
                    "A" | "All" => self.overwrite = Overwrite::Always,
                    "N" | "None" => self.overwrite = Overwrite::Never,
                    _ => {}
                },
            }
        }
        self.overwrite == Overwrite::Always
    }
}

fn copy(member: &mut impl Read, output: &mut impl Write) -> Result<(), String> {
    io::copy(member, output)
        .and_then(|_| output.flush())
        .map_err(|error| super::super::codec::explain(&error))
}

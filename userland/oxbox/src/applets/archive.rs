//! tar over the `tar` crate; gzip, gunzip and zcat over `flate2`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Args;
use crate::sys::{fail, lossy, options};

pub fn gzip(args: Args) -> i32 {
    gzip_like("gzip", args, false, false)
}

pub fn gunzip(args: Args) -> i32 {
    gzip_like("gunzip", args, true, false)
}

pub fn zcat(args: Args) -> i32 {
    gzip_like("zcat", args, true, true)
}

const GZIP_LONG: &[(&str, char)] = &[
    ("decompress", 'd'),
    ("stdout", 'c'),
    ("to-stdout", 'c'),
    ("force", 'f'),
    ("keep", 'k'),
    ("list", 'l'),
    ("test", 't'),
    ("verbose", 'v'),
    ("quiet", 'q'),
    ("no-name", 'n'),
    ("fast", '1'),
    ("best", '9'),
];

fn gzip_like(name: &str, args: Args, decompress: bool, to_stdout: bool) -> i32 {
    let parsed = match options(args, "cdfkltvqnN123456789", "", GZIP_LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(name, message, 1),
    };
    let level = parsed.flags.iter().rev().find_map(|f| f.to_digit(10));
    let job = Gzip {
        name,
        decompress: decompress || parsed.has('d') || parsed.has('t'),
        to_stdout: to_stdout || parsed.has('c'),
        test: parsed.has('t'),
        force: parsed.has('f'),
        keep: parsed.has('k'),
        verbose: parsed.has('v'),
        level: Compression::new(level.unwrap_or(6)),
    };
    let mut operands = parsed.operands;
    if operands.is_empty() {
        operands.push("-".to_owned());
    }
    let mut status = 0;
    for path in operands {
        if let Err(error) = job.run(&path) {
            status = fail(name, format!("{path}: {error}"), 1);
        }
    }
    status
}

struct Gzip<'a> {
    name: &'a str,
    decompress: bool,
    to_stdout: bool,
    test: bool,
    force: bool,
    keep: bool,
    verbose: bool,
    level: Compression,
}

impl Gzip<'_> {
    fn run(&self, path: &str) -> io::Result<()> {
        if path == "-" {
            return self.copy(io::stdin().lock(), io::stdout().lock()).map(drop);
        }
        let input = File::open(path)?;
        let meta = input.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::other("is a directory -- ignored"));
        }
        if self.test {
            return self.copy(input, io::sink()).map(drop);
        }
        if self.to_stdout {
            return self.copy(input, io::stdout().lock()).map(drop);
        }
        let target = self.target(path)?;
        if target.exists() && !self.force {
            let message = format!("{} already exists", target.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let output = File::create(&target)?;
        let result = self.copy(input, &output);
        if result.is_err() {
            fs::remove_file(&target)?;
            return result.map(drop);
        }
        output.set_permissions(meta.permissions())?;
        output.set_modified(meta.modified()?)?;
        if self.verbose {
            eprintln!("{}: {path} -> {}", self.name, target.display());
        }
        if !self.keep {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn target(&self, path: &str) -> io::Result<PathBuf> {
        if !self.decompress {
            if path.ends_with(".gz") && !self.force {
                return Err(io::Error::other("already has .gz suffix -- unchanged"));
            }
            return Ok(PathBuf::from(format!("{path}.gz")));
        }
        if let Some(stem) = path.strip_suffix(".tgz") {
            return Ok(PathBuf::from(format!("{stem}.tar")));
        }
        path.strip_suffix(".gz")
            .map(PathBuf::from)
            .ok_or_else(|| io::Error::other("unknown suffix -- ignored"))
    }

    fn copy(&self, input: impl Read, mut output: impl Write) -> io::Result<u64> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        if self.decompress {
            return io::copy(&mut MultiGzDecoder::new(input), &mut output);
        }
        let mut encoder = GzEncoder::new(&mut output, self.level);
        let bytes = io::copy(&mut input, &mut encoder)?;
        encoder.finish()?;
        Ok(bytes)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum TarMode {
    Create,
    Extract,
    List,
}

struct Tar {
    mode: TarMode,
    file: Option<String>,
    gzip: bool,
    verbose: bool,
    directory: Option<String>,
    excludes: Vec<String>,
    strip: usize,
    to_stdout: bool,
    keep_old: bool,
    operands: Vec<String>,
}

pub fn tar(args: Args) -> i32 {
    let mut args: Vec<String> = args.into_iter().map(lossy).collect();
    // The old form: `tar czf FILE`, letters without a dash.
    if let Some(first) = args.get_mut(1)
        && !first.starts_with('-')
    {
        first.insert(0, '-');
    }
    let tar = match parse_tar(&args) {
        Ok(tar) => tar,
        Err(message) => return fail("tar", message, 2),
    };
    let done = match tar.mode {
        TarMode::Create => tar.create(),
        TarMode::Extract | TarMode::List => tar.read(),
    };
    match done {
        Ok(status) => status,
        Err(error) => fail("tar", error, 2),
    }
}

fn parse_tar(args: &[String]) -> Result<Tar, String> {
    const LONG: &[(&str, char)] = &[
        ("create", 'c'),
        ("extract", 'x'),
        ("get", 'x'),
        ("list", 't'),
        ("file", 'f'),
        ("gzip", 'z'),
        ("gunzip", 'z'),
        ("verbose", 'v'),
        ("directory", 'C'),
        ("exclude", 'X'),
        ("strip-components", 'S'),
        ("to-stdout", 'O'),
        ("keep-old-files", 'k'),
        ("preserve-permissions", 'p'),
        ("same-permissions", 'p'),
        ("numeric-owner", 'n'),
        ("no-same-owner", 'o'),
        ("auto-compress", 'a'),
    ];
    let args = args.iter().map(Into::into).collect();
    let parsed = options(args, "cxtzvOkponamh", "fCXS", LONG, true)?;
    let modes: Vec<TarMode> = parsed
        .flags
        .iter()
        .filter_map(|flag| match flag {
            'c' => Some(TarMode::Create),
            'x' => Some(TarMode::Extract),
            't' => Some(TarMode::List),
            _ => None,
        })
        .collect();
    let [mode] = modes[..] else {
        return Err("give exactly one of -c, -x, -t".to_owned());
    };
    let file = parsed.value('f').filter(|f| *f != "-").map(str::to_owned);
    let named_gzip = file
        .as_deref()
        .is_some_and(|f| f.ends_with(".gz") || f.ends_with(".tgz"));
    Ok(Tar {
        mode,
        gzip: parsed.has('z') || (parsed.has('a') && named_gzip),
        verbose: parsed.has('v'),
        directory: parsed.value('C').map(str::to_owned),
        excludes: parsed
            .values
            .iter()
            .filter(|(letter, _)| *letter == 'X')
            .map(|(_, pattern)| pattern.clone())
            .collect(),
        strip: parsed
            .value('S')
            .map_or(Ok(0), str::parse)
            .map_err(|e| format!("--strip-components: {e}"))?,
        to_stdout: parsed.has('O'),
        keep_old: parsed.has('k'),
        operands: parsed.operands,
        file,
    })
}

impl Tar {
    fn excluded(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.excludes.iter().any(|p| {
            wildcard(p.as_bytes(), text.as_bytes()) || wildcard(p.as_bytes(), name.as_bytes())
        })
    }

    fn create(&self) -> io::Result<i32> {
        if self.operands.is_empty() {
            return Err(io::Error::other(
                "cowardly refusing to create an empty archive",
            ));
        }
        let output: Box<dyn Write> = match &self.file {
            Some(path) => Box::new(File::create(path)?),
            None => Box::new(io::stdout().lock()),
        };
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory)?;
        }
        if self.gzip {
            let encoder = GzEncoder::new(output, Compression::default());
            let mut builder = tar::Builder::new(encoder);
            let status = self.add_all(&mut builder)?;
            builder.into_inner()?.finish()?.flush()?;
            Ok(status)
        } else {
            let mut builder = tar::Builder::new(io::BufWriter::new(output));
            let status = self.add_all(&mut builder)?;
            builder.into_inner()?.flush()?;
            Ok(status)
        }
    }

    fn add_all<W: Write>(&self, builder: &mut tar::Builder<W>) -> io::Result<i32> {
        builder.follow_symlinks(false);
        let mut status = 0;
        for operand in &self.operands {
            let path = Path::new(operand);
            if path.is_absolute() {
                eprintln!("tar: Removing leading `/' from member names");
            }
            if let Err(error) = self.add(builder, path) {
                status = fail("tar", format!("{operand}: {error}"), 2);
            }
        }
        Ok(status)
    }

    fn add<W: Write>(&self, builder: &mut tar::Builder<W>, path: &Path) -> io::Result<()> {
        if self.excluded(path) {
            return Ok(());
        }
        let name: PathBuf = path
            .components()
            .filter(|c| !matches!(c, Component::RootDir | Component::Prefix(_)))
            .collect();
        let is_dir = fs::symlink_metadata(path)?.is_dir();
        if self.verbose {
            let slash = if is_dir { "/" } else { "" };
            eprintln!("{}{slash}", name.display());
        }
        if !name.as_os_str().is_empty() {
            if is_dir {
                builder.append_dir(&name, path)?;
            } else {
                builder.append_path_with_name(path, &name)?;
            }
        }
        if is_dir {
            let mut entries: Vec<PathBuf> = fs::read_dir(path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()?;
            entries.sort();
            for entry in entries {
                self.add(builder, &entry)?;
            }
        }
        Ok(())
    }

    /// Extracts or lists.
    fn read(&self) -> io::Result<i32> {
        let input: Box<dyn Read> = match &self.file {
            Some(path) => Box::new(
                File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?,
            ),
            None => Box::new(io::stdin().lock()),
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        // Like GNU tar, see for ourselves whether the archive is compressed.
        let compressed = io::BufRead::fill_buf(&mut input)?.starts_with(&[0x1f, 0x8b]);
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory)?;
        }
        if compressed {
            self.walk(tar::Archive::new(MultiGzDecoder::new(input)))
        } else {
            self.walk(tar::Archive::new(input))
        }
    }

    fn walk<R: Read>(&self, mut archive: tar::Archive<R>) -> io::Result<i32> {
        // SAFETY-relevant choice: owners are restored for root only, as GNU tar.
        let root = nix::unistd::geteuid().is_root();
        archive.set_preserve_permissions(root);
        archive.set_preserve_ownerships(root);
        archive.set_overwrite(!self.keep_old);
        archive.set_unpack_xattrs(false);
        let mut status = 0;
        let mut found = vec![false; self.operands.len()];
        // Directories last: a read-only one must not keep its files out.
        let mut directories = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let wanted = self.operands.iter().position(|o| path.starts_with(o));
            if (!self.operands.is_empty() && wanted.is_none()) || self.excluded(&path) {
                continue;
            }
            if let Some(at) = wanted {
                found[at] = true;
            }
            if self.mode == TarMode::List {
                self.list(&entry)?;
                continue;
            }
            if self.verbose {
                println!("{}", String::from_utf8_lossy(&entry.path_bytes()));
            }
            if self.to_stdout {
                io::copy(&mut entry, &mut io::stdout().lock())?;
                continue;
            }
            let target: PathBuf = path.components().skip(self.strip).collect();
            if target.as_os_str().is_empty() {
                continue;
            }
            if entry.header().entry_type().is_dir() {
                directories.push((entry, target));
                continue;
            }
            if let Err(error) = self.unpack(&mut entry, &target) {
                status = fail("tar", format!("{}: {error}", target.display()), 2);
            }
        }
        directories.sort_by(|a, b| b.1.cmp(&a.1));
        for (mut entry, target) in directories {
            if let Err(error) = self.unpack(&mut entry, &target) {
                status = fail("tar", format!("{}: {error}", target.display()), 2);
            }
        }
        for (operand, _) in self
            .operands
            .iter()
            .zip(&found)
            .filter(|(_, found)| !**found)
        {
            status = fail("tar", format!("{operand}: Not found in archive"), 2);
        }
        Ok(status)
    }

    /// Unpacks below the current directory; the crate refuses what would
    /// leave it (`..`, absolute names, links on the way).
    fn unpack<R: Read>(&self, entry: &mut tar::Entry<'_, R>, target: &Path) -> io::Result<()> {
        if self.strip == 0 {
            let inside = entry.unpack_in(".")?;
            return if inside {
                Ok(())
            } else {
                Err(io::Error::other("member name contains '..'"))
            };
        }
        if target
            .components()
            .any(|c| matches!(c, Component::ParentDir))
        {
            return Err(io::Error::other("member name contains '..'"));
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        entry.unpack(target).map(drop)
    }

    fn list<R: Read>(&self, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let mut name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_dir() && !name.ends_with('/') {
            name.push('/');
        }
        if !self.verbose {
            println!("{name}");
            return Ok(());
        }
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            tar::EntryType::Link => 'h',
            tar::EntryType::Char => 'c',
            tar::EntryType::Block => 'b',
            tar::EntryType::Fifo => 'p',
            _ => '-',
        };
        let link = entry
            .link_name()?
            .map(|to| match kind {
                'h' => format!(" link to {}", to.display()),
                _ => format!(" -> {}", to.display()),
            })
            .unwrap_or_default();
        let owner = |name: Option<&str>, id: io::Result<u64>| {
            name.filter(|n| !n.is_empty())
                .map_or_else(|| id.unwrap_or(0).to_string(), str::to_owned)
        };
        let user = owner(header.username().unwrap_or(None), header.uid());
        let group = owner(header.groupname().unwrap_or(None), header.gid());
        println!(
            "{kind}{} {user}/{group} {:>9} {} {}{link}",
            mode_text(header.mode()?),
            header.size()?,
            date(header.mtime()?),
            name
        );
        Ok(())
    }
}

/// `rwxr-xr-x` for the permission bits of `mode`.
fn mode_text(mode: u32) -> String {
    (0..9)
        .rev()
        .map(|bit| {
            if mode & (1 << bit) == 0 {
                '-'
            } else {
                ['x', 'w', 'r'][bit as usize % 3]
            }
        })
        .collect()
}

/// `YYYY-MM-DD HH:MM`, UTC, of seconds since 1970.
fn date(seconds: u64) -> String {
    let (year, month, day) = super::text::civil_date(i64::try_from(seconds / 86400).unwrap_or(0));
    let minutes = seconds / 60 % 1440;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minutes / 60,
        minutes % 60
    )
}

/// Shell-style matching with `*` and `?`.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            wildcard(rest, text) || (!text.is_empty() && wildcard(pattern, &text[1..]))
        }
        (Some((b'?', rest)), Some((_, text))) => wildcard(rest, text),
        (Some((p, rest)), Some((t, text))) => p == t && wildcard(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        assert!(wildcard(b"*.o", b"main.o"));
        assert!(!wildcard(b"*.o", b"main.rs"));
        assert!(wildcard(b"a?c*", b"abcdef"));
    }

    #[test]
    fn modes_and_dates() {
        assert_eq!(mode_text(0o754), "rwxr-xr--");
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13");
    }

    #[test]
    fn old_and_new_option_forms() {
        let args = ["tar", "-xzf", "a.tgz", "-C", "/tmp", "--strip-components=1"];
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let tar = parse_tar(&args).expect("valid");
        assert!(tar.mode == TarMode::Extract && tar.gzip);
        assert_eq!((tar.strip, tar.directory.as_deref()), (1, Some("/tmp")));
        assert!(parse_tar(&["tar".to_owned(), "-f".to_owned(), "x".to_owned()]).is_err());
    }
}

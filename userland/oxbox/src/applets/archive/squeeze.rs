//! gzip, bzip2, xz, zstd and their other names: files compressed in place.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Args;
use super::codec::{self, Format, Writer, explain, plain};
use crate::sys::{fail, options};

macro_rules! tools {
    ($($function:ident $name:literal $format:ident $decompress:literal $to_stdout:literal),* $(,)?) => {
        $(pub fn $function(args: Args) -> i32 {
            run($name, Format::$format, args, $decompress, $to_stdout)
        })*
    };
}

tools! {
    gzip "gzip" Gzip false false,
    gunzip "gunzip" Gzip true false,
    zcat "zcat" Gzip true true,
    bzip2 "bzip2" Bzip2 false false,
    bunzip2 "bunzip2" Bzip2 true false,
    bzcat "bzcat" Bzip2 true true,
    xz "xz" Xz false false,
    unxz "unxz" Xz true false,
    xzcat "xzcat" Xz true true,
    unlzma "unlzma" Lzma true false,
    lzcat "lzcat" Lzma true true,
    zstd "zstd" Zstd false false,
    unzstd "unzstd" Zstd true false,
    zstdcat "zstdcat" Zstd true true,
}

const LONG: &[(&str, char)] = &[
    ("decompress", 'd'),
    ("uncompress", 'd'),
    ("compress", 'z'),
    ("stdout", 'c'),
    ("to-stdout", 'c'),
    ("force", 'f'),
    ("keep", 'k'),
    ("list", 'l'),
    ("test", 't'),
    ("verbose", 'v'),
    ("quiet", 'q'),
    ("silent", 'q'),
    ("recursive", 'r'),
    ("name", 'N'),
    ("no-name", 'n'),
    ("suffix", 'S'),
    ("output", 'o'),
    ("threads", 'T'),
    ("rm", 'R'),
    ("fast", '1'),
    ("best", '9'),
];

/// Ends with 1 for an error and 2 for a warning, as the tools do.
const ERROR: i32 = 1;
const WARNING: i32 = 2;

fn run(name: &'static str, format: Format, args: Args, decompress: bool, to_stdout: bool) -> i32 {
    // Letters that only say how much effort or memory to use are taken and change nothing.
    let (flags, valued) = match format {
        Format::Gzip => ("cdfkltvqrnNz123456789", "S"),
        Format::Bzip2 => ("cdfktvqzs123456789", ""),
        Format::Xz | Format::Lzma => ("cdfktvqze0123456789", "ST"),
        Format::Zstd => ("cdfktvqzrR0123456789", "oT"),
    };
    let parsed = match options(args, flags, valued, LONG, true) {
        Ok(parsed) => parsed,
        Err(message) => return fail(name, message, ERROR),
    };
    let mut decompress = decompress || parsed.has('t') || parsed.has('l');
    for flag in &parsed.flags {
        match flag {
            'd' => decompress = true,
            'z' => decompress = false,
            _ => {}
        }
    }
    let job = Job {
        name,
        format,
        decompress,
        to_stdout: to_stdout || parsed.has('c'),
        test: parsed.has('t'),
        list: parsed.has('l'),
        force: parsed.has('f'),
        // Only zstd leaves its input alone when not told to.
        keep: parsed.has('k') || (format == Format::Zstd && !parsed.has('R')),
        verbose: parsed.has('v'),
        quiet: parsed.has('q'),
        recursive: parsed.has('r'),
        store_name: !parsed.has('n'),
        restore_name: parsed.has('N') && !parsed.has('n'),
        suffix: parsed.value('S').map(str::to_owned),
        output: parsed.value('o').map(PathBuf::from),
        level: parsed.flags.iter().rev().find_map(|f| f.to_digit(10)),
    };
    let mut paths = parsed.paths;
    if paths.is_empty() {
        paths.push("-".into());
    }
    if job.list {
        return job.list_all(&paths);
    }
    let mut status = 0;
    for path in paths {
        // An error outweighs warnings.
        match job.one(&path) {
            0 => {}
            ERROR => status = ERROR,
            warning if status == 0 => status = warning,
            _ => {}
        }
    }
    status
}

struct Job {
    name: &'static str,
    format: Format,
    decompress: bool,
    to_stdout: bool,
    test: bool,
    list: bool,
    force: bool,
    keep: bool,
    verbose: bool,
    quiet: bool,
    recursive: bool,
    store_name: bool,
    restore_name: bool,
    suffix: Option<String>,
    output: Option<PathBuf>,
    level: Option<u32>,
}

impl Job {
    fn tell(&self, path: &OsStr, text: &str, status: i32) -> i32 {
        if status == ERROR || !self.quiet {
            eprintln!("{}: {}: {text}", self.name, path.display());
        }
        status
    }

    fn own_suffix(&self) -> &str {
        let standard = self.format.suffixes()[0].0;
        self.suffix.as_deref().unwrap_or(standard)
    }

    fn one(&self, path: &OsStr) -> i32 {
        if path == "-" {
            return self.stream(
                OsStr::new("stdin"),
                io::stdin().lock(),
                io::stdin().is_terminal(),
            );
        }
        let mut path = path.to_owned();
        let mut meta = fs::symlink_metadata(&path);
        if self.decompress
            && meta
                .as_ref()
                .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        {
            // `gunzip f` means f.gz where there is no f.
            let mut longer = path.clone();
            longer.push(self.own_suffix());
            if let Ok(found) = fs::symlink_metadata(&longer) {
                (path, meta) = (longer, Ok(found));
            }
        }
        let meta = match meta {
            Ok(meta) if meta.is_symlink() && (self.force || self.reads_only()) => {
                fs::metadata(&path)
            }
            other => other,
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(error) => return self.tell(&path, &plain(&error), ERROR),
        };
        if meta.is_dir() {
            if self.recursive {
                return self.below(&path);
            }
            return self.tell(&path, "is a directory -- ignored", WARNING);
        }
        if meta.is_symlink() {
            return self.tell(&path, "Too many levels of symbolic links", ERROR);
        }
        let input = match File::open(&path) {
            Ok(input) => input,
            Err(error) => return self.tell(&path, &plain(&error), ERROR),
        };
        if self.reads_only() {
            return self.stream(&path, BufReader::with_capacity(1 << 16, input), false);
        }
        if !meta.is_file() {
            return self.tell(
                &path,
                "is not a directory or a regular file - ignored",
                WARNING,
            );
        }
        if meta.nlink() > 1 && !self.force && !self.keep {
            let count = meta.nlink() - 1;
            let plural = if count == 1 { "" } else { "s" };
            let text = format!("has {count} other link{plural}  -- unchanged");
            return self.tell(&path, &text, WARNING);
        }
        self.in_place(&path, input, &meta)
    }

    /// Whether no file is made.
    fn reads_only(&self) -> bool {
        self.to_stdout || self.test
    }

    fn below(&self, directory: &OsStr) -> i32 {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.tell(directory, &plain(&error), ERROR),
        };
        let mut status = 0;
        // All first, so that no directory stays open on the way down.
        let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        for path in paths {
            status = status.max(self.one(path.as_os_str()));
        }
        status
    }

    /// Standard input, or a file to standard output or to nowhere.
    fn stream(&self, name: &OsStr, mut input: impl BufRead + 'static, terminal: bool) -> i32 {
        let refused = if self.decompress {
            terminal
        } else {
            io::stdout().is_terminal() && !self.test
        };
        if refused && !self.force {
            let what = if self.decompress {
                "compressed data not read from a terminal"
            } else {
                "compressed data not written to a terminal"
            };
            return fail(self.name, format!("{what}. Use -f to force it."), ERROR);
        }
        if self.test {
            return self.report(name, self.copy(input, io::sink(), None));
        }
        let output = io::stdout().lock();
        let plain_copy = self.decompress && self.force && self.to_stdout && {
            let start = input.fill_buf().unwrap_or_default();
            Format::of_start(start) != Some(self.format)
        };
        if plain_copy {
            // As gzip -cdf: what is not compressed passes.
            let mut output = output;
            let copied = io::copy(&mut input, &mut output).and_then(|_| output.flush());
            return self.report(name, copied);
        }
        self.report(name, self.copy(input, output, None))
    }

    fn report(&self, name: &OsStr, result: io::Result<()>) -> i32 {
        match result {
            Ok(()) => 0,
            Err(error) if codec::is_trailing(&error) => {
                self.tell(name, &error.to_string(), WARNING)
            }
            Err(error) => self.tell(name, &explain(&error), ERROR),
        }
    }

    /// (De)compresses `input` into `output`. Data before trailing garbage is whole.
    fn copy(
        &self,
        input: impl BufRead + 'static,
        mut output: impl Write,
        name: Option<(Vec<u8>, u32)>,
    ) -> io::Result<()> {
        if !self.decompress {
            let mut input = input;
            let mut writer = Writer::with_name(Some(self.format), output, self.level, name)?;
            io::copy(&mut input, &mut writer)?;
            return writer.finish().map(drop);
        }
        let mut reader = codec::reader(self.format, Box::new(input))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return output.flush(),
                Ok(count) => output.write_all(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    output.flush()?;
                    return Err(error);
                }
            }
        }
    }

    fn in_place(&self, path: &OsStr, input: File, meta: &fs::Metadata) -> i32 {
        let target = match &self.output {
            Some(output) => output.clone(),
            None => match self.target(path, &input) {
                Ok(target) => target,
                Err(text) => return self.tell(path, &text, WARNING),
            },
        };
        if fs::symlink_metadata(&target).is_ok() {
            let text = format!("{} already exists", target.display());
            if !self.force {
                if !io::stdin().is_terminal() {
                    eprintln!("{}: {text};\tnot overwritten", self.name);
                    return WARNING;
                }
                eprint!("{}: {text}; do you wish to overwrite (y or n)? ", self.name);
                let mut answer = String::new();
                let read = io::stdin().read_line(&mut answer);
                if read.is_err() || !answer.trim_start().starts_with(['y', 'Y']) {
                    eprintln!("\tnot overwritten");
                    return WARNING;
                }
            }
            if let Err(error) = fs::remove_file(&target) {
                return self.tell(target.as_os_str(), &plain(&error), ERROR);
            }
        }
        // Nobody else may read it before it has the modes of the input.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target);
        let output = match made {
            Ok(output) => output,
            Err(error) => return self.tell(target.as_os_str(), &plain(&error), ERROR),
        };
        let partial = Partial::new(&target);
        let name = (self.format == Format::Gzip && self.store_name).then(|| {
            let file = Path::new(path).file_name().unwrap_or_default();
            let time = u32::try_from(meta.mtime()).unwrap_or(0);
            (file.as_bytes().to_vec(), time)
        });
        let buffered = BufReader::with_capacity(1 << 16, input);
        let result = self.copy(buffered, &output, name);
        let trailing = result.as_ref().is_err_and(codec::is_trailing);
        if let Err(error) = &result
            && !trailing
        {
            drop(partial);
            return self.tell(path, &explain(error), ERROR);
        }
        // A plain user cannot give files away, nor every filesystem keep modes.
        let _ = std::os::unix::fs::fchown(&output, Some(meta.uid()), Some(meta.gid()));
        let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
        let times = fs::FileTimes::new()
            .set_accessed(meta.accessed().unwrap_or(std::time::UNIX_EPOCH))
            .set_modified(meta.modified().unwrap_or(std::time::UNIX_EPOCH));
        if let Err(error) = output
            .set_permissions(mode)
            .and_then(|()| output.set_times(times))
        {
            self.tell(target.as_os_str(), &plain(&error), WARNING);
        }
        let size = output.metadata().map_or(0, |m| m.len());
        partial.keep();
        if self.verbose {
            let (packed, unpacked) = if self.decompress {
                (meta.len(), size)
            } else {
                (size, meta.len())
            };
            let verb = if self.keep {
                "created"
            } else {
                "replaced with"
            };
            eprintln!(
                "{}:\t{} -- {verb} {}",
                path.display(),
                ratio(packed, unpacked),
                target.display()
            );
        }
        if !self.keep
            && let Err(error) = fs::remove_file(path)
        {
            return self.tell(path, &plain(&error), ERROR);
        }
        if trailing {
            return self.report(path, result);
        }
        0
    }

    /// The name of the file to make; the error says why there is none.
    fn target(&self, path: &OsStr, input: &File) -> Result<PathBuf, String> {
        let name = path.as_bytes();
        let own = self.own_suffix();
        if !self.decompress {
            let known = self.format.suffixes().iter().map(|(suffix, _)| *suffix);
            for suffix in known.chain([own]) {
                if name.ends_with(suffix.as_bytes()) && !self.force {
                    return Err(format!("already has {suffix} suffix -- unchanged"));
                }
            }
            return Ok(joined(name, own));
        }
        if self.restore_name
            && self.format == Format::Gzip
            && let Some(stored) = stored_name(input)
        {
            return Ok(Path::new(path).with_file_name(stored));
        }
        let custom = self.suffix.as_deref().map(|suffix| (suffix, ""));
        for (suffix, instead) in custom.iter().chain(self.format.suffixes()) {
            if let Some(stem) = name.strip_suffix(suffix.as_bytes())
                && !stem.is_empty()
                && !stem.ends_with(b"/")
            {
                return Ok(joined(stem, instead));
            }
        }
        if self.format == Format::Bzip2 {
            return Ok(joined(name, ".out"));
        }
        Err("unknown suffix -- ignored".to_owned())
    }

    fn list_all(&self, paths: &[OsString]) -> i32 {
        println!("         compressed        uncompressed  ratio uncompressed_name");
        let mut status = 0;
        for path in paths {
            let listed = File::open(path).and_then(|file| {
                let packed = file.metadata()?.len();
                let target = self.target(path, &file).unwrap_or_default();
                let input = BufReader::with_capacity(1 << 16, file);
                let mut reader = codec::reader(self.format, Box::new(input))?;
                Ok((packed, io::copy(&mut reader, &mut io::sink())?, target))
            });
            match listed {
                Ok((packed, unpacked, target)) => println!(
                    "{packed:>19} {unpacked:>19} {:>6} {}",
                    ratio(packed, unpacked),
                    target.display()
                ),
                Err(error) => status = self.tell(path, &explain(&error), ERROR),
            }
        }
        status
    }
}

fn joined(name: &[u8], suffix: &str) -> PathBuf {
    let mut bytes = name.to_vec();
    bytes.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(bytes).into()
}

/// The name in a gzip header: its last component only, as it may say anything.
fn stored_name(input: &File) -> Option<OsString> {
    let mut start = vec![0; 4096];
    let count = std::os::unix::fs::FileExt::read_at(input, &mut start, 0).ok()?;
    let mut decoder = flate2::bufread::GzDecoder::new(&start[..count]);
    // The header is read with the first data, which may not be whole.
    let _ = decoder.read(&mut [0; 1]);
    let name = decoder.header()?.filename()?.to_vec();
    let name = Path::new(OsStr::from_bytes(&name)).file_name()?.to_owned();
    Some(name)
}

/// How much was saved.
fn ratio(packed: u64, unpacked: u64) -> String {
    if unpacked == 0 {
        return "0.0%".to_owned();
    }
    format!("{:.1}%", (1.0 - packed as f64 / unpacked as f64) * 100.0)
}

/// A file that is removed unless it is kept: also when a signal ends the program.
struct Partial {
    path: PathBuf,
    kept: bool,
}

mod interrupt {
    //! The file that a signal has to remove.

    use std::sync::atomic::{AtomicPtr, Ordering};

    use nix::libc;

    static FILE: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

    extern "C" fn remove_and_end(signal: libc::c_int) {
        let path = FILE.load(Ordering::Acquire);
        // SAFETY: unlink, signal and raise are async-signal-safe; `path` is null or a C string
        // that is never freed.
        unsafe {
            if !path.is_null() {
                libc::unlink(path);
            }
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// From now on a signal that would end the program removes `path` first; `None`: nothing.
    pub fn watch(path: Option<std::ffi::CString>) {
        // The string must live for ever: a handler may be reading it.
        let pointer = path.map_or(std::ptr::null_mut(), std::ffi::CString::into_raw);
        FILE.store(pointer, Ordering::Release);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the handler above does only what a handler may.
            unsafe {
                let handler = remove_and_end as extern "C" fn(libc::c_int);
                let before = libc::signal(signal, handler as libc::sighandler_t);
                if before == libc::SIG_IGN {
                    libc::signal(signal, libc::SIG_IGN);
                }
            }
        }
    }
}

impl Partial {
    fn new(path: &Path) -> Self {
        interrupt::watch(std::ffi::CString::new(path.as_os_str().as_bytes()).ok());
        Self {
            path: path.to_owned(),
            kept: false,
        }
    }

    fn keep(mut self) {
        interrupt::watch(None);
        self.kept = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            interrupt::watch(None);
            // What cannot be removed now was never made.
            let _ = fs::remove_file(&self.path);
        }
    }
}

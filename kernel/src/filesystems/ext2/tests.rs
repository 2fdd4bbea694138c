//! The whole filesystem against images that mke2fs made; e2fsck is the judge.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super_block::Volumes;
use crate::abi;
use crate::block::{BlockDevice, Op, Request};
use crate::error::{Errno, Result};
use crate::file::{Allocate, DirSink, OpenFile};
use crate::security::Credentials;
use crate::vfs::{Caller, Dev, OpenHow, Path, attr, mount};
use crate::vm::{IoDest, IoSource};

type Writes = Vec<(usize, Vec<u8>)>;

/// A device in memory.
struct MemDevice {
    bytes: Mutex<Vec<u8>>,
    /// Writes (position, bytes) and flushes (no bytes) in order, when they are wanted.
    log: Mutex<Option<Writes>>,
}

impl BlockDevice for MemDevice {
    fn name(&self) -> &str {
        "mem"
    }
    fn nr_sectors(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64 / 512
    }
    fn read_only(&self) -> bool {
        false
    }
    fn submit(&self, request: Request) {
        let mut bytes = self.bytes.lock().unwrap();
        let mut at = request.sector as usize * 512;
        let mut result = Ok(());
        let mut log = self.log.lock().unwrap();
        if let (Some(log), Op::Flush) = (&mut *log, request.op) {
            log.push((0, Vec::new()));
        }
        for s in &request.segments {
            let len = s.len as usize;
            let Some(place) = bytes.get_mut(at..at + len) else {
                result = Err(Errno::EIO);
                break;
            };
            assert!(s.offset as usize + len <= 4096 && len.is_multiple_of(512));
            // SAFETY: the segment lies within its frame.
            unsafe {
                let memory = s.frame.as_ptr().add(s.offset as usize);
                match request.op {
                    Op::Read => core::ptr::copy_nonoverlapping(place.as_ptr(), memory, len),
                    _ => core::ptr::copy_nonoverlapping(memory, place.as_mut_ptr(), len),
                }
            }
            if let (Some(log), Op::Write) = (&mut *log, request.op) {
                log.push((at, place.to_vec()));
            }
            at += len;
        }
        drop((bytes, log));
        (request.done)(result);
    }
}

fn temp() -> std::path::PathBuf {
    static N: AtomicU32 = AtomicU32::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("oxbow-ext2-{}-{n}.img", std::process::id()))
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn make(args: &[&str], kib: usize) -> Arc<MemDevice> {
    let file = temp();
    std::fs::write(&file, vec![0; kib * 1024]).unwrap();
    let out = tool("mke2fs")
        .args(["-q", "-F", "-t", "ext2"])
        .args(args)
        .arg(&file)
        .output()
        .expect("mke2fs (e2fsprogs) is needed");
    assert!(out.status.success(), "{out:?}");
    let bytes = Mutex::new(std::fs::read(&file).unwrap());
    std::fs::remove_file(&file).unwrap();
    Arc::new(MemDevice {
        bytes,
        log: Mutex::default(),
    })
}

/// What e2fsck says, if it finds anything.
fn complaint(device: &MemDevice) -> Option<String> {
    let file = temp();
    std::fs::write(&file, &*device.bytes.lock().unwrap()).unwrap();
    let out = tool("e2fsck").args(["-fn"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = || String::from_utf8_lossy(&out.stdout).into_owned();
    (!out.status.success()).then(text)
}

/// Fails the test unless e2fsck finds nothing at all.
fn check(device: &MemDevice) {
    if let Some(text) = complaint(device) {
        panic!("{text}");
    }
}

fn open_volume(device: &Arc<MemDevice>) -> Arc<Volumes> {
    Volumes::open(device.clone(), false).unwrap()
}

fn root_of(fs: &Arc<Volumes>) -> Path {
    mount::nowhere("ext2", fs.clone()).unwrap().root_path()
}

static ROOT: Credentials = Credentials::root();

struct Fs {
    at: Path,
    device: Arc<MemDevice>,
}

impl Fs {
    fn new(args: &[&str], kib: usize) -> Fs {
        let device = make(args, kib);
        let at = root_of(&open_volume(&device));
        Fs { at, device }
    }
    fn caller(&self) -> Caller<'static> {
        Caller {
            root: self.at.clone(),
            cwd: self.at.clone(),
            umask: 0o022,
            cred: &ROOT,
        }
    }
    fn open(&self, path: &str, flags: u32) -> Result<Arc<OpenFile>> {
        let how = OpenHow {
            flags,
            mode: 0o666,
            resolve: 0,
        };
        self.caller().open(&self.at, path.as_bytes(), &how)
    }
    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.open(path, abi::O_WRONLY | abi::O_CREAT | abi::O_TRUNC)?;
        put(&file, 0, bytes)
    }
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open(path, abi::O_RDONLY)?;
        let mut out = vec![0; (file.file.stat()?.st_size as usize).min(1 << 26) + 10];
        let n = file.pread(0, &mut IoDest::kernel(&mut out))?;
        out.truncate(n);
        Ok(out)
    }
    fn mkdir(&self, path: &str) -> Result<()> {
        self.caller().mkdir(&self.at, path.as_bytes(), 0o755)
    }
    fn unlink(&self, path: &str) -> Result<()> {
        self.caller().unlink(&self.at, path.as_bytes())
    }
    fn rmdir(&self, path: &str) -> Result<()> {
        self.caller().rmdir(&self.at, path.as_bytes())
    }
    fn rename(&self, a: &str, b: &str, flags: u32) -> Result<()> {
        self.caller()
            .rename(&self.at, a.as_bytes(), &self.at, b.as_bytes(), flags)
    }
    fn link(&self, a: &str, b: &str) -> Result<()> {
        let old = self.caller().resolve(&self.at, a.as_bytes(), false)?;
        self.caller().link(&old, &self.at, b.as_bytes())
    }
    fn stat(&self, path: &str) -> Result<crate::vfs::Attr> {
        attr(&self.caller().resolve(&self.at, path.as_bytes(), false)?)
    }
    fn list(&self, path: &str) -> Vec<String> {
        let dir = self.open(path, abi::O_RDONLY | abi::O_DIRECTORY).unwrap();
        let mut names = Names(Vec::new(), usize::MAX);
        dir.read_dir(&mut names).unwrap();
        names.0.sort();
        names.0
    }
    /// Unmounts, checks, and mounts again.
    fn cycle(self) -> Fs {
        let Fs { at, device } = self;
        assert_eq!(Arc::strong_count(&at.mount), 1, "still in use");
        drop(at);
        check(&device);
        let at = root_of(&open_volume(&device));
        Fs { at, device }
    }
}

fn put(file: &Arc<OpenFile>, pos: u64, bytes: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let n = file.pwrite(pos + done as u64, &mut IoSource::kernel(&bytes[done..]))?;
        assert!(n > 0);
        done += n;
    }
    Ok(())
}

struct Names(Vec<String>, usize);
impl DirSink for Names {
    fn entry(&mut self, name: &[u8], _ino: u64, _kind: u8, _next: u64) -> bool {
        if self.0.len() >= self.1 {
            return false;
        }
        self.0.push(String::from_utf8(name.to_vec()).unwrap());
        true
    }
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

const SHAPES: [&[&str]; 3] = [
    &["-b", "1024", "-m", "0"],
    &["-b", "4096", "-m", "0", "-I", "256"],
    &["-b", "2048", "-m", "0", "-I", "128", "-O", "^dir_index"],
];

#[test]
fn files_of_every_size_survive() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 32 * 1024);
        let sizes = [
            0,
            1,
            1023,
            4096,
            4097,
            12 * 1024,
            70_000,
            300_000,
            9_000_000,
        ];
        for (i, size) in sizes.into_iter().enumerate() {
            fs.write(&format!("f{i}"), &pattern(size, i as u64))
                .unwrap();
        }
        fs = fs.cycle();
        for (i, size) in sizes.into_iter().enumerate() {
            assert!(
                fs.read(&format!("f{i}")).unwrap() == pattern(size, i as u64),
                "f{i}"
            );
        }
        // Cut and grow again: what was cut off must be gone.
        for i in 0..sizes.len() {
            let path = fs
                .caller()
                .resolve(&fs.at, format!("f{i}").as_bytes(), true);
            let path = path.unwrap();
            fs.caller().truncate(&path, 5001).unwrap();
            fs.caller().truncate(&path, 9000).unwrap();
        }
        fs = fs.cycle();
        for (i, size) in sizes.into_iter().enumerate() {
            let mut want = pattern(size, i as u64);
            want.resize(5001, 0);
            want.resize(9000, 0);
            assert!(fs.read(&format!("f{i}")).unwrap() == want, "f{i}");
        }
        for i in 0..sizes.len() {
            fs.unlink(&format!("f{i}")).unwrap();
        }
        assert_eq!(fs.list("."), [".", "..", "lost+found"]);
        fs.cycle();
    }
}

#[test]
fn holes_read_as_zeros_and_take_no_space() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 16 * 1024);
        {
            let file = fs.open("sparse", abi::O_RDWR | abi::O_CREAT).unwrap();
            put(&file, 50_000_000, b"far").unwrap();
            put(&file, 100_000, b"near").unwrap();
            assert_eq!(file.seek(0, abi::SEEK_DATA).unwrap() / 4096, 100_000 / 4096);
            assert!(file.seek(100_000, abi::SEEK_HOLE).unwrap() < 200_000);
            let end = file.seek(200_000, abi::SEEK_DATA).unwrap();
            assert_eq!(end / 4096, 50_000_000 / 4096);
            assert_eq!(file.seek(50_000_003, abi::SEEK_DATA), Err(Errno::ENXIO));
        }
        fs = fs.cycle();
        assert!(fs.stat("sparse").unwrap().blocks < 100);
        let bytes = fs.read("sparse").unwrap();
        assert_eq!(bytes.len(), 50_000_003);
        assert_eq!(&bytes[100_000..100_004], b"near");
        assert_eq!(&bytes[50_000_000..], b"far");
        let others = bytes.iter().filter(|&&b| b != 0).count();
        assert_eq!(others, 7);
        fs.unlink("sparse").unwrap();
        fs.cycle();
    }
}

#[test]
fn trees_links_and_renames() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 8 * 1024);
        for d in ["a", "a/b", "a/b/c", "d"] {
            fs.mkdir(d).unwrap();
        }
        assert_eq!(fs.mkdir("a"), Err(Errno::EEXIST));
        assert_eq!(fs.mkdir("x/y"), Err(Errno::ENOENT));
        fs.write("a/f", b"one").unwrap();
        fs.write("d/g", b"two").unwrap();
        fs.link("a/f", "a/b/h").unwrap();
        assert_eq!(fs.stat("a/f").unwrap().nlink, 2);
        assert_eq!(fs.link("a", "z"), Err(Errno::EPERM));
        let caller = fs.caller();
        caller.symlink(b"a/f", &fs.at, b"short").unwrap();
        let long = [b'x'; 200];
        caller.symlink(&long, &fs.at, b"long").unwrap();
        assert_eq!(fs.read("short").unwrap(), b"one");
        assert_eq!(fs.rename("a", "a/b/c/z", 0), Err(Errno::EINVAL));
        assert_eq!(fs.rename("a/b", "d", 0), Err(Errno::ENOTEMPTY));
        assert_eq!(fs.rename("a/f", "d", 0), Err(Errno::EISDIR));
        assert_eq!(fs.rename("a/b", "d/g", 0), Err(Errno::ENOTDIR));
        let keep = abi::RENAME_NOREPLACE;
        assert_eq!(fs.rename("a/f", "d/g", keep), Err(Errno::EEXIST));
        fs.rename("a/b", "d/b", 0).unwrap();
        assert_eq!(fs.stat("a").unwrap().nlink, 2);
        assert_eq!(fs.stat("d").unwrap().nlink, 3);
        fs.rename("a/f", "d/g", 0).unwrap();
        assert_eq!(fs.read("d/g").unwrap(), b"one");
        fs.rename("d/b", "short", abi::RENAME_EXCHANGE).unwrap();
        assert_eq!(fs.stat("d").unwrap().nlink, 2);
        assert_eq!(fs.stat("short/c").unwrap().mode, 0o040_755);
        assert_eq!(fs.rmdir("short"), Err(Errno::ENOTEMPTY));
        assert_eq!(fs.unlink("short"), Err(Errno::EISDIR));
        caller
            .mknod(&fs.at, b"null", abi::S_IFCHR | 0o666, Dev::new(1, 3))
            .unwrap();
        caller
            .mknod(&fs.at, b"pipe", abi::S_IFIFO | 0o666, Dev::default())
            .unwrap();
        drop(caller);
        fs = fs.cycle();
        assert_eq!(fs.stat("null").unwrap().rdev, Dev::new(1, 3));
        let caller = fs.caller();
        let link = caller.resolve(&fs.at, b"long", false).unwrap();
        assert_eq!(link.dentry.inode.readlink().unwrap(), long);
        drop((caller, link));
        assert_eq!(fs.read("short/h").unwrap(), b"one");
        assert_eq!(fs.stat("short/..").unwrap().ino, 2);
        for f in ["short/h", "d/g", "d/b", "long", "null", "pipe"] {
            fs.unlink(f).unwrap();
        }
        for d in ["short/c", "short", "a", "d"] {
            fs.rmdir(d).unwrap();
        }
        fs.cycle();
    }
}

#[test]
fn large_directories_grow_and_list_stably() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 8 * 1024);
        fs.mkdir("big").unwrap();
        for i in 0..700 {
            fs.write(&format!("big/a-rather-long-file-name-{i:04}"), b"")
                .unwrap();
        }
        fs = fs.cycle();
        let dir = fs.open("big", abi::O_RDONLY | abi::O_DIRECTORY).unwrap();
        let mut names = Names(Vec::new(), 300);
        dir.read_dir(&mut names).unwrap();
        // Entries already seen go away in between; the rest still comes, once.
        for name in names.0.iter().filter(|n| !n.starts_with('.')).take(200) {
            fs.unlink(&format!("big/{name}")).unwrap();
        }
        names.1 = usize::MAX;
        dir.read_dir(&mut names).unwrap();
        drop(dir);
        let mut seen = names.0.clone();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 702);
        assert_eq!(names.0.len(), 702);
        assert_eq!(fs.list("big").len(), 502);
        fs = fs.cycle();
        for name in fs.list("big").iter().filter(|n| !n.starts_with('.')) {
            fs.unlink(&format!("big/{name}")).unwrap();
        }
        fs.rmdir("big").unwrap();
        fs.cycle();
    }
}

#[test]
fn a_full_disk_says_so_and_stays_sound() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 2 * 1024);
        let mut full = false;
        for i in 0..40 {
            if let Err(e) = fs.write(&format!("f{i}"), &pattern(100_000, i)) {
                assert_eq!(e, Errno::ENOSPC);
                full = true;
                break;
            }
        }
        assert!(full);
        let _ = fs.mkdir("d");
        fs = fs.cycle();
        for name in fs.list(".").iter().filter(|n| n.starts_with('f')) {
            fs.unlink(name).unwrap();
        }
        fs.write("again", &pattern(500_000, 3)).unwrap();
        fs = fs.cycle();
        assert!(fs.read("again").unwrap() == pattern(500_000, 3));
        fs.cycle();
    }
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let fs = Fs::new(SHAPES[0], 8 * 1024);
    fs.write("f", &pattern(50_000, 1)).unwrap();
    let free = || fs.at.mount.sb.ops.statfs().unwrap().free;
    let before = free();
    let file = fs.open("f", abi::O_RDWR).unwrap();
    fs.unlink("f").unwrap();
    assert_eq!(fs.stat("f").unwrap_err(), Errno::ENOENT);
    put(&file, 50_000, b"more").unwrap();
    let mut out = [0; 4];
    file.pread(50_000, &mut IoDest::kernel(&mut out)).unwrap();
    assert_eq!(&out, b"more");
    assert_eq!(file.file.stat().unwrap().st_nlink, 0);
    drop(file);
    assert!(free() > before + 40);
    fs.cycle();
}

#[test]
fn a_volume_in_use_is_not_clean() {
    let fs = Fs::new(SHAPES[1], 8 * 1024);
    let state = |device: &MemDevice| device.bytes.lock().unwrap()[1024 + 58];
    assert_eq!(state(&fs.device) & 1, 0);
    let device = fs.device.clone();
    drop(fs);
    assert_eq!(state(&device) & 1, 1);
}

#[test]
fn random_work_keeps_the_volume_sound() {
    for (n, shape) in SHAPES.into_iter().enumerate() {
        let mut fs = Fs::new(shape, 6 * 1024);
        let mut model: std::collections::BTreeMap<String, Vec<u8>> = Default::default();
        let mut x = 88172645463325252u64 + n as u64;
        let mut random = move |below: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % below
        };
        for d in 0..4 {
            fs.mkdir(&format!("d{d}")).unwrap();
        }
        for round in 0..600 {
            let name = format!("d{}/n{}", random(4), random(12));
            match random(6) {
                0 => {
                    let bytes = pattern(random(60_000) as usize, round);
                    if fs.write(&name, &bytes).is_ok() {
                        model.insert(name, bytes);
                    } else {
                        model.remove(&name);
                        let _ = fs.unlink(&name);
                    }
                }
                1 => {
                    let gone = fs.unlink(&name).is_ok();
                    assert_eq!(gone, model.remove(&name).is_some());
                }
                2 => {
                    let to = format!("d{}/n{}", random(4), random(12));
                    let done = fs.rename(&name, &to, 0).is_ok();
                    assert_eq!(done, model.contains_key(&name));
                    if done && name != to {
                        let bytes = model.remove(&name).unwrap();
                        model.insert(to, bytes);
                    }
                }
                3 => {
                    if let Some(bytes) = model.get_mut(&name) {
                        let path = fs.caller().resolve(&fs.at, name.as_bytes(), true).unwrap();
                        let len = random(80_000);
                        fs.caller().truncate(&path, len).unwrap();
                        bytes.resize(len as usize, 0);
                    }
                }
                4 => {
                    if let Some(bytes) = model.get_mut(&name) {
                        let file = fs.open(&name, abi::O_RDWR).unwrap();
                        let pos = random(100_000) as usize;
                        let new = pattern(random(9000) as usize + 1, round);
                        if put(&file, pos as u64, &new).is_ok() {
                            if bytes.len() < pos + new.len() {
                                bytes.resize(pos + new.len(), 0);
                            }
                            bytes[pos..pos + new.len()].copy_from_slice(&new);
                        } else {
                            drop(file);
                            fs.unlink(&name).unwrap();
                            model.remove(&name);
                        }
                    }
                }
                _ => {
                    if let Some(bytes) = model.get(&name) {
                        assert!(fs.read(&name).unwrap() == *bytes);
                    }
                }
            }
            if round % 150 == 149 {
                fs = fs.cycle();
            }
        }
        for (name, bytes) in &model {
            assert!(fs.read(name).unwrap() == *bytes, "{name}");
        }
        fs.cycle();
    }
}

#[test]
fn damaged_images_give_errors_and_no_panic() {
    let device = make(SHAPES[0], 2 * 1024);
    let at = root_of(&open_volume(&device));
    let fs = Fs { at, device };
    fs.mkdir("dir").unwrap();
    for i in 0..20 {
        fs.write(&format!("dir/file{i}"), &pattern(40_000, i))
            .unwrap();
    }
    let Fs { at, device } = fs;
    drop(at);
    let good = device.bytes.lock().unwrap().clone();
    let mut x = 0x1234_5678_9abc_def1u64;
    let mut random = move |below: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x % below as u64) as usize
    };
    for round in 0..60 {
        let mut bytes = good.clone();
        if round % 2 == 1 {
            // Not unmounted cleanly: the repair meets the damage first.
            bytes[1024 + 58] = 0;
        }
        for _ in 0..200 {
            // Mostly in the metadata at the front.
            let at = if round < 30 {
                1024 + random(80 * 1024)
            } else {
                // The superblock and the descriptors are left alone: more of it mounts.
                5120 + random(400 * 1024)
            };
            bytes[at] = random(256) as u8;
        }
        let device = Arc::new(MemDevice {
            bytes: Mutex::new(bytes),
            log: Mutex::default(),
        });
        let Ok(volumes) = Volumes::open(device.clone(), false) else {
            continue;
        };
        let Ok(mount) = mount::nowhere("ext2", volumes) else {
            continue;
        };
        let fs = Fs {
            at: mount.root_path(),
            device,
        };
        drop(mount);
        for i in 0..20 {
            let name = format!("dir/file{i}");
            let _ = fs.read(&name);
            let _ = fs.write(&name, b"new");
            let _ = fs.rename(&name, &format!("moved{i}"), 0);
            let _ = fs.unlink(&name);
        }
        let _ = fs.mkdir("new");
        let _ = fs.rmdir("dir");
    }
}

/// A random number below `n`.
fn random(seed: &mut u64, n: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 8) as usize % n
}

/// Changes the tree at random; synced files `keep0`... are told with the place in the log.
fn churn(fs: &Fs, volumes: &Volumes, seed: &mut u64, steps: usize) -> Vec<(usize, Vec<u8>)> {
    let mut kept = Vec::new();
    for _ in 0..steps {
        let dir = ["", "a/", "b/", "a/c/", "new/"][random(seed, 5)];
        let (name, other) = (random(seed, 12), random(seed, 12));
        let (path, to) = (format!("{dir}f{name}"), format!("a/f{other}"));
        // Most of them fail now and then: the tree is as it is.
        let _ = match random(seed, 12) {
            0..=3 => fs.write(&path, &pattern(random(seed, 60_000), 3)),
            4 => fs.unlink(&path),
            5 => fs.rename(&path, &to, 0),
            6 => fs.link(&path, &to),
            7 => fs.mkdir(["a", "b", "a/c", "new", "b/d"][random(seed, 5)]),
            8 => fs.rmdir(["a", "b", "a/c", "new", "b/d"][random(seed, 5)]),
            9 => fs
                .rename("a", "new", 0)
                .or_else(|_| fs.rename("new", "b/d", 0)),
            10 => volumes.write_metadata(),
            _ => {
                let bytes = pattern(random(seed, 90_000), kept.len() as u64 + 1);
                let file = fs.open(&format!("keep{}", kept.len()), abi::O_WRONLY | abi::O_CREAT);
                let file = file.unwrap();
                put(&file, 0, &bytes).unwrap();
                file.file.sync(false).unwrap();
                let log = fs.device.log.lock().unwrap();
                kept.push((log.as_ref().unwrap().len(), bytes));
                Ok(())
            }
        };
    }
    kept
}

/// Wherever the power goes, and whatever of the writes since the last flush arrived: the next
/// mount leaves a volume that e2fsck has nothing to say about, and synced files are whole.
#[test]
fn a_power_cut_is_repaired_at_the_next_mount() {
    for (round, shape) in SHAPES.iter().enumerate() {
        let device = make(shape, 4 * 1024);
        let before = device.bytes.lock().unwrap().clone();
        *device.log.lock().unwrap() = Some(Vec::new());
        let volumes = open_volume(&device);
        let fs = Fs {
            at: root_of(&volumes),
            device,
        };
        let mut seed = 77 + round as u64;
        let kept = churn(&fs, &volumes, &mut seed, 250);
        let log = fs.device.log.lock().unwrap().clone().unwrap();
        assert!(log.len() > 200 && kept.len() > 5);
        let mut nr_broken = 0;
        for _ in 0..25 {
            let cut = random(&mut seed, log.len()) + 1;
            let flushed = log[..cut].iter().rposition(|(_, bytes)| bytes.is_empty());
            let flushed = flushed.unwrap_or(0);
            let mut bytes = before.clone();
            for (i, (at, new)) in log[..cut].iter().enumerate() {
                if i < flushed || random(&mut seed, 2) == 0 {
                    bytes[*at..*at + new.len()].copy_from_slice(new);
                }
            }
            let device = Arc::new(MemDevice {
                bytes: Mutex::new(bytes),
                log: Mutex::default(),
            });
            nr_broken += usize::from(complaint(&device).is_some());
            let fs = Fs {
                at: root_of(&open_volume(&device)),
                device,
            };
            for (n, (synced, bytes)) in kept.iter().enumerate() {
                if *synced <= flushed + 1 {
                    assert!(fs.read(&format!("keep{n}")).unwrap() == *bytes, "keep{n}");
                }
            }
            fs.write("after", b"it goes on").unwrap();
            fs.cycle();
        }
        assert!(nr_broken > 5, "the cuts broke nothing");
    }
}

/// Storage ahead of writes, holes in the middle, and a file that never had a name.
#[test]
fn storage_comes_and_goes_without_writes() {
    for shape in SHAPES {
        let mut fs = Fs::new(shape, 16 * 1024);
        let bytes = pattern(6_000_000, 5);
        fs.write("f", &bytes).unwrap();
        let file = fs.open("f", abi::O_RDWR).unwrap();
        let before = fs.stat("f").unwrap().blocks;
        file.file
            .allocate(Allocate::Punch, 5000, 4_000_000)
            .unwrap();
        file.file.sync(false).unwrap();
        assert!(fs.stat("f").unwrap().blocks < before - 7500);
        file.file
            .allocate(Allocate::Grow, 6_000_000, 50_000)
            .unwrap();
        file.file.allocate(Allocate::Zero, 5_999_990, 20).unwrap();
        let too_much = file.file.allocate(Allocate::Grow, 0, 1 << 30);
        assert_eq!(too_much.unwrap_err(), Errno::ENOSPC);
        let unnamed = fs.open("", abi::O_TMPFILE | abi::O_RDWR);
        assert_eq!(unnamed.err(), Some(Errno::ENOENT));
        let unnamed = fs.open(".", abi::O_TMPFILE | abi::O_RDWR).unwrap();
        put(&unnamed, 0, &bytes[..100_000]).unwrap();
        let named = fs.open(".", abi::O_TMPFILE | abi::O_RDWR).unwrap();
        put(&named, 0, b"a name").unwrap();
        let place = crate::vfs::location(&named).unwrap().clone();
        fs.caller().link(&place, &fs.at, b"named").unwrap();
        drop((file, unnamed, named, place));
        fs = fs.cycle();
        let mut want = bytes;
        want[5000..4_005_000].fill(0);
        want[5_999_990..].fill(0);
        want.resize(6_050_000, 0);
        assert!(fs.read("f").unwrap() == want);
        assert_eq!(fs.read("named").unwrap(), b"a name");
        fs.unlink("f").unwrap();
        fs.cycle();
    }
}

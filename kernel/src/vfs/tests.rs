//! Walks, mounts and the calls on names, over tmpfs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::abi;
use crate::error::{Errno, Result};
use crate::filesystems::memfs::{MemSuper, Options};
use crate::security::Credentials;
use crate::vm::{IoDest, IoSource};

struct World {
    root: Path,
    cred: Credentials,
}

fn tmpfs() -> Arc<MemSuper> {
    let mut options = Options::new(1024);
    options.root.mode = abi::S_IFDIR | 0o755;
    options.max_inodes = 100_000;
    MemSuper::new(&options).unwrap()
}

impl World {
    fn new() -> World {
        World {
            root: mount::other_root(tmpfs()).root_path(),
            cred: Credentials::root(),
        }
    }
    /// The same tree for another user.
    fn user(&self, id: u32) -> World {
        let mut cred = Credentials::root();
        cred.uid = id;
        cred.euid = id;
        cred.suid = id;
        cred.fsuid = id;
        cred.gid = id;
        cred.egid = id;
        cred.sgid = id;
        cred.fsgid = id;
        cred.caps = crate::security::capability::Capabilities {
            effective: 0,
            permitted: 0,
            ..cred.caps
        };
        World {
            root: self.root.clone(),
            cred,
        }
    }
    fn caller(&self) -> Caller<'_> {
        Caller {
            root: self.root.clone(),
            cwd: self.root.clone(),
            umask: 0o022,
            cred: &self.cred,
        }
    }
    fn mkdir(&self, path: &str) -> Result<()> {
        self.caller().mkdir(&self.root, path.as_bytes(), 0o777)
    }
    fn link(&self, target: &str, path: &str) {
        let caller = self.caller();
        caller
            .symlink(target.as_bytes(), &self.root, path.as_bytes())
            .unwrap();
    }
    fn touch(&self, path: &str) -> Result<()> {
        self.open(path, abi::O_CREAT | abi::O_WRONLY).map(drop)
    }
    fn open(&self, path: &str, flags: u32) -> Result<Arc<OpenFile>> {
        self.open2(path, flags, 0)
    }
    fn open2(&self, path: &str, flags: u32, resolve: u32) -> Result<Arc<OpenFile>> {
        let how = OpenHow {
            flags,
            mode: 0o666,
            resolve,
        };
        self.caller().open(&self.root, path.as_bytes(), &how)
    }
    fn find(&self, path: &str) -> Result<Path> {
        self.caller().resolve(&self.root, path.as_bytes(), true)
    }
    fn ino(&self, path: &str) -> Result<u64> {
        Ok(attr(&self.find(path)?)?.ino)
    }
    fn chmod(&self, path: &str, mode: u32) {
        self.caller()
            .chmod(&self.find(path).unwrap(), mode)
            .unwrap();
    }
    fn unlink(&self, path: &str) -> Result<()> {
        self.caller().unlink(&self.root, path.as_bytes())
    }
    fn rename(&self, a: &str, b: &str) -> Result<()> {
        let (root, caller) = (&self.root, self.caller());
        caller.rename(root, a.as_bytes(), root, b.as_bytes(), 0)
    }
}

fn err<T>(result: Result<T>) -> Errno {
    result.err().expect("an error")
}

#[test]
fn walks_follow_links_dots_and_slashes() {
    let w = World::new();
    w.mkdir("a").unwrap();
    w.mkdir("a/b").unwrap();
    w.touch("a/b/f").unwrap();
    w.link("b", "a/l");
    w.link("/a/b/f", "abs");
    w.link("../a/./l//", "a/up");
    let f = w.ino("/a/b/f").unwrap();
    for path in [
        "a/b/f",
        "a//b///f",
        "a/l/f",
        "abs",
        "a/up/f",
        "a/../a/b/./f",
        "/../../a/b/f",
    ] {
        assert_eq!(w.ino(path), Ok(f), "{path}");
    }
    assert_eq!(err(w.find("")), Errno::ENOENT);
    assert_eq!(err(w.find("a/b/f/")), Errno::ENOTDIR);
    assert_eq!(err(w.find("abs/")), Errno::ENOTDIR);
    assert_eq!(err(w.find("a/b/f/x")), Errno::ENOTDIR);
    assert_eq!(err(w.find("a/b/f/..")), Errno::ENOTDIR);
    assert_eq!(err(w.find("a/x/y")), Errno::ENOENT);
    assert_eq!(w.ino("a/l/"), w.ino("a/b"));
    let caller = w.caller();
    let l = caller.resolve(&w.root, b"a/l", false).unwrap();
    assert!(l.dentry.is_symlink());
    let l = caller.resolve(&w.root, b"a/l/", false).unwrap();
    assert!(l.dentry.is_dir());
}

#[test]
fn walks_have_limits() {
    let w = World::new();
    let long = "x".repeat(256);
    assert_eq!(err(w.find(&long)), Errno::ENAMETOOLONG);
    assert_eq!(err(w.touch(&long)), Errno::ENAMETOOLONG);
    assert_eq!(w.touch(&long[1..]), Ok(()));
    assert_eq!(err(w.find(&"a/".repeat(2048))), Errno::ENAMETOOLONG);
    w.link("self", "self");
    assert_eq!(err(w.find("self")), Errno::ELOOP);
    w.touch("l0").unwrap();
    for i in 1..=41 {
        w.link(&format!("l{}", i - 1), &format!("l{i}"));
    }
    assert!(w.find("l40").is_ok());
    assert_eq!(err(w.find("l41")), Errno::ELOOP);
    // A tree deeper than a kernel stack could unwind.
    let mut dir = w.root.clone();
    let caller = w.caller();
    for _ in 0..20_000 {
        caller.mkdir(&dir, b"d", 0o755).unwrap();
        dir = caller.resolve(&dir, b"d", true).unwrap();
    }
    assert_eq!(path_text(&dir, None).len(), 40_000);
}

#[test]
fn open_flags_mean_what_they_say() {
    let w = World::new();
    w.mkdir("d").unwrap();
    w.touch("f").unwrap();
    w.link("f", "lf");
    w.link("new", "dangling");
    let (creat, excl) = (abi::O_CREAT | abi::O_RDWR, abi::O_EXCL);
    assert_eq!(err(w.open("f", creat | excl)), Errno::EEXIST);
    assert_eq!(err(w.open("dangling", creat | excl)), Errno::EEXIST);
    assert!(w.open("dangling", creat).is_ok());
    assert!(w.find("new").is_ok());
    assert_eq!(err(w.open("lf", abi::O_NOFOLLOW)), Errno::ELOOP);
    assert!(w.open("lf", abi::O_NOFOLLOW | abi::O_PATH).is_ok());
    assert_eq!(err(w.open("f", abi::O_DIRECTORY)), Errno::ENOTDIR);
    assert_eq!(err(w.open("d", abi::O_WRONLY)), Errno::EISDIR);
    assert_eq!(err(w.open("d", creat)), Errno::EISDIR);
    assert_eq!(err(w.open("x/", creat)), Errno::EISDIR);
    assert_eq!(err(w.open(".", creat)), Errno::EISDIR);
    assert_eq!(err(w.open("d/../x/y", creat)), Errno::ENOENT);
    assert_eq!(err(w.open("d", abi::O_TMPFILE)), Errno::EINVAL);
    assert_eq!(
        err(w.open("f", abi::O_TMPFILE | abi::O_RDWR)),
        Errno::ENOTDIR
    );
    let unnamed = w.open("d", abi::O_TMPFILE | abi::O_RDWR).unwrap();
    assert_eq!(fstat(&unnamed).unwrap().st_nlink, 0);
    let p = w.open("f", abi::O_PATH).unwrap();
    assert_eq!(p.read(&mut IoDest::kernel(&mut [0; 4])), Err(Errno::EBADF));
    assert_eq!(fstat(&p).unwrap().st_ino, w.ino("f").unwrap());
}

#[test]
fn files_read_write_append_and_seek() {
    let w = World::new();
    let f = w
        .open("f", abi::O_CREAT | abi::O_RDWR | abi::O_APPEND)
        .unwrap();
    f.write(&mut IoSource::kernel(b"hello")).unwrap();
    f.seek(0, abi::SEEK_SET).unwrap();
    f.write(&mut IoSource::kernel(b" world")).unwrap();
    let mut buf = [0; 32];
    assert_eq!(f.pread(0, &mut IoDest::kernel(&mut buf)), Ok(11));
    assert_eq!(&buf[..11], b"hello world");
    assert_eq!(f.seek(-1, abi::SEEK_END), Ok(10));
    assert_eq!(f.seek(-1, abi::SEEK_SET), Err(Errno::EINVAL));
    f.file.truncate(5, false).unwrap();
    f.file.truncate(8, false).unwrap();
    assert_eq!(f.pread(0, &mut IoDest::kernel(&mut buf)), Ok(8));
    assert_eq!(&buf[..8], b"hello\0\0\0");
    w.open("f", abi::O_WRONLY | abi::O_TRUNC).unwrap();
    assert_eq!(f.file.stat().unwrap().st_size, 0);
    // Half of 1024 pages fit.
    let big = vec![7; 1 << 20];
    let mut total = 0;
    let e = loop {
        match f.write(&mut IoSource::kernel(&big)) {
            Ok(n) => total += n,
            Err(e) => break e,
        }
    };
    assert_eq!((e, total), (Errno::ENOSPC, 512 * 4096));
    drop(f);
    w.unlink("f").unwrap();
    let stat = w.root.mount.sb.ops.statfs().unwrap();
    assert_eq!(stat.free, stat.blocks);
}

#[test]
fn permissions_and_sticky_directories() {
    let w = World::new();
    let (u, v) = (w.user(1000), w.user(1001));
    w.mkdir("tmp").unwrap();
    w.chmod("tmp", 0o1777);
    u.touch("tmp/mine").unwrap();
    assert_eq!(err(v.unlink("tmp/mine")), Errno::EPERM);
    assert_eq!(err(v.rename("tmp/mine", "tmp/yours")), Errno::EPERM);
    assert_eq!(err(v.open("tmp/mine", abi::O_WRONLY)), Errno::EACCES);
    assert!(v.open("tmp/mine", abi::O_RDONLY).is_ok());
    assert_eq!(err(u.touch("other")), Errno::EACCES);
    u.mkdir("tmp/d").unwrap();
    u.chmod("tmp/d", 0o600);
    u.chmod("tmp/mine", 0o4755);
    assert_eq!(err(u.find("tmp/d/x")), Errno::EACCES);
    assert_eq!(err(u.find("tmp/d/..")), Errno::EACCES);
    let mine = u.find("tmp/mine").unwrap();
    assert_eq!(err(v.caller().chmod(&mine, 0o777)), Errno::EPERM);
    assert_eq!(err(u.caller().chown(&mine, Some(0), None)), Errno::EPERM);
    w.caller().chown(&mine, Some(1001), None).unwrap();
    assert_eq!(mine.dentry.inode.perm().mode & 0o7777, 0o755);
    // The creator writes a file that its own mode forbids to write.
    let how = OpenHow {
        flags: abi::O_CREAT | abi::O_RDWR,
        mode: 0o400,
        resolve: 0,
    };
    assert!(u.caller().open(&u.root, b"tmp/ro", &how).is_ok());
    assert_eq!(err(u.open("tmp/ro", abi::O_RDWR)), Errno::EACCES);
    w.mkdir("grp").unwrap();
    w.caller()
        .chown(&w.find("grp").unwrap(), None, Some(77))
        .unwrap();
    w.chmod("grp", 0o2777);
    u.touch("grp/f").unwrap();
    u.mkdir("grp/d").unwrap();
    assert_eq!(attr(&w.find("grp/f").unwrap()).unwrap().gid, 77);
    assert_eq!(w.find("grp/d").unwrap().dentry.inode.perm().mode, 0o042_755);
}

#[test]
fn cached_names_follow_changes() {
    let w = World::new();
    assert_eq!(err(w.find("f")), Errno::ENOENT);
    w.touch("f").unwrap();
    let ino = w.ino("f").unwrap();
    w.mkdir("d").unwrap();
    let held = w.open("f", abi::O_RDONLY).unwrap();
    w.rename("f", "d/g").unwrap();
    assert_eq!(err(w.find("f")), Errno::ENOENT);
    assert_eq!(w.ino("d/g"), Ok(ino));
    assert_eq!(path_of(&held).unwrap(), b"/d/g");
    w.rename("d", "e").unwrap();
    assert_eq!(path_of(&held).unwrap(), b"/e/g");
    w.unlink("e/g").unwrap();
    assert_eq!(path_of(&held).unwrap(), b"/e/g (deleted)");
    let dir = w.find("e").unwrap();
    w.caller().rmdir(&w.root, b"e").unwrap();
    assert_eq!(err(w.caller().mkdir(&dir, b"x", 0o755)), Errno::ENOENT);
    dentry::shrink_by(1 << 20);
    assert_eq!(err(w.find("e")), Errno::ENOENT);
}

#[test]
fn mounts_cover_bind_and_detach() {
    let w = World::new();
    for d in ["m", "m/below", "b", "c"] {
        w.mkdir(d).unwrap();
    }
    let at = |p: &str| w.find(p).unwrap();
    let below = w.ino("m/below").unwrap();
    // A second filesystem on m.
    let other = mount::other_root(tmpfs());
    mount::bind(at("m"), other.root_path(), false).unwrap();
    assert_eq!(err(w.find("m/below")), Errno::ENOENT);
    w.mkdir("m/x").unwrap();
    assert_eq!(w.ino("m/.."), w.ino("/"));
    assert_eq!(w.ino("m/x/../.."), w.ino("/"));
    assert_eq!(path_text(&at("m/x"), Some(&w.root)), b"/m/x");
    assert_eq!(err(w.rename("m/x", "x")), Errno::EXDEV);
    assert_eq!(err(w.rename("m", "n")), Errno::EBUSY);
    assert_eq!(err(w.caller().rmdir(&w.root, b"m")), Errno::EBUSY);
    assert_eq!(err(w.open2("m/x", 0, abi::RESOLVE_NO_XDEV)), Errno::EXDEV);
    // The same directory twice.
    mount::bind(at("b"), at("m/x"), false).unwrap();
    w.touch("b/f").unwrap();
    assert_eq!(w.ino("m/x/f"), w.ino("b/f"));
    assert_eq!(w.ino("b/.."), w.ino("/"));
    // Read-only through one mount only.
    let f = w.open("b/f", abi::O_WRONLY).unwrap();
    let ro = abi::MS_RDONLY;
    assert_eq!(
        err(mount::remount(&at("b"), ro, mount::Remount::Mount)),
        Errno::EBUSY
    );
    drop(f);
    mount::remount(&at("b"), ro, mount::Remount::Mount).unwrap();
    assert_eq!(err(w.touch("b/g")), Errno::EROFS);
    assert_eq!(err(w.open("b/f", abi::O_RDWR)), Errno::EROFS);
    assert_eq!(err(w.mkdir("b/f")), Errno::EEXIST);
    assert_eq!(w.touch("m/x/g"), Ok(()));
    // Busy while used; gone after.
    let held = w.open("m/x", abi::O_RDONLY).unwrap();
    assert_eq!(err(mount::umount(at("m"), false)), Errno::EBUSY);
    mount::umount(at("m"), true).unwrap();
    assert_eq!(w.ino("m/below"), Ok(below));
    assert_eq!(path_of(&held).unwrap(), b"/x");
    mount::umount(at("b"), false).unwrap();
    assert_eq!(err(w.find("b/f")), Errno::ENOENT);
    assert_eq!(err(mount::umount(at("c"), false)), Errno::EINVAL);
}

#[test]
fn scoped_walks_stay_inside() {
    let w = World::new();
    w.mkdir("jail").unwrap();
    w.mkdir("jail/d").unwrap();
    w.touch("jail/f").unwrap();
    w.touch("out").unwrap();
    w.link("/f", "jail/abs");
    w.link("../out", "jail/esc");
    let jail = w.find("jail").unwrap();
    let open = |path: &str, resolve| {
        let how = OpenHow {
            resolve,
            ..OpenHow::default()
        };
        w.caller().open(&jail, path.as_bytes(), &how)
    };
    let (beneath, in_root) = (abi::RESOLVE_BENEATH, abi::RESOLVE_IN_ROOT);
    assert!(open("d/../f", beneath).is_ok());
    assert_eq!(err(open("../out", beneath)), Errno::EXDEV);
    assert_eq!(err(open("esc", beneath)), Errno::EXDEV);
    assert_eq!(err(open("abs", beneath)), Errno::EXDEV);
    assert_eq!(err(open("/f", beneath)), Errno::EXDEV);
    assert!(open("/f", in_root).is_ok());
    assert!(open("abs", in_root).is_ok());
    assert_eq!(err(open("esc", in_root)), Errno::ENOENT);
    assert_eq!(err(open("abs", abi::RESOLVE_NO_SYMLINKS)), Errno::ELOOP);
}

#[test]
fn parallel_work_keeps_names_whole() {
    let w = Arc::new(World::new());
    for d in 0..3 {
        w.mkdir(&format!("d{d}")).unwrap();
    }
    let threads: Vec<_> = (0..4u64)
        .map(|t| {
            let w = w.clone();
            std::thread::spawn(move || {
                let mut x = t * 7919 + 1;
                let mut random = move |n: u64| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    x ^= x << 17;
                    x % n
                };
                for _ in 0..3000 {
                    let a = format!("d{}/n{}", random(3), random(4));
                    let b = format!("d{}/n{}", random(3), random(4));
                    let _ = match random(5) {
                        0 => w.touch(&a),
                        1 => w.rename(&a, &b),
                        2 => w.unlink(&a),
                        3 => w.mkdir(&a),
                        _ => w.caller().rmdir(&w.root, a.as_bytes()),
                    };
                    let _ = w.find(&b);
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    // Names found by lookup are the names listed.
    struct Names(Vec<Vec<u8>>);
    impl crate::file::DirSink for Names {
        fn entry(&mut self, name: &[u8], _: u64, _: u8, _: u64) -> bool {
            self.0.push(name.to_vec());
            true
        }
    }
    for d in 0..3 {
        let dir = w.open(&format!("d{d}"), abi::O_RDONLY).unwrap();
        let mut names = Names(Vec::new());
        dir.read_dir(&mut names).unwrap();
        for n in 0..4 {
            let name = format!("n{n}");
            let listed = names.0.contains(&name.clone().into_bytes());
            assert_eq!(w.find(&format!("d{d}/{name}")).is_ok(), listed);
        }
    }
}

#[test]
fn programs_that_run_are_not_written() {
    let w = World::new();
    w.touch("prog").unwrap();
    w.chmod("prog", 0o755);
    let run = || {
        let caller = w.caller();
        caller.open_to_execute(&w.root, b"prog", true)
    };
    let writer = w.open("prog", abi::O_RDWR).unwrap();
    assert_eq!(err(run()), Errno::ETXTBSY);
    drop(writer);
    let (one, two) = (run().unwrap(), run().unwrap());
    assert_eq!(
        err(w.open("prog", abi::O_WRONLY | abi::O_TRUNC)),
        Errno::ETXTBSY
    );
    let path = w.find("prog").unwrap();
    assert_eq!(err(w.caller().truncate(&path, 0)), Errno::ETXTBSY);
    assert!(w.open("prog", abi::O_RDONLY).is_ok());
    assert_eq!(w.unlink("prog"), Ok(()));
    drop((one, two));
}

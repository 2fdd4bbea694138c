//! Runs the finished program: the same input gives the same bytes, the root partition has
//! what it was given, and `drop` puts files onto it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Byte offset of the root partition, docs/boot.md.
const ROOT: usize = 33 << 20;

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An ELF file with one segment that has all of `content` behind the headers at its start.
fn elf(kind: u8, base: u64, content: &[u8]) -> Vec<u8> {
    let mut f = vec![0u8; 0x1000];
    f[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: u64, len: usize| {
        f[at..at + len].copy_from_slice(&value.to_le_bytes()[..len])
    };
    let fields = [
        (16, kind.into(), 2),
        (18, 62, 2),
        (20, 1, 4),
        (24, base, 8),
        (32, 64, 8),
    ];
    let sizes = [(52, 64, 2), (54, 56, 2), (56, 1, 2)];
    let (len, flags) = (content.len() as u64, 5);
    let segment = [
        (64, 1, 4),
        (68, flags, 4),
        (72, 0x1000, 8),
        (80, base, 8),
        (96, len, 8),
        (104, len, 8),
    ];
    for (at, value, width) in fields.into_iter().chain(sizes).chain(segment) {
        put(at, value, width);
    }
    f.extend_from_slice(content);
    f
}

/// The inputs of an image in `folder`. `reverse` makes the files in another order.
fn inputs(folder: &Folder, reverse: bool) {
    let code: Vec<u8> = (0..20_000u32).map(|i| ((i * i) >> 5) as u8).collect();
    folder.file("kernel", &elf(3, 0, &code), 0o644);
    let mut bios = code[..2000].to_vec();
    bios[510..512].copy_from_slice(&[0x55, 0xaa]);
    folder.file("bios", &elf(2, 0x7c00, &bios), 0o644);
    folder.file("uefi", b"MZ and so on", 0o644);
    let mut files = vec![
        ("root/bin/shell", &code[..], 0o755),
        ("root/bin/su", b"suid", 0o4755),
        ("root/etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644),
        ("root/etc/shadow", b"root:*:::::::\n", 0o600),
        ("root/tmp/x", b"", 0o644),
        ("root/root/.profile", b"export A=1\n", 0o644),
    ];
    let many: Vec<String> = (0..200)
        .map(|i| format!("root/bin/applet-number-{i:03}"))
        .collect();
    let mut links: Vec<&String> = many.iter().collect();
    if reverse {
        files.reverse();
        links.reverse();
    }
    for (name, content, mode) in files {
        folder.file(name, content, mode);
    }
    for (i, link) in links.into_iter().enumerate() {
        // Half symbolic, half hard, the same ones in either order.
        let at = folder.0.join(link);
        if link.ends_with(['0', '2', '4', '6', '8']) {
            symlink("shell", at).unwrap();
        } else {
            fs::hard_link(folder.0.join("root/bin/shell"), at).unwrap();
        }
        if i == 100 {
            File::open(folder.0.join("root/bin"))
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH)
                .unwrap();
        }
    }
}

fn tool(name: &str) -> Command {
    let found = ["/usr/sbin", "/sbin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.exists());
    Command::new(found.unwrap_or_else(|| name.into()))
}

fn image_tool(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oxbow-image"))
        .args(args)
        .output()
        .unwrap()
}

fn build(folder: &Folder, output: &str) -> PathBuf {
    let path = folder.0.join(output);
    let output = Command::new(env!("CARGO_BIN_EXE_oxbow-image"))
        .current_dir(&folder.0)
        .args([
            "build", "--kernel", "kernel", "--bios", "bios", "--uefi", "uefi", "--root", "root",
        ])
        .args(["--cmdline", "root=/dev/vda3", "--size", "128", "--output"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

fn debugfs(raw: &Path, request: &str) -> String {
    let output = tool("debugfs")
        .args(["-R", request])
        .arg(format!("{}?offset={ROOT}", raw.display()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn check(raw: &Path) {
    let output = tool("e2fsck")
        .args(["-f", "-n"])
        .arg(format!("{}?offset={ROOT}", raw.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (a, b) = (Folder::new("same-a"), Folder::new("another-folder-b"));
    inputs(&a, false);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    inputs(&b, true);
    for name in ["out/x.raw", "out/x.qcow2"] {
        let (x, y) = (
            fs::read(build(&a, name)).unwrap(),
            fs::read(build(&b, name)).unwrap(),
        );
        assert!(x == y, "{name} differs");
    }
    let left: Vec<_> = fs::read_dir(a.0.join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "work files are left: {left:?}");
}

#[test]
fn the_root_has_what_it_was_given() {
    let folder = Folder::new("root");
    inputs(&folder, false);
    let raw = build(&folder, "x.raw");
    check(&raw);
    for (path, expected) in [
        ("/", "Mode:  0755"),
        ("/bin/shell", "Mode:  0755"),
        ("/bin/shell", "Links: 101"),
        ("/bin/su", "Mode:  04755"),
        ("/etc/shadow", "Mode:  0600"),
        ("/tmp", "Mode:  01777"),
        ("/root", "Mode:  0700"),
        ("/bin/applet-number-002", "Fast link dest: \"shell\""),
        ("/bin/applet-number-001", "Links: 101"),
    ] {
        let stat = debugfs(&raw, &format!("stat {path}"));
        assert!(stat.contains(expected), "{path}: {stat}");
        assert!(
            stat.contains("User:     0   Group:     0"),
            "{path}: {stat}"
        );
        assert!(stat.contains("mtime: 0x12cea600"), "{path}: {stat}");
    }
    assert_eq!(
        debugfs(&raw, "cat /etc/passwd"),
        "root:x:0:0::/root:/bin/sh\n"
    );
}

#[test]
fn drop_puts_and_replaces_files() {
    let folder = Folder::new("drop");
    inputs(&folder, false);
    let image = build(&folder, "x.qcow2");
    let hello = folder.file("hello", b"hello, world\n", 0o751);
    let drop = |dest: &str| image_tool(&[Path::new("drop"), &image, &hello, Path::new(dest)]);
    for dest in [
        "/bin/hello",
        "/bin/shell",
        "/bin/applet-number-002",
        "/etc",
        "/etc/",
        "/opt/new/place/hello",
        "//opt/./new//folder/",
    ] {
        let output = drop(dest);
        assert!(
            output.status.success(),
            "{dest}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for (dest, expected) in [
        ("/etc/passwd/hello", "is no directory on the image"),
        ("bin/hello", "absolute path"),
        ("/bin/../hello", "without '..'"),
        ("/tmp/hello", "shows something else at /tmp"),
        ("/bin/\"hello\"", "names with a quotation mark"),
        (&format!("/bin/{}", "x".repeat(256)), "at most 255 bytes"),
    ] {
        let output = drop(dest);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && message.contains(expected),
            "{dest}: {message}"
        );
    }
    let raw = folder.0.join("after.raw");
    let status = Command::new("qemu-img")
        .args(["convert", "-O", "raw"])
        .args([&image, &raw])
        .status();
    assert!(status.unwrap().success());
    check(&raw);
    for path in [
        "/bin/hello",
        "/bin/shell",
        "/bin/applet-number-002",
        "/etc/hello",
        "/opt/new/place/hello",
        "/opt/new/folder/hello",
    ] {
        let stat = debugfs(&raw, &format!("stat {path}"));
        assert!(
            stat.contains("Mode:  0751") && stat.contains("User:     0"),
            "{path}: {stat}"
        );
        assert_eq!(debugfs(&raw, &format!("cat {path}")), "hello, world\n");
    }
    // The other names of a replaced file keep its content.
    assert!(debugfs(&raw, "stat /bin/applet-number-001").contains("Links: 100"));
}

#[test]
fn drop_leaves_the_image_alone_or_as_it_was() {
    let folder = Folder::new("drop-image");
    inputs(&folder, false);
    let image = build(&folder, "x.qcow2");
    fs::set_permissions(&image, Permissions::from_mode(0o640)).unwrap();
    let link = folder.0.join("link.qcow2");
    symlink("x.qcow2", &link).unwrap();
    let drop = |image: &Path, file: &Path| {
        let output = image_tool(&[Path::new("drop"), image, file, Path::new("/bin/")]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let small = folder.file("small", b"x", 0o644);
    assert_eq!(drop(&link, &small), (true, "/bin/small\n".into()));
    assert!(link.is_symlink(), "the link is no image");
    assert_eq!(
        image.metadata().unwrap().permissions().mode() & 0o777,
        0o640
    );
    // More than the image has room for, and nothing that can be stored as a hole.
    let before = fs::read(&image).unwrap();
    let huge = folder.file("huge", &[], 0o644);
    // `build` makes disks of 128 MiB.
    fs::write(&huge, vec![7; 100 << 20]).unwrap();
    let (done, message) = drop(&image, &huge);
    assert!(!done && message.contains("has no room"), "{message}");
    assert!(fs::read(&image).unwrap() == before, "the image has changed");
}

#[test]
fn bad_input_is_refused() {
    let folder = Folder::new("bad");
    inputs(&folder, false);
    let attempt = |kernel: &[u8], bios: &[u8]| {
        folder.file("kernel", kernel, 0o644);
        folder.file("bios", bios, 0o644);
        let output = Command::new(env!("CARGO_BIN_EXE_oxbow-image"))
            .current_dir(&folder.0)
            .args([
                "build", "--kernel", "kernel", "--bios", "bios", "--output", "x.raw", "--size",
                "64",
            ])
            .output()
            .unwrap();
        assert!(!output.status.success() && !folder.0.join("x.raw").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut sector = [0; 600];
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (kernel, bios) = (elf(3, 0, &[0xf4; 64]), elf(2, 0x7c00, &sector));
    assert!(attempt(b"no ELF", &bios).contains("kernel: not a 64-bit ELF file"));
    assert!(
        attempt(&elf(2, 0, &[0xf4; 64]), &bios).contains("not a position-independent executable")
    );
    assert!(attempt(&kernel, &elf(2, 0x7c00, &[0; 600])).contains("bios: has no boot sector"));
    assert!(attempt(&kernel, &elf(2, 0x1000, &sector)).contains("bios: not linked for the BIOS"));
}

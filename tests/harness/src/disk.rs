//! Disks for tests, made and checked with e2fsprogs on the host.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host;
use crate::machine::Machine;

/// An ext2 filesystem with files from the host, to attach to a machine (`vdb`...).
pub struct DataDisk {
    path: PathBuf,
}

impl DataDisk {
    /// A disk of `size_mib` with `files`: (path on the host, path on the disk).
    pub fn new(size_mib: u32, files: &[(&Path, &str)]) -> DataDisk {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("oxbow-disk-{}-{n}", std::process::id()));
        let tree = base.with_extension("tree");
        std::fs::create_dir_all(&tree).expect("a folder for the disk's files");
        for (from, to) in files {
            let to = tree.join(to.trim_start_matches('/'));
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).expect("a folder on the disk");
            }
            std::fs::copy(from, &to)
                .unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
        }
        let path = base.with_extension("ext2");
        host(
            "mke2fs",
            &[
                "-q",
                "-F",
                "-t",
                "ext2",
                // As the root has them, and what small disks do not get by default.
                "-b",
                "4096",
                "-E",
                "root_owner=0:0",
                "-d",
                &tree.to_string_lossy(),
                &path.to_string_lossy(),
                &format!("{size_mib}M"),
            ],
        );
        std::fs::remove_dir_all(&tree).expect("the folder is ours");
        DataDisk { path }
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether e2fsck finds the filesystem of a disk that no machine uses clean, and what it says.
    pub fn check(&self) -> (bool, String) {
        e2fsck(&self.path.to_string_lossy())
    }
}

impl Drop for DataDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Byte offset of the last used partition of a raw GPT disk: Oxbow's root.
fn root_offset(raw: &Path) -> u64 {
    let mut disk = std::fs::File::open(raw).expect("the raw disk");
    let mut entries = [0; 128 * 128];
    disk.seek(SeekFrom::Start(1024)).expect("a partition table");
    disk.read_exact(&mut entries).expect("a partition table");
    entries
        .chunks_exact(128)
        .filter(|e| e[..16] != [0; 16])
        .map(|e| u64::from_le_bytes(e[32..40].try_into().expect("eight bytes")) * 512)
        .max()
        .expect("a partition")
}

/// Checks the root filesystem of a machine that has ended, with `e2fsck -fn`. Returns whether
/// it is clean, and what the check said.
pub fn check_root_filesystem(machine: &Machine) -> (bool, String) {
    let raw = machine.folder().join("root.raw");
    let overlay = machine.folder().join("root.qcow2");
    host(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            &overlay.to_string_lossy(),
            &raw.to_string_lossy(),
        ],
    );
    let target = format!("{}?offset={}", raw.display(), root_offset(&raw));
    let found = e2fsck(&target);
    std::fs::remove_file(&raw).expect("the raw disk is ours");
    found
}

/// Whether `e2fsck -fn` finds `target` clean, and what it says.
fn e2fsck(target: &str) -> (bool, String) {
    let done = Command::new("e2fsck")
        .args(["-fn", target])
        .env("PATH", crate::path_with_sbin())
        .output()
        .expect("e2fsck");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    (
        done.status.success() && !said.contains("not cleanly unmounted"),
        said,
    )
}

/// A copy of the image under test with another kernel command line.
pub struct OtherCmdline {
    path: PathBuf,
}

impl OtherCmdline {
    /// `line` takes the place of build/cmdline's and may not be longer.
    pub fn new(line: &str) -> OtherCmdline {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("oxbow-image-{}-{n}.qcow2", std::process::id()));
        let raw = path.with_extension("raw");
        let (path_text, raw_text) = (path.to_string_lossy(), raw.to_string_lossy());
        let image = crate::image();
        let image = image.to_string_lossy();
        host("qemu-img", &["convert", "-O", "raw", &image, &raw_text]);
        let old =
            std::fs::read_to_string(crate::top().join("build/cmdline")).expect("the command line");
        let old = old.trim_end();
        assert!(line.len() <= old.len(), "the new line is too long");
        let mut disk = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&raw)
            .expect("the raw disk");
        // The EFI system partition is at the beginning (docs/boot.md).
        let mut start = vec![0; 33 << 20];
        disk.read_exact(&mut start).expect("the raw disk");
        let at = start
            .chunks(512)
            .position(|sector| sector.starts_with(old.as_bytes()))
            .expect("the command line on the disk");
        disk.seek(SeekFrom::Start(at as u64 * 512))
            .and_then(|_| disk.write_all(format!("{line:<0$}", old.len()).as_bytes()))
            .expect("the raw disk");
        drop(disk);
        host(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", &raw_text, &path_text],
        );
        std::fs::remove_file(&raw).expect("the raw disk is ours");
        OtherCmdline { path }
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OtherCmdline {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

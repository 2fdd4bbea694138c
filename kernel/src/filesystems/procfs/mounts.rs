//! mounts, mountinfo and filesystems (man 5 proc).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::text::escape;
use crate::vfs::mount::{self, Mount};
use crate::vfs::{MountFlags, Path, path_text, super_block};

/// Options of the mount itself.
fn mount_options(m: &Mount) -> String {
    let flags = m.flags();
    let mut out = String::from(if m.is_read_only() { "ro" } else { "rw" });
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
    ] {
        if flags.contains(flag) {
            out.push_str(name);
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        out.push_str(",relatime");
    }
    out
}

fn source(m: &Mount) -> &[u8] {
    if m.source.is_empty() {
        b"none"
    } else {
        &m.source
    }
}

/// Where `m` is mounted as seen from `root`; `None` outside it.
fn place(m: &Mount, root: &Path) -> Option<Vec<u8>> {
    let at = match m.place() {
        Some(place) => path_text(&place, Some(root)),
        None => b"/".to_vec(),
    };
    at.starts_with(b"/").then_some(at)
}

/// /proc/pid/mounts.
pub fn mounts(root: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for m in mount::list() {
        let Some(at) = place(&m, root) else { continue };
        escape(&mut out, source(&m));
        out.push(b' ');
        escape(&mut out, &at);
        let line = alloc::format!(" {} {}", m.sb.fstype, mount_options(&m));
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(&m.sb.ops.show_options());
        out.extend_from_slice(b" 0 0\n");
    }
    out
}

/// /proc/pid/mountinfo.
pub fn mountinfo(root: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for m in mount::list() {
        let Some(at) = place(&m, root) else { continue };
        let parent = m.place().map_or(m.id, |p| p.mount.id);
        let dev = m.sb.dev;
        let line = alloc::format!("{} {} {}:{} ", m.id, parent, dev.major, dev.minor);
        out.extend_from_slice(line.as_bytes());
        escape(&mut out, &root_in_filesystem(&m));
        out.push(b' ');
        escape(&mut out, &at);
        let line = alloc::format!(" {} - {} ", mount_options(&m), m.sb.fstype);
        out.extend_from_slice(line.as_bytes());
        escape(&mut out, source(&m));
        out.push(b' ');
        let access: &[u8] = if m.sb.is_read_only() { b"ro" } else { b"rw" };
        out.extend_from_slice(access);
        out.extend_from_slice(&m.sb.ops.show_options());
        out.push(b'\n');
    }
    out
}

/// The part of its filesystem that a mount shows.
fn root_in_filesystem(m: &Mount) -> Vec<u8> {
    let mut names = Vec::new();
    let (mut parent, mut name) = m.root.place();
    while let Some(dir) = parent {
        names.push(name);
        (parent, name) = dir.place();
    }
    let mut out = Vec::new();
    for name in names.iter().rev() {
        out.push(b'/');
        out.extend_from_slice(name);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// /proc/filesystems.
pub fn filesystems() -> Vec<u8> {
    let mut out = String::new();
    for (name, needs_device) in super_block::types() {
        let nodev = if needs_device { "" } else { "nodev" };
        let _ = writeln!(out, "{nodev}\t{name}");
    }
    out.into_bytes()
}

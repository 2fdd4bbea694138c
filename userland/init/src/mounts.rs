//! The filesystems that every program expects.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::console;

struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: Option<&'static str>,
    /// Not every kernel has it; the system works without.
    optional: bool,
}

const SECURE: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In order: a later one may be inside an earlier one.
const MOUNTS: &[Mount] = &[
    Mount {
        source: "proc",
        target: "/proc",
        kind: "proc",
        flags: SECURE,
        data: None,
        optional: false,
    },
    Mount {
        source: "dev",
        target: "/dev",
        kind: "devtmpfs",
        flags: MsFlags::MS_NOSUID,
        data: Some("mode=0755"),
        optional: false,
    },
    Mount {
        source: "tmpfs",
        target: "/tmp",
        kind: "tmpfs",
        flags: NO_DEVICES,
        data: Some("mode=1777"),
        optional: false,
    },
    Mount {
        source: "tmpfs",
        target: "/run",
        kind: "tmpfs",
        flags: NO_DEVICES,
        data: Some("mode=0755"),
        optional: false,
    },
    Mount {
        source: "sysfs",
        target: "/sys",
        kind: "sysfs",
        flags: SECURE,
        data: None,
        optional: true,
    },
    Mount {
        source: "devpts",
        target: "/dev/pts",
        kind: "devpts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: Some("mode=0620,gid=5,ptmxmode=0666"),
        optional: true,
    },
];

/// Mounts them all. What is there already is left as it is.
pub fn mount_all() {
    for entry in MOUNTS {
        let source = Some(entry.source);
        let kind = Some(entry.kind);
        match mount(source, entry.target, kind, entry.flags, entry.data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(Errno::ENODEV | Errno::ENOENT) if entry.optional => {}
            Err(error) => console::check(&format!("mount {}", entry.target), Err::<(), _>(error)),
        }
    }
}

//! Behaviour of the booted image, tested from outside: see `tests/`. Here: how tests get
//! their programs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use oxbow_harness::{Config, DataDisk, Machine, host, top};

/// Compiles `programs/NAME.c` to a static musl binary; returns its path, another one each
/// time: tests run at once, and a program that runs cannot be written.
pub fn c_program(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let source = top().join(format!("tests/integration/programs/{name}.c"));
    let out = std::env::temp_dir().join(format!("oxbow-{id}-{name}"));
    let (source, out_text) = (source.to_string_lossy().into_owned(), out.to_string_lossy());
    host(
        "musl-gcc",
        &["-O2", "-static", "-o", &out_text, &source, "-lm"],
    );
    out
}

/// Compiles `programs/NAME.rs` to a static musl binary named NAME; returns its path.
pub fn rust_program(name: &str) -> PathBuf {
    let source = top().join(format!("tests/integration/programs/{name}.rs"));
    let folder = std::env::temp_dir().join(format!("oxbow-rust-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let out = folder.join(name);
    let (source, out_text) = (source.to_string_lossy().into_owned(), out.to_string_lossy());
    let target = "x86_64-unknown-linux-musl";
    host(
        "rustc",
        &[
            "--edition=2024",
            "-O",
            "--target",
            target,
            "-o",
            &out_text,
            &source,
        ],
    );
    out
}

/// A disk with the C programs `names` at its root.
pub fn disk_of_c_programs(names: &[&str]) -> DataDisk {
    let built: Vec<PathBuf> = names.iter().map(|n| c_program(n)).collect();
    let files: Vec<(&Path, &str)> = built
        .iter()
        .map(PathBuf::as_path)
        .zip(names.iter().copied())
        .collect();
    DataDisk::new(64, &files)
}

/// Runs C program `name` on the host's Linux and then in a machine: it must succeed in both
/// and say the same. Returns the machine.
pub fn same_as_on_linux(name: &str, arguments: &[&str]) -> Machine {
    // With default signals, as the guest's shell has them (`with_default_signals` says why).
    let program = c_program(name).to_string_lossy().into_owned();
    let there = host(
        "env",
        &[&["--default-signal", &program], arguments].concat(),
    );
    let disk = disk_of_c_programs(&[name]);
    let mut machine = Machine::boot(&Config::default().with_disk(&disk));
    machine.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt");
    let command = format!("/mnt/{name} {}", arguments.join(" "));
    let here = machine.run_for(&command, 280);
    assert_eq!(here.status, 0, "{}", here.text);
    assert_eq!(here.text, there);
    machine
}

/// Memory in use, in KiB: without what can be given back at once.
pub fn used_kib(m: &mut Machine) -> i64 {
    let meminfo = m.ok("cat /proc/meminfo");
    let field = |name: &str| -> i64 {
        let line = meminfo
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_else(|| panic!("{name}"));
        line.split_whitespace()
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a figure")
    };
    let spare = ["MemFree:", "Cached:", "Buffers:", "SReclaimable:"];
    field("MemTotal:") - spare.into_iter().map(field).sum::<i64>()
}

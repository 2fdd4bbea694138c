//! Pseudo-terminals behave as on Linux, where the same program runs first.

use oxbow_harness::{Config, Machine, host};
use oxbow_integration::{c_program, disk_of_c_programs};

const MOUNT: &str = "mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt";

fn same_as_on_linux(arguments: &[&str]) {
    let program = c_program("pty");
    let there = host(&program.to_string_lossy(), arguments);
    let disk = disk_of_c_programs(&["pty"]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    let out = m.run_for(&format!("/mnt/pty {}", arguments.join(" ")), 280);
    assert_eq!(out.status, 0, "{}", out.text);
    assert_eq!(out.text, there);
    assert_eq!(m.ok("ls /dev/pts").trim(), "ptmx", "terminals were left");
    m.power_off();
}

#[test]
fn pseudo_terminals_are_those_of_linux() {
    same_as_on_linux(&[]);
}

#[test]
fn a_shell_runs_in_a_pseudo_terminal() {
    same_as_on_linux(&["shell"]);
}

//! Pseudo-terminals behave as on Linux, where the same program runs first.

use oxbow_integration::same_as_on_linux;

#[test]
fn pseudo_terminals_are_those_of_linux() {
    let mut m = same_as_on_linux("pty", &[]);
    assert_eq!(m.ok("ls /dev/pts").trim(), "ptmx", "terminals were left");
}

#[test]
fn a_shell_runs_in_a_pseudo_terminal() {
    let mut m = same_as_on_linux("pty", &["shell"]);
    assert_eq!(m.ok("ls /dev/pts").trim(), "ptmx", "terminals were left");
}

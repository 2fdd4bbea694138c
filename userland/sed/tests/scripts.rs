//! Scripts, against a table that GNU sed wrote.

#[path = "../../cases.rs"]
mod cases;

use std::path::Path;
use std::process::Command;

#[test]
fn scripts_print_what_gnu_sed_makes_of_them() {
    let links = cases::scratch("sed");
    let link = |name: &str, to: &str| {
        let dir = links.join(name);
        std::fs::create_dir(&dir).expect("directory");
        std::os::unix::fs::symlink(to, dir.join("sed")).expect("link");
        format!("{}:/usr/bin:/bin", dir.display())
    };
    let ours = link("ours", env!("CARGO_BIN_EXE_oxsed"));
    let gnu = Command::new("sed").arg("--version").output();
    let gnu = gnu.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("GNU sed)"));
    let theirs = "/usr/bin:/bin".to_owned();
    let shell = |path: &str| {
        let mut command = Command::new("/bin/sh");
        command.env("PATH", path);
        command
    };
    let host = || shell(&theirs);
    let host: Option<&dyn Fn() -> Command> = if gnu { Some(&host) } else { None };
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts.txt");
    cases::run(&table, || shell(&ours), host);
    let _ = std::fs::remove_dir_all(links.parent().expect("has a parent"));
}

//! The language, against a table that gawk wrote.

#[path = "../../cases.rs"]
mod cases;

use std::path::Path;
use std::process::Command;

#[test]
fn programs_print_what_gawk_prints() {
    let links = cases::scratch("awk");
    let link = |name: &str, to: &str| {
        let dir = links.join(name);
        std::fs::create_dir(&dir).expect("directory");
        std::os::unix::fs::symlink(to, dir.join("awk")).expect("link");
        format!("{}:/usr/bin:/bin", dir.display())
    };
    let ours = link("ours", env!("CARGO_BIN_EXE_oxawk"));
    let gawk = Path::new("/usr/bin/gawk");
    let theirs = link("theirs", "/usr/bin/gawk");
    let shell = |path: &str| {
        let mut command = Command::new("/bin/sh");
        command.env("PATH", path).env("FOO", "bar");
        command
    };
    let host = || shell(&theirs);
    let host: Option<&dyn Fn() -> Command> = if gawk.exists() { Some(&host) } else { None };
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language.txt");
    cases::run(&table, || shell(&ours), host);
    let _ = std::fs::remove_dir_all(links.parent().expect("has a parent"));
}

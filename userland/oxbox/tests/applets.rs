//! The utilities, against a table that the GNU ones wrote.

#[path = "../../cases.rs"]
mod cases;

use std::path::Path;
use std::process::Command;

#[test]
fn applets_print_what_the_gnu_tools_print() {
    let oxbox = env!("CARGO_BIN_EXE_oxbox");
    let links = cases::scratch("applets");
    let list = Command::new(oxbox)
        .arg("--list")
        .output()
        .expect("oxbox runs");
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        std::os::unix::fs::symlink(oxbox, links.join(applet)).expect("link");
    }
    // awk and watch run commands with it.
    std::os::unix::fs::symlink("/bin/sh", links.join("sh")).expect("link");
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/applets.txt");
    let shell = |path: &Path| {
        let mut command = Command::new("/bin/sh");
        command.env("PATH", path);
        command
    };
    let host = || shell(Path::new("/usr/bin:/bin"));
    let gnu = Command::new("ls").arg("--version").output();
    let gnu = gnu.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("GNU coreutils"));
    let host: Option<&dyn Fn() -> Command> = gnu.then_some(&host);
    cases::run(&table, || shell(&links), host);
    let _ = std::fs::remove_dir_all(links.parent().expect("has a parent"));
}

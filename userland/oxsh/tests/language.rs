//! The shell's language, against a table that bash wrote.

#[path = "../../cases.rs"]
mod cases;

use std::path::Path;
use std::process::Command;

#[test]
fn scripts_print_what_they_print_in_bash() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language.txt");
    let bash = || {
        let mut command = Command::new("bash");
        command.arg("--norc");
        command
    };
    let host: Option<&dyn Fn() -> Command> = cases::installed("bash").then_some(&bash);
    cases::run(&table, || Command::new(env!("CARGO_BIN_EXE_oxsh")), host);
}

#[test]
fn standard_input_is_not_read_ahead() {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut shell = Command::new(env!("CARGO_BIN_EXE_oxsh"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell starts");
    let script = "read a\nfirst\necho \"a=$a\"\nfor i in 1 2\ndo echo $i\ndone\ncat\nrest\n";
    let mut stdin = shell.stdin.take().expect("piped");
    stdin.write_all(script.as_bytes()).expect("shell reads");
    drop(stdin);
    let output = shell.wait_with_output().expect("shell ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a=first\n1\n2\nrest\n"
    );
}

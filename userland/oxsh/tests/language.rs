//! The shell's language, against a table that bash wrote.

#[path = "../../cases.rs"]
mod cases;

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
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

/// What `shell -c script` prints, as an ordinary user in a directory that `before` leaves to it.
fn in_directory(shell: &str, before: &str, script: &str) -> String {
    const NOBODY: u32 = 65534;
    let mut sh = Command::new("sh");
    let line = format!("{before}; exec \"$0\" -c \"$1\" 2>&1");
    sh.args(["-c", &line, shell, script])
        .env("PATH", "/usr/bin:/bin");
    let dir = std::env::temp_dir().join(format!("oxsh-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("inner")).expect("a directory");
    if nix::unistd::getuid().is_root() {
        for dir in [&dir, &dir.join("inner")] {
            chown(dir, Some(NOBODY), Some(NOBODY)).expect("another's directory");
        }
        sh.uid(NOBODY).gid(NOBODY);
    }
    let output = sh.current_dir(&dir).output().expect("sh runs");
    let open = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&dir, open).expect("the directory is ours");
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn commands_run_where_their_user_may_not_go() {
    // Where the user may go: the checkout may be in somebody's home.
    let bin = std::env::temp_dir().join(format!("oxsh-{}-bin", std::process::id()));
    std::fs::create_dir_all(&bin).expect("a directory");
    let oxsh = bin.join("oxsh");
    std::fs::copy(env!("CARGO_BIN_EXE_oxsh"), &oxsh).expect("a copy");
    for path in [&bin, &oxsh] {
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, all).expect("ours");
    }
    let oxsh = &oxsh.to_string_lossy();
    let script = "id -u >/dev/null && echo ran; cat < /dev/null && (true | cat) && echo read; \
                  ls >/dev/null 2>&1 || echo closed; cd . 2>/dev/null || echo refused; \
                  cd / && /bin/pwd";
    let printed = in_directory(oxsh, "chmod 0 .", script);
    assert_eq!(printed, "ran\nread\nclosed\nrefused\n/\n");
    // The directory's name leads nowhere for the user, while the directory itself is open.
    let script = "echo text > file && cat file && cat < file && ls";
    let printed = in_directory(oxsh, "cd inner; chmod 0 ..", script);
    assert_eq!(printed, "text\ntext\nfile\n");
    let script = "id -u >/dev/null && echo ran; cd / && /bin/pwd";
    let printed = in_directory(oxsh, "cd inner; rmdir ../inner", script);
    assert_eq!(printed, "ran\n/\n");
    std::fs::remove_dir_all(&bin).expect("the directory is ours");
}

/// Starts `script`, sends `signal` to its process group once it has printed "ready", and returns
/// what it printed afterwards and what signal or status it ended with.
fn signalled(script: &str, signal: nix::sys::signal::Signal) -> (String, Result<i32, i32>) {
    signalled_again(script, signal, std::time::Duration::from_secs(30))
}

/// As [`signalled`], but sends the signal again whenever `interval` has passed.
fn signalled_again(
    script: &str,
    signal: nix::sys::signal::Signal,
    interval: std::time::Duration,
) -> (String, Result<i32, i32>) {
    use std::io::{BufRead as _, Read as _};
    use std::os::unix::process::ExitStatusExt as _;

    // A shell that is started with the signal ignored goes on ignoring it, and whoever runs the
    // tests in the background may have it ignored.
    let mut shell = Command::new("env")
        .arg(format!("--default-signal={}", signal.as_str()))
        .args([env!("CARGO_BIN_EXE_oxsh"), "-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("shell starts");
    let mut output = std::io::BufReader::new(shell.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("shell writes");
    assert_eq!(line, "ready\n", "{script}");
    let group = nix::unistd::Pid::from_raw(shell.id().cast_signed());
    nix::sys::signal::killpg(group, signal).expect("shell runs");
    // Whatever the signal should have ended does not go on for ever.
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while end.recv_timeout(interval) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let late = std::time::Instant::now() >= until;
            let signal = if late {
                nix::sys::signal::Signal::SIGKILL
            } else {
                signal
            };
            let _ = nix::sys::signal::killpg(group, signal);
        }
    });
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("shell writes");
    let status = shell.wait().expect("shell ends");
    drop(ended);
    (
        rest,
        status
            .signal()
            .map_or_else(|| Ok(status.code().unwrap_or(-1)), Err),
    )
}

#[test]
fn an_interrupt_ends_a_script_wherever_it_is() {
    use nix::sys::signal::Signal::SIGINT;
    const BY_SIGINT: Result<i32, i32> = Err(2);
    for script in [
        // Between two commands, after one has been waited for.
        "/bin/true; echo ready; while :; do :; done",
        // In a builtin that waits.
        "/bin/true; echo ready; read x",
        "sleep 60 >/dev/null & echo ready; wait",
        // In a command.
        "echo ready; sleep 60; echo not reached",
        "echo ready; (sleep 60; echo not reached)",
        "echo ready; while :; do sleep 0.01; done | cat",
        "echo ready; x=$(sleep 60); echo not reached",
    ] {
        let (printed, end) = signalled(script, SIGINT);
        assert_eq!((printed.as_str(), end), ("", BY_SIGINT), "{script}");
    }
    // A signal that comes when a command has just ended is that command's, as in bash.
    let script = "echo ready; while :; do sleep 0.01; done";
    let (printed, end) = signalled_again(script, SIGINT, std::time::Duration::from_millis(250));
    assert_eq!((printed.as_str(), end), ("", BY_SIGINT), "{script}");
    // Traps run; with one for EXIT the signal still ends the shell.
    for (script, want, end) in [
        (
            "trap 'echo bye' EXIT; echo ready; while :; do :; done",
            "bye\n",
            BY_SIGINT,
        ),
        (
            "trap 'echo bye' EXIT; echo ready; sleep 60",
            "bye\n",
            BY_SIGINT,
        ),
        (
            "trap 'echo bye' EXIT; echo ready; read x",
            "bye\n",
            BY_SIGINT,
        ),
        (
            "trap 'echo int; exit 3' INT; echo ready; while :; do :; done",
            "int\n",
            Ok(3),
        ),
        (
            "trap 'echo int' INT; sleep 60 & p=$!; { sleep 0.5; echo ready; } & wait $p; echo $?; kill -KILL $p",
            "int\n130\n",
            Ok(0),
        ),
        ("trap '' INT; echo ready; sleep 0.3; echo on", "on\n", Ok(0)),
        // The command makes something else of it.
        (
            "sh -c 'trap \"exit 4\" INT; echo ready; while :; do :; done'; echo $?",
            "4\n",
            Ok(0),
        ),
    ] {
        let (printed, ended) = signalled(script, SIGINT);
        assert_eq!((printed.as_str(), ended), (want, end), "{script}");
    }
}

#[test]
fn a_stop_from_the_terminal_stops_a_script() {
    use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGTSTP};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use std::io::BufRead as _;

    // It has waited for a command before, and waits for one most of the time.
    let mut shell = Command::new(env!("CARGO_BIN_EXE_oxsh"))
        .args(["-c", "while :; do echo turn; sleep 0.05; done"])
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("shell starts");
    let mut output = std::io::BufReader::new(shell.stdout.take().expect("piped"));
    let group = nix::unistd::Pid::from_raw(shell.id().cast_signed());
    for _ in 0..3 {
        let mut line = String::new();
        for _ in 0..3 {
            line.clear();
            output.read_line(&mut line).expect("shell writes");
            assert_eq!(line, "turn\n");
        }
        nix::sys::signal::killpg(group, SIGTSTP).expect("shell runs");
        let stopped = waitpid(group, Some(WaitPidFlag::WUNTRACED));
        assert_eq!(stopped, Ok(WaitStatus::Stopped(group, SIGTSTP)));
        nix::sys::signal::killpg(group, SIGCONT).expect("shell is there");
    }
    nix::sys::signal::killpg(group, SIGKILL).expect("shell is there");
    shell.wait().expect("shell ends");
}

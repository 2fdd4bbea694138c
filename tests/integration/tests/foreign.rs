//! Programs that others built run unmodified, and print what they print on Linux.

use std::path::{Path, PathBuf};

use oxbow_harness::{Config, DataDisk, Machine, with_default_signals};
use oxbow_integration::{c_program, rust_program};

const MOUNT: &str = "mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt && cp $(find /mnt -maxdepth 1 -type f) /tmp && cd /tmp";

/// What `sh -c script` prints on the host in an empty folder with `program` beside it.
fn on_linux(program: &Path, script: &str) -> String {
    let folder = std::env::temp_dir().join(format!("oxbow-linux-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let name = program.file_name().expect("a name");
    std::fs::copy(program, folder.join(name)).expect("the program");
    let done = with_default_signals("sh")
        .args(["-c", script])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("sh");
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn c_program_of_musl_gcc() {
    let hello = c_program("hello");
    let name = hello
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let disk = DataDisk::new(32, &[(&hello, &name)]);
    let script = format!("HELLO=world ./{name} a 'b c'; echo $?");
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    assert_eq!(m.ok(&script), on_linux(&hello, &script));
}

/// What the calls on memory answer, errors and signals included, with threads and forks.
#[test]
fn memory_calls_answer_as_on_linux() {
    let memory = c_program("memory");
    let name = memory
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let disk = DataDisk::new(32, &[(&memory, &name)]);
    let script = format!("./{name}; echo $?");
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    assert_eq!(m.ok(&script), on_linux(&memory, &script));
}

/// What the calls on names and files answer, on tmpfs and on ext2.
#[test]
fn calls_on_names_answer_as_on_linux() {
    let names = c_program("names");
    let name = names
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let disk = DataDisk::new(32, &[(&names, &name)]);
    let script = format!("mkdir there; cd there; ../{name}; echo $?");
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    let linux = on_linux(&names, &script);
    assert_eq!(m.ok(&script), linux);
    m.ok("cd /mnt");
    assert_eq!(m.ok(&script), linux);
}

/// A file larger than memory, read, written and mapped; then programs that eat all memory.
#[test]
fn memory_pressure_loses_nothing_and_kills_the_right_one() {
    let pressure = c_program("pressure");
    let name = pressure
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let disk = DataDisk::new(32, &[(&pressure, &name)]);
    let config = Config {
        memory_mib: 96,
        ..Config::default()
    };
    let mut m = Machine::boot(&config.with_disk(&disk));
    m.ok(MOUNT);
    let done = m.run_for(&format!("./{name} /var/tmp 150"), 180);
    let want = "fsync: 0\nread back: 0 wrong\nmsync: 0\nmapped: 0 wrong\n\
                glutton: signal 9\nglutton: signal 9\nglutton: signal 9\n";
    // What the kernel says about its victims comes in between.
    let said: String = done
        .text
        .lines()
        .filter(|l| !l.starts_with('['))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!((said.as_str(), done.status), (want, 0));
    // Each victim is told once.
    let victims = m.ok("dmesg | grep -c 'out of memory: process'");
    assert_eq!(victims, "3\n");
}

#[test]
fn threaded_rust_program() {
    let program = rust_program("threads");
    let disk = DataDisk::new(32, &[(&program, "threads")]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    // Beside the standard output, the panic message shows that standard error works.
    let script = "./threads one three 2>/tmp/err; echo $?; grep -c 'on purpose' /tmp/err";
    assert_eq!(m.run_for(script, 60).text, on_linux(&program, script));
}

/// Random file operations through calls and mappings match a model while memory is short.
#[test]
fn file_operations_match_a_model_under_pressure() {
    let fsx = c_program("fsx");
    let name = fsx
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let disk = DataDisk::new(32, &[(&fsx, &name)]);
    let config = Config {
        memory_mib: 64,
        ..Config::default()
    };
    let mut m = Machine::boot(&config.with_disk(&disk));
    m.ok(MOUNT);
    let done = m.run_for(&format!("cd /var/tmp && /tmp/{name} 6 2000"), 180);
    assert_eq!((done.text.as_str(), done.status), ("fsx: 0 bad\n", 0));
}

/// Scripts that run mostly inside busybox, with its own applets.
const BUSYBOX: &[&str] = &[
    "./busybox echo hello | ./busybox tr a-z A-Z",
    "./busybox seq 1 1000 | ./busybox awk '{ s += $1 } END { print s }'",
    "./busybox printf 'b\\na\\nc\\n' | ./busybox sort | ./busybox tac",
    "./busybox mkdir -p d/e; ./busybox touch d/e/f; ./busybox find d | ./busybox sort; ./busybox rm -r d",
    "./busybox sh -c 'for i in 1 2 3; do echo $((i * i)); done; (exit 5); echo $?'",
    "./busybox seq 1 5000 | ./busybox gzip | ./busybox gunzip | ./busybox md5sum",
    "./busybox head -c 100000 /dev/zero | ./busybox sha256sum",
    "./busybox sh -c 'mkdir t; echo x > t/a; tar cf t.tar t; rm -r t; tar xf t.tar; cat t/a; rm -r t t.tar'",
    "./busybox sh -c 'sleep 0.1 & wait; echo waited'",
    "./busybox sh -c 'trap \"echo trapped\" USR1; kill -USR1 $$; echo after'",
    "./busybox vi --help 2>&1 | ./busybox head -n 1 | ./busybox cut -c1-7",
    "./busybox expr 7 \\* 6; ./busybox test -f busybox && echo file",
    "echo 'a b c' | ./busybox sed 's/b/X/' | ./busybox xargs -n 1 echo",
];

#[test]
fn debian_busybox() {
    let busybox = PathBuf::from("/bin/busybox");
    let disk = DataDisk::new(32, &[(&busybox, "busybox")]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    for script in BUSYBOX {
        assert_eq!(m.run(script).text, on_linux(&busybox, script), "{script}");
    }
    m.power_off();
}

#[test]
fn debian_bash() {
    let bash = PathBuf::from("/bin/bash-static");
    let disk = DataDisk::new(32, &[(&bash, "bash-static")]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    for script in [
        "./bash-static -c 'echo $BASH_VERSION; a=(1 2 3); echo ${a[@]:1}; echo ${a[*]/2/x}'",
        "./bash-static -c 'declare -A m=([k]=v); echo ${m[k]}; printf -v x %05d 42; echo $x'",
        "./bash-static -c 'for ((i=0;i<3;i++)); do echo $i; done | while read n; do echo n$n; done'",
        "./bash-static -c 'cat < <(echo from process substitution)' 2>&1",
        "./bash-static -c '(sleep 0.1; echo later) & wait; echo done'",
        "./bash-static -c 'trap \"echo bye\" EXIT; [[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}'",
    ] {
        assert_eq!(m.run(script).text, on_linux(&bash, script), "{script}");
    }
}

/// Where set-up keeps what it fetched.
fn oxbow_home() -> PathBuf {
    std::env::var_os("OXBOW_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/oxbow"),
        PathBuf::from,
    )
}

#[test]
fn static_go_binary() {
    let esbuild = oxbow_home().join("fixtures/esbuild");
    let disk = DataDisk::new(64, &[(&esbuild, "esbuild")]);
    let mut m = Machine::boot(
        &Config {
            memory_mib: 512,
            ..Config::default()
        }
        .with_disk(&disk),
    );
    m.ok(MOUNT);
    let bundle = "echo 'export const x = (a) => a * 2' > lib.js; \
                  echo 'import {x} from \"./lib.js\"; console.log(x(21))' > main.js; \
                  ./esbuild --bundle --minify main.js";
    for script in ["./esbuild --version", bundle] {
        assert_eq!(
            m.run_for(script, 120).text,
            on_linux(&esbuild, script),
            "{script}"
        );
    }
}

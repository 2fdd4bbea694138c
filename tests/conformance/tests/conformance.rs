//! Every program of `programs/` prints in the guest what it prints on the host's Linux.
//!
//! `SUBJECT=name` runs one of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use oxbow_harness::{Config, DataDisk, Machine, host, with_default_signals};

/// Sections that are known to differ: program, section, why.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "files",
        "attributes",
        "no filesystem keeps extended attributes",
    ),
    ("files", "offset_limit", "ext2 takes any offset for lseek"),
    (
        "mappings",
        "anonymous_files",
        "files in memory take no seals",
    ),
];

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let only = std::env::var("SUBJECT").ok();
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the programs")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "c"))
        .filter(|p| only.as_deref().is_none_or(|o| name(p) == o))
        .collect();
    all.sort();
    all
}

fn name(path: &Path) -> String {
    let stem = path.file_stem().expect("a name");
    stem.to_string_lossy().into_owned()
}

/// What `program` prints on this machine as root, in an empty folder that others may enter.
fn on_linux(program: &Path, folder: &Path) -> String {
    let script =
        "umask 022; rm -rf \"$1\"; mkdir -p \"$1\" && cd \"$1\" && chmod 755 . .. || exit 1
        \"$0\" </dev/null 2>&1; status=$?; cd /; rm -rf \"$1\"; exit $status";
    let mut shell = if host("id", &["-u"]).trim() == "0" {
        with_default_signals("sh")
    } else {
        let mut sudo = with_default_signals("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    };
    let done = shell
        .args(["-c", script])
        .args([program, &folder.join("work")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("sh");
    assert!(done.status.success(), "{program:?} here: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Splits what a program printed at its `[section]` lines.
fn sections(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(s) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = s.to_owned();
        } else {
            all.entry(current.clone()).or_default().push(line.into());
        }
    }
    all
}

/// The lines that differ, `-` for Linux and `+` for the guest.
fn differences(program: &str, linux: &str, guest: &str) -> String {
    let (linux, guest) = (sections(linux), sections(guest));
    let nothing = Vec::new();
    let mut report = String::new();
    let names: std::collections::BTreeSet<&String> = linux.keys().chain(guest.keys()).collect();
    for section in names {
        let want = linux.get(section).unwrap_or(&nothing);
        let have = guest.get(section).unwrap_or(&nothing);
        let known = KNOWN.iter().find(|k| k.0 == program && k.1 == section);
        if let Some((_, _, reason)) = known {
            let still = if want == have { "agrees now" } else { reason };
            println!("{program} [{section}]: known: {still}");
            continue;
        }
        if want == have {
            continue;
        }
        let _ = writeln!(report, "{program} [{section}]");
        for at in 0..want.len().max(have.len()) {
            let (w, h) = (want.get(at), have.get(at));
            if w != h {
                let shown = |l: Option<&String>| l.cloned().unwrap_or("(nothing)".into());
                let _ = writeln!(report, "  {at}: -{}\n  {at}: +{}", shown(w), shown(h));
            }
        }
    }
    report
}

/// Runs `program` here and in the guest; returns what differs.
fn compare(m: &mut Machine, program: &Path, name: &str, folder: &Path) -> String {
    let linux = on_linux(program, folder);
    // On the disk's ext2; the console sees only the finished text.
    let work = format!("/mnt/work.{name}");
    m.ok(&format!(
        "rm -rf {work}; mkdir -p {work} && cd {work} && umask 022"
    ));
    // A pipe, as on the host: a file would count towards RLIMIT_FSIZE.
    let run = format!("set -o pipefail; /mnt/{name} </dev/null 2>&1 | cat >/tmp/out.{name}");
    let done = m.run_for(&run, 90);
    let guest = m.run_for(&format!("cd /; cat /tmp/out.{name}"), 30).text;
    let mut report = differences(name, &linux, &guest);
    if done.status != 0 {
        let _ = writeln!(report, "{name}: exit {}: {}", done.status, done.text);
    }
    report
}

/// Compiles `source` into `folder`.
fn build(source: &Path, folder: &Path) -> PathBuf {
    let out = folder.join(name(source));
    let (source, out_text) = (source.to_string_lossy(), out.to_string_lossy());
    host(
        "musl-gcc",
        &["-O1", "-w", "-static", "-o", &out_text, &source],
    );
    out
}

/// A folder for the programs of one test.
fn new_folder(test: &str) -> PathBuf {
    let name = format!("oxbow-conform-{test}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// On a CPU whose FPU state FXSAVE saves. There images have neither marks nor a header.
#[test]
fn signal_frames_are_the_same_without_xsave() {
    let Some(source) = programs().into_iter().find(|p| name(p) == "sigframes") else {
        return;
    };
    let folder = new_folder("fxsave");
    let program = build(&source, &folder);
    let linux = sections(&on_linux(&program, &folder));
    let disk = DataDisk::new(16, &[(&program, "sigframes")]);
    let mut m = Machine::boot(&Config {
        cpu: "qemu64",
        ..Config::default().with_disk(&disk)
    });
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt");
    let guest = m.run_for("/mnt/sigframes </dev/null 2>&1 | cat", 90).text;
    m.power_off();
    let _ = std::fs::remove_dir_all(&folder);
    let guest = sections(&guest);
    for section in linux.keys().filter(|s| *s != "refused" && *s != "marks") {
        assert_eq!(guest.get(section), linux.get(section), "[{section}]");
    }
}

#[test]
fn programs_answer_as_on_linux() {
    let folder = new_folder("all");
    let built: Vec<PathBuf> = programs().iter().map(|p| build(p, &folder)).collect();
    let names: Vec<String> = built.iter().map(|p| name(p)).collect();
    let files: Vec<(&Path, &str)> = built
        .iter()
        .map(PathBuf::as_path)
        .zip(names.iter().map(String::as_str))
        .collect();
    let disk = DataDisk::new(64, &files);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt");
    let mut report = String::new();
    for (program, name) in built.iter().zip(&names) {
        let mut differs = compare(&mut m, program, name, &folder);
        if !differs.is_empty() {
            // Some sections wait for others with time limits, which a busy machine may miss.
            println!("once: {differs}");
            differs = compare(&mut m, program, name, &folder);
        }
        report += &differs;
    }
    m.power_off();
    let _ = std::fs::remove_dir_all(&folder);
    assert!(report.is_empty(), "these differ:\n{report}");
}

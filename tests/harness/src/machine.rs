//! A virtual machine and its console.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::console::{Console, find};
use crate::disk::DataDisk;
use crate::{host, limit, top};

/// Which firmware boots the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Config {
    /// Firmware.
    pub firmware: Firmware,
    /// QEMU's machine type: `q35` or `pc`.
    pub machine: &'static str,
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// How many CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Another image than `IMAGE` names.
    pub image: Option<PathBuf>,
    /// Further disks, `vdb` on.
    pub disks: Vec<PathBuf>,
    /// QEMU's `-accel`, where it is not to follow `ACCEL`.
    pub accel: Option<&'static str>,
    /// Further QEMU arguments.
    pub extra: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            firmware: Firmware::Bios,
            machine: "q35",
            cpu: "max",
            cpus: 2,
            memory_mib: 256,
            image: None,
            disks: Vec::new(),
            accel: None,
            extra: Vec::new(),
        }
    }
}

impl Config {
    /// Attaches a data disk as the next `vd*`.
    pub fn with_disk(mut self, disk: &DataDisk) -> Self {
        self.disks.push(disk.path().to_owned());
        self
    }
    /// With this many CPUs.
    pub fn with_cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }
}

/// What a command in the guest printed and returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output and error as the console showed them, line ends as `\n`.
    pub text: String,
    /// `$?`.
    pub status: i32,
}

/// A running virtual machine; ended when dropped.
pub struct Machine {
    qemu: Child,
    keyboard: ChildStdin,
    console: Console,
    /// Output before this point was looked at.
    seen: usize,
    folder: PathBuf,
    started: Instant,
    nr_runs: u32,
}

/// What the prompt of a root shell ends in.
const PROMPT: &[u8] = b"# ";

/// The image under test.
pub fn image() -> PathBuf {
    std::env::var("IMAGE")
        .map_or_else(|_| top().join("dist/oxbow.qcow2"), PathBuf::from)
        .canonicalize()
        .expect("the image: `make image` builds it")
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("oxbow-vm-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the machine");
    folder
}

fn ovmf() -> (PathBuf, PathBuf) {
    let folder = Path::new("/usr/share/OVMF");
    for suffix in ["_4M.fd", ".fd"] {
        let code = folder.join(format!("OVMF_CODE{suffix}"));
        if code.exists() {
            return (code, folder.join(format!("OVMF_VARS{suffix}")));
        }
    }
    panic!("no OVMF firmware in {}", folder.display());
}

impl Machine {
    /// Starts QEMU on a fresh overlay of the image.
    pub fn start(config: &Config) -> Machine {
        let folder = new_folder();
        let image = config.image.clone().unwrap_or_else(image);
        let overlay = folder.join("root.qcow2");
        host(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "qcow2",
                "-b",
                &image.to_string_lossy(),
                &overlay.to_string_lossy(),
            ],
        );
        Machine::start_on(config, folder)
    }

    fn start_on(config: &Config, folder: PathBuf) -> Machine {
        let accel = config
            .accel
            .unwrap_or_else(|| match std::env::var("ACCEL").as_deref() {
                Ok("kvm") => "kvm",
                _ => "tcg,thread=multi",
            });
        let show = |p: &Path| p.to_string_lossy().into_owned();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args([
                "-machine",
                config.machine,
                "-accel",
                accel,
                "-cpu",
                config.cpu,
            ])
            .args([
                "-smp",
                &config.cpus.to_string(),
                "-m",
                &config.memory_mib.to_string(),
            ])
            .args(["-serial", "stdio", "-device", "virtio-rng-pci"])
            .arg("-qmp")
            .arg(format!(
                "unix:{},server=on,wait=off",
                show(&folder.join("qmp"))
            ));
        let root = folder.join("root.qcow2");
        let disks = std::iter::once((root.as_path(), "qcow2"))
            .chain(config.disks.iter().map(|d| (d.as_path(), "raw")));
        for (i, (path, format)) in disks.enumerate() {
            qemu.arg("-drive")
                .arg(format!(
                    "if=none,id=d{i},file={},format={format}",
                    show(path)
                ))
                .arg("-device")
                // From 1: a kernel given by `-kernel` has 0.
                .arg(format!("virtio-blk-pci,drive=d{i},bootindex={}", i + 1));
        }
        if config.firmware == Firmware::Uefi {
            let (code, vars) = ovmf();
            let own = folder.join("vars.fd");
            if !own.exists() {
                std::fs::copy(vars, &own).expect("a variable store");
            }
            qemu.arg("-drive")
                .arg(format!(
                    "if=pflash,format=raw,readonly=on,file={}",
                    show(&code)
                ))
                .arg("-drive")
                .arg(format!("if=pflash,format=raw,file={}", show(&own)));
        }
        let started = Instant::now();
        let mut qemu = qemu
            .args(&config.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("qemu-system-x86_64");
        let keyboard = qemu.stdin.take().expect("a piped stdin");
        let screen = qemu.stdout.take().expect("a piped stdout");
        let console = Console::collect(screen, &folder.join("serial.log"));
        Machine {
            qemu,
            keyboard,
            console,
            seen: 0,
            folder,
            started,
            nr_runs: 0,
        }
    }

    /// Starts QEMU and waits for the shell's prompt.
    pub fn boot(config: &Config) -> Machine {
        let mut machine = Machine::start(config);
        machine.wait_for_prompt(if config.firmware == Firmware::Uefi {
            60
        } else {
            30
        });
        machine
    }

    /// Boots what this machine's disk holds now, once it has ended.
    pub fn boot_again(mut self, config: &Config) -> Machine {
        if self.qemu.try_wait().expect("QEMU's status").is_none() {
            self.wait_for_end(30);
        }
        let folder = std::mem::take(&mut self.folder);
        let mut machine = Machine::start_on(config, folder);
        machine.wait_for_prompt(60);
        machine
    }

    /// Since QEMU was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The folder with the overlay (`root.qcow2`) and the log (`serial.log`).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything the console showed.
    pub fn log(&self) -> String {
        self.console.text()
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let log = self.console.text();
        let tail = log.char_indices().rev().nth(4000).map_or(0, |(i, _)| i);
        panic!(
            "{what}\n---- console (whole log: {}) ----\n{}\n----",
            self.folder.join("serial.log").display(),
            &log[tail..]
        );
    }

    /// Waits for `needle`; returns the output before it.
    #[track_caller]
    pub fn expect(&mut self, needle: &str, seconds: u64) -> String {
        match self.wait_for(needle, seconds) {
            Some(before) => before,
            None => self.fail(&format!("no {needle:?} within {seconds} s")),
        }
    }

    /// As [`Machine::expect`], for who can go on without: `None` when it does not come.
    pub fn wait_for(&mut self, needle: &str, seconds: u64) -> Option<String> {
        let seen = self.seen;
        let found = self.console.wait_for(seen, limit(seconds), |bytes| {
            let at = find(bytes, needle.as_bytes())?;
            Some((
                String::from_utf8_lossy(&bytes[..at]).into_owned(),
                at + needle.len(),
            ))
        });
        let (before, used) = found?;
        self.seen += used;
        Some(before)
    }

    /// Waits for the prompt of a root shell at the very end of the output.
    #[track_caller]
    pub fn wait_for_prompt(&mut self, seconds: u64) -> Duration {
        let seen = self.seen;
        let found = self
            .console
            .wait_for(seen, limit(seconds), |b| at_prompt(b).then_some(b.len()));
        match found {
            Some(used) => {
                self.seen += used;
                self.age()
            }
            None => self.fail(&format!("no prompt within {seconds} s")),
        }
    }

    /// Types `text` as it is.
    pub fn send(&mut self, text: &str) {
        self.keyboard
            .write_all(text.as_bytes())
            .expect("the console's input");
        self.keyboard.flush().expect("the console's input");
    }

    /// Runs a shell command; waits at most 30 seconds for it.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Output {
        self.run_for(command, 30)
    }

    /// Runs a shell command; waits at most `seconds` for it.
    #[track_caller]
    pub fn run_for(&mut self, command: &str, seconds: u64) -> Output {
        self.nr_runs += 1;
        let n = self.nr_runs;
        // The typed line echoes `%s`; only the output has the markers whole. The second line is
        // typed at the next prompt, so that its echo does not mix with the command's output.
        self.send(&format!("printf '@%s@\\n' b{n}; {command}\n"));
        self.expect(&format!("@b{n}@\r\n"), seconds);
        let seen = self.seen;
        let prompt = |b: &[u8]| at_prompt(b).then_some(());
        if self
            .console
            .wait_for(seen, limit(seconds), prompt)
            .is_none()
        {
            self.fail(&format!("no prompt after `{command}` within {seconds} s"));
        }
        self.send(&format!("printf '@%s:%s@\\n' e{n} $?\n"));
        let text = self.expect(&format!("@e{n}:"), seconds);
        let status = self.expect("@\r\n", seconds);
        let text = clean_output(&text);
        Output {
            text,
            status: status.trim().parse().unwrap_or(-1),
        }
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub fn ok(&mut self, command: &str) -> String {
        let out = self.run(command);
        if out.status != 0 {
            self.fail(&format!(
                "`{command}` returned {}: {}",
                out.status, out.text
            ));
        }
        out.text
    }

    /// Runs a shell script in a shell of its own, away from the terminal's editing: it is
    /// sent as a here-document. Returns what it printed.
    #[track_caller]
    pub fn script(&mut self, script: &str, seconds: u64) -> Output {
        self.run(&format!(
            "cat > /tmp/script.sh <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT"
        ));
        self.run_for("sh /tmp/script.sh </dev/null", seconds)
    }

    /// Shuts the machine down with `poweroff` and waits for QEMU to end.
    #[track_caller]
    pub fn power_off(&mut self) {
        self.send("poweroff\n");
        self.wait_for_end(30);
    }

    /// Waits for QEMU to end by itself.
    #[track_caller]
    pub fn wait_for_end(&mut self, seconds: u64) {
        let deadline = Instant::now() + limit(seconds);
        while Instant::now() < deadline {
            if let Some(status) = self.qemu.try_wait().expect("QEMU's status") {
                assert!(status.success(), "QEMU ended with {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.fail(&format!("QEMU did not end within {seconds} s"));
    }

    /// Ends QEMU as if the power failed.
    pub fn pull_the_plug(&mut self) {
        self.qemu.kill().expect("QEMU is ours");
        self.qemu.wait().expect("QEMU is ours");
    }

    /// Runs a QMP command (QEMU's monitor protocol) without arguments, e.g.
    /// `system_powerdown`; returns its answer.
    pub fn monitor(&self, command: &str) -> String {
        self.monitor_with(command, "{}")
    }

    /// As [`Machine::monitor`], with arguments: a JSON object.
    pub fn monitor_with(&self, command: &str, arguments: &str) -> String {
        let socket = UnixStream::connect(self.folder.join("qmp")).expect("QEMU's monitor");
        socket
            .set_read_timeout(Some(limit(10)))
            .expect("a time limit");
        let mut writer = socket.try_clone().expect("the monitor's socket");
        let mut lines = BufReader::new(socket).lines();
        let mut ask = |text: &str, arguments: &str| {
            writeln!(
                writer,
                "{{\"execute\":\"{text}\",\"arguments\":{arguments}}}"
            )
            .expect("QEMU's monitor");
            lines
                .by_ref()
                .map(|line| line.expect("QEMU's answer"))
                .find(|line| line.contains("\"return\"") || line.contains("\"error\""))
                .expect("QEMU's answer")
        };
        ask("qmp_capabilities", "{}");
        ask(command, arguments)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if !self.folder.as_os_str().is_empty() && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Output without terminal control sequences (CSI and OSC) and carriage returns.
fn strip_escapes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(b) = rest.next() {
        match b {
            0x1b => match rest.next() {
                Some(b'[') => {
                    for b in rest.by_ref() {
                        if (0x40..=0x7e).contains(&b) {
                            break;
                        }
                    }
                }
                Some(b']') => {
                    for b in rest.by_ref() {
                        if b == 0x07 {
                            break;
                        }
                    }
                }
                _ => {}
            },
            b'\r' => {}
            _ => out.push(b),
        }
    }
    out
}

/// Whether output ends in the prompt of a root shell, `oxbow:/tmp# `, with the status of a failed
/// command before it. The console comes in pieces, and a piece of a command's output may end in
/// `# ` too, as a comment's first characters do.
fn at_prompt(bytes: &[u8]) -> bool {
    let plain = strip_escapes(bytes);
    let Some(before) = plain.strip_suffix(PROMPT) else {
        return false;
    };
    let word = before.rsplit(u8::is_ascii_whitespace).next();
    word.is_some_and(|w| w.windows(2).any(|pair| pair == b":/" || pair == b":~"))
}

/// What a command printed: without the prompt and the echo of the next typed line, which a
/// terminal shows after it.
fn clean_output(text: &str) -> String {
    let plain = String::from_utf8_lossy(&strip_escapes(text.as_bytes())).into_owned();
    // The last line is the prompt with the marker command typed at it, ending at the marker.
    match plain.rfind("printf '@%s:%s@\\n'") {
        Some(at) => {
            let line = plain[..at].rfind('\n').map_or(0, |i| i + 1);
            plain[..line].to_owned()
        }
        None => plain.trim_end_matches('@').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_not_a_prompt() {
        assert!(!at_prompt(b"# "));
        assert!(!at_prompt(b"@b6@\r\n# "));
        assert!(!at_prompt(b"@b6@\r\nallow tcp 22 # "));
        assert!(at_prompt(b"oxbow:~# "));
        assert!(at_prompt(
            b"text\r\n\x1b[1;31m1 \x1b[0;1;32moxbow\x1b[0m:\x1b[1;34m/tmp\x1b[0m# "
        ));
        assert!(at_prompt(b"no end of lineoxbow:/# \x1b[6n"));
    }
}

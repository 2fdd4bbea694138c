//! One of the two systems in a virtual machine, with the benchmark program serving on its console.

use std::path::PathBuf;

use oxbow_harness::{Config, Machine};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Ours, from its image.
    Oxbow,
    /// Debian's kernel with Oxbow's root filesystem.
    Linux,
}

/// What the machines have in common.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Oxbow's image with the benchmark program in /bin.
    pub image: PathBuf,
    /// Linux's kernel and its initramfs.
    pub linux: (PathBuf, PathBuf),
    /// A folder for disks.
    pub folder: PathBuf,
    /// Port of the host's peer.
    pub port: u16,
    /// Fewer repetitions.
    pub quick: bool,
    /// Count instructions, on one CPU.
    pub instructions: bool,
}

/// A figure and its unit, or why there is none.
pub type Answer = Result<(f64, String), String>;

/// A system that is up.
pub struct Guest {
    system: System,
    setting: Setting,
    machine: Machine,
}

/// Words for Linux's command line. Neither side pays for flaws of CPUs that the other ignores.
const LINUX_WORDS: &str = "console=ttyS0 root=/dev/vda3 mitigations=off quiet";

/// The sparse disk for the disk rows.
const DISK_BYTES: u64 = 8 << 30;

/// How a machine for `system` is made.
pub fn config(system: System, setting: &Setting) -> Config {
    let mut config = Config {
        image: Some(setting.image.clone()),
        cpus: if setting.instructions { 1 } else { 2 },
        ..Config::default()
    };
    let mut extra: Vec<String> = Vec::new();
    extra.extend(["-netdev".into(), "user,id=n0".into()]);
    extra.extend(["-device".into(), "virtio-net-pci,netdev=n0".into()]);
    if setting.instructions {
        // One CPU in turn with the devices; its clock is the number of instructions.
        config.accel = Some("tcg,thread=single");
        // QEMU 10 ends with "Bad icount read" when the APIC's timer is set through an MSR.
        config.cpu = "max,-x2apic";
        extra.extend(["-icount".into(), "shift=0,sleep=off".into()]);
    }
    if system == System::Linux {
        let (kernel, initramfs) = &setting.linux;
        extra.extend(["-kernel".into(), kernel.display().to_string()]);
        extra.extend(["-initrd".into(), initramfs.display().to_string()]);
        extra.extend(["-append".into(), LINUX_WORDS.into()]);
    }
    config.extra = extra;
    config
}

fn start(system: System, setting: &Setting) -> std::io::Result<Machine> {
    let disk = setting.folder.join(format!("{system:?}.disk"));
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    let mut config = config(system, setting);
    config.disks.push(disk);
    let mut machine = Machine::start(&config);
    machine.wait_for_prompt(60);
    let options = [
        setting.quick.then_some("-q"),
        setting.instructions.then_some("-i"),
    ];
    let options: Vec<&str> = options.into_iter().flatten().collect();
    // Until the card has its address (10.0.2.0 in the kernel's byte order) nothing gets out.
    machine.send(&format!(
        "until grep -q 0002000A /proc/net/route; do sleep 0.1; done; exec /bin/bench {} -D /dev/vdb -H 10.0.2.2:{} serve\n",
        options.join(" "),
        setting.port
    ));
    machine.expect("READY\r\n", 30);
    Ok(machine)
}

impl Guest {
    /// Boots `system`.
    pub fn boot(system: System, setting: &Setting) -> std::io::Result<Guest> {
        let machine = start(system, setting)?;
        Ok(Guest {
            system,
            setting: setting.clone(),
            machine,
        })
    }

    /// Runs a row. A machine that does not come back from it is started anew.
    pub fn run(&mut self, row: &str) -> std::io::Result<Answer> {
        self.machine.send(&format!("{row}\n"));
        let seconds = if self.setting.quick { 40 } else { 120 };
        let Some(text) = self.machine.wait_for(&format!("DONE {row}\r\n"), seconds) else {
            let log = self.machine.log();
            let tail: Vec<&str> = log.lines().rev().take(3).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let answer = format!("{:?} hangs or died: {}", self.system, tail.join(" | "));
            self.machine = start(self.system, &self.setting)?;
            return Ok(Err(answer));
        };
        Ok(parse(row, &text))
    }

    /// Leaves the benchmark program for the shell that init starts anew.
    pub fn machine(self) -> Machine {
        self.machine
    }
}

/// Finds a row's answer in what the console showed.
fn parse(row: &str, text: &str) -> Answer {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("ROW"), Some(name)) if name == row => {
                let value = words.next().and_then(|v| v.parse().ok());
                let unit = words.next().unwrap_or_default();
                return value
                    .map(|value| (value, unit.to_owned()))
                    .ok_or_else(|| format!("unclear: {line}"));
            }
            (Some("FAIL"), Some(name)) if name == row => {
                return Err(words.collect::<Vec<_>>().join(" "));
            }
            _ => {}
        }
    }
    Err("no answer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_among_echo_and_kernel_messages() {
        let text = "getpid\r\n[ 1.0] eth0: up\r\nROW getpid 12.5 ns\r\n";
        assert_eq!(parse("getpid", text), Ok((12.5, "ns".into())));
        let text = "getpid\r\nFAIL getpid fork: out of memory\r\n";
        assert_eq!(parse("getpid", text), Err("fork: out of memory".into()));
        assert_eq!(parse("getpid", "getpid\r\n"), Err("no answer".into()));
    }
}

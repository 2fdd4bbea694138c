//! Boot stages, told by when their lines reach the serial console, and memory in use when idle.
//!
//! Firmware and loader are told apart where the firmware says when it is done: SeaBIOS does, on
//! QEMU's debug port. Linux is booted directly (`-kernel`), by the same firmware.

use std::time::Duration;

use oxbow_harness::{Firmware, Machine, first_login, free_port};

use crate::Result;
use crate::guest::{Setting, System, config};
use crate::stats::Row;

/// Seconds from QEMU's start to each stage's end, and bytes in use.
#[derive(Clone, Copy, Default)]
struct Boot {
    firmware: Duration,
    kernel_starts: Duration,
    init_starts: Duration,
    prompt: Duration,
    /// `ssh true` was done.
    ssh: Duration,
    memory_kib: f64,
}

/// What the systems print when their kernel starts, and when it starts init.
fn marks(system: System) -> (&'static str, &'static str) {
    match system {
        System::Oxbow => ("Oxbow ", "/sbin/init started"),
        System::Linux => ("Linux version", "Run /init as init process"),
    }
}

fn boot(system: System, firmware: Firmware, setting: &Setting) -> Result<Boot> {
    let mut config = config(system, setting);
    config.firmware = firmware;
    let words = config.extra.iter_mut().find(|w| w.ends_with(" quiet"));
    if let Some(words) = words {
        *words = words.trim_end_matches(" quiet").to_owned();
    }
    let log = setting.folder.join("firmware.log");
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    config.extra.extend([
        "-chardev".into(),
        format!("file,id=fw,path={}", log.display()),
        "-device".into(),
        "isa-debugcon,iobase=0x402,chardev=fw".into(),
    ]);
    let port = free_port();
    if let Some(card) = config.extra.iter_mut().find(|w| *w == "user,id=n0") {
        *card += &format!(",hostfwd=tcp:127.0.0.1:{port}-:22");
    }
    let mut machine = Machine::start(&config);
    // A user's script tries from the start.
    let login = std::thread::spawn(move || first_login(port));
    let mut result = Boot::default();
    let deadline = Duration::from_secs(10);
    while firmware == Firmware::Bios && machine.age() < deadline {
        // "Booting from 0000:7c00", or from the ROM that holds the kernel.
        let done =
            std::fs::read(&log).is_ok_and(|text| text.windows(12).any(|w| w == b"Booting from"));
        if done {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    result.firmware = machine.age();
    let (kernel, init) = marks(system);
    machine.expect(kernel, 60);
    result.kernel_starts = machine.age();
    machine.expect(init, 60);
    result.init_starts = machine.age();
    result.prompt = machine.wait_for_prompt(60);
    let login = login.join().map_err(|_| "no login by SSH")?;
    result.ssh = machine.age().saturating_sub(login.elapsed());
    // Late starters are to have come to rest.
    std::thread::sleep(Duration::from_secs(2));
    let info = machine.ok("cat /proc/meminfo");
    let field = |name: &str| -> f64 {
        let line = info.lines().find_map(|l| l.strip_prefix(name));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        number.unwrap_or(0.0)
    };
    // What the machine has and nobody can get, the kernel's own image included.
    let all = f64::from(config.memory_mib) * 1024.0;
    result.memory_kib = all - field("MemAvailable:");
    machine.pull_the_plug();
    Ok(result)
}

/// Boots both systems `rounds` times in turn and gives a row per stage.
pub fn measure(setting: &Setting, rounds: usize) -> Result<Vec<Row>> {
    type Stage = (&'static str, fn(&Boot) -> f64);
    let stages: [Stage; 7] = [
        ("boot-firmware", |b| b.firmware.as_nanos() as f64),
        ("boot-loader", |b| {
            b.kernel_starts.saturating_sub(b.firmware).as_nanos() as f64
        }),
        ("boot-kernel", |b| {
            b.init_starts.saturating_sub(b.kernel_starts).as_nanos() as f64
        }),
        ("boot-init", |b| {
            b.prompt.saturating_sub(b.init_starts).as_nanos() as f64
        }),
        ("boot-prompt", |b| b.prompt.as_nanos() as f64),
        ("boot-ssh", |b| b.ssh.as_nanos() as f64),
        ("idle-memory", |b| b.memory_kib),
    ];
    let mut rows: Vec<Row> = stages
        .iter()
        .map(|(name, _)| Row {
            name: (*name).into(),
            unit: if *name == "idle-memory" { "KiB" } else { "ns" }.into(),
            ..Row::default()
        })
        .collect();
    // Linux's figure of a direct boot stands beside the one of UEFI, too.
    let mut uefi = Row {
        name: "boot-prompt-uefi".into(),
        unit: "ns".into(),
        ..Row::default()
    };
    for _ in 0..rounds {
        let oxbow = boot(System::Oxbow, Firmware::Bios, setting)?;
        let linux = boot(System::Linux, Firmware::Bios, setting)?;
        for (row, (_, figure)) in rows.iter_mut().zip(&stages) {
            row.oxbow.push(figure(&oxbow));
            row.linux.push(figure(&linux));
        }
        for system in [System::Oxbow, System::Linux] {
            let prompt = boot(system, Firmware::Uefi, setting)?.prompt.as_nanos() as f64;
            match system {
                System::Oxbow => uefi.oxbow.push(prompt),
                System::Linux => uefi.linux.push(prompt),
            }
        }
    }
    rows.push(uefi);
    Ok(rows)
}

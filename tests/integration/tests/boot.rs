//! The image boots everywhere it should, quickly, and shuts down clean.

use oxbow_harness::{Config, Firmware, Machine, check_root_filesystem, median};

fn boots(config: Config) {
    println!("booting {config:?}");
    let mut machine = Machine::boot(&config);
    assert_eq!(machine.ok("nproc").trim(), config.cpus.to_string());
    assert_eq!(machine.ok("uname -s").trim(), "Linux");
    machine.power_off();
    let (clean, said) = check_root_filesystem(&machine);
    assert!(clean, "e2fsck found: {said}");
}

#[test]
fn boots_on_bios_with_1_2_and_4_cpus() {
    for cpus in [1, 2, 4] {
        boots(Config {
            cpus,
            ..Config::default()
        });
    }
}

#[test]
fn boots_on_bios_with_a_plain_cpu() {
    boots(Config {
        cpu: "qemu64",
        ..Config::default()
    });
    boots(Config {
        cpu: "qemu64",
        cpus: 1,
        machine: "pc",
        ..Config::default()
    });
}

#[test]
fn boots_on_uefi() {
    boots(Config {
        firmware: Firmware::Uefi,
        ..Config::default()
    });
    boots(Config {
        firmware: Firmware::Uefi,
        cpu: "qemu64",
        cpus: 1,
        ..Config::default()
    });
}

#[test]
fn boots_with_8_cpus_and_much_memory() {
    boots(Config {
        cpus: 8,
        memory_mib: 6144,
        ..Config::default()
    });
}

/// The bar: QEMU start to prompt < 2.0 s (BIOS, TCG, 2 CPUs, 256 MiB).
#[test]
fn prompt_comes_within_two_seconds() {
    let times: Vec<f64> = (0..5)
        .map(|_| {
            let mut machine = Machine::start(&Config::default());
            machine.wait_for_prompt(30).as_secs_f64()
        })
        .collect();
    let (middle, low, high) = median(times);
    println!("QEMU start to prompt: median {middle:.2} s of 5 ({low:.2} to {high:.2})");
    assert!(middle < 2.0, "the prompt took {middle:.2} s");
}

/// The bar: <= 64 MiB in use at the idle prompt.
#[test]
fn idle_memory_is_small() {
    let mut machine = Machine::boot(&Config::default());
    let free = machine.ok("free -k");
    let line = free
        .lines()
        .find(|l| l.starts_with("Mem:"))
        .expect("a line of memory");
    let used: u64 = line
        .split_whitespace()
        .nth(2)
        .and_then(|s| s.parse().ok())
        .expect("a figure");
    println!(
        "memory in use at the idle prompt: {:.1} MiB",
        used as f64 / 1024.0
    );
    assert!(used <= 64 * 1024, "{used} KiB in use");
}

#[test]
fn reboot_ends_the_run() {
    // QEMU runs with -no-reboot: a reset ends it.
    let mut machine = Machine::boot(&Config::default());
    machine.send("reboot\n");
    machine.wait_for_end(30);
}

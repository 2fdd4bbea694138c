//! The image boots everywhere it should, quickly, and shuts down clean.

use oxbow_harness::{Config, Firmware, Machine, OtherCmdline, check_root_filesystem, median};

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

/// Whatever the umask of whoever built it.
#[test]
fn the_image_has_sound_permissions() {
    let mut machine = Machine::boot(&Config::default());
    let loose = machine.ok("find / -xdev ! -type l -perm /022 ! -perm -1000");
    assert_eq!(loose, "", "others may write here");
    // Passwords and the host's key are for root alone.
    let closed = machine.ok(
        "find /bin /sbin /etc -xdev ! -type l ! -perm -4 ! -name 'shadow*' ! -name 'ssh_host_*_key'",
    );
    assert_eq!(closed, "", "others cannot read this");
}

#[test]
fn reboot_ends_the_run() {
    // QEMU runs with -no-reboot: a reset ends it.
    let mut machine = Machine::boot(&Config::default());
    machine.send("reboot\n");
    machine.wait_for_end(30);
}

#[test]
fn boots_on_a_cpu_without_nx() {
    boots(Config {
        cpu: "qemu64,-nx",
        ..Config::default()
    });
}

#[test]
fn power_button_and_ctrl_alt_del_end_the_run_cleanly() {
    type Press = fn(&Machine) -> String;
    let presses: [(&str, Press); 2] = [
        ("power button", |m| m.monitor("system_powerdown")),
        ("Ctrl-Alt-Del", |m| {
            let key = |name| format!(r#"{{"type":"qcode","data":"{name}"}}"#);
            let keys = ["ctrl", "alt", "delete"].map(key).join(",");
            m.monitor_with("send-key", &format!(r#"{{"keys":[{keys}]}}"#))
        }),
    ];
    for (what, press) in presses {
        let mut machine = Machine::boot(&Config::default());
        machine.ok("echo kept > /root/kept");
        let answer = press(&machine);
        assert!(answer.contains("return"), "{what}: {answer}");
        machine.wait_for_end(30);
        let (clean, said) = check_root_filesystem(&machine);
        assert!(clean, "{what}: e2fsck found: {said}");
    }
}

/// Boots what cannot start; the reason must be on the serial port, and a text of some length
/// on the screen. The machine stands still.
fn fails_with(config: Config, expected: &str) {
    println!("{expected}: {config:?}");
    let config = Config {
        extra: ["-vga", "std"].map(String::from).to_vec(),
        ..config
    };
    let mut machine = Machine::start(&config);
    machine.expect(expected, 30);
    machine.expect("halted", 30);
    let picture = machine.folder().join("screen.ppm");
    let arguments = format!(r#"{{"filename":"{}"}}"#, picture.display());
    let answer = machine.monitor_with("screendump", &arguments);
    assert!(answer.contains("return"), "{answer}");
    let picture = std::fs::read(picture).expect("QEMU's picture");
    let lit = picture.iter().filter(|b| **b > 0x80).count();
    // A letter has some 20 pixels of three bytes.
    assert!(
        lit > 60 * expected.len(),
        "only {lit} bytes of the screen are lit"
    );
}

#[test]
fn what_cannot_start_says_why() {
    let with = |line| {
        let image = OtherCmdline::new(line);
        let config = Config {
            image: Some(image.path().to_owned()),
            ..Config::default()
        };
        (image, config)
    };
    let (_image, config) = with("root=/dev/vdz9");
    fails_with(
        config,
        "no root filesystem: nothing here is root=/dev/vdz9; there are: vda vda1",
    );
    let (_image, config) = with("root=/dev/vda2");
    fails_with(config, "/dev/vda2 holds no ext2 file system");
    let (_image, config) = with("init=/etc/passwd");
    fails_with(
        config,
        "cannot start init=/etc/passwd: it is no file that may",
    );
    let small = Config {
        memory_mib: 10,
        ..Config::default()
    };
    fails_with(small, "too little memory: ");
    let odd = Config {
        cpu: "qemu64,-fxsr",
        ..Config::default()
    };
    fails_with(odd, "this processor has no fxsr");
}

/// The least that docs/boot.md promises.
#[test]
fn boots_with_16_mib() {
    boots(Config {
        memory_mib: 16,
        ..Config::default()
    });
}

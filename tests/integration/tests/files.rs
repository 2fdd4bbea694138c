//! Files: what is written survives, and the disk is clean afterwards.

use oxbow_harness::{Config, DataDisk, Machine, check_root_filesystem, image, top};
use oxbow_integration::{c_program, same_as_on_linux};

#[test]
fn files_survive_a_reboot() {
    let config = Config::default();
    let mut m = Machine::boot(&config);
    m.ok("mkdir -p /root/deep/er; seq 1 50000 > /root/deep/er/numbers");
    m.ok("ln -s er/numbers /root/deep/link; ln /root/deep/er/numbers /root/deep/hard");
    m.ok("chmod 751 /root/deep/er; chown 12:34 /root/deep/er/numbers");
    let sum = m.ok("sha256sum /root/deep/er/numbers");
    m.ok("for i in $(seq 1 200); do echo $i > /root/deep/f$i; done; rm /root/deep/f1??");
    m.power_off();
    let (clean, said) = check_root_filesystem(&m);
    assert!(clean, "e2fsck found: {said}");

    let mut m = m.boot_again(&config);
    assert_eq!(m.ok("sha256sum /root/deep/er/numbers"), sum);
    assert_eq!(m.ok("readlink /root/deep/link"), "er/numbers\n");
    assert_eq!(
        m.ok("stat -c '%a %h %u:%g' /root/deep/hard"),
        "644 2 12:34\n"
    );
    assert_eq!(m.ok("stat -c %a /root/deep/er"), "751\n");
    assert_eq!(m.ok("ls /root/deep | grep -c '^f'").trim(), "100");
    assert_eq!(m.ok("cat /root/deep/f42"), "42\n");
    m.power_off();
    let (clean, said) = check_root_filesystem(&m);
    assert!(clean, "e2fsck found: {said}");
}

#[test]
fn synced_files_survive_a_power_cut() {
    let config = Config::default();
    let mut m = Machine::boot(&config);
    m.ok("seq 1 1000 > /root/kept; sync");
    m.pull_the_plug();
    let mut m = m.boot_again(&config);
    assert_eq!(m.ok("tail -n 1 /root/kept"), "1000\n");
    m.power_off();
}

#[test]
fn a_power_cut_while_files_change_needs_no_repair_by_hand() {
    let config = Config::default();
    let mut m = Machine::boot(&config);
    m.ok("mkdir /root/busy && cd /root/busy && seq 1 1000 > kept && sync");
    m.ok(
        "(i=0; while :; do i=$((i + 1)); seq 1 $((i % 400 * 20)) > f$((i % 30)); \
         mv f$((i % 30)) g$((i % 17)); rm -f f$((i % 7)); done) >/dev/null 2>&1 & sleep 8",
    );
    m.pull_the_plug();
    let mut m = m.boot_again(&config);
    let log = m.ok("dmesg | grep ext2");
    assert!(log.contains("not unmounted cleanly"), "{log}");
    assert!(
        log.contains("is repaired") || log.contains("is sound"),
        "{log}"
    );
    assert_eq!(m.ok("tail -n 1 /root/busy/kept"), "1000\n");
    m.ok("rm -r /root/busy && seq 1 5 > /root/after && sync");
    m.power_off();
    let (clean, said) = check_root_filesystem(&m);
    assert!(clean, "e2fsck found: {said}");
}

#[test]
fn a_second_disk_mounts_and_unmounts() {
    let disk = DataDisk::new(32, &[]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt");
    m.ok("mkdir /mnt/a && head -c 5000000 /dev/urandom > /mnt/a/noise");
    let sum = m.ok("sha256sum < /mnt/a/noise");
    assert!(m.ok("df /mnt").contains("/dev/vdb"));
    // Busy while somebody stands in it.
    assert_ne!(
        m.run("cd /mnt && umount /mnt; s=$?; cd /; (exit $s)")
            .status,
        0
    );
    m.ok("umount /mnt");
    m.ok("mount -t ext2 /dev/vdb /mnt");
    assert_eq!(m.ok("sha256sum < /mnt/a/noise"), sum);
    m.ok("umount /mnt");
    m.power_off();
    let (clean, said) = disk.check();
    assert!(clean, "e2fsck found: {said}");
}

#[test]
fn a_full_disk_says_so_and_keeps_what_it_has() {
    let disk = DataDisk::new(16, &[]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok("adduser -D ada; mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt && chmod 777 /mnt");
    m.ok("seq 1000 > /mnt/kept; seq 300 > /mnt/part; sync");
    let free = m.ok("df /mnt; df -i /mnt");
    let full = |m: &mut Machine, command: &str| {
        let ran = m.run_for(command, 60);
        assert_ne!(ran.status, 0, "{command}");
        let said = ran.text.contains("No space left on device");
        assert!(said, "{command}: {}", ran.text);
    };
    // A user gets all but the reserve; that is the superuser's.
    full(&mut m, "su ada -c 'cat /dev/zero > /mnt/users'");
    full(&mut m, "su ada -c 'echo more > /mnt/more'");
    m.ok("seq 10000 > /mnt/roots && sync && seq 10000 | cmp - /mnt/roots");
    full(&mut m, "cat /dev/zero > /mnt/rest");
    full(&mut m, "seq 1000 >> /mnt/part");
    full(&mut m, "mkdir /mnt/folder");
    // What needs no blocks goes on.
    m.ok("mv /mnt/kept /mnt/moved && ln -s moved /mnt/link && : > /mnt/empty");
    m.ok("seq 1000 | dd of=/mnt/moved conv=notrunc && sync");
    m.ok("seq 1000 | cmp - /mnt/link && { seq 300; seq 1000; } | head -c $(stat -c %s /mnt/part) | cmp - /mnt/part");
    m.ok("rm /mnt/users /mnt/more /mnt/roots /mnt/rest /mnt/link /mnt/empty");
    m.ok("mv /mnt/moved /mnt/kept && seq 300 > /mnt/part && sync");
    assert_eq!(m.ok("df /mnt; df -i /mnt"), free);
    // Files of no bytes take inodes until there are none.
    full(
        &mut m,
        "mkdir /mnt/many && cd /mnt/many && seq 5000 | xargs touch",
    );
    full(&mut m, "mkdir /mnt/folder");
    m.ok("cd / && rm -r /mnt/many && sync");
    assert_eq!(m.ok("df /mnt; df -i /mnt"), free);
    m.ok("umount /mnt");
    m.power_off();
    let (clean, said) = disk.check();
    assert!(clean, "e2fsck found: {said}");
}

#[test]
fn mounts_keep_what_they_are_told() {
    let disk = DataDisk::new(16, &[(&c_program("mounts"), "mounts")]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt");
    assert_eq!(m.ok("/mnt/mounts"), "all as on Linux\n");
    // The same by its command.
    m.ok("mount -t tmpfs -o size=64k,noatime small /mnt");
    m.ok("mount -o remount,size=128k,nosuid /mnt");
    let mounts = m.ok("grep small /proc/mounts");
    assert_eq!(mounts, "small /mnt tmpfs rw,nosuid,noatime,size=128k 0 0\n");
    m.ok("head -c 100000 /dev/zero > /mnt/f");
    assert_ne!(m.run("mount -o remount,size=64k /mnt").status, 0);
    m.ok("umount /mnt && umount /mnt");
    m.power_off();
}

/// What a disk cannot keep is told: to who asks, and in the log, with the place.
#[test]
fn a_failing_disk_says_so() {
    let disk = DataDisk::new(16, &[]);
    let mut config = Config::default();
    // Writes to one sector and reads of another fail.
    let bad = format!(
        r#"{{"driver": "blkdebug", "node-name": "bad",
             "image": {{"driver": "file", "filename": "{}"}},
             "inject-error": [{{"event": "none", "iotype": "write", "sector": 20000}},
                              {{"event": "none", "iotype": "read", "sector": 24000}}]}}"#,
        disk.path().display()
    );
    config.extra = ["-blockdev", &bad, "-device", "virtio-blk-pci,drive=bad"]
        .map(String::from)
        .to_vec();
    let mut m = Machine::boot(&config);
    let said = m.run("dd if=/dev/zero of=/dev/vdb bs=4096 seek=2500 count=1 conv=notrunc,fsync");
    assert_ne!(said.status, 0);
    assert!(said.text.contains("I/O error"), "{}", said.text);
    let said = m.run("dd if=/dev/vdb of=/dev/null bs=4096 skip=3000 count=1");
    assert_ne!(said.status, 0);
    assert!(said.text.contains("I/O error"), "{}", said.text);
    let log = m.ok("dmesg | grep 'vdb: '");
    assert!(
        log.contains("Write of 4096 bytes at sector 20000 failed"),
        "{log}"
    );
    assert!(log.contains("at sector 24000 failed"), "{log}");
    // The rest of it is as good as ever.
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt && seq 1000 > /mnt/f && umount /mnt");
    m.power_off();
}

/// Cached pages are free memory that is of use meanwhile: no program meets their end.
#[test]
fn a_full_page_cache_leaves_room_for_everybody() {
    // More than memory holds.
    let disk = DataDisk::new(900, &[]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    let count = "cat /dev/vdb | wc -c";
    let bytes = (900u64 << 20).to_string();
    for _ in 0..2 {
        assert_eq!(m.run_for(count, 60).text.trim(), bytes);
        let free = m.ok("free -m | grep Mem:");
        let cached: u64 = free
            .split_whitespace()
            .nth(5)
            .map_or(0, |n| n.parse().unwrap_or(0));
        assert!(cached > 180, "{free}");
        // Pipes, small programs, large ones.
        let piped = m.run_for("head -c 60000000 /dev/zero | cat | cat | wc -c", 60);
        assert_eq!(piped.text, "60000000\n");
        let ran = m.script(
            "for i in $(seq 100); do /bin/true || exit 1; done; echo all",
            60,
        );
        assert_eq!(ran.text, "all\n");
        let sorted = m.run_for("seq 1 200000 | sort -n | tail -n 1", 60);
        assert_eq!(sorted.text, "200000\n");
        m.ok("head -c 50000000 /dev/zero > /tmp/large && rm /tmp/large");
    }
    m.power_off();
}

#[test]
fn tmpfs_proc_and_dev_are_there() {
    let mut m = Machine::boot(&Config::default());
    let mounts = m.ok("mount");
    for want in [
        "on / type ext2",
        "on /proc type proc",
        "on /dev type",
        "on /tmp type tmpfs",
    ] {
        assert!(mounts.contains(want), "{want} in {mounts}");
    }
    assert_eq!(
        m.ok("head -c 4 /dev/zero | od -An -tx1").trim(),
        "00 00 00 00"
    );
    assert_eq!(m.run("echo x > /dev/full").status, 1);
    assert_eq!(m.ok("head -c 32 /dev/urandom | wc -c").trim(), "32");
    m.ok("ps -e | grep -q init");
    m.ok("top -b -n 1 | head -n 5");
    m.ok("uptime");
    assert_eq!(m.ok("readlink /proc/self/cwd"), m.ok("pwd"));
    // A full disk says so, and nothing breaks.
    let fill = m.run(
        "head -c 400000000 /dev/zero > /tmp/fill; echo $?; rm -f /tmp/fill; df /tmp | tail -n 1",
    );
    assert!(fill.text.contains("No space left"), "{}", fill.text);
    m.ok("echo still > /tmp/works && cat /tmp/works");
    // A name that is written is the host's.
    m.ok("echo other > /proc/sys/kernel/hostname");
    assert_eq!(m.ok("hostname; uname -n"), "other\nother\n");
    m.ok("hostname oxbow");
    m.power_off();
}

#[test]
fn the_kernels_log_waits_for_its_readers() {
    let mut m = Machine::boot(&Config::default());
    // A reader waits, and wakes for what a program adds, with its priority.
    m.ok("dmesg -W > /tmp/new & sleep 1; echo '<3>from a test' > /dev/kmsg; sleep 1; kill $!");
    let shown = m.ok("cat /tmp/new");
    assert!(shown.ends_with("] from a test\n"), "{shown}");
    let raw = m.ok("dmesg -r | grep 'from a test'");
    assert!(raw.starts_with("<11>["), "{raw}");
    assert_eq!(m.run("timeout 1 cat /dev/kmsg > /dev/null").status, 124);
    // A reader that was overtaken is told so once, and goes on with what is there.
    let overtaken = m.script(
        "exec 3< /dev/kmsg\n\
         i=0; while [ $i -lt 3000 ]; do echo \"line $i of many that push out the old\" > /dev/kmsg; i=$((i+1)); done\n\
         dd bs=8192 count=1 <&3 2>&1 | grep -o 'Broken pipe'\n\
         dd bs=8192 count=1 <&3 2>/dev/null | grep -o 'of many'\n",
        120,
    );
    assert_eq!(overtaken.text, "Broken pipe\nof many\n");
    m.power_off();
}

/// `make drop` puts a program onto an existing image, with its mode, and it runs.
#[test]
fn a_dropped_program_runs() {
    let copy = std::env::temp_dir().join(format!("oxbow-drop-{}.qcow2", std::process::id()));
    std::fs::copy(image(), &copy).expect("a copy of the image");
    let done = std::process::Command::new(top().join("build/drop.sh"))
        .arg(c_program("hello"))
        .arg("/bin/hello")
        .env("IMAGE", &copy)
        .output()
        .expect("build/drop.sh");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let config = Config {
        image: Some(copy.clone()),
        ..Config::default()
    };
    let mut m = Machine::boot(&config);
    assert_eq!(m.ok("stat -c '%a %U' /bin/hello"), "755 root\n");
    assert_eq!(m.run("hello").status, 7);
    m.power_off();
    let (clean, said) = check_root_filesystem(&m);
    assert!(clean, "e2fsck found: {said}");
    std::fs::remove_file(&copy).expect("the copy is ours");
}

/// Threads read a file in order, at random and through mappings, while another cuts it short
/// and grows it again, and advice throws its pages out and brings them back.
#[test]
fn a_file_is_read_ahead_and_cut_at_once() {
    let mut m = same_as_on_linux("readahead", &["/var/tmp/words"]);
    m.power_off();
    let (clean, said) = check_root_filesystem(&m);
    assert!(clean, "e2fsck found: {said}");
}

//! Boots the checking kernel on many kinds of machine, and damaged disks on two.
//!
//! Builds what it needs with the cargo that runs it, and always runs under TCG: what is
//! tested is the loader, and TCG has every processor model.

use fatfs::{FileSystem, FsOptions};
use std::fs;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// isa-debug-exit's status when the kernel found every promise kept.
const KEPT: i32 = 33;
const MIB: usize = 1 << 20;
const SECTOR: usize = 512;
/// The EFI system partition, docs/boot.md.
const ESP: std::ops::Range<usize> = MIB..33 * MIB;
/// Long enough for OVMF on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp")
        .to_path_buf()
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn cargo(args: &[&str]) {
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target-dir"])
        .arg(target())
        .args(args));
}

fn make_image(kernel: &Path, output: &Path, cmdline: &str) {
    run(Command::new(target().join("release/oxbow-image"))
        .args(["build", "--size", "64", "--cmdline", cmdline, "--kernel"])
        .arg(kernel)
        .arg("--bios")
        .arg(target().join("x86_64-unknown-none/loader/oxbow-loader-bios"))
        .arg("--uefi")
        .arg(target().join("x86_64-unknown-uefi/loader/oxbow-loader-uefi.efi"))
        .arg("--output")
        .arg(output));
}

/// The checking kernel's file.
fn kernel() -> PathBuf {
    target().join("x86_64-unknown-none/kernel/oxbow-handover-kernel")
}

/// A good raw image, made once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let none = ["--target", "x86_64-unknown-none"];
        cargo(
            &[
                &["-p", "oxbow-handover-kernel", "--profile", "kernel"],
                &none[..],
            ]
            .concat(),
        );
        cargo(
            &[
                &["-p", "oxbow-loader-bios", "--profile", "loader"],
                &none[..],
            ]
            .concat(),
        );
        cargo(&[
            "-p",
            "oxbow-loader-uefi",
            "--profile",
            "loader",
            "--target",
            "x86_64-unknown-uefi",
        ]);
        cargo(&["-p", "oxbow-image", "--release"]);
        let path = scratch("good.raw");
        make_image(&kernel(), &path, "one two=3");
        path
    })
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// A file that is gone when the test is.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Firmware {
    Bios,
    Uefi,
}

fn ovmf() -> &'static str {
    ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("OVMF is not installed (package ovmf)")
}

struct Vm(Child);

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(firmware: Firmware, disk: &Path, serial: &Path, args: &[&str]) -> Vm {
    let _ = fs::remove_file(serial);
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-accel",
            "tcg",
            "-display",
            "none",
            "-monitor",
            "stdio",
            "-net",
            "none",
            "-no-reboot",
        ])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-serial"])
        .arg(format!("file:{}", serial.display()));
    if firmware == Firmware::Uefi {
        command.args(["-bios", ovmf()]);
    }
    let drive = args
        .iter()
        .find(|arg| arg.starts_with("if="))
        .unwrap_or(&"if=virtio");
    command
        .arg("-drive")
        .arg(format!(
            "file={},format=raw,snapshot=on,{drive}",
            disk.display()
        ))
        .args(args.iter().filter(|arg| !arg.starts_with("if=")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Vm(command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

/// Boots `disk` until QEMU ends, and returns its status and what came out of the serial port.
fn boot(firmware: Firmware, disk: &Path, args: &[&str]) -> (Option<i32>, String) {
    let serial = Scratch(scratch("serial"));
    let mut vm = start(firmware, disk, &serial.0, args);
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = vm.0.try_wait().expect("wait for QEMU") {
            break status.code();
        }
        if Instant::now() > end {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = String::from_utf8_lossy(&fs::read(&serial.0).unwrap_or_default()).into_owned();
    (status, text)
}

#[track_caller]
fn good(firmware: Firmware, args: &[&str]) -> String {
    good_disk(firmware, image(), args)
}

#[track_caller]
fn good_disk(firmware: Firmware, disk: &Path, args: &[&str]) -> String {
    let (status, log) = boot(firmware, disk, args);
    assert!(
        status == Some(KEPT),
        "{args:?}: QEMU's status {status:?}; serial:\n{log}"
    );
    assert!(log.contains("cmdline \"one two=3\""), "{args:?}: {log}");
    log
}

#[test]
fn bios_on_all_machines_processors_and_sizes() {
    for machine in ["pc", "q35"] {
        for cpu in ["qemu64", "max", "qemu64,-nx"] {
            for memory in ["32", "64", "256", "4096", "6144"] {
                let log = good(
                    Firmware::Bios,
                    &["-machine", machine, "-cpu", cpu, "-m", memory, "-smp", "2"],
                );
                assert!(log.contains("firmware 1"), "{log}");
                assert!(log.contains("width: 1024"), "a framebuffer: {log}");
                assert_eq!(
                    log.contains("1048576 KiB pages"),
                    cpu == "max",
                    "1 GiB pages: {log}"
                );
            }
        }
    }
}

#[test]
fn bios_from_all_disks_and_screens() {
    good(Firmware::Bios, &["-machine", "pc", "if=virtio"]);
    good(Firmware::Bios, &["-machine", "pc", "if=ide"]);
    good(
        Firmware::Bios,
        &[
            "-machine",
            "pc",
            "if=none,id=d",
            "-device",
            "nvme,drive=d,serial=1",
        ],
    );
    good(Firmware::Bios, &["-machine", "q35", "if=ide"]);
    good(
        Firmware::Bios,
        &[
            "-machine",
            "q35",
            "if=none,id=d",
            "-device",
            "virtio-scsi-pci",
            "-device",
            "scsi-hd,drive=d",
        ],
    );
    let log = good(Firmware::Bios, &["-vga", "none"]);
    assert!(log.contains("no framebuffer"), "{log}");
    good(Firmware::Bios, &["-vga", "virtio"]);
    good(Firmware::Bios, &["-vga", "cirrus"]);
}

#[test]
fn uefi_on_all_machines() {
    for args in [
        ["-machine", "pc", "-cpu", "qemu64", "-m", "128"],
        ["-machine", "q35", "-cpu", "max", "-m", "256"],
        ["-machine", "q35", "-cpu", "qemu64", "-m", "6144"],
    ] {
        let log = good(Firmware::Uefi, &args);
        assert!(
            log.contains("firmware 2") && log.contains("framebuffer"),
            "{log}"
        );
    }
    let log = good(
        Firmware::Uefi,
        &["-machine", "q35", "-vga", "none", "if=ide"],
    );
    assert!(log.contains("no framebuffer"), "{log}");
}

/// A copy of the good image with `change` made to its bytes.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Scratch {
    let mut bytes = fs::read(image()).expect("read the image");
    change(&mut bytes);
    let path = scratch("changed.raw");
    fs::write(&path, bytes).expect("write the image");
    Scratch(path)
}

/// A copy of the good image with `change` made to its EFI system partition.
fn changed_files(change: impl FnOnce(&fatfs::Dir<&mut Cursor<&mut [u8]>>)) -> Scratch {
    changed(|bytes| {
        let mut volume = Cursor::new(&mut bytes[ESP]);
        let fs = FileSystem::new(&mut volume, FsOptions::new()).expect("mount");
        change(&fs.root_dir());
    })
}

/// Boots `disk`, which must end in a message that holds `expected`, on the serial port and on
/// the screen, and in a machine that stands still.
#[track_caller]
fn bad(firmware: Firmware, disk: &Scratch, args: &[&str], expected: &str) {
    let serial = Scratch(scratch("serial"));
    let screen = Scratch(scratch("screen"));
    let mut vm = start(firmware, &disk.0, &serial.0, args);
    let end = Instant::now() + PATIENCE;
    let log = loop {
        let log = String::from_utf8_lossy(&fs::read(&serial.0).unwrap_or_default()).into_owned();
        // OVMF's own console is on the serial port too: the message comes from both.
        let seen = log.matches(expected).count();
        if seen >= if firmware == Firmware::Uefi { 2 } else { 1 } {
            break log;
        }
        let ended = vm.0.try_wait().expect("wait for QEMU");
        assert!(
            ended.is_none() && Instant::now() < end,
            "no {expected:?} ({ended:?}) in:\n{log}"
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    if firmware == Firmware::Bios {
        // Text mode's characters are every second byte from 0xb8000 on.
        std::thread::sleep(Duration::from_millis(200));
        let mut monitor = vm.0.stdin.take().expect("monitor");
        writeln!(monitor, "pmemsave 0xb8000 4000 \"{}\"", screen.0.display()).expect("monitor");
        let text = loop {
            std::thread::sleep(Duration::from_millis(20));
            match fs::read(&screen.0) {
                Ok(bytes) if bytes.len() == 4000 => break bytes,
                _ => assert!(Instant::now() < end, "no screen dump"),
            }
        };
        let text: String = text.chunks(2).map(|c| c[0] as char).collect();
        // A long message is broken at the edge of the screen.
        assert!(text.contains(expected), "screen: {text}");
    }
    assert!(
        vm.0.try_wait().expect("wait for QEMU").is_none(),
        "the machine went away: {log}"
    );
}

fn read_file(root: &fatfs::Dir<&mut Cursor<&mut [u8]>>, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    root.open_file(path)
        .expect("open")
        .read_to_end(&mut bytes)
        .expect("read");
    bytes
}

fn write_file(root: &fatfs::Dir<&mut Cursor<&mut [u8]>>, path: &str, bytes: &[u8]) {
    let mut file = root.create_file(path).expect("create");
    file.truncate().expect("truncate");
    file.write_all(bytes).expect("write");
}

#[test]
fn both_fronts_say_what_is_wrong_with_the_files() {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let missing = changed_files(|root| root.remove("oxbow/kernel").expect("remove"));
        bad(firmware, &missing, &[], "/oxbow/kernel is missing");
        let flipped = changed_files(|root| {
            let mut file = root.open_file("oxbow/kernel").expect("open");
            file.seek(SeekFrom::Start(5000)).expect("seek");
            file.write_all(b"damage").expect("write");
        });
        bad(firmware, &flipped, &[], "checksum mismatch");
        let truncated = changed_files(|root| {
            let bytes = read_file(root, "oxbow/kernel");
            write_file(root, "oxbow/kernel", &bytes[..bytes.len() - 1000]);
        });
        bad(firmware, &truncated, &[], "damaged: truncated");
        if firmware == Firmware::Uefi {
            continue; // the rest is the core's work, and OVMF takes its time
        }
        let empty = changed_files(|root| write_file(root, "oxbow/kernel", b""));
        bad(firmware, &empty, &[], "damaged: truncated");
        let no_cmdline = changed_files(|root| root.remove("oxbow/cmdline").expect("remove"));
        bad(firmware, &no_cmdline, &[], "/oxbow/cmdline is missing");
        let binary = changed_files(|root| write_file(root, "oxbow/cmdline", b"quiet \xff"));
        bad(firmware, &binary, &[], "not UTF-8");
        let long = changed_files(|root| write_file(root, "oxbow/cmdline", &[b'a'; 5000]));
        bad(firmware, &long, &[], "longer than 4096 bytes");
    }
}

#[test]
fn bios_says_what_is_wrong_with_the_disk() {
    // The table and its copy.
    let no_table = changed(|bytes| {
        let last = bytes.len() - SECTOR;
        bytes[SECTOR] = 0;
        bytes[last] = 0;
    });
    bad(Firmware::Bios, &no_table, &[], "no GPT header");
    let damaged = changed(|bytes| {
        let last = bytes.len() - SECTOR;
        bytes[2 * SECTOR + 128] ^= 1;
        bytes[last] = 0;
    });
    bad(Firmware::Bios, &damaged, &[], "damaged GPT entries");
    let no_fat = changed(|bytes| bytes[MIB..MIB + SECTOR].fill(0));
    bad(Firmware::Bios, &no_fat, &[], "no FAT file system");
    let no_stage2 = changed(|bytes| bytes[64 * SECTOR] ^= 1);
    bad(Firmware::Bios, &no_stage2, &[], "second stage is damaged");
    let short = changed(|bytes| bytes.truncate(2048 * SECTOR + 40 * 1024));
    bad(Firmware::Bios, &short, &[], "read error");
}

#[test]
fn bios_boots_from_the_copy_of_a_damaged_table() {
    let wiped = changed(|bytes| bytes[SECTOR..34 * SECTOR].fill(0));
    good_disk(Firmware::Bios, &wiped.0, &[]);
    let entries = changed(|bytes| bytes[2 * SECTOR..3 * SECTOR].fill(0xff));
    good_disk(Firmware::Bios, &entries.0, &[]);
}

/// Beside the time of the build, which a linker writes into a PE file where nobody tells it not
/// to, a PDB's number made every build another one.
#[test]
fn the_uefi_loader_has_nothing_of_its_build() {
    image();
    let file = fs::read(target().join("x86_64-unknown-uefi/loader/oxbow-loader-uefi.efi"));
    let file = file.expect("the loader");
    assert!(!file.windows(4).any(|w| w == b".pdb"), "names a PDB");
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let header = u32_at(0x3c) as usize;
    assert_eq!(&file[header..header + 4], b"PE\0\0");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a date after 1970")
        .as_secs();
    let age = now.abs_diff(u64::from(u32_at(header + 8)));
    assert!(age > 366 * 86400, "the time stamp is a time: {age} s ago");
}

/// The checking kernel's file with `change` made, packed onto a copy of the good image without
/// the image builder's checks.
fn packed_kernel(change: impl FnOnce(&mut Vec<u8>)) -> Scratch {
    image();
    let mut elf = fs::read(kernel()).expect("read the kernel");
    change(&mut elf);
    let mut packed = lz4_flex::block::compress(&elf);
    packed.extend(oxbow_loader_core::seal::seal(&packed, elf.len() as u64));
    changed_files(|root| write_file(root, "oxbow/kernel", &packed))
}

#[test]
fn absurd_kernels_are_refused() {
    let text = packed_kernel(|elf| *elf = b"#!/bin/sh\n".repeat(50));
    bad(Firmware::Bios, &text, &[], "not an ELF file");
    let cut = packed_kernel(|elf| elf.truncate(0x2000));
    bad(
        Firmware::Bios,
        &cut,
        &[],
        "reaches past the end of the file",
    );
    let arm = packed_kernel(|elf| elf[18] = 183);
    bad(Firmware::Bios, &arm, &[], "made for another machine");
    bad(Firmware::Uefi, &arm, &[], "made for another machine");
}

#[test]
fn a_32_bit_processor_is_refused() {
    let disk = changed(|_| {});
    bad(
        Firmware::Bios,
        &disk,
        &["-cpu", "qemu32"],
        "this processor has no 64-bit mode",
    );
}

#[test]
fn too_little_memory_is_said() {
    // The last loadable segment, 56 bytes to a program header, gets 200 MiB of bss.
    let huge = packed_kernel(|elf| {
        let headers = usize::from(elf[56]);
        let last = (0..headers)
            .map(|i| 64 + 56 * i)
            .rfind(|at| elf[*at..*at + 4] == [1, 0, 0, 0]);
        let size = last.expect("a segment") + 40;
        elf[size..size + 8].copy_from_slice(&(200u64 << 20).to_le_bytes());
    });
    bad(Firmware::Bios, &huge, &["-m", "128"], "too little memory");
    bad(Firmware::Uefi, &huge, &["-m", "192"], "too little memory");
    good_disk(Firmware::Bios, &huge.0, &["-m", "512"]);
}

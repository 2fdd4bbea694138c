//! Assembles the disk image, and puts files onto an existing one. See [`HELP`].

mod certificates;
mod disk;
mod drop;
mod error;
mod esp;
mod ext2;
mod gpt;
mod pack;
mod qcow2;
mod work_file;

use error::{Error, Result};
use lexopt::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
oxbow-image: assembles Oxbow's disk image, without root and without loop devices

USAGE
  oxbow-image build --kernel ELF --bios ELF [--uefi EFI] --output IMAGE [options]
      Makes a bootable disk: GPT with a BIOS boot partition, an EFI system
      partition (FAT16) and an ext2 root partition. The same input gives the
      same bytes, whoever builds it where and when.
      --kernel ELF        kernel; packed: stripped, compressed, with a checksum
      --bios ELF          loader for BIOS
      --uefi EFI          loader for UEFI; without it the image starts on BIOS only
      --cmdline TEXT      kernel command line, or
      --cmdline-file FILE file that holds it; default: empty
      --root DIR          content of the root partition; default: empty. Modes and
                          links are kept, owners become 0:0, times become 1980;
                          /tmp gets mode 1777, /root 0700
      --output IMAGE      compressed qcow2, or with a name in .raw a sparse raw disk
      --size MIB          size of the disk in MiB; default 1024

  oxbow-image drop IMAGE FILE DEST
      Puts FILE with its mode, owned by 0:0, onto the root partition of IMAGE
      (qcow2 or raw, not in use) as DEST, an absolute path or a directory on it.
      Replaces a file or link that is there, makes directories that are not, and
      repairs a file system that was not unmounted. Prints where the file is.

  oxbow-image certificates FILE
      Writes the certificate authorities that the image trusts to FILE, in PEM.

HOW ITS INPUT IS BUILT
  cargo build -p oxbow-kernel      --profile kernel --target x86_64-unknown-none
      -> target/x86_64-unknown-none/kernel/oxbow-kernel
  cargo build -p oxbow-loader-bios --profile loader --target x86_64-unknown-none
      -> target/x86_64-unknown-none/loader/oxbow-loader-bios
  cargo build -p oxbow-loader-uefi --profile loader --target x86_64-unknown-uefi
      -> target/x86_64-unknown-uefi/loader/oxbow-loader-uefi.efi
  cargo build -p oxbow-image --release
      -> target/release/oxbow-image
  Needs qemu-img (qemu-utils) and mke2fs, debugfs, e2fsck (e2fsprogs).
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oxbow-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    match args.next()? {
        Some(Value(verb)) if verb == "build" => disk::build(&build_options(args)?),
        Some(Value(verb)) if verb == "drop" => {
            let [image, file, dest] = paths(args, "drop takes IMAGE FILE DEST")?;
            let place = drop::put(&image, &file, &dest)?;
            println!("{}", place.display());
            Ok(())
        }
        Some(Value(verb)) if verb == "certificates" => {
            let [output] = paths(args, "certificates takes FILE")?;
            certificates::write(&output)
        }
        Some(Long("help") | Short('h')) => {
            print!("{HELP}");
            Ok(())
        }
        Some(arg) => Err(arg.unexpected().into()),
        None => Err(Error::text("say what to do; --help tells")),
    }
}

/// The `N` paths that must follow, or else `usage`.
fn paths<const N: usize>(mut args: lexopt::Parser, usage: &str) -> Result<[PathBuf; N]> {
    let mut paths = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(path) if paths.len() < N => paths.push(PathBuf::from(path)),
            _ => return Err(arg.unexpected().into()),
        }
    }
    <[PathBuf; N]>::try_from(paths).map_err(|_| Error::text(usage))
}

fn build_options(mut args: lexopt::Parser) -> Result<disk::Options> {
    let (mut kernel, mut bios, mut uefi, mut output, mut root) = (None, None, None, None, None);
    let mut cmdline = String::new();
    let mut size_mib = 1024;
    while let Some(arg) = args.next()? {
        match arg {
            Long("kernel") => kernel = Some(PathBuf::from(args.value()?)),
            Long("bios") => bios = Some(PathBuf::from(args.value()?)),
            Long("uefi") => uefi = Some(PathBuf::from(args.value()?)),
            Long("output") => output = Some(PathBuf::from(args.value()?)),
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            Long("cmdline") => cmdline = args.value()?.string()?,
            Long("cmdline-file") => {
                let path = PathBuf::from(args.value()?);
                cmdline = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
            }
            Long("size") => size_mib = args.value()?.parse()?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    let need = |value: Option<PathBuf>, name: &str| {
        value.ok_or_else(|| Error::text(format!("--{name} is missing")))
    };
    Ok(disk::Options {
        kernel: need(kernel, "kernel")?,
        bios: need(bios, "bios")?,
        uefi,
        output: need(output, "output")?,
        root,
        cmdline,
        size_mib,
    })
}

//! Why a boot failed, in words for the person in front of the machine.

use crate::disk::DiskError;
use crate::elf::ElfError;
use crate::fat::FatError;
use crate::gpt::GptError;
use crate::seal::SealError;
use core::fmt;

/// Everything that ends a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The partition table is unusable.
    Gpt(GptError),
    /// The EFI system partition's file system is unusable.
    Fat(FatError),
    /// A file on the EFI system partition is missing.
    Missing(&'static str),
    /// A file on the EFI system partition cannot be read.
    File(&'static str, FatError),
    /// The kernel file does not match its checksum.
    Seal(SealError),
    /// The kernel file is no kernel that can be run.
    Elf(ElfError),
    /// The command line is longer than [`crate::load::MAX_CMDLINE`].
    CmdlineTooLong,
    /// The command line is not UTF-8.
    CmdlineNotText,
    /// No block of memory is large enough; holds the bytes needed.
    OutOfMemory(u64),
    /// The firmware's memory map has more entries than [`crate::memory::MAX_REGIONS`].
    MemoryMap,
    /// The firmware left five-level paging on.
    FiveLevelPaging,
    /// A firmware service failed; says which.
    Firmware(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Gpt(e) => write!(f, "partition table: {e}"),
            LoadError::Fat(e) => write!(f, "EFI system partition: {e}"),
            LoadError::Missing(name) => {
                write!(f, "{name} is missing from the EFI system partition")
            }
            LoadError::File(name, e) => write!(f, "{name}: {e}"),
            LoadError::Seal(e) => write!(f, "/oxbow/kernel is damaged: {e}"),
            LoadError::Elf(e) => write!(f, "/oxbow/kernel is not a usable kernel: {e}"),
            LoadError::CmdlineTooLong => write!(
                f,
                "/oxbow/cmdline is longer than {} bytes",
                crate::load::MAX_CMDLINE
            ),
            LoadError::CmdlineNotText => f.write_str("/oxbow/cmdline is not UTF-8 text"),
            LoadError::OutOfMemory(bytes) => {
                write!(
                    f,
                    "too little memory: no free block of {} KiB",
                    bytes.div_ceil(1024)
                )
            }
            LoadError::MemoryMap => {
                f.write_str("the firmware's memory map is empty or has too many entries")
            }
            LoadError::FiveLevelPaging => {
                f.write_str("the firmware uses five-level paging, which Oxbow does not support")
            }
            LoadError::Firmware(what) => write!(f, "firmware call failed: {what}"),
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for LoadError {
            fn from(error: $error) -> Self {
                LoadError::$variant(error)
            }
        }
    )*};
}
from!(Gpt(GptError), Fat(FatError), Seal(SealError), Elf(ElfError));

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> Self {
        LoadError::Fat(FatError::Disk(error))
    }
}

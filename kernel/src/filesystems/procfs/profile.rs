//! /proc/profile: a rate written to it starts the profiler, 0 stops it; what it reads is a line
//! per sample, `CPU PLACE CALLER...`, in hexadecimal: offsets into the kernel's ELF file with a
//! `+` in front, or an address of user mode. A line `CPU lost N` ends a CPU whose buffer was full.

use alloc::vec::Vec;
use core::fmt::Write;

use super::text::number;
use crate::error::{Errno, Result};
use crate::sched::profile;

/// Most bytes that a written rate has.
pub const MAX_TEXT: usize = 16;

/// Collects text while there is memory.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0.try_reserve(s.len()).map_err(|_| core::fmt::Error)?;
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

/// The samples. ENOMEM.
pub fn text() -> Result<Vec<u8>> {
    let mut out = Text(Vec::new());
    for samples in profile::samples()? {
        for sample in samples.iter() {
            line(&mut out, samples.cpu, sample).map_err(|_| Errno::ENOMEM)?;
        }
        if samples.nr_lost != 0 {
            writeln!(out, "{} lost {}", samples.cpu, samples.nr_lost).map_err(|_| Errno::ENOMEM)?;
        }
    }
    Ok(out.0)
}

fn line(out: &mut Text, cpu: usize, sample: &[u64]) -> core::fmt::Result {
    write!(out, "{cpu}")?;
    for &at in sample {
        match at.checked_sub(oxbow_handover::KERNEL_BASE) {
            Some(offset) => write!(out, " +{offset:x}")?,
            None => write!(out, " {at:x}")?,
        }
    }
    writeln!(out)
}

/// Sets the rate: samples a second and CPU.
pub fn take(text: &[u8]) -> Result<()> {
    profile::set_rate(u64::try_from(number(text)?).map_err(|_| Errno::EINVAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_kernel_from_user() {
        let mut out = Text(Vec::new());
        let base = oxbow_handover::KERNEL_BASE;
        line(&mut out, 1, &[base + 0x10, base + 0x2f]).unwrap();
        line(&mut out, 0, &[0x40_1000]).unwrap();
        assert_eq!(out.0, b"1 +10 +2f\n0 401000\n");
    }
}

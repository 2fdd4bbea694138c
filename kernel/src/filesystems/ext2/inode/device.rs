//! Device numbers as an inode of a device file keeps them.

/// A device number as an inode keeps it: old form in the first pointer, new form in the second.
pub fn device_in(block: &[u32]) -> (u32, u32) {
    let (old, new) = (
        block.first().copied().unwrap_or(0),
        block.get(1).copied().unwrap_or(0),
    );
    if old != 0 {
        return (old >> 8 & 0xff, old & 0xff);
    }
    ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00))
}

/// See [`device_in`].
pub fn device_out(major: u32, minor: u32) -> (u32, u32) {
    if major < 256 && minor < 256 {
        (major << 8 | minor, 0)
    } else {
        (0, (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for dev in [(1, 3), (254, 17), (8, 300), (300, 1)] {
            let (a, b) = device_out(dev.0, dev.1);
            assert_eq!(device_in(&[a, b]), dev);
        }
    }
}

//! What the checks remember: a bit or a number for each block or inode.
//!
//! How many there are is the disk's word, so everything here is taken at once, and ENOMEM when
//! there is not that much memory; nothing grows while a volume is looked at.

use alloc::vec::Vec;

use crate::error::{Errno, Result};

/// A `Vec` of `len` times `value`; ENOMEM without memory for it.
pub fn filled<T: Copy>(value: T, len: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    all.resize(len, value);
    Ok(all)
}

/// One bit per block or inode.
pub struct Bits {
    words: Vec<u64>,
    set: usize,
}

impl Bits {
    /// For numbers up to `last`, all clear.
    pub fn new(last: u32) -> Result<Bits> {
        Ok(Bits {
            words: filled(0, last as usize / 64 + 1)?,
            set: 0,
        })
    }

    /// Whether the bit is set; false beyond the last.
    pub fn has(&self, n: u32) -> bool {
        self.words
            .get(n as usize / 64)
            .is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    /// Sets the bit; whether it was clear.
    pub fn set(&mut self, n: u32) -> bool {
        let was = self.has(n);
        if let Some(word) = self.words.get_mut(n as usize / 64)
            && !was
        {
            *word |= 1 << (n % 64);
            self.set += 1;
        }
        !was
    }

    /// How many are set.
    pub fn count(&self) -> usize {
        self.set
    }

    /// The numbers of those that are set, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0_u32..).flat_map(|(&word, at)| {
            (0..64)
                .filter(move |i| word & (1 << i) != 0)
                .map(move |i| at * 64 + i)
        })
    }
}

/// One number per inode, 0 at first.
pub struct PerInode<T>(Vec<T>);

impl<T: Copy + Default> PerInode<T> {
    /// For inodes up to `last`.
    pub fn new(last: u32) -> Result<PerInode<T>> {
        Ok(PerInode(filled(T::default(), last as usize + 1)?))
    }

    /// The number of `ino`; 0 beyond the last.
    pub fn get(&self, ino: u32) -> T {
        self.0.get(ino as usize).copied().unwrap_or_default()
    }

    /// Changes the number of `ino`.
    pub fn set(&mut self, ino: u32, value: T) {
        if let Some(slot) = self.0.get_mut(ino as usize) {
            *slot = value;
        }
    }
}

impl PerInode<u16> {
    /// One more, up to the most that a link count holds.
    pub fn add_one(&mut self, ino: u32) {
        self.set(ino, self.get(ino).saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_and_listed() {
        let mut bits = Bits::new(200).unwrap();
        assert!(bits.set(0) && bits.set(64) && bits.set(200) && !bits.set(64));
        assert_eq!(bits.count(), 3);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 64, 200]);
        assert!(!bits.has(63) && !bits.has(u32::MAX));
        bits.set(u32::MAX);
        assert_eq!(bits.count(), 3);
    }

    #[test]
    fn numbers_of_no_inode_are_zero() {
        let mut links = PerInode::<u16>::new(12).unwrap();
        links.set(12, u16::MAX);
        links.add_one(12);
        links.add_one(13);
        assert_eq!((links.get(12), links.get(13)), (u16::MAX, 0));
    }
}

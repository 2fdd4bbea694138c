//! The numbers of rand and srand.

/// A generator that begins the same way in every run, until srand is called.
pub struct Random {
    seed: f64,
    state: u64,
}

impl Default for Random {
    fn default() -> Self {
        let mut random = Random {
            seed: 0.0,
            state: 0,
        };
        random.seed(0.0);
        random
    }
}

impl Random {
    /// Returns the seed before.
    pub(super) fn seed(&mut self, seed: f64) -> f64 {
        self.state = seed.to_bits() ^ 0x9e37_79b9_7f4a_7c15;
        std::mem::replace(&mut self.seed, seed)
    }

    /// SplitMix64: from 0 to less than 1.
    pub(super) fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

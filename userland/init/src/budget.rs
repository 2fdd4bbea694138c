//! How much somebody may write per time: a bucket of bytes that fills steadily.

use std::time::{Duration, Instant};

/// Bytes per second, in the long run.
const RATE: i64 = 256 * 1024;
/// Bytes at once.
const BURST: i64 = 256 * 1024;
/// What to wait for when all is spent: less is not worth waking up for.
const WORTHWHILE: i64 = 16 * 1024;

pub struct Budget {
    /// Below zero when more was spent than there was.
    left: i64,
    at: Instant,
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let more = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let more = more.saturating_mul(RATE) / 1000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.at = now;
        }
    }

    /// How long until there is something to spend; `None`: now.
    pub fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.fill(now);
        let pause = (WORTHWHILE - self.left) * 1000 / RATE + 1;
        (self.left <= 0).then(|| Duration::from_millis(pause.unsigned_abs()))
    }

    pub fn spend(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_to_the_rate() {
        let start = Instant::now();
        let mut now = start;
        let mut budget = Budget::new(now);
        let mut spent = 0;
        while now < start + Duration::from_secs(10) {
            match budget.wait(now) {
                Some(pause) => now += pause,
                None => {
                    budget.spend(4096);
                    spent += 4096;
                }
            }
        }
        assert!(
            (10 * RATE..=10 * RATE + BURST + 8192).contains(&spent),
            "{spent}"
        );
    }
}

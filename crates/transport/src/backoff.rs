//! When to dial again, as numbers: full jitter, the first attempt at once.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// The bound of the first wait that is not zero.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer.
const CEILING: Duration = Duration::from_secs(30);
/// The doubling at which [`BASE`] has passed [`CEILING`].
const DOUBLINGS_MAX: u32 = 6;

/// The waits before each attempt to dial: zero, then `rand(0, min(30 s, 0.5 s · 2ⁿ))` for n = 0, 1, …
///
/// Endless; start a new one after a success. The spread is what keeps fifty agents from dialling a
/// restarted collector in one instant.
#[derive(Debug, Clone)]
pub struct Backoff<R> {
    rng: R,
    /// Waits given so far; saturates.
    attempts: u32,
}

impl<R: Rng> Backoff<R> {
    /// Starts with a wait of zero; `rng` makes the rest.
    pub const fn new(rng: R) -> Self {
        Self { rng, attempts: 0 }
    }

    /// Back to a wait of zero, with the same generator: to be called after a success.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let Some(doublings) = self.attempts.checked_sub(1) else {
            self.attempts = 1;
            return Duration::ZERO;
        };
        self.attempts = self.attempts.saturating_add(1);
        let bound = (BASE * (1 << doublings.min(DOUBLINGS_MAX))).min(CEILING);
        self.rng.random_range(Duration::ZERO..=bound)
    }
}

impl<R: Rng> Iterator for Backoff<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.wait())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn waits_stay_under_their_bounds_and_fill_them() {
        let bounds_ms = [0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000];
        let mut longest = [Duration::ZERO; 10];
        for seed in 0..400 {
            for (wait, slot) in Backoff::new(SmallRng::seed_from_u64(seed)).zip(&mut longest) {
                *slot = wait.max(*slot);
            }
        }
        for (n, (longest, bound)) in longest.into_iter().zip(bounds_ms).enumerate() {
            let bound = Duration::from_millis(bound);
            assert!(longest <= bound, "wait {n}: {longest:?} over {bound:?}");
            assert!(longest >= bound.mul_f64(0.9), "wait {n}: {longest:?} never near {bound:?}");
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(SmallRng::seed_from_u64(1));
        for _ in 0..100_000 {
            assert!(backoff.wait() <= CEILING);
        }
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::ZERO);
        assert!(backoff.wait() <= BASE);
    }
}

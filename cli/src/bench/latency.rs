//! Latencies, and what stands at a part of them.

use std::time::Duration;

use serde::Serialize;

/// Where the latencies of a run stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    /// How many were measured.
    pub(super) count: usize,
    /// Half are at most this long, milliseconds.
    pub(super) p50_ms: f64,
    /// Of a hundred, 99 are at most this long, milliseconds.
    pub(super) p99_ms: f64,
    /// The longest, milliseconds.
    pub(super) max_ms: f64,
}

impl Latency {
    /// Of all that were measured, by nearest rank; zeros when there are none.
    pub(super) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |part: usize| {
            let rank = (all.len() * part).div_ceil(100).max(1);
            all.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self { count: all.len(), p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let check = |ms: &[u64], want: (f64, f64, f64)| {
            let got = Latency::of(ms.iter().copied().map(Duration::from_millis).collect());
            assert_eq!((got.p50_ms, got.p99_ms, got.max_ms), want, "{ms:?}");
        };
        check(&[], (0.0, 0.0, 0.0));
        check(&[7], (7.0, 7.0, 7.0));
        check(&[3, 1, 2, 4], (2.0, 4.0, 4.0));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        check(&hundred, (50.0, 99.0, 100.0));
    }
}

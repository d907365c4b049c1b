//! Windows `end - length < t ≤ end`, whose ends are multiples of their length.

use stoa_model::{Rollup, RollupFold, TimestampMs};

/// The end of the window of this length that `t` lies in.
pub(crate) fn ceil(t: TimestampMs, window_ms: i64) -> TimestampMs {
    t.saturating_sub(1).div_euclid(window_ms).saturating_add(1).saturating_mul(window_ms)
}

/// The start of the window of this length that begins at `t` or before and ends after it.
pub(crate) fn floor(t: TimestampMs, window_ms: i64) -> TimestampMs {
    t.div_euclid(window_ms).saturating_mul(window_ms)
}

/// Rollups in order of time as those of windows, each with the window's end. None of them may reach
/// over the end of a window.
pub(crate) fn roll(
    rollups: impl Iterator<Item = Rollup>,
    window_ms: i64,
    out: &mut Vec<(TimestampMs, Rollup)>,
) {
    let mut fold = RollupFold::default();
    let mut window = None;
    for rollup in rollups {
        let end = ceil(rollup.last_t, window_ms);
        if let Some(before) = window.replace(end).filter(|before| *before != end) {
            out.extend(std::mem::take(&mut fold).finish().map(|done| (before, done)));
        }
        fold.push(&rollup);
    }
    out.extend(window.zip(fold.finish()));
}

#[cfg(test)]
mod tests {
    use stoa_model::Rollup;

    use super::{ceil, roll};

    #[test]
    fn windows_are_open_at_their_start() {
        assert_eq!([0, 1, 59, 60, 61].map(|t| ceil(t, 60)), [0, 60, 60, 60, 120]);
        assert_eq!([-1, -59, -60, -61].map(|t| ceil(t, 60)), [0, 0, -60, -60]);
        assert_eq!(ceil(i64::MIN, 60) % 60, ceil(i64::MAX, 60) % 60 - i64::MAX % 60);
        let mut out = Vec::new();
        roll([1, 60, 61, 300].into_iter().map(|t| Rollup::of(t, 1.0)), 60, &mut out);
        let ends: Vec<_> = out.iter().map(|(end, rollup)| (*end, rollup.count)).collect();
        assert_eq!(ends, [(60, 2), (120, 1), (300, 1)]);
    }
}

//! What samples and a tier have of the same time, told as one.
//!
//! A window that a tier has says when its first and last sample were and how many there were, and no more
//! of which. What lies before the first or after the last is none of them, and is added. What lies between
//! is all of them if it has both ends and is as many: then it stands for the window. Else nobody can tell
//! what of it the window has: the window stands, and that is left out. So nothing counts twice, and to
//! unite the same once more changes nothing.

use std::ops::Range;
use std::sync::Arc;

use stoa_model::{Rollup, RollupFold, TimestampMs, is_stale};

use super::ceil;

/// Sums this near, in shares of them, are the same.
const SUM_SHARE: f64 = 1e-6;

/// One series: samples and rollups, each in order of time, all apart from each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) times: Arc<[TimestampMs]>,
    pub(crate) values: Vec<f64>,
    pub(crate) rollups: Vec<Rollup>,
}

/// What did not come to stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LeftOut {
    /// Samples' times.
    pub(crate) times: Vec<TimestampMs>,
    /// Rollups.
    pub(crate) rollups: Vec<Rollup>,
}

impl Found {
    /// Adds samples that come after those that are there.
    pub(crate) fn push(&mut self, times: Arc<[TimestampMs]>, values: Vec<f64>) {
        if self.times.is_empty() {
            (self.times, self.values) = (times, values);
            return;
        }
        self.times = self.times.iter().chain(times.iter()).copied().collect();
        self.values.extend(values);
    }

    /// Adds what a tier of longer windows has, in order of time and apart. Says what is left out, and
    /// calls `kept` for what stands.
    pub(crate) fn unite(
        &mut self,
        coarser: &[Rollup],
        window_ms: i64,
        mut kept: impl FnMut(&Rollup),
    ) -> LeftOut {
        let mut left_out = LeftOut::default();
        let mut rollups = Vec::with_capacity(self.rollups.len() + coarser.len());
        let mut dropped = Vec::new();
        let (mut sample, mut finer) = (0, 0);
        for whole in coarser {
            let times = self.times.get(sample..).unwrap_or_default();
            let first = sample + times.partition_point(|t| *t < whole.first_t);
            let end = sample + times.partition_point(|t| *t <= whole.last_t);
            let rest = self.rollups.get(finer..).unwrap_or_default();
            let first_finer = finer + rest.partition_point(|r| r.last_t < whole.first_t);
            let end_finer = finer + rest.partition_point(|r| r.first_t <= whole.last_t);
            let between = self.rollups.get(first_finer..end_finer).unwrap_or_default();
            rollups.extend_from_slice(self.rollups.get(finer..first_finer).unwrap_or_default());
            let window_end = ceil(whole.last_t, window_ms);
            let marker = self.times.get(end).zip(self.values.get(end));
            let marker = marker.is_some_and(|(t, v)| *t <= window_end && is_stale(*v));
            let finer_marker = self.rollups.get(end_finer);
            let finer_marker =
                finer_marker.is_some_and(|r| r.first_t <= window_end && r.count == 0);
            let is_ended = marker || finer_marker;
            if self.is_all(first..end, between, whole, is_ended) {
                rollups.extend_from_slice(between);
                let sample = self.times.get(first..end).and_then(<[TimestampMs]>::last);
                let last_t = sample.copied().max(between.last().map(|r| r.last_t));
                if last_t.is_some_and(|t| t < whole.last_t) {
                    // Of markers only: the last of them ends the series.
                    let marker = Rollup { first_t: whole.last_t, ..*whole };
                    rollups.push(marker);
                    kept(&marker);
                }
            } else {
                left_out.times.extend(self.times.get(first..end).unwrap_or_default());
                left_out.rollups.extend(between);
                dropped.push(first..end);
                rollups.push(*whole);
                kept(whole);
            }
            (sample, finer) = (end, end_finer);
        }
        rollups.extend_from_slice(self.rollups.get(finer..).unwrap_or_default());
        self.rollups = rollups;
        if !left_out.times.is_empty() {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let (mut from, end) = (0, self.times.len());
            for gone in dropped.into_iter().chain(std::iter::once(end..end)) {
                times.extend(self.times.get(from..gone.start).unwrap_or_default());
                values.extend(self.values.get(from..gone.start).unwrap_or_default());
                from = gone.end;
            }
            (self.times, self.values) = (times.into(), values);
        }
        left_out
    }

    /// Whether samples and rollups between the ends of a coarser one, with a marker behind them or not,
    /// are what it was made of.
    fn is_all(
        &self,
        samples: Range<usize>,
        between: &[Rollup],
        whole: &Rollup,
        is_ended: bool,
    ) -> bool {
        let mut fold = RollupFold::default();
        let times = self.times.get(samples.clone()).unwrap_or_default();
        let values = self.values.get(samples).unwrap_or_default();
        pieces(times, values, between).for_each(|piece| fold.push(&piece));
        let Some(all) = fold.finish() else { return false };
        let ends = |r: &Rollup| (r.first_t, r.last_t, r.count);
        let numbers = |r: &Rollup| [r.min, r.max, r.first, r.last].map(f64::to_bits);
        // Added up in another order.
        let scale = all.sum.abs().max(whole.sum.abs());
        let is_near = (all.sum - whole.sum).abs() <= SUM_SHARE * scale || !scale.is_finite();
        if whole.count == 0 {
            // Markers say nothing of what lies between them.
            return true;
        }
        ends(&all) == ends(whole)
            && (is_ended || all.is_ended || !whole.is_ended)
            && numbers(&all) == numbers(whole)
            && is_near
    }

    /// All of it in order of time, samples as rollups.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Rollup> {
        pieces(&self.times, &self.values, &self.rollups)
    }
}

fn pieces(
    times: &[TimestampMs],
    values: &[f64],
    rollups: &[Rollup],
) -> impl Iterator<Item = Rollup> {
    let mut samples = times.iter().zip(values).peekable();
    let mut rollups = rollups.iter().peekable();
    std::iter::from_fn(move || match (samples.peek(), rollups.peek()) {
        (Some((t, _)), Some(rollup)) if **t >= rollup.first_t => rollups.next().copied(),
        (Some(_), _) => samples.next().map(|(t, v)| Rollup::of(*t, *v)),
        (None, _) => rollups.next().copied(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{ProptestConfig, proptest};
    use stoa_model::{Rollup, RollupFold, stale_nan};

    use super::{Found, LeftOut};
    use crate::tier::roll;

    const WINDOW: i64 = 10;

    /// No two sets of times come to one sum.
    fn value(t: i64) -> f64 {
        (t as f64 * 1.7).sin()
    }

    fn found(times: &BTreeSet<i64>) -> Found {
        let values = times.iter().map(|t| if t % 7 == 0 { stale_nan() } else { value(*t) });
        Found {
            times: times.iter().copied().collect(),
            values: values.collect(),
            rollups: Vec::new(),
        }
    }

    fn windows(found: &Found, window: i64) -> Vec<Rollup> {
        let mut out = Vec::new();
        roll(found.pieces(), window, &mut out);
        out.into_iter().map(|(_, rollup)| rollup).collect()
    }

    fn whole(found: &Found) -> Option<Rollup> {
        let mut fold = RollupFold::default();
        found.pieces().for_each(|piece| fold.push(&piece));
        fold.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_counts_twice_and_what_is_left_out_is_said(
            before in proptest::collection::btree_set(1i64..60, 0..40),
            gone in proptest::collection::btree_set(1i64..60, 0..40),
            late in proptest::collection::btree_set(1i64..60, 0..20),
        ) {
            let tier = windows(&found(&before), WINDOW);
            let left: BTreeSet<i64> = before.difference(&gone).copied().chain(late.iter().copied()).collect();
            let mut united = found(&left);
            let left_out = united.unite(&tier, WINDOW, |_| {});
            let pieces: Vec<Rollup> = united.pieces().collect();
            assert!(pieces.windows(2).all(|pair| pair[0].last_t < pair[1].first_t), "{pieces:?}");
            // Each sample there ever was is counted once, or is left out and said so.
            let numbers = |times: &BTreeSet<i64>| times.iter().filter(|t| **t % 7 != 0).count() as u64;
            let all: BTreeSet<i64> = before.union(&late).copied().collect();
            let lost = left_out.times.iter().filter(|t| !before.contains(t) && *t % 7 != 0).count() as u64;
            let counted = whole(&united).map_or(0, |rollup| rollup.count);
            assert!(counted <= numbers(&all));
            assert!(counted + lost >= numbers(&all), "{counted} and {lost} of {}", numbers(&all));
            // Once more changes nothing; nor do the samples that are in it already.
            let again = windows(&united, WINDOW);
            let mut twice = found(&left);
            twice.unite(&again, WINDOW, |_| {});
            let frames = |windows: &[Rollup]| -> Vec<_> {
                let near = |v: f64| (v * 1e9).round();
                // Of markers alone the last is told: which was the first changes no answer.
                let first = |r: &Rollup| if r.count == 0 { r.last_t } else { r.first_t };
                let frame = |r: &Rollup| (first(r), r.last_t, r.count, r.is_ended);
                let sums = |r: &Rollup| if r.count == 0 { (0.0, 0.0) } else { (near(r.sum), near(r.lost)) };
                windows.iter().map(|r| (frame(r), sums(r))).collect()
            };
            assert_eq!(frames(&windows(&twice, WINDOW)), frames(&again));
        }

        #[test]
        fn what_is_all_there_is_taken_as_it_is(
            times in proptest::collection::btree_set(1i64..60, 0..40),
        ) {
            let tier = windows(&found(&times), WINDOW);
            let mut united = found(&times);
            let left_out = united.unite(&tier, WINDOW, |_| {});
            assert_eq!(left_out, LeftOut::default());
            assert!(united.rollups.is_empty() && united.times.iter().eq(&times));
            // Finer windows of all of it, and coarser ones.
            let coarse = windows(&united, 3 * WINDOW);
            let mut finer = Found { rollups: tier.clone(), ..Found::default() };
            finer.unite(&coarse, 3 * WINDOW, |_| {});
            assert_eq!(finer.rollups, tier);
        }
    }

    #[test]
    fn what_comes_before_and_after_is_added_and_what_lies_between_is_not() {
        let times = |times: &[i64]| times.iter().copied().collect::<BTreeSet<i64>>();
        let check = |tier: &[i64], samples: &[i64], kept: &[i64], windows_kept: usize| {
            let tier = windows(&found(&times(tier)), 100);
            let mut united = found(&times(samples));
            united.unite(&tier, 100, |_| {});
            assert_eq!(*united.times, *kept, "{samples:?}");
            assert_eq!(united.rollups.len(), windows_kept, "{samples:?}");
        };
        check(&[10, 20, 30], &[], &[], 1);
        check(&[10, 20, 30], &[5, 8, 31, 99], &[5, 8, 31, 99], 1);
        check(&[10, 20, 30], &[5, 10, 20, 30, 40], &[5, 10, 20, 30, 40], 0);
        check(&[10, 20, 30], &[5, 10, 15, 20, 30], &[5], 1);
        check(&[10, 20, 30], &[10, 15, 30, 31], &[31], 1);
        check(&[10, 20, 30], &[5, 10, 30], &[5], 1);
        check(&[10, 20, 30], &[11, 12, 13, 15, 16], &[], 1);
        check(&[10, 20, 30, 110, 120], &[10, 20, 30, 115], &[10, 20, 30], 1);
    }
}

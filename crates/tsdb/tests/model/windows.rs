//! Windows of tiers against all samples there ever were.

use std::collections::BTreeMap;

use stoa_model::{Labels, Rollup, RollupFold};
use stoa_tsdb::{Db, Resolution, RollupSeries, Tier};

use crate::data::{Model, Value, is_of};
use crate::world::{World, floats};

type Windows = BTreeMap<(Labels, i64), Rollup>;

/// The end of the window that `t` lies in.
fn ceil(t: i64, window_ms: i64) -> i64 {
    (t - 1).div_euclid(window_ms) * window_ms + window_ms
}

fn folded(pieces: impl Iterator<Item = (Labels, i64, Rollup)>) -> Windows {
    let mut folds: BTreeMap<(Labels, i64), RollupFold> = BTreeMap::new();
    for (labels, end, piece) in pieces {
        folds.entry((labels, end)).or_default().push(&piece);
    }
    folds.into_iter().map(|(key, fold)| (key, fold.finish().unwrap())).collect()
}

/// Samples and rollups of a series in order of time, samples as rollups.
fn pieces(series: RollupSeries) -> impl Iterator<Item = (Labels, Rollup)> {
    let samples = series.timestamps.iter().zip(&series.values).map(|(t, v)| Rollup::of(*t, *v));
    let mut all: Vec<Rollup> = samples.chain(series.rollups).collect();
    all.sort_by_key(|piece| piece.first_t);
    assert!(all.is_sorted_by(|a, b| a.last_t < b.first_t), "not apart: {}", series.labels);
    all.into_iter().map(move |piece| (series.labels.clone(), piece))
}

/// What is read of tiers; of samples where no tier is to be read.
fn read(db: &Db, resolution: Resolution) -> Vec<RollupSeries> {
    let range = (i64::MIN, i64::MAX);
    let read = db.select_rollups(&[], range, resolution, 100, 10_000_000).unwrap();
    let samples = || {
        let one = |series: stoa_tsdb::SeriesData| RollupSeries {
            labels: series.labels,
            timestamps: series.timestamps,
            values: series.values,
            rollups: Vec::new(),
        };
        floats(db).into_iter().map(one).collect()
    };
    read.map_or_else(samples, |read| read.series)
}

/// The same but for the rounding of sums that were added up in another order.
fn is_same(a: &Rollup, b: &Rollup) -> bool {
    let is_near = |a: f64, b: f64| {
        (a - b).abs() <= 1e-12 * (a.abs() + b.abs())
            || a.to_bits() == b.to_bits()
            || (a.is_nan() && b.is_nan())
    };
    let is_near = a.count == 0 || (is_near(a.sum, b.sum) && is_near(a.lost, b.lost));
    is_near && Rollup { sum: a.sum, lost: a.lost, ..*b } == *a
}

impl World {
    /// Takes note of the windows of which some samples are deleted when others may be gone: nobody knows
    /// what is left of them.
    pub(crate) fn unsettle_windows(&mut self, n: &str, start: i64, end: i64) {
        let hour_ms = Tier::Hour.window_ms();
        let expired_before = self.expired_before;
        let keys = self.states.iter().flat_map(|state| state.samples.keys());
        let keys = keys.filter(|(labels, t)| {
            let hour_end = ceil(*t, hour_ms);
            let is_touched = ceil(start, hour_ms) <= hour_end && hour_end <= ceil(end, hour_ms);
            is_touched && is_of(labels, n) && hour_end - hour_ms < expired_before
        });
        let keys: Vec<_> = keys.map(|(labels, t)| (labels.clone(), ceil(*t, hour_ms))).collect();
        self.unsettled.extend(keys);
    }

    /// The windows are those of all samples, whatever of these is left.
    pub(crate) fn check_windows(&self, db: &Db, state: &Model, case: &str) -> (u64, u64) {
        let samples = || {
            state.samples.iter().filter_map(|((labels, t), value)| match value {
                Value::Float(bits) => Some((labels.clone(), Rollup::of(*t, f64::from_bits(*bits)))),
                Value::Histogram(_) => None,
            })
        };
        let hour_ms = Tier::Hour.window_ms();
        let is_settled = |labels: &Labels, end: i64| {
            !self.unsettled.contains(&(labels.clone(), ceil(end, hour_ms)))
        };
        let (mut windows, mut gone) = (0, 0);
        let mut compare = |found: Windows, expected: Windows, name: &str| {
            for key in expected.keys().chain(found.keys()) {
                let (a, b) = (found.get(key), expected.get(key));
                let is_same = a.zip(b).is_some_and(|(a, b)| is_same(a, b));
                assert!(is_same, "{case}: {name} {key:?}: {a:?} is not {b:?}");
            }
            windows += expected.len() as u64;
            let is_old = |(_, end): &&(Labels, i64)| *end < self.expired_before;
            gone += expected.keys().filter(is_old).count() as u64;
        };
        for tier in Tier::ALL {
            let of = |(labels, piece): (Labels, Rollup)| {
                let end = ceil(piece.last_t, tier.window_ms());
                is_settled(&labels, end).then_some((labels, end, piece))
            };
            let found = read(db, Resolution::Window(tier)).into_iter().flat_map(pieces);
            compare(folded(found.filter_map(of)), folded(samples().filter_map(of)), tier.name());
        }
        // As fine as there is any, told as hours: no more and no less than all.
        let of = |(labels, piece): (Labels, Rollup)| {
            let end = ceil(piece.last_t, hour_ms);
            is_settled(&labels, end).then_some((labels, end, piece))
        };
        let found = read(db, Resolution::Finest).into_iter().flat_map(pieces);
        compare(folded(found.filter_map(of)), folded(samples().filter_map(of)), "finest");
        (windows, gone)
    }
}

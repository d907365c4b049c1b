//! Reading rollups: blocks of tiers, and samples where there are none.
//!
//! Each stretch of time is read from one kind of place: a block of a tier that has all there is and fits,
//! else the samples. Where something of these is gone it is a **zone**: what is there and what tiers have of
//! what is gone are read both, and told as one.

mod parts;

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, Rollup, TimestampMs};

use self::parts::{Part, Zone};
use super::Db;
use crate::block::BlockQuery;
use crate::tier::{Found, TierBlock, ceil, floor, roll};
use crate::{SelectError, Tier};

/// Samples that are rolled up at once are read this much at a time.
const PIECE_MS: i64 = 2 * 3_600_000;

/// What a rollup counts against a limit of samples: it takes as much memory.
const SAMPLES_PER_ROLLUP: usize = 5;

/// Which rollups are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Of the windows of this tier, all of them: of this tier or a finer one where it has them, of
    /// samples elsewhere; of a coarser one where both are gone.
    Window(Tier),
    /// Samples where they are there; where they are gone, rollups of the finest tier that has them.
    Finest,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Rollups {
    /// In order of labels.
    pub series: Vec<RollupSeries>,
    /// Where tiers were read, in order of time.
    pub stretches: Vec<Stretch>,
    /// How much was read, in samples.
    pub samples: usize,
    /// How long samples are kept, milliseconds.
    pub samples_kept_ms: i64,
}

/// One series: samples and rollups, at least one, each in order of time and all apart from each other.
#[derive(Clone, Debug)]
pub struct RollupSeries {
    /// The series' labels.
    pub labels: Labels,
    /// When there were samples, milliseconds since the epoch, if [`Resolution::Finest`] was asked for.
    pub timestamps: Arc<[TimestampMs]>,
    /// These, as many.
    pub values: Vec<f64>,
    /// Rollups.
    pub rollups: Vec<Rollup>,
}

/// A stretch of time, `start_ms < t ≤ end_ms`, read from a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which tier.
    pub tier: Tier,
    /// Where it begins, excluded.
    pub start_ms: TimestampMs,
    /// Where it ends, included.
    pub end_ms: TimestampMs,
}

impl Db {
    /// The series all matchers hold for that have something from `start_ms` to `end_ms`, both included,
    /// as rollups: of all windows that reach into that time. `None` when no tier has any of it that is
    /// to be read: [`Self::select`] has all there is.
    ///
    /// # Errors
    /// As [`Self::select`]; a rollup counts as five samples.
    pub fn select_rollups(
        &self,
        matchers: &[Matcher],
        range: (TimestampMs, TimestampMs),
        resolution: Resolution,
        series_max: usize,
        samples_max: usize,
    ) -> Result<Option<Rollups>, SelectError> {
        let never = || false;
        self.select_rollups_until(matchers, range, resolution, series_max, samples_max, &never)
    }

    /// The same, and ended early once `stop` says so, which is asked for each series.
    ///
    /// # Errors
    /// As [`Self::select_rollups`]; [`SelectError::Stopped`].
    pub fn select_rollups_until(
        &self,
        matchers: &[Matcher],
        range: (TimestampMs, TimestampMs),
        resolution: Resolution,
        series_max: usize,
        samples_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Rollups>, SelectError> {
        let (parts, zones) = self.parts(range, resolution);
        if parts.iter().all(|part| part.held.is_none()) && zones.is_empty() {
            return Ok(None);
        }
        let mut gather = Gather {
            resolution,
            places: HashMap::new(),
            series: Vec::new(),
            samples: 0,
            series_max,
            samples_max,
            stop,
        };
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut rest = parts.as_slice();
        let mut zones = zones.iter().peekable();
        while let Some((part, behind)) = rest.split_first() {
            if let Some(zone) = zones.next_if(|zone| zone.start < part.end && part.start < zone.end)
            {
                let within = rest.partition_point(|part| part.start < zone.end);
                let (own, behind) = rest.split_at(within);
                stretches.extend(self.gather_zone(matchers, own, zone, &mut gather)?);
                rest = behind;
                continue;
            }
            rest = behind;
            let Some(held) = &part.held else {
                self.gather_samples(matchers, part, &mut gather)?;
                continue;
            };
            let each = |labels, rollups: Vec<Rollup>| {
                gather.count(rollups.len().saturating_mul(SAMPLES_PER_ROLLUP))?;
                gather.add(labels, Found { rollups, ..Found::default() })
            };
            self.each_rollups(matchers, held, (part.start, part.end), each)?;
            stretches.push(Stretch { tier: held.tier, start_ms: part.start, end_ms: part.end });
        }
        let samples = gather.samples;
        let samples_kept_ms = self.options.retention_ms;
        let stretches = joined(stretches);
        Ok(Some(Rollups { series: gather.finish(), stretches, samples, samples_kept_ms }))
    }

    /// The rollups of a block whose windows reach into `start < t ≤ end`, series by series.
    fn each_rollups(
        &self,
        matchers: &[Matcher],
        held: &TierBlock,
        (start, end): (TimestampMs, TimestampMs),
        mut each: impl FnMut(Labels, Vec<Rollup>) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let block = &held.block;
        let Some(index) = self.index(block) else { return Ok(()) };
        let end = ceil(end, held.tier.window_ms());
        let mut query = BlockQuery::new(block, &index, start.saturating_add(1), end);
        let Some(numbers) = self.whole(block, query.find(matchers)) else { return Ok(()) };
        let mut windows = Vec::new();
        for number in numbers {
            let Some(series) = self.whole(block, query.series(number)) else { break };
            let Some(series) = series else { continue };
            windows.clear();
            self.counters.damaged_chunks(query.rollups(&series.place, &mut windows));
            each(series.labels, windows.iter().map(|(_, rollup)| *rollup).collect())?;
        }
        self.missed(block, &query.lost);
        Ok(())
    }

    fn gather_samples(
        &self,
        matchers: &[Matcher],
        part: &Part,
        gather: &mut Gather<'_>,
    ) -> Result<(), SelectError> {
        let piece_ms = match gather.resolution {
            Resolution::Finest => i64::MAX,
            Resolution::Window(_) => PIECE_MS,
        };
        let mut start = part.start;
        while start < part.end {
            let end = part.end.min(start.saturating_add(piece_ms));
            let left = gather.samples_max.saturating_sub(gather.samples);
            let first = start.saturating_add(1);
            let (most, stop) = (gather.series_max, gather.stop);
            for series in self.select_until(matchers, first, end, most, left, stop)? {
                gather.count(series.values.len())?;
                let (times, values) = (series.timestamps, series.values);
                gather.add(series.labels, Found { times, values, rollups: Vec::new() })?;
            }
            start = end;
        }
        Ok(())
    }

    /// Reads what there is of a zone, whose parts are given, and with it what tiers have of what is gone;
    /// says where these were needed.
    fn gather_zone(
        &self,
        matchers: &[Matcher],
        parts: &[Part],
        zone: &Zone,
        gather: &mut Gather<'_>,
    ) -> Result<Vec<Stretch>, SelectError> {
        let mut all = Zoned { series_max: gather.series_max, ..Zoned::default() };
        for (at, part) in parts.iter().enumerate() {
            // Windows are told whole.
            let start = if at == 0 { part.start.min(zone.start) } else { part.start };
            let is_last = at + 1 == parts.len();
            let end = if is_last { part.end.max(zone.end) } else { part.end };
            if let Some(held) = &part.held {
                self.each_rollups(matchers, held, (start, end), |labels, rollups| {
                    gather.count(rollups.len().saturating_mul(SAMPLES_PER_ROLLUP))?;
                    all.of(labels)?.rollups.extend(rollups);
                    Ok(())
                })?;
            } else if self.has_samples(start, end) {
                let left = gather.samples_max.saturating_sub(gather.samples);
                let first = start.saturating_add(1);
                let (most, stop) = (gather.series_max, gather.stop);
                for series in self.select_until(matchers, first, end, most, left, stop)? {
                    gather.count(series.values.len())?;
                    all.of(series.labels)?.push(series.timestamps, series.values);
                }
            }
        }
        all.series.iter_mut().for_each(|(_, found)| set_apart(&mut found.rollups));
        let has_any = !all.series.is_empty();
        let mut stretches = Vec::new();
        for tier in Tier::ALL {
            let layers = || zone.layers.iter().filter(|layer| layer.held.tier == tier);
            let mut coarser: HashMap<Labels, Vec<Rollup>> = HashMap::new();
            for layer in layers() {
                let span = (layer.start, layer.end);
                self.each_rollups(matchers, &layer.held, span, |labels, rollups| {
                    gather.count(rollups.len().saturating_mul(SAMPLES_PER_ROLLUP))?;
                    coarser.entry(labels).or_default().extend(rollups);
                    Ok(())
                })?;
            }
            let window_ms = tier.window_ms();
            let (mut first, mut last) = (TimestampMs::MAX, TimestampMs::MIN);
            for (labels, mut rollups) in coarser {
                set_apart(&mut rollups);
                all.of(labels)?.unite(&rollups, window_ms, |kept| {
                    (first, last) = (first.min(kept.first_t), last.max(kept.last_t));
                });
            }
            let needed = if has_any {
                (floor(first.saturating_sub(1), window_ms), ceil(last, window_ms))
            } else {
                (TimestampMs::MIN, TimestampMs::MAX)
            };
            let (from, to) = (parts.first(), parts.last());
            let asked = from.zip(to).map_or(needed, |(from, to)| (from.start, to.end));
            stretches.extend(layers().filter_map(|layer| {
                let start_ms = layer.start.max(asked.0).max(needed.0);
                let end_ms = layer.end.min(asked.1).min(needed.1);
                (start_ms < end_ms).then_some(Stretch { tier, start_ms, end_ms })
            }));
        }
        for (labels, found) in all.series {
            gather.add(labels, found)?;
        }
        Ok(stretches)
    }
}

/// Those side by side as one, in order of time.
fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| (stretch.start_ms, stretch.tier));
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for next in stretches {
        match joined.last_mut() {
            Some(last) if last.tier == next.tier && next.start_ms <= last.end_ms => {
                last.end_ms = last.end_ms.max(next.end_ms);
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// The series of a zone.
#[derive(Default)]
struct Zoned {
    places: HashMap<Labels, usize>,
    series: Vec<(Labels, Found)>,
    series_max: usize,
}

impl Zoned {
    fn of(&mut self, labels: Labels) -> Result<&mut Found, SelectError> {
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None => {
                self.series.push((labels.clone(), Found::default()));
                self.places.insert(labels, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        let too_many = SelectError::TooManySeries { max: self.series_max };
        let found = self.series.get_mut(place).filter(|_| place < self.series_max);
        found.map(|(_, found)| found).ok_or(too_many)
    }
}

/// Collects series, and refuses to collect more than was asked for.
struct Gather<'a> {
    resolution: Resolution,
    places: HashMap<Labels, usize>,
    series: Vec<Gathered>,
    samples: usize,
    series_max: usize,
    samples_max: usize,
    /// Whether nobody wants it any more.
    stop: &'a dyn Fn() -> bool,
}

struct Gathered {
    labels: Labels,
    /// Samples, part after part.
    runs: Vec<(Arc<[TimestampMs]>, Vec<f64>)>,
    rollups: Vec<Rollup>,
}

impl Gather<'_> {
    /// Counts what was read; fails once that is too much, or nobody wants it any more.
    fn count(&mut self, samples: usize) -> Result<(), SelectError> {
        if (self.stop)() {
            return Err(SelectError::Stopped);
        }
        self.samples = self.samples.saturating_add(samples);
        if self.samples > self.samples_max {
            return Err(SelectError::TooManySamples { max: self.samples_max });
        }
        Ok(())
    }

    fn add(&mut self, labels: Labels, found: Found) -> Result<(), SelectError> {
        if found.times.is_empty() && found.rollups.is_empty() {
            return Ok(());
        }
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None if self.series.len() >= self.series_max => {
                return Err(SelectError::TooManySeries { max: self.series_max });
            }
            None => {
                let labels_of = labels.clone();
                self.series.push(Gathered {
                    labels: labels_of,
                    runs: Vec::new(),
                    rollups: Vec::new(),
                });
                self.places.insert(labels, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        let Some(series) = self.series.get_mut(place) else { return Ok(()) };
        match self.resolution {
            Resolution::Window(tier) if !found.times.is_empty() => {
                let mut windows = Vec::new();
                roll(found.pieces(), tier.window_ms(), &mut windows);
                series.rollups.extend(windows.into_iter().map(|(_, rollup)| rollup));
            }
            Resolution::Window(_) => series.rollups.extend(found.rollups),
            Resolution::Finest => {
                series.rollups.extend(found.rollups);
                if !found.times.is_empty() {
                    series.runs.push((found.times, found.values));
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<RollupSeries> {
        let resolution = self.resolution;
        let series = self.series.into_iter().map(|mut series| {
            set_apart(&mut series.rollups);
            if let Resolution::Window(tier) = resolution {
                let mut windows = Vec::new();
                roll(series.rollups.iter().copied(), tier.window_ms(), &mut windows);
                series.rollups = windows.into_iter().map(|(_, rollup)| rollup).collect();
            }
            let mut samples = Found::default();
            series.runs.into_iter().for_each(|(times, values)| samples.push(times, values));
            let (labels, rollups) = (series.labels, series.rollups);
            RollupSeries { labels, timestamps: samples.times, values: samples.values, rollups }
        });
        let mut series: Vec<RollupSeries> = series.collect();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        series
    }
}

/// Puts rollups in order. Where two groups have the same series in one window, the one added first
/// stays: the one of the group with the lower number.
fn set_apart(rollups: &mut Vec<Rollup>) {
    if rollups.is_sorted_by(|a, b| a.last_t < b.first_t) {
        return;
    }
    let mut ordered: Vec<(usize, Rollup)> = rollups.drain(..).enumerate().collect();
    ordered.sort_by_key(|(at, rollup)| (rollup.first_t, *at));
    let mut kept: Vec<(usize, Rollup)> = Vec::with_capacity(ordered.len());
    for (at, rollup) in ordered {
        match kept.last_mut() {
            Some(last) if rollup.first_t <= last.1.last_t => {
                if at < last.0 {
                    *last = (at, rollup);
                }
            }
            _ => kept.push((at, rollup)),
        }
    }
    rollups.extend(kept.into_iter().map(|(_, rollup)| rollup));
}

#[cfg(test)]
mod tests {
    use stoa_model::{Rollup, RollupFold};

    use super::set_apart;

    #[test]
    fn windows_of_two_groups_are_told_apart() {
        let window = |first, last, v| {
            let mut fold = RollupFold::default();
            fold.push(&Rollup::of(first, v));
            fold.push(&Rollup::of(last, v));
            fold.finish().unwrap()
        };
        let check = |given: &[(i64, i64)], expected: &[(i64, i64)]| {
            let mut rollups: Vec<_> = given.iter().map(|(a, b)| window(*a, *b, 1.0)).collect();
            set_apart(&mut rollups);
            let kept: Vec<_> = rollups.iter().map(|r| (r.first_t, r.last_t)).collect();
            assert_eq!(kept, expected, "{given:?}");
        };
        check(&[(1, 9), (11, 19)], &[(1, 9), (11, 19)]);
        check(&[(11, 19), (1, 9)], &[(1, 9), (11, 19)]);
        check(&[(1, 9), (11, 19), (2, 8), (21, 29)], &[(1, 9), (11, 19), (21, 29)]);
        check(&[(3, 9), (1, 4), (10, 12)], &[(3, 9), (10, 12)]);
    }
}

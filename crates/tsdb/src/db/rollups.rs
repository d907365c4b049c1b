//! Reading rollups: blocks of tiers, and samples where there are none.
//!
//! Each stretch of time is read from one kind of place. A block of a tier that is stale, or whose span
//! may have late samples in the head, is not read while the samples are there.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, Rollup, TimestampMs};

use super::Db;
use crate::block::BlockQuery;
use crate::tier::{TierBlock, ceil, roll};
use crate::{SelectError, Tier};

/// Samples are read and rolled up this much at a time.
const PIECE_MS: i64 = 2 * 3_600_000;

/// What a rollup counts against a limit of samples: it takes as much memory.
const SAMPLES_PER_ROLLUP: usize = 5;

/// Which rollups are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Of the windows of this tier, all of them: of this tier or a finer one where it has them, of
    /// samples elsewhere; of a coarser one where both are gone.
    Window(Tier),
    /// Samples, each as a rollup of its own, where they are there; where they have been deleted for
    /// their age, of the finest tier that has them.
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

/// One series; its rollups are in order of time and apart from each other.
#[derive(Clone, Debug)]
pub struct RollupSeries {
    /// The series' labels.
    pub labels: Labels,
    /// At least one.
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

/// A part of the time asked for, `start < t ≤ end`, and the block that has it if it is no samples'.
struct Part {
    start: TimestampMs,
    end: TimestampMs,
    held: Option<Arc<TierBlock>>,
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
        (start_ms, end_ms): (TimestampMs, TimestampMs),
        resolution: Resolution,
        series_max: usize,
        samples_max: usize,
    ) -> Result<Option<Rollups>, SelectError> {
        let parts = self.parts(start_ms, end_ms, resolution);
        if parts.iter().all(|part| part.held.is_none()) {
            return Ok(None);
        }
        let mut gather = Gather {
            places: HashMap::new(),
            series: Vec::new(),
            samples: 0,
            series_max,
            samples_max,
        };
        let mut stretches: Vec<Stretch> = Vec::new();
        for part in &parts {
            let Some(held) = &part.held else {
                self.gather_samples(matchers, part, resolution, &mut gather)?;
                continue;
            };
            self.gather_rollups(matchers, part, held, &mut gather)?;
            match stretches.last_mut() {
                Some(last) if last.tier == held.tier && last.end_ms == part.start => {
                    last.end_ms = part.end;
                }
                _ => stretches.push(Stretch {
                    tier: held.tier,
                    start_ms: part.start,
                    end_ms: part.end,
                }),
            }
        }
        let samples = gather.samples;
        let mut series = gather.finish();
        if let Resolution::Window(tier) = resolution {
            for series in &mut series {
                let mut windows = Vec::new();
                roll(
                    std::mem::take(&mut series.rollups).into_iter(),
                    tier.window_ms(),
                    &mut windows,
                );
                series.rollups = windows.into_iter().map(|(_, rollup)| rollup).collect();
            }
        }
        let samples_kept_ms = self.options.retention_ms;
        Ok(Some(Rollups { series, stretches, samples, samples_kept_ms }))
    }

    /// Cuts the time asked for into parts, in order.
    fn parts(&self, start: TimestampMs, end: TimestampMs, resolution: Resolution) -> Vec<Part> {
        let state = self.state();
        if state.tiers.blocks.is_empty() {
            return Vec::new();
        }
        let head_first = state.head.first_t().unwrap_or(i64::MAX);
        let spans = state.tiers.blocks.iter().map(|held| held.span());
        let blocks = state.blocks.iter().map(|block| (block.meta.first_t, block.meta.last_t));
        let (oldest, newest) =
            spans.chain(blocks).fold((head_first, state.head.max_t()), |(low, high), (a, b)| {
                (low.min(a), high.max(b))
            });
        let coarsest = match resolution {
            Resolution::Window(tier) => tier.window_ms(),
            Resolution::Finest => 1,
        };
        let floor = |t: TimestampMs, ms| ceil(t.saturating_add(1), ms).saturating_sub(ms);
        let all = Part {
            start: floor(start.max(oldest).saturating_sub(1), coarsest),
            end: ceil(end.min(newest), coarsest),
            held: None,
        };
        if all.start >= all.end {
            return Vec::new();
        }
        let mut parts = vec![all];
        let is_fit = |tier: &Tier| matches!(resolution, Resolution::Window(most) if *tier <= most);
        // Of those that fit the coarsest first: it is the least to read. Of what is left the finest.
        let fit = Tier::ALL.into_iter().rev().filter(is_fit);
        let left = Tier::ALL.into_iter().filter(|tier| !is_fit(tier));
        for tier in fit.chain(left) {
            for held in state.tiers.of(tier) {
                let is_whole = !held.is_stale() && held.span().1 < head_first;
                if held.is_sealed() || (is_fit(&tier) && is_whole) {
                    carve(&mut parts, held);
                }
            }
        }
        parts.sort_by_key(|part| part.start);
        parts
    }

    fn gather_rollups(
        &self,
        matchers: &[Matcher],
        part: &Part,
        held: &TierBlock,
        gather: &mut Gather,
    ) -> Result<(), SelectError> {
        let block = &held.block;
        let Some(index) = self.index(block) else { return Ok(()) };
        // Windows that reach into the part.
        let window_ms = held.tier.window_ms();
        let start = part.start.saturating_add(1);
        let mut query = BlockQuery::new(block, &index, start, ceil(part.end, window_ms));
        let Some(numbers) = self.whole(block, query.find(matchers)) else { return Ok(()) };
        let mut windows = Vec::new();
        for number in numbers {
            let Some(series) = self.whole(block, query.series(number)) else { break };
            let Some(series) = series else { continue };
            windows.clear();
            self.counters.damaged_chunks(query.rollups(&series.place, &mut windows));
            gather.add(series.labels, windows.iter().map(|(_, rollup)| *rollup))?;
            gather.count(windows.len().saturating_mul(SAMPLES_PER_ROLLUP))?;
        }
        Ok(())
    }

    fn gather_samples(
        &self,
        matchers: &[Matcher],
        part: &Part,
        resolution: Resolution,
        gather: &mut Gather,
    ) -> Result<(), SelectError> {
        let mut start = part.start;
        while start < part.end {
            let end = part.end.min(start.saturating_add(PIECE_MS));
            let left = gather.samples_max.saturating_sub(gather.samples);
            let first = start.saturating_add(1);
            for series in self.select(matchers, first, end, gather.series_max, left)? {
                gather.count(series.values.len())?;
                let samples = series.timestamps.iter().zip(&series.values);
                let samples = samples.map(|(t, v)| Rollup::of(*t, *v));
                match resolution {
                    Resolution::Finest => {
                        gather.count(series.values.len() * (SAMPLES_PER_ROLLUP - 1))?;
                        gather.add(series.labels, samples)?;
                    }
                    Resolution::Window(tier) => {
                        let mut windows = Vec::new();
                        roll(samples, tier.window_ms(), &mut windows);
                        gather.add(series.labels, windows.iter().map(|(_, rollup)| *rollup))?;
                    }
                }
            }
            start = end;
        }
        Ok(())
    }
}

/// Gives a block the free time that lies in its span.
fn carve(parts: &mut Vec<Part>, held: &Arc<TierBlock>) {
    let (start, end) = held.span();
    let mut cut = Vec::with_capacity(parts.len() + 2);
    for part in parts.drain(..) {
        let (from, to) = (part.start.max(start), part.end.min(end));
        if part.held.is_some() || from >= to {
            cut.push(part);
            continue;
        }
        let free = [(part.start, from), (to, part.end)];
        let free = free.into_iter().filter(|(start, end)| start < end);
        cut.extend(free.map(|(start, end)| Part { start, end, held: None }));
        cut.push(Part { start: from, end: to, held: Some(Arc::clone(held)) });
    }
    *parts = cut;
}

/// Collects the rollups of series, and refuses to collect more than was asked for.
struct Gather {
    places: HashMap<Labels, usize>,
    series: Vec<RollupSeries>,
    samples: usize,
    series_max: usize,
    samples_max: usize,
}

impl Gather {
    fn count(&mut self, samples: usize) -> Result<(), SelectError> {
        self.samples = self.samples.saturating_add(samples);
        if self.samples > self.samples_max {
            return Err(SelectError::TooManySamples { max: self.samples_max });
        }
        Ok(())
    }

    fn add(
        &mut self,
        labels: Labels,
        rollups: impl ExactSizeIterator<Item = Rollup>,
    ) -> Result<(), SelectError> {
        if rollups.len() == 0 {
            return Ok(());
        }
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None if self.series.len() >= self.series_max => {
                return Err(SelectError::TooManySeries { max: self.series_max });
            }
            None => {
                self.series.push(RollupSeries { labels: labels.clone(), rollups: Vec::new() });
                self.places.insert(labels, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        if let Some(series) = self.series.get_mut(place) {
            series.rollups.extend(rollups);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<RollupSeries> {
        for series in &mut self.series {
            set_apart(&mut series.rollups);
        }
        self.series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        self.series
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

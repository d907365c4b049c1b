//! Reading head and blocks as one.
//!
//! What is wanted of the head is copied out, by reference, under the lock; everything is decoded after
//! it. A block whose index is damaged answers nothing more and is set aside by the next maintenance;
//! a damaged chunk is left out; both are counted.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::gather::{Kinds, Wanted, overlapping};
use super::histograms::floats_of;
use super::{Db, State};
use crate::SelectError;
use crate::block::{Block, BlockError, BlockQuery, CHUNKS, INDEX, Index};
use crate::bytes::Malformed;
use crate::damage::{Cost, Damage, Lost, Missing};
use crate::head::{TimesCache, Window};
use crate::head_file::{self, head_dir};
use crate::matching::Index as _;
use crate::select::{Gather, SeriesData};
use crate::tier::TierBlock;

impl Db {
    /// The series all matchers hold for that have a sample from `start_ms` to `end_ms`, both
    /// included, with those samples; in order of labels.
    ///
    /// # Errors
    /// [`SelectError`] when there are more than `series_max` of them or they hold more than
    /// `samples_max` samples together.
    pub fn select(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
    ) -> Result<Vec<SeriesData>, SelectError> {
        let never = || false;
        self.select_until(matchers, start_ms, end_ms, series_max, samples_max, &never)
    }

    /// The same, and ended early once `stop` says so, which is asked for each series.
    ///
    /// # Errors
    /// As [`Self::select`]; [`SelectError::Stopped`].
    pub fn select_until(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<SeriesData>, SelectError> {
        let (counted, newest) = (None, false);
        let wanted =
            Wanted { matchers, start_ms, end_ms, series_max, samples_max, counted, stop, newest };
        self.selected(&wanted)
    }

    pub(super) fn selected(&self, wanted: &Wanted<'_>) -> Result<Vec<SeriesData>, SelectError> {
        let Wanted { matchers, start_ms, end_ms, series_max, samples_max, .. } = *wanted;
        // Taken in one step, so that samples on their way to a block are in one of the two.
        let (mut found, blocks) = {
            let state = self.state();
            let found = state.head.select(matchers, start_ms, end_ms);
            (wanted.bounded(found)?, overlapping(&state, start_ms, end_ms))
        };
        found.sort_by_key(|series| series.group);
        let mut gather = Gather::new(series_max, samples_max);
        self.each_in_blocks(&blocks, wanted, Kinds::Floats, |query, series, _| {
            gather.add(series.labels, |samples| {
                self.counters.damaged_chunks(query.samples(&series.place, samples));
            })
        })?;
        let mut times = TimesCache::default();
        let mut both = HashSet::new();
        for mut series in found {
            wanted.go_on()?;
            Self::wanted_beside(wanted, &series.open, &mut series.sealed);
            both.extend(series.has_histograms.then(|| series.labels.clone()));
            gather.add(series.labels, |samples| {
                self.head_floats(&series.sealed, wanted, &mut times, samples);
                samples.append(&series.open);
            })?;
        }
        both.retain(|labels| gather.has(labels));
        self.each_in_blocks(&blocks, wanted, Kinds::Histograms, |_, series, _| {
            both.extend(Some(series.labels).filter(|labels| gather.has(labels)));
            Ok(())
        })?;
        if both.is_empty() {
            return Ok(gather.finish());
        }
        both.iter().for_each(|labels| gather.forget(labels));
        let again = Wanted { counted: Some(Kinds::Floats), ..*wanted };
        let mixed = self.select_mixed(&again, &both)?;
        let mut series = gather.finish();
        series.extend(mixed.filter_map(floats_of));
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(series)
    }

    /// The labels of the series that every matcher of one of the sets holds for and that have
    /// samples near the range (to the chunk, where it is not open); in order, at most
    /// `limit`.
    #[must_use]
    pub fn series(
        &self,
        sets: &[&[Matcher]],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<Labels> {
        let mut found = First::new(limit);
        self.each_series(sets, start_ms, end_ms, &mut |labels| found.push(labels));
        found.into_vec()
    }

    /// The same series one by one, in no order, some more than once. Those of the head with the state
    /// held.
    fn each_series(
        &self,
        sets: &[&[Matcher]],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        each: &mut dyn FnMut(Labels),
    ) {
        let blocks = {
            let state = self.state();
            for matchers in sets {
                state.head.series(matchers, start_ms, end_ms).for_each(&mut *each);
            }
            overlapping_or_older(&state, start_ms, end_ms)
        };
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
            for matchers in sets {
                let Some(numbers) = self.whole(block, query.find(matchers)) else { break };
                for number in numbers {
                    let Some(series) = self.whole(block, query.series(number)) else { break };
                    series.into_iter().for_each(|series| each(series.labels));
                }
            }
        }
    }

    /// The names of the labels of the series all matchers hold for that have samples near the range;
    /// without matchers, of all series of the head and of blocks that overlap it. In order, at most
    /// `limit`.
    #[must_use]
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        let mut names = BTreeSet::new();
        if !matchers.is_empty() {
            self.each_series(&[matchers], start_ms, end_ms, &mut |labels| {
                for label in labels.iter() {
                    if !names.contains(&*label.name) {
                        names.insert(label.name.to_string());
                    }
                }
            });
            return names.into_iter().take(limit).collect();
        }
        let blocks = {
            let state = self.state();
            state.head.label_names(&mut |name| names.extend([name.to_owned()]));
            overlapping_or_older(&state, start_ms, end_ms)
        };
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            if !block.tombstones.is_empty() {
                let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
                let each = |labels: Labels| {
                    names.extend(labels.iter().map(|label| label.name.to_string()));
                };
                let Some(()) = self.whole(block, query.each_label_set(each)) else { continue };
                continue;
            }
            let read = index.names(&mut |name| names.extend([name.to_owned()]));
            let Some(()) = self.whole(block, read) else { continue };
        }
        names.into_iter().take(limit).collect()
    }

    /// The values of a label over the series all matchers hold for that have samples near the range;
    /// without matchers, over all series of the head and of blocks that overlap it. In order, at
    /// most `limit`.
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        let mut values = First::new(limit);
        if !matchers.is_empty() {
            self.each_series(&[matchers], start_ms, end_ms, &mut |labels| {
                labels.get(name).into_iter().for_each(|value| values.push(value.to_owned()));
            });
            return values.into_vec();
        }
        let blocks = {
            let state = self.state();
            state.head.label_values(name, &mut |value| values.push(value.to_owned()));
            overlapping_or_older(&state, start_ms, end_ms)
        };
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            if !block.tombstones.is_empty() {
                let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
                let each = |labels: Labels| {
                    labels.get(name).into_iter().for_each(|value| values.push(value.to_owned()));
                };
                let Some(()) = self.whole(block, query.each_label_set(each)) else { continue };
                continue;
            }
            let read = index.values(name, &mut |value| values.push(value.to_owned()));
            let Some(()) = self.whole(block, read) else { continue };
        }
        values.into_vec()
    }

    pub(super) fn index(&self, block: &Block) -> Option<Arc<Index>> {
        match self.indexes.get(block) {
            Ok(index) => {
                if self.unread_indexes.load(Relaxed) > 0 {
                    self.notes.found(&block.dir.join(INDEX));
                }
                Some(index)
            }
            Err(BlockError::Malformed(malformed)) => {
                self.found_damaged(block, malformed);
                None
            }
            // The disk may answer next time.
            Err(BlockError::Io(error)) => {
                self.counters.damaged_chunks(1);
                self.unread_indexes.fetch_add(1, Relaxed);
                let (path, what) = (block.dir.join(INDEX), format!("cannot be read now: {error}"));
                self.notes.tell(Damage::new(path, what, block.cost()));
                None
            }
        }
    }

    /// What was read of a block's index, if it was whole.
    pub(super) fn whole<T>(&self, block: &Block, read: Result<T, Malformed>) -> Option<T> {
        read.inspect_err(|malformed| {
            self.found_damaged(block, *malformed);
            self.indexes.forget(block.meta.sequence);
        })
        .ok()
    }

    /// The index of a block does not hold what it promises: the block answers nothing more and is set
    /// aside by the next maintenance.
    pub(super) fn found_damaged(&self, block: &Block, malformed: Malformed) {
        block.set_damaged();
        let damage = Damage::new(block.dir.join(INDEX), malformed.0, block.cost());
        self.notes.wait(&block.dir, damage.at(0, block.meta.index_bytes));
    }

    /// Tells what a query did not get of a block's chunks.
    pub(super) fn missed(&self, block: &Block, lost: &Lost) {
        if lost.chunks > 0 {
            let what = "chunks are damaged or cannot be read";
            self.notes.tell(Damage::new(block.dir.join(CHUNKS), what, lost.cost()));
        }
    }

    /// Tells a chunk of the head that could not be read.
    pub(super) fn missed_in_head(&self, window: &Window) {
        let dir = &self.dir;
        let file = window.place().file().map(|number| head_file::path(dir, number));
        let times = Some((window.first_t(), window.last_t()));
        let what = "chunks are damaged or cannot be read";
        let cost = Cost::Chunks { chunks: 1, times };
        self.notes.tell(Damage::new(file.unwrap_or_else(|| head_dir(dir)), what, cost));
    }

    /// Damage met since the last call, each place once, and how much more there was than is listed:
    /// to be told to a person. What the start met is in [`Recovery`](crate::Recovery).
    #[must_use]
    pub fn take_damage(&self) -> (Vec<Damage>, u64) {
        self.notes.take()
    }

    /// What answers about the time from `start_ms` to `end_ms`, both included, may lack because of
    /// damage met since the database was opened. Of damaged chunks it is not known here of which
    /// series they were.
    #[must_use]
    pub fn missing(&self, start_ms: TimestampMs, end_ms: TimestampMs) -> Vec<Missing> {
        self.notes.missing(start_ms, end_ms)
    }
}

/// The first of many, in order, each once: never more are held than are wanted.
struct First<T> {
    limit: usize,
    held: BTreeSet<T>,
}

impl<T: Ord> First<T> {
    fn new(limit: usize) -> Self {
        Self { limit, held: BTreeSet::new() }
    }

    fn push(&mut self, one: T) {
        if self.held.len() >= self.limit && self.held.last().is_none_or(|last| *last <= one) {
            return;
        }
        self.held.insert(one);
        if self.held.len() > self.limit {
            self.held.pop_last();
        }
    }

    fn into_vec(self) -> Vec<T> {
        self.held.into_iter().collect()
    }
}

/// The blocks that overlap a range, with those of tiers whose samples are gone.
fn overlapping_or_older(state: &State, start: TimestampMs, end: TimestampMs) -> Vec<Arc<Block>> {
    let mut blocks = overlapping(state, start, end);
    let is_wanted =
        |held: &&Arc<TierBlock>| held.is_sealed_in(start, end) && !held.block.is_damaged();
    let held = state.tiers.blocks.iter().filter(is_wanted);
    blocks.extend(held.map(|held| Arc::clone(&held.block)));
    blocks
}

#[cfg(test)]
mod tests {
    use super::First;

    #[test]
    fn no_more_are_held_than_are_wanted() {
        for limit in [0, 1, 3, 10] {
            let mut first = First::new(limit);
            for one in [5, 3, 9, 1, 3, 7, 1, 4] {
                first.push(one);
                assert!(first.held.len() <= limit);
            }
            let sorted = [1, 3, 4, 5, 7, 9];
            assert_eq!(first.into_vec(), sorted[..limit.min(6)]);
        }
    }
}

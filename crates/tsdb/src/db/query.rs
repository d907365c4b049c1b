//! Reading head and blocks as one.
//!
//! What is wanted of the head is copied out, by reference, under the lock; everything is decoded after
//! it. A block whose index is damaged answers nothing more and is set aside by the next maintenance;
//! a damaged chunk is left out; both are counted.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::gather::{Kinds, Wanted, overlapping};
use super::histograms::floats_of;
use super::{Db, State};
use crate::SelectError;
use crate::block::{Block, BlockError, BlockQuery, Index};
use crate::bytes::Malformed;
use crate::head::TimesCache;
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
        let wanted = Wanted { matchers, start_ms, end_ms, series_max, samples_max };
        // Taken in one step, so that samples on their way to a block are in one of the two.
        let (mut found, blocks) = {
            let state = self.state();
            let found = state.head.select(matchers, start_ms, end_ms);
            (wanted.bounded(found)?, overlapping(&state, start_ms, end_ms))
        };
        found.sort_by_key(|series| series.group);
        let mut gather = Gather::new(series_max, samples_max);
        self.each_in_blocks(&blocks, &wanted, Kinds::Floats, |query, series, _| {
            gather.add(series.labels, |samples| {
                self.counters.damaged_chunks(query.samples(&series.place, samples));
            })
        })?;
        let mut times = TimesCache::default();
        let mut both = HashSet::new();
        for series in found {
            both.extend(series.has_histograms.then(|| series.labels.clone()));
            gather.add(series.labels, |samples| {
                self.head_floats(&series.sealed, &wanted, &mut times, samples);
                samples.append(&series.open);
            })?;
        }
        both.retain(|labels| gather.has(labels));
        self.each_in_blocks(&blocks, &wanted, Kinds::Histograms, |_, series, _| {
            both.extend(Some(series.labels).filter(|labels| gather.has(labels)));
            Ok(())
        })?;
        if both.is_empty() {
            return Ok(gather.finish());
        }
        both.iter().for_each(|labels| gather.forget(labels));
        let mixed = self.select_mixed(&wanted, &both)?;
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
        let mut found = BTreeSet::new();
        let blocks = {
            let state = self.state();
            for matchers in sets {
                found.extend(state.head.series(matchers, start_ms, end_ms));
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
                    found.extend(series.map(|series| series.labels));
                }
            }
        }
        found.into_iter().take(limit).collect()
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
            for labels in self.series(&[matchers], start_ms, end_ms, usize::MAX) {
                names.extend(labels.iter().map(|label| label.name.to_string()));
            }
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
        let mut values = BTreeSet::new();
        if !matchers.is_empty() {
            for labels in self.series(&[matchers], start_ms, end_ms, usize::MAX) {
                values.extend(labels.get(name).map(str::to_owned));
            }
            return values.into_iter().take(limit).collect();
        }
        let blocks = {
            let state = self.state();
            state.head.label_values(name, &mut |value| values.extend([value.to_owned()]));
            overlapping_or_older(&state, start_ms, end_ms)
        };
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            if !block.tombstones.is_empty() {
                let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
                let each = |labels: Labels| values.extend(labels.get(name).map(str::to_owned));
                let Some(()) = self.whole(block, query.each_label_set(each)) else { continue };
                continue;
            }
            let read = index.values(name, &mut |value| values.extend([value.to_owned()]));
            let Some(()) = self.whole(block, read) else { continue };
        }
        values.into_iter().take(limit).collect()
    }

    pub(super) fn index(&self, block: &Block) -> Option<Arc<Index>> {
        match self.indexes.get(block) {
            Ok(index) => Some(index),
            Err(BlockError::Malformed(_)) => {
                block.set_damaged();
                None
            }
            // The disk may answer next time.
            Err(BlockError::Io(_)) => {
                self.counters.damaged_chunks(1);
                None
            }
        }
    }

    /// What was read of a block's index, if it was whole.
    pub(super) fn whole<T>(&self, block: &Block, read: Result<T, Malformed>) -> Option<T> {
        if read.is_err() {
            block.set_damaged();
            self.indexes.forget(block.meta.sequence);
        }
        read.ok()
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

//! Reading head and blocks as one.
//!
//! What is wanted of the head is copied out, by reference, under the lock; everything is decoded after
//! it. A block whose index is damaged answers nothing more and is set aside by the next maintenance;
//! a damaged chunk is left out; both are counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::{Matcher, TimestampMs};

use super::Db;
use super::gather::{Kinds, Wanted, overlapping};
use super::histograms::floats_of;
use crate::SelectError;
use crate::block::{Block, BlockError, CHUNKS, INDEX, Index};
use crate::bytes::Malformed;
use crate::damage::{Cost, Damage, Lost, Missing};
use crate::head::{TimesCache, Window};
use crate::head_file::{self, head_dir};
use crate::select::{Gather, SeriesData};

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
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, samples_max, stop);
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
        let damage = Damage::new(block.dir.join(INDEX), malformed.0, block.cost());
        // First: whoever is not answered by the block is to find that the past has changed.
        self.notes.wait(&block.dir, damage.at(0, block.meta.index_bytes));
        block.set_damaged();
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

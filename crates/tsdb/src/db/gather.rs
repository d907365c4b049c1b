//! What a selection finds, place by place, in the order in which places win: blocks by rank, then the
//! head. Within one of them the group with the lower number wins.

use std::sync::Arc;

use stoa_model::{Matcher, TimestampMs};

use super::{Db, State};
use crate::SelectError;
use crate::block::{Block, BlockQuery, BlockSeries};
use crate::head::{Sealed, TimesCache};
use crate::select::Samples;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) matchers: &'a [Matcher],
    pub(super) start_ms: TimestampMs,
    pub(super) end_ms: TimestampMs,
    pub(super) series_max: usize,
    pub(super) samples_max: usize,
    /// What was read before for the same answer: of that damage is counted.
    pub(super) counted: Option<Kinds>,
    /// Whether nobody wants it any more.
    pub(super) stop: &'a dyn Fn() -> bool,
    /// Of each series the newest sample will do.
    pub(super) newest: bool,
}

/// Which series of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    Floats,
    Histograms,
    Both,
}

impl<'a> Wanted<'a> {
    /// All samples of some series, read once.
    pub(super) fn new(
        matchers: &'a [Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let (counted, newest) = (None, false);
        Self { matchers, start_ms, end_ms, series_max, samples_max, counted, stop, newest }
    }

    /// Fails once nobody wants it any more.
    pub(super) fn go_on(&self) -> Result<(), SelectError> {
        if (self.stop)() { Err(SelectError::Stopped) } else { Ok(()) }
    }

    /// Counts the damaged chunks of series of a kind, unless they are.
    pub(super) fn count(&self, db: &Db, kinds: Kinds, damaged: u64) {
        if self.counted != Some(kinds) {
            db.counters.damaged_chunks(damaged);
        }
    }

    /// What the head has, unless it is far more than may be.
    pub(super) fn bounded<T>(&self, found: impl Iterator<Item = T>) -> Result<Vec<T>, SelectError> {
        // Series of several groups may be one; the last word is the gathering's.
        let too_many = self.series_max.saturating_mul(4).saturating_add(1001);
        let found: Vec<T> = found.take(too_many).collect();
        if found.len() >= too_many {
            return Err(SelectError::TooManySeries { max: self.series_max });
        }
        Ok(found)
    }
}

impl Db {
    /// Hands the series of blocks to `each`, with what reads them and whether they are of histograms.
    pub(super) fn each_in_blocks(
        &self,
        blocks: &[Arc<Block>],
        wanted: &Wanted<'_>,
        kinds: Kinds,
        mut each: impl FnMut(&mut BlockQuery<'_>, BlockSeries, bool) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let only_histograms = kinds == Kinds::Histograms;
        for block in blocks {
            if only_histograms && block.has_histograms() == Some(false) {
                continue;
            }
            let Some(index) = self.index(block) else { continue };
            if only_histograms && !index.has_any_histograms() {
                continue;
            }
            let mut query = BlockQuery::new(block, &index, wanted.start_ms, wanted.end_ms);
            let Some(numbers) = self.whole(block, query.find(wanted.matchers)) else { continue };
            for number in numbers {
                let are_histograms = index.has_histograms(number);
                let is_wanted = match kinds {
                    Kinds::Floats => !are_histograms,
                    Kinds::Histograms => are_histograms,
                    Kinds::Both => true,
                };
                if !is_wanted {
                    continue;
                }
                wanted.go_on()?;
                let Some(series) = self.whole(block, query.series(number)) else { break };
                if let Some(series) = series {
                    each(&mut query, series, are_histograms)?;
                }
            }
            self.missed(block, &query.lost);
        }
        Ok(())
    }

    /// Leaves of sealed windows those that are wanted beside the samples of open ones.
    pub(super) fn wanted_beside(wanted: &Wanted<'_>, open: &Samples, sealed: &mut Vec<Sealed>) {
        if let Some(newest) = open.last_t().filter(|_| wanted.newest) {
            // Of one instant the sample that was sealed counts.
            sealed.retain(|sealed| sealed.window.last_t() >= newest);
        }
    }

    /// Appends what sealed windows of the head have of a series' floats.
    pub(super) fn head_floats(
        &self,
        sealed: &[Sealed],
        wanted: &Wanted<'_>,
        times: &mut TimesCache,
        out: &mut Samples,
    ) {
        for sealed in sealed {
            if sealed.decode(wanted.start_ms, wanted.end_ms, times, out).is_err() {
                wanted.count(self, Kinds::Floats, 1);
                self.missed_in_head(&sealed.window);
            }
        }
    }
}

/// The blocks that overlap a range, in order of rank.
pub(super) fn overlapping(state: &State, start: TimestampMs, end: TimestampMs) -> Vec<Arc<Block>> {
    let is_wanted = |block: &&Arc<Block>| block.overlaps(start, end) && !block.is_damaged();
    state.blocks.iter().filter(is_wanted).cloned().collect()
}

//! What there is: series, and the names and values of their labels.
//!
//! Bounds: a question holds the first of what it finds, as many and of as many bytes as it asks for
//! ([`Near`]), and can be ended at each series it looks at.

use std::collections::BTreeSet;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::gather::overlapping;
use super::{Db, State};
use crate::SelectError;
use crate::block::{Block, BlockQuery, Index};
use crate::matching::Index as _;
use crate::tier::TierBlock;

/// What a label takes in memory beside its text, about.
pub(super) const LABEL_BYTES: usize = 48;

/// What anything takes that is held, about.
pub(super) const ENTRY_BYTES: usize = 64;

/// Which series a question about names looks at, and how much it may hold.
#[derive(Clone, Copy)]
pub struct Near<'a> {
    /// The first instant: to the chunk, where it is not open.
    pub start_ms: TimestampMs,
    /// The last.
    pub end_ms: TimestampMs,
    /// Most that are answered, the first in their order.
    pub limit: usize,
    /// Most bytes they may take in memory.
    pub bytes_max: usize,
    /// Whether nobody wants it any more; asked for each series.
    pub stop: &'a dyn Fn() -> bool,
}

impl Near<'_> {
    fn go_on(&self) -> Result<(), SelectError> {
        if (self.stop)() { Err(SelectError::Stopped) } else { Ok(()) }
    }
}

impl Db {
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
        let near = Near { start_ms, end_ms, limit, bytes_max: usize::MAX, stop: &|| false };
        // Nothing bounds it.
        self.series_until(sets, &near).unwrap_or_default()
    }

    /// The same, as far as may be.
    ///
    /// # Errors
    /// [`SelectError::TooManyBytes`]; [`SelectError::Stopped`].
    pub fn series_until(
        &self,
        sets: &[&[Matcher]],
        near: &Near<'_>,
    ) -> Result<Vec<Labels>, SelectError> {
        let mut found = First::new(near, |labels: &Labels| {
            ENTRY_BYTES + labels.text_bytes() + labels.len() * LABEL_BYTES
        });
        self.each_series(sets, near, &mut |labels| found.push(labels))?;
        Ok(found.into_vec())
    }

    /// The names of the labels of the series all matchers hold for that have samples near the range;
    /// without matchers, of all series of the head and of blocks that overlap it. In order, at most
    /// `limit`.
    ///
    /// # Errors
    /// As [`Self::series_until`].
    pub fn label_names_until(
        &self,
        matchers: &[Matcher],
        near: &Near<'_>,
    ) -> Result<Vec<String>, SelectError> {
        let mut names = First::new(near, |name: &String| ENTRY_BYTES + name.len());
        if !matchers.is_empty() {
            self.each_series(&[matchers], near, &mut |labels| names.push_names(&labels))?;
            return Ok(names.into_vec());
        }
        let blocks = {
            let state = self.state();
            let mut all = Ok(());
            state.head.label_names(&mut |name| names.push_text(name, &mut all));
            all?;
            overlapping_or_older(&state, near)
        };
        for block in &blocks {
            near.go_on()?;
            let Some(index) = self.index(block) else { continue };
            let mut all = Ok(());
            if block.tombstones.is_empty() {
                let _whole =
                    self.whole(block, index.names(&mut |name| names.push_text(name, &mut all)));
            } else {
                all = self.each_in_block(block, &index, &[], near, &mut |labels| {
                    names.push_names(&labels)
                });
            }
            all?;
        }
        Ok(names.into_vec())
    }

    /// The values of a label over the series all matchers hold for that have samples near the range;
    /// without matchers, over all series of the head and of blocks that overlap it. In order, at
    /// most `limit`.
    ///
    /// # Errors
    /// As [`Self::series_until`].
    pub fn label_values_until(
        &self,
        name: &str,
        matchers: &[Matcher],
        near: &Near<'_>,
    ) -> Result<Vec<String>, SelectError> {
        let mut values = First::new(near, |value: &String| ENTRY_BYTES + value.len());
        let push = |values: &mut First<_, _>, labels: &Labels| match labels.get(name) {
            Some(value) => values.push(value.to_owned()),
            None => Ok(()),
        };
        if !matchers.is_empty() {
            self.each_series(&[matchers], near, &mut |labels| push(&mut values, &labels))?;
            return Ok(values.into_vec());
        }
        let blocks = {
            let state = self.state();
            let mut all = Ok(());
            state.head.label_values(name, &mut |value| values.push_text(value, &mut all));
            all?;
            overlapping_or_older(&state, near)
        };
        for block in &blocks {
            near.go_on()?;
            let Some(index) = self.index(block) else { continue };
            let mut all = Ok(());
            if block.tombstones.is_empty() {
                let each = &mut |value: &str| values.push_text(value, &mut all);
                let _whole = self.whole(block, index.values(name, each));
            } else {
                all = self.each_in_block(block, &index, &[], near, &mut |labels| {
                    push(&mut values, &labels)
                });
            }
            all?;
        }
        Ok(values.into_vec())
    }

    /// The names of labels, with nothing to stop it; see [`Self::label_names_until`].
    #[must_use]
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        let near = Near { start_ms, end_ms, limit, bytes_max: usize::MAX, stop: &|| false };
        self.label_names_until(matchers, &near).unwrap_or_default()
    }

    /// The values of a label, with nothing to stop it; see [`Self::label_values_until`].
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        let near = Near { start_ms, end_ms, limit, bytes_max: usize::MAX, stop: &|| false };
        self.label_values_until(name, matchers, &near).unwrap_or_default()
    }

    /// The series of some sets of matchers one by one, in no order, some more than once. Those of the
    /// head with the state held.
    fn each_series(
        &self,
        sets: &[&[Matcher]],
        near: &Near<'_>,
        each: &mut dyn FnMut(Labels) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let blocks = {
            let state = self.state();
            for matchers in sets {
                for labels in state.head.series(matchers, near.start_ms, near.end_ms) {
                    near.go_on()?;
                    each(labels)?;
                }
            }
            overlapping_or_older(&state, near)
        };
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            for matchers in sets {
                self.each_in_block(block, &index, matchers, near, each)?;
            }
        }
        Ok(())
    }

    /// The series of a block, as far as its index is whole.
    fn each_in_block(
        &self,
        block: &Block,
        index: &Index,
        matchers: &[Matcher],
        near: &Near<'_>,
        each: &mut dyn FnMut(Labels) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let mut query = BlockQuery::new(block, index, near.start_ms, near.end_ms);
        for number in self.whole(block, query.find(matchers)).into_iter().flatten() {
            near.go_on()?;
            let Some(series) = self.whole(block, query.series(number)) else { break };
            series.map_or(Ok(()), |series| each(series.labels))?;
        }
        Ok(())
    }
}

/// The first of many, in order, each once: never more are held than are wanted.
struct First<T, W> {
    limit: usize,
    held: BTreeSet<T>,
    /// What one takes, in bytes.
    weight: W,
    bytes: usize,
    bytes_max: usize,
}

impl<T: Ord, W: Fn(&T) -> usize> First<T, W> {
    fn new(near: &Near<'_>, weight: W) -> Self {
        let Near { limit, bytes_max, .. } = *near;
        Self { limit, held: BTreeSet::new(), weight, bytes: 0, bytes_max }
    }

    fn push(&mut self, one: T) -> Result<(), SelectError> {
        if self.is_beyond(&one) {
            return Ok(());
        }
        let bytes = (self.weight)(&one);
        if self.held.insert(one) {
            self.bytes += bytes;
        }
        if self.held.len() > self.limit
            && let Some(last) = self.held.pop_last()
        {
            self.bytes -= (self.weight)(&last);
        }
        if self.bytes > self.bytes_max {
            return Err(SelectError::TooManyBytes { max: self.bytes_max });
        }
        Ok(())
    }

    /// Whether there are enough before it.
    fn is_beyond<Q: Ord + ?Sized>(&self, one: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.held.len() >= self.limit && self.held.last().is_none_or(|last| last.borrow() <= one)
    }

    fn into_vec(self) -> Vec<T> {
        self.held.into_iter().collect()
    }
}

impl<W: Fn(&String) -> usize> First<String, W> {
    /// Pushes a text if nothing was wrong so far.
    fn push_text(&mut self, text: &str, so_far: &mut Result<(), SelectError>) {
        if so_far.is_ok() && !self.is_beyond(text) && !self.held.contains(text) {
            *so_far = self.push(text.to_owned());
        }
    }

    fn push_names(&mut self, labels: &Labels) -> Result<(), SelectError> {
        let mut all = Ok(());
        labels.iter().for_each(|label| self.push_text(&label.name, &mut all));
        all
    }
}

/// The blocks that overlap a range, with those of tiers whose samples are gone.
fn overlapping_or_older(state: &State, near: &Near<'_>) -> Vec<Arc<Block>> {
    let (start, end) = (near.start_ms, near.end_ms);
    let mut blocks = overlapping(state, start, end);
    let is_wanted =
        |held: &&Arc<TierBlock>| held.is_sealed_in(start, end) && !held.block.is_damaged();
    let held = state.tiers.blocks.iter().filter(is_wanted);
    blocks.extend(held.map(|held| Arc::clone(&held.block)));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(limit: usize, bytes_max: usize) -> Near<'static> {
        Near { start_ms: 0, end_ms: 0, limit, bytes_max, stop: &|| false }
    }

    #[test]
    fn no_more_are_held_than_are_wanted() {
        for limit in [0, 1, 3, 10] {
            let mut first = First::new(&near(limit, 60), |_: &usize| 10);
            for one in [5, 3, 9, 1, 3, 7, 1, 4] {
                first.push(one).unwrap();
                assert!(first.held.len() <= limit);
                assert_eq!(first.bytes, first.held.len() * 10);
            }
            let sorted = [1, 3, 4, 5, 7, 9];
            assert_eq!(first.into_vec(), sorted[..limit.min(6)]);
        }
    }

    #[test]
    fn nor_more_bytes() {
        let mut first = First::new(&near(3, 25), |_: &usize| 10);
        first.push(5).and_then(|()| first.push(4)).unwrap();
        assert_eq!(first.push(3), Err(SelectError::TooManyBytes { max: 25 }));
    }
}

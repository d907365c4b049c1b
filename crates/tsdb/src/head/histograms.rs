//! The open native histograms of a group, and how they become sealed windows.
//!
//! Histograms come in whatever order they come and are kept by time: few senders have many, and each
//! is far larger than what ordering it costs. They have windows of their own, apart from those of
//! floats, so that a group without any pays nothing. A series that has both kinds has chunks in windows
//! of both; an instant of a series is in one of them only, which `super::group` sees to.
//!
//! Bounds: the ticks of a window; [`GROUP_CELLS_MAX`] numbers in a group and [`CELLS_MAX`] in all of
//! them, with what each histogram and each column takes itself. At a bound a window is sealed early:
//! the group's own, or that of the group that has most.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::column::Presence;
use super::window::WindowBuilder;
use crate::Options;
use crate::batch::{HISTOGRAM_CELLS, histogram_weight};
use crate::chunk::{Effort, encode_histograms};

/// The most numbers a group holds open: 4 MiB.
const GROUP_CELLS_MAX: usize = 1 << 19;

/// The most numbers all groups hold open together: 32 MiB.
pub(super) const CELLS_MAX: usize = 1 << 22;

/// What a series takes that has any: a column of its own.
const COLUMN_CELLS: usize = HISTOGRAM_CELLS;

/// What a group has open.
#[derive(Debug, Default)]
pub(crate) struct OpenHistograms {
    /// By slot and time.
    columns: BTreeMap<u32, BTreeMap<TimestampMs, Arc<Histogram>>>,
    /// How many histograms there are at each instant.
    ticks: BTreeMap<TimestampMs, u32>,
    cells: usize,
}

/// A window of histograms before it has its number.
#[derive(Debug)]
pub(crate) struct SealedPart {
    pub(crate) times: Vec<TimestampMs>,
    pub(crate) builder: WindowBuilder,
}

impl OpenHistograms {
    pub(crate) fn get(&self, slot: u32, t: TimestampMs) -> Option<&Arc<Histogram>> {
        self.columns.get(&slot)?.get(&t)
    }

    /// Whether a histogram at `t` has no place before a window is sealed.
    pub(crate) fn is_full_for(&self, t: TimestampMs, options: &Options) -> bool {
        let ticks = options.window_ticks();
        self.cells >= GROUP_CELLS_MAX || (self.ticks.len() >= ticks && !self.ticks.contains_key(&t))
    }

    /// Puts a histogram where none is, and says how many numbers that takes.
    pub(crate) fn insert(&mut self, slot: u32, t: TimestampMs, histogram: Arc<Histogram>) -> usize {
        let before = self.cells;
        self.cells += histogram_weight(&histogram);
        let column = self.columns.entry(slot).or_insert_with(|| {
            self.cells += COLUMN_CELLS;
            BTreeMap::new()
        });
        if column.insert(t, histogram).is_none() {
            *self.ticks.entry(t).or_default() += 1;
        }
        self.cells - before
    }

    /// How many numbers it takes.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// The first instant.
    pub(crate) fn first_t(&self) -> Option<TimestampMs> {
        self.ticks.keys().next().copied()
    }

    /// Whether there is an instant that is wanted.
    pub(crate) fn has(&self, is_wanted: impl Fn(TimestampMs) -> bool) -> bool {
        self.ticks.keys().any(|t| is_wanted(*t))
    }

    /// The slots that have histograms.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.columns.keys().copied()
    }

    /// Those of a slot in a range, in order of time.
    pub(crate) fn range(
        &self,
        slot: u32,
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = (TimestampMs, &Arc<Histogram>)> {
        let column = self.columns.get(&slot).filter(|_| start <= end);
        column.into_iter().flat_map(move |column| column.range(start..=end).map(|(t, h)| (*t, h)))
    }

    /// How many series have some open.
    pub(crate) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Histograms and about how many bytes they take.
    pub(crate) fn footprint(&self) -> (u64, u64) {
        let histograms: u64 = self.ticks.values().map(|count| u64::from(*count)).sum();
        (histograms, self.cells as u64 * 8)
    }

    /// All of it as windows, each within one block range and each chunk short enough for one.
    pub(crate) fn encode(&self, options: &Options) -> Vec<SealedPart> {
        let ticks: Vec<TimestampMs> = self.ticks.keys().copied().collect();
        let slots: Vec<u32> = self.columns.keys().copied().collect();
        let mut parts = Vec::new();
        let block_of = |t: &TimestampMs| options.block_start(*t);
        for part in ticks.chunk_by(|a, b| block_of(a) == block_of(b)) {
            self.encode_part(part, &slots, &mut parts);
        }
        parts
    }

    /// A window of some ticks; columns too long for it go to two of half as many.
    fn encode_part(&self, ticks: &[TimestampMs], slots: &[u32], parts: &mut Vec<SealedPart>) {
        let mut builder = WindowBuilder::default();
        let mut too_long = Vec::new();
        let mut chunk = Vec::new();
        for slot in slots {
            let Some(column) = self.columns.get(slot) else { continue };
            let mut present = Presence::default();
            let mut histograms: Vec<&Histogram> = Vec::new();
            for (at, t) in ticks.iter().enumerate() {
                if let Some(histogram) = column.get(t) {
                    present.set(at);
                    histograms.push(histogram);
                }
            }
            if histograms.is_empty() {
                continue;
            }
            chunk.clear();
            let encoded = encode_histograms(&histograms, Effort::Fresh, &mut chunk);
            let gaps = (histograms.len() < ticks.len()).then_some(&present);
            if encoded.is_err() || !builder.push_histograms(*slot, histograms.len(), gaps, &chunk) {
                too_long.push(*slot);
            }
        }
        if !builder.is_empty() {
            parts.push(SealedPart { times: ticks.to_vec(), builder });
        }
        // One alone fits: what is larger was refused.
        if !too_long.is_empty() && ticks.len() > 1 {
            let (early, late) = ticks.split_at(ticks.len() / 2);
            self.encode_part(early, &too_long, parts);
            self.encode_part(late, &too_long, parts);
        }
    }
}

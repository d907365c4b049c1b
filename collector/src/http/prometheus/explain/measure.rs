//! What an evaluation takes, expression by expression: the same asker as any query has ([`Asking`]), who
//! looks at the clock more often.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoa_promql::storage::{HistogramSeries, RolledUp, StartSeries};
use stoa_promql::{Caller, Event, Hints, Place, Select, Series, Storage, StorageError};
use tokio::time::Instant;

use super::super::stats::Asking;

/// The asker.
pub(super) struct Measuring<'a> {
    asking: &'a Asking<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is being evaluated, the innermost last.
    begun: Vec<(Place, Instant)>,
    /// The selector that reads.
    reader: Option<Place>,
    taken: Taken,
}

/// What was taken, by place.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) nodes: HashMap<Place, Node>,
    pub(super) reads: HashMap<Place, Reading>,
}

/// What an expression took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    /// What is below included.
    pub(super) took: Duration,
    /// Series of its value.
    pub(super) series: u64,
}

/// What reading took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) took: Duration,
    pub(super) series: u64,
    /// A histogram is one.
    pub(super) samples: u64,
}

impl<'a> Measuring<'a> {
    pub(super) fn new(asking: &'a Asking<'a>) -> Self {
        Self { asking, state: Mutex::default() }
    }

    /// What was taken.
    pub(super) fn finish(self) -> Taken {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timed<T>(
        &self,
        read: impl FnOnce(&Asking<'a>) -> Result<T, StorageError>,
        size: impl FnOnce(&T) -> Option<(usize, usize)>,
    ) -> Result<T, StorageError> {
        let began = Instant::now();
        let found = read(self.asking)?;
        let took = began.elapsed();
        // What storage has nothing to say of is not read.
        let Some((series, samples)) = size(&found) else { return Ok(found) };
        let mut state = self.state();
        if let Some(place) = state.reader {
            let reading = state.taken.reads.entry(place).or_default();
            reading.took += took;
            reading.series = reading.series.saturating_add(series as u64);
            reading.samples = reading.samples.saturating_add(samples as u64);
        }
        Ok(found)
    }
}

impl Caller for Measuring<'_> {
    fn is_gone(&self) -> bool {
        self.asking.is_gone()
    }

    fn wants_steps(&self) -> bool {
        self.asking.wants_steps()
    }

    fn sorts(&self) {
        self.asking.sorts();
    }

    fn told(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Begun(place) => state.begun.push((place, Instant::now())),
            Event::Ended(place, series) => {
                while let Some((of, began)) = state.begun.pop() {
                    if of != place {
                        continue;
                    }
                    let node = state.taken.nodes.entry(place).or_default();
                    node.took += began.elapsed();
                    node.series = node.series.saturating_add(series as u64);
                    break;
                }
            }
            Event::Wanted { place, .. } => state.reader = Some(place),
            Event::ReadForOthers { .. } | Event::Taken => {}
        }
    }
}

fn of_floats(list: &[Series]) -> Option<(usize, usize)> {
    Some((list.len(), list.iter().map(|series| series.values.len()).sum()))
}

impl Storage for Measuring<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.timed(|asking| asking.select(select), |found| of_floats(found))
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        let size = |found: &Option<Vec<Series>>| found.as_deref().and_then(of_floats);
        self.timed(|asking| asking.select_newest(select), size)
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let size = |list: &Vec<HistogramSeries>| {
            Some((list.len(), list.iter().map(|series| series.samples.len()).sum()))
        };
        self.timed(|asking| asking.select_histograms(select), size)
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        self.timed(|asking| asking.select_starts(select), |_beside| Some((0, 0)))
    }

    fn windows_ms(&self) -> &[i64] {
        self.asking.windows_ms()
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let size = |found: &Option<RolledUp>| {
            found.as_ref().map(|found| (found.series.len(), found.samples))
        };
        self.timed(|asking| asking.select_rollups(select, hints), size)
    }
}

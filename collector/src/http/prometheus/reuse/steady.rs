//! Storage as it is asked for part of a query, and whether that is what the whole would have been told.
//!
//! Whether samples or rollups are read depends on how much is asked for. So storage is asked for rollups as
//! the whole query would ask; where it then has some, or is likely to, the part is none of the whole.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use stoa_promql::storage::{HistogramSeries, RolledUp, StartSeries};
use stoa_promql::{Hints, Select, Series, Storage, StorageError};

/// A storage that notices what makes parts differ from the whole.
pub(super) struct Steady<'a> {
    storage: &'a dyn Storage,
    /// How much earlier the whole query begins.
    earlier_ms: i64,
    is_unsteady: AtomicBool,
}

impl<'a> Steady<'a> {
    pub(super) fn new(storage: &'a dyn Storage, earlier_ms: i64) -> Self {
        Self { storage, earlier_ms, is_unsteady: AtomicBool::new(false) }
    }

    /// Whether all that was read were floats, as samples, and would have been for the whole query.
    pub(super) fn is_steady(&self) -> bool {
        !self.is_unsteady.load(Relaxed)
    }

    fn unsteady_if(&self, is_so: bool) {
        if is_so {
            self.is_unsteady.store(true, Relaxed);
        }
    }
}

impl Storage for Steady<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.storage.select(select)
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        self.storage.select_newest(select)
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let found = self.storage.select_histograms(select)?;
        self.unsteady_if(!found.is_empty());
        Ok(found)
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        let found = self.storage.select_starts(select)?;
        self.unsteady_if(!found.is_empty());
        Ok(found)
    }

    fn windows_ms(&self) -> &[i64] {
        self.storage.windows_ms()
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let earlier = |ms: i64| ms.saturating_sub(self.earlier_ms);
        let select = Select { start_ms: earlier(select.start_ms), ..select.clone() };
        let hints = Hints { first_ms: earlier(hints.first_ms), ..*hints };
        self.unsteady_if(hints.window_ms(self.windows_ms()).is_some());
        if !self.is_steady() && self.earlier_ms > 0 {
            // What is left of the part is for nothing.
            return Err(StorageError::Stopped);
        }
        let found = self.storage.select_rollups(&select, &hints)?;
        self.unsteady_if(found.is_some());
        Ok(found)
    }
}

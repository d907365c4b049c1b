//! The store as queries see it.

use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};
use stoa_promql::storage::{Select, Series, Storage, StorageError};
use stoa_tsdb::{Db, SelectError, Stats};

/// Reads what is stored, what is not yet synced included. Cheap to clone; call it from a thread
/// that may block.
#[derive(Clone, Debug)]
pub struct StoreView(pub(super) Arc<Db>);

impl StoreView {
    /// The label sets all matchers of one of the sets hold for that have samples in the range;
    /// sorted, at most `limit`.
    #[must_use]
    pub fn series(
        &self,
        sets: &[&[Matcher]],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<Labels> {
        self.0.series(sets, start_ms, end_ms, limit)
    }

    /// The names of the labels of such series; sorted, at most `limit`.
    #[must_use]
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        self.0.label_names(matchers, start_ms, end_ms, limit)
    }

    /// The values of one label of such series; sorted, at most `limit`.
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        limit: usize,
    ) -> Vec<String> {
        self.0.label_values(name, matchers, start_ms, end_ms, limit)
    }

    /// The oldest sample there is.
    #[must_use]
    pub fn oldest(&self) -> Option<TimestampMs> {
        self.0.oldest()
    }

    /// The database's own figures; walks the head, so for every few seconds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

impl Storage for StoreView {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        let found = self
            .0
            .select(
                select.matchers,
                select.start_ms,
                select.end_ms,
                select.series_max,
                select.samples_max,
            )
            .map_err(|error| match error {
                SelectError::TooManySeries { max } => StorageError::TooManySeries { max },
                SelectError::TooManySamples { max } => StorageError::TooManySamples { max },
            })?;
        let series = found.into_iter().map(|data| Series {
            labels: data.labels,
            timestamps: data.timestamps,
            values: data.values,
        });
        Ok(series.collect())
    }
}

//! The store as queries see it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use stoa_model::{Labels, Matcher, TimestampMs};
use stoa_promql::storage::{
    Coarser, Hints, HistogramSeries, RolledUp, RolledUpSeries, Select, Series, Storage,
    StorageError,
};
use stoa_tsdb::{
    BlockFigures, Db, HistogramData, Listing, Missing, Near, Reader, Resolution, Revision,
    SelectError, SeriesData, Stats, Survey, Tier,
};

use tokio::time::Instant;

use super::{damage, histogram};

/// Stretches of time asked for that are remembered one by one; more than a query has selectors.
const ASKED_MAX: usize = 256;

/// Of rollups, as far as these are kept.
const WINDOWS_MS: [i64; Tier::ALL.len()] = [Tier::Minute.window_ms(), Tier::Hour.window_ms()];

/// Reads what is stored, what is not yet synced included. Cheap to make, one for each question, as it
/// remembers what it was asked for; call it from a thread that may block.
#[derive(Debug)]
pub struct StoreView {
    db: Arc<Db>,
    dir: PathBuf,
    asked: Mutex<Vec<(TimestampMs, TimestampMs)>>,
    /// Says that nobody wants what is read any more.
    stop: Option<Arc<AtomicBool>>,
    /// When nobody does.
    deadline: Option<Instant>,
}

/// A range of time, and how much may be answered about it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The first instant.
    pub start_ms: TimestampMs,
    /// The last.
    pub end_ms: TimestampMs,
    /// Most that are answered, the first in their order.
    pub limit: usize,
    /// Most bytes they may take in memory.
    pub bytes_max: usize,
}

impl StoreView {
    pub(super) fn new(db: Arc<Db>, dir: PathBuf) -> Self {
        Self { db, dir, asked: Mutex::default(), stop: None, deadline: None }
    }

    /// The same, and what is read is given up once this is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// The same, and what is read is given up at that time, if there is one.
    #[must_use]
    pub fn by(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same over a database of its own.
    #[cfg(test)]
    pub(crate) fn of(db: Arc<Db>) -> Self {
        Self::new(db, PathBuf::new())
    }

    /// Closes the past up to a time; see [`Db::close_past`].
    #[must_use]
    pub fn close_past(&self, until_ms: TimestampMs) -> Revision {
        self.db.close_past(until_ms)
    }

    /// What the past is now; see [`Db::revision`].
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.db.revision()
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Relaxed))
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Why what was read through this view may be incomplete: damage met up to now, in the times that
    /// were asked for. Empty when all is whole.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut missing: Vec<Missing> = Vec::new();
        for (start, end) in asked {
            for one in self.db.missing(start, end) {
                if !missing.iter().any(|known| known.path == one.path) {
                    missing.push(one);
                }
            }
        }
        damage::warnings(&self.dir, &missing)
    }

    fn note(&self, start: TimestampMs, end: TimestampMs) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < ASKED_MAX {
            asked.push((start, end));
        } else if let Some(last) = asked.last_mut() {
            *last = (last.0.min(start), last.1.max(end));
        }
    }

    /// The label sets all matchers of one of the sets hold for that have samples in the range;
    /// sorted.
    ///
    /// # Errors
    /// When they take too many bytes, or nobody wants them any more.
    pub fn series(&self, sets: &[&[Matcher]], span: &Span) -> Result<Vec<Labels>, SelectError> {
        self.near(span, |near| self.db.series_until(sets, near))
    }

    /// The names of the labels of such series; sorted.
    ///
    /// # Errors
    /// As [`Self::series`].
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        span: &Span,
    ) -> Result<Vec<String>, SelectError> {
        self.near(span, |near| self.db.label_names_until(matchers, near))
    }

    /// The values of one label of such series; sorted.
    ///
    /// # Errors
    /// As [`Self::series`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        span: &Span,
    ) -> Result<Vec<String>, SelectError> {
        self.near(span, |near| self.db.label_values_until(name, matchers, near))
    }

    fn near<T>(
        &self,
        span: &Span,
        ask: impl FnOnce(&Near<'_>) -> Result<T, SelectError>,
    ) -> Result<T, SelectError> {
        let Span { start_ms, end_ms, limit, bytes_max } = *span;
        self.note(start_ms, end_ms);
        ask(&Near { start_ms, end_ms, limit, bytes_max, stop: &|| self.is_stopped() })
    }

    /// The series all matchers hold for that have samples near a range, to be read one by one; see
    /// [`Db::list_until`].
    ///
    /// # Errors
    /// When there are more than may be, their list takes too many bytes, or nobody wants it any more.
    pub fn list(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        bytes_max: usize,
    ) -> Result<Listing, SelectError> {
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        self.db.list_until(matchers, start_ms, end_ms, series_max, bytes_max, &stop)
    }

    /// Reads the series of a listing.
    #[must_use]
    pub fn reader<'a>(&'a self, listing: &'a Listing) -> Reader<'a> {
        self.db.reader(listing)
    }

    /// The time from which on everything that came is here; see [`Db::whole_since`].
    #[must_use]
    pub fn whole_since(&self) -> TimestampMs {
        self.db.whole_since()
    }

    /// Native histograms as they are stored, where queries see them as they compute with them.
    ///
    /// # Errors
    /// When a limit is passed, or nobody wants them any more.
    pub fn stored_histograms(
        &self,
        select: &Select<'_>,
    ) -> Result<Vec<HistogramData>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, samples_max } = *select;
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        let found = self.db.select_histograms_until(
            matchers,
            start_ms,
            end_ms,
            series_max,
            samples_max,
            &stop,
        );
        found.map_err(refused)
    }

    /// What [`Storage::select`] would read with the histograms of the same, or [`Storage::select_newest`]
    /// where the newest will do: by indexes alone.
    ///
    /// # Errors
    /// When a limit of series is passed, or nobody wants it any more.
    pub fn survey(&self, select: &Select<'_>, newest: bool) -> Result<Survey, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, .. } = *select;
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        let found = self.db.survey_until(matchers, (start_ms, end_ms), newest, series_max, &stop);
        found.map_err(refused)
    }

    /// The same of [`Storage::select_rollups`]; `None` where that says nothing.
    ///
    /// # Errors
    /// As [`Self::survey`].
    pub fn survey_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<Survey>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, .. } = *select;
        self.note(start_ms, end_ms);
        let (range, (_, resolution)) = ((start_ms, end_ms), resolution(hints));
        let stop = || self.is_stopped();
        let found = self.db.survey_rollups_until(matchers, range, resolution, series_max, &stop);
        found.map_err(refused)
    }

    /// The same as [`Self::stored_histograms`], of each series its newest and maybe some before it.
    ///
    /// # Errors
    /// As [`Self::stored_histograms`].
    pub fn newest_histograms(
        &self,
        select: &Select<'_>,
    ) -> Result<Vec<HistogramData>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, samples_max } = *select;
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        let found = self.db.select_newest_histograms_until(
            matchers,
            start_ms,
            end_ms,
            series_max,
            samples_max,
            &stop,
        );
        found.map_err(refused)
    }

    /// The blocks of samples.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockFigures> {
        self.db.blocks()
    }

    /// The database's own figures; walks the head, so for every few seconds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.db.stats()
    }
}

/// What is wrong with a selection, in the words of queries.
fn refused(error: SelectError) -> StorageError {
    match error {
        SelectError::TooManySeries { max } => StorageError::TooManySeries { max },
        SelectError::TooManySamples { max } => StorageError::TooManySamples { max },
        // Only names and listings are counted by bytes.
        error @ SelectError::TooManyBytes { .. } => StorageError::Read(Box::new(error)),
        SelectError::Stopped => StorageError::Stopped,
    }
}

/// Which rollups do, and of which windows they are.
fn resolution(hints: &Hints) -> (Option<i64>, Resolution) {
    let window_ms = hints.window_ms(&WINDOWS_MS);
    let tier = Tier::ALL.into_iter().find(|tier| Some(tier.window_ms()) == window_ms);
    (window_ms, tier.map_or(Resolution::Finest, Resolution::Window))
}

fn series_of(data: SeriesData) -> Series {
    Series { labels: data.labels, timestamps: data.timestamps, values: data.values }
}

/// The same as far as it is there at once: what would have to be waited for, or is much, is
/// [`StorageError::Stopped`].
#[derive(Debug)]
pub struct AtOnce<'a>(pub &'a StoreView);

impl AtOnce<'_> {
    fn read(&self, select: &Select<'_>, newest: bool) -> Result<Vec<Series>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, samples_max } = *select;
        self.0.note(start_ms, end_ms);
        let found =
            self.0.db.select_at_once(matchers, start_ms, end_ms, series_max, samples_max, newest);
        let found = found.ok_or(StorageError::Stopped)?;
        Ok(found.into_iter().map(series_of).collect())
    }
}

/// Without histograms and rollups: where there are some, nothing is there at once.
impl Storage for AtOnce<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.read(select, false)
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        self.read(select, true).map(Some)
    }
}

impl Storage for StoreView {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.note(select.start_ms, select.end_ms);
        let found = self
            .db
            .select_until(
                select.matchers,
                select.start_ms,
                select.end_ms,
                select.series_max,
                select.samples_max,
                &|| self.is_stopped(),
            )
            .map_err(refused)?;
        Ok(found.into_iter().map(series_of).collect())
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, samples_max } = *select;
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        let found = self
            .db
            .select_newest_until(matchers, start_ms, end_ms, series_max, samples_max, &stop)
            .map_err(refused)?;
        Ok(Some(found.into_iter().map(series_of).collect()))
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let Select { matchers, start_ms, end_ms, series_max, samples_max } = *select;
        self.note(start_ms, end_ms);
        let stop = || self.is_stopped();
        let found = self
            .db
            .select_histograms_until(matchers, start_ms, end_ms, series_max, samples_max, &stop)
            .map_err(refused)?;
        let series = found.into_iter().map(|data| HistogramSeries {
            labels: data.labels,
            samples: histogram::series(data.samples),
        });
        Ok(series.collect())
    }

    fn windows_ms(&self) -> &[i64] {
        if self.db.has_tiers() { &WINDOWS_MS } else { &[] }
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let (window_ms, resolution) = resolution(hints);
        let range = (select.start_ms, select.end_ms);
        self.note(select.start_ms, select.end_ms);
        let found = self.db.select_rollups_until(
            select.matchers,
            range,
            resolution,
            select.series_max,
            select.samples_max,
            &|| self.is_stopped(),
        );
        let Some(found) = found.map_err(refused)? else { return Ok(None) };
        let window_ms = window_ms.unwrap_or(1);
        let coarser = found.stretches.iter().map(|stretch| Coarser {
            window_ms: stretch.tier.window_ms(),
            start_ms: stretch.start_ms,
            end_ms: stretch.end_ms,
        });
        let series = found.series.into_iter().map(|series| RolledUpSeries {
            labels: series.labels,
            timestamps: series.timestamps,
            values: series.values,
            rollups: series.rollups,
        });
        Ok(Some(RolledUp {
            series: series.collect(),
            window_ms,
            coarser: coarser.filter(|coarser| coarser.window_ms > window_ms).collect(),
            samples_kept_ms: found.samples_kept_ms,
            samples: found.samples,
        }))
    }
}

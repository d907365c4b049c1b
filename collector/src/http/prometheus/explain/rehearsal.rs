//! A store that says of all it is asked for how much it has, and gives nothing of it; and the caller who
//! hears which selector that is for.
//!
//! What a storage answers decides what the engine asks for next: whether there are rollups, and whether
//! there are histograms. Both are answered as the store itself would. Bounds: a selection for each selector of
//! the query, [`PLACES_MAX`] places of all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stoa_model::{Labels, Matcher, TimestampMs};
use stoa_promql::storage::{HistogramSeries, RolledUp, StartSeries};
use stoa_promql::{Caller, Event, Hints, Place, Select, Series, Storage, StorageError};
use stoa_tsdb::{Survey, Surveyed, Weight};

use super::super::Stop;
use crate::store::StoreView;

/// Places that are told one by one, of all selectors together.
const PLACES_MAX: usize = 10_000;

/// The store, asked by someone.
pub(super) struct Rehearsal<'a> {
    view: &'a StoreView,
    stop: &'a Stop,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    selections: Vec<Selection>,
    /// Places told so far.
    places: usize,
    /// The series with histograms of what was surveyed last.
    with_histograms: Vec<Labels>,
}

/// What one selector wants.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) place: Place,
    pub(super) start_ms: TimestampMs,
    pub(super) end_ms: TimestampMs,
    pub(super) hints: Hints,
    pub(super) sharing: Sharing,
    /// What is read for it.
    pub(super) reads: Vec<Read>,
}

/// Whether its series are read for it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Alone,
    /// That much is read, for others too.
    ForOthers(TimestampMs, TimestampMs),
    /// Another has read them.
    Taken,
}

/// What is read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) matchers: Vec<Matcher>,
    pub(super) start_ms: TimestampMs,
    pub(super) end_ms: TimestampMs,
    pub(super) series: usize,
    pub(super) weight: Weight,
    pub(super) places: Vec<Surveyed>,
    /// How many more there are.
    pub(super) places_left_out: usize,
    /// As many samples as the engine takes.
    pub(super) samples_max: usize,
}

/// As what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Samples,
    /// The newest of each series.
    Newest,
    /// Of windows of this length; without one samples where they are there.
    Rollups(Option<i64>),
}

impl<'a> Rehearsal<'a> {
    pub(super) fn new(view: &'a StoreView, stop: &'a Stop) -> Self {
        Self { view, stop, noted: Mutex::default() }
    }

    /// What was wanted, in order.
    pub(super) fn finish(self) -> Vec<Selection> {
        self.noted.into_inner().unwrap_or_else(PoisonError::into_inner).selections
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kind: Kind, select: &Select<'_>, mut survey: Survey) {
        let mut noted = self.noted();
        let weight = survey.weight();
        let places_left_out = survey.places.len().saturating_sub(PLACES_MAX - noted.places);
        survey.places.truncate(PLACES_MAX - noted.places);
        noted.places += survey.places.len();
        noted.with_histograms = std::mem::take(&mut survey.with_histograms);
        let Some(selection) = noted.selections.last_mut() else { return };
        selection.reads.push(Read {
            kind,
            matchers: select.matchers.to_vec(),
            start_ms: select.start_ms,
            end_ms: select.end_ms,
            series: survey.series,
            weight,
            places: survey.places,
            places_left_out,
            samples_max: select.samples_max,
        });
    }

    fn read(&self, kind: Kind, select: &Select<'_>) -> Result<(), StorageError> {
        let survey = self.view.survey(select, kind == Kind::Newest)?;
        self.note(kind, select, survey);
        Ok(())
    }

    /// The series with histograms of a selection that was surveyed just before.
    fn known(&self, select: &Select<'_>) -> Option<Vec<HistogramSeries>> {
        let noted = self.noted();
        let read = noted.selections.last()?.reads.last()?;
        let is_it = (read.start_ms, read.end_ms) == (select.start_ms, select.end_ms)
            && !matches!(read.kind, Kind::Rollups(_));
        is_it.then(|| marked(&noted.with_histograms, select.start_ms))
    }
}

fn marked(with_histograms: &[Labels], t: TimestampMs) -> Vec<HistogramSeries> {
    with_histograms.iter().map(|labels| HistogramSeries::mark(labels.clone(), t)).collect()
}

impl Caller for Rehearsal<'_> {
    fn is_gone(&self) -> bool {
        self.stop.asked()
    }

    fn rehearses(&self) -> bool {
        true
    }

    fn told(&self, event: Event) {
        let mut noted = self.noted();
        let sharing = match event {
            Event::Wanted { place, start_ms, end_ms, hints } => {
                // It wanted rollups, and there are none.
                if noted.selections.last().is_none_or(|last| last.place != place) {
                    let (sharing, reads) = (Sharing::Alone, Vec::new());
                    noted.selections.push(Selection {
                        place,
                        start_ms,
                        end_ms,
                        hints,
                        sharing,
                        reads,
                    });
                }
                return;
            }
            Event::ReadForOthers { start_ms, end_ms } => Sharing::ForOthers(start_ms, end_ms),
            Event::Taken => Sharing::Taken,
            Event::Begun(_) | Event::Ended(..) => return,
        };
        if let Some(last) = noted.selections.last_mut() {
            last.sharing = sharing;
        }
    }
}

impl Storage for Rehearsal<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.read(Kind::Samples, select).map(|()| Vec::new())
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        self.read(Kind::Newest, select).map(|()| Some(Vec::new()))
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        match self.known(select) {
            Some(known) => Ok(known),
            None => {
                let survey = self.view.survey(select, false)?;
                Ok(marked(&survey.with_histograms, select.start_ms))
            }
        }
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        self.view.select_starts(select)
    }

    fn windows_ms(&self) -> &[i64] {
        self.view.windows_ms()
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let Some(survey) = self.view.survey_rollups(select, hints)? else { return Ok(None) };
        let window_ms = hints.window_ms(self.view.windows_ms());
        self.note(Kind::Rollups(window_ms), select, survey);
        Ok(Some(RolledUp {
            series: Vec::new(),
            window_ms: window_ms.unwrap_or(1),
            coarser: Vec::new(),
            samples_kept_ms: 0,
            samples: 0,
        }))
    }
}

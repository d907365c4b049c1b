//! What a selection would read, found in indexes alone: no chunk is read, nothing decoded.
//!
//! Samples are estimated where a chunk reaches beyond the time asked for: by the share of its time. Chunks
//! and bytes are those that would be decoded, which is whole chunks. What is deleted but not yet written
//! anew counts. Damage that is met is told as in a selection. Bounds: the labels of at most `series_max`
//! series, which a selection of them would hold too.

use std::collections::HashSet;
use std::path::Path;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::gather::{Kinds, Wanted, overlapping};
use super::{Db, Resolution};
use crate::block::BlockQuery;
use crate::tier::{TierBlock, ceil};
use crate::weight::Weight;
use crate::{SelectError, Tier};

/// What a selection would read.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Different series.
    pub series: usize,
    /// Those of them that have native histograms.
    pub with_histograms: Vec<Labels>,
    /// Where, in order: tiers and blocks, then the head.
    pub places: Vec<Surveyed>,
}

/// What of it is in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Where.
    pub place: Where,
    /// The time it is read for, milliseconds since the epoch, inclusive.
    pub start_ms: TimestampMs,
    /// Up to when, inclusive.
    pub end_ms: TimestampMs,
    /// Series that have something there.
    pub series: usize,
    /// What would be read.
    pub weight: Weight,
}

/// A place samples are in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    /// A block of rollups of a tier, by name.
    Tier(Tier, String),
    /// A block of samples, by name.
    Block(String),
    /// What came in the last hours.
    Head,
}

/// What a sample that is in no chunk yet takes: a time and a number.
const OPEN_SAMPLE_BYTES: u64 = 16;

impl Survey {
    /// All places together.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let mut all = Weight::default();
        self.places.iter().for_each(|place| all.add(place.weight));
        all
    }

    fn push(&mut self, place: Where, span: (TimestampMs, TimestampMs), found: (usize, Weight)) {
        let ((start_ms, end_ms), (series, weight)) = (span, found);
        if series == 0 {
            return;
        }
        let same = self.places.iter_mut().find(|known| known.place == place);
        if let Some(known) = same.filter(|known| known.end_ms.saturating_add(1) == start_ms) {
            known.end_ms = end_ms;
            known.series = known.series.max(series);
            known.weight.add(weight);
            return;
        }
        self.places.push(Surveyed { place, start_ms, end_ms, series, weight });
    }
}

/// What is surveyed, and what was found of it.
struct Surveying<'a> {
    matchers: &'a [Matcher],
    series_max: usize,
    newest: bool,
    stop: &'a dyn Fn() -> bool,
    /// Each series once.
    labels: HashSet<Labels>,
    with_histograms: HashSet<Labels>,
    survey: Survey,
}

impl Surveying<'_> {
    fn add(&mut self, labels: Labels) -> Result<(), SelectError> {
        self.labels.insert(labels);
        let max = self.series_max;
        if self.labels.len() > max { Err(SelectError::TooManySeries { max }) } else { Ok(()) }
    }

    fn finish(self) -> Survey {
        let (series, mut places) = (self.labels.len(), self.survey.places);
        places.sort_by_key(|place| (place.place == Where::Head, place.start_ms));
        Survey { series, with_histograms: self.with_histograms.into_iter().collect(), places }
    }
}

impl Db {
    /// What [`Self::select_until`] or, with `newest`, [`Self::select_newest_until`] would read, with the
    /// native histograms that [`Self::select_histograms_until`] would.
    ///
    /// # Errors
    /// [`SelectError::TooManySeries`] when there are more than `series_max`; [`SelectError::Stopped`].
    pub fn survey_until(
        &self,
        matchers: &[Matcher],
        range: (TimestampMs, TimestampMs),
        newest: bool,
        series_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Survey, SelectError> {
        let mut surveying = Surveying::new(matchers, newest, series_max, stop);
        self.survey_samples(range, &mut surveying)?;
        Ok(surveying.finish())
    }

    /// What [`Self::select_rollups_until`] would read; `None` where that has nothing to say.
    ///
    /// # Errors
    /// As [`Self::survey_until`].
    pub fn survey_rollups_until(
        &self,
        matchers: &[Matcher],
        range: (TimestampMs, TimestampMs),
        resolution: Resolution,
        series_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Survey>, SelectError> {
        let (parts, zones) = self.parts(range, resolution);
        if parts.iter().all(|part| part.held.is_none()) && zones.is_empty() {
            return Ok(None);
        }
        let mut surveying = Surveying::new(matchers, false, series_max, stop);
        for part in &parts {
            let span = (part.start, part.end);
            match &part.held {
                Some(held) => self.survey_tier(held, span, &mut surveying)?,
                None => {
                    let range = (part.start.saturating_add(1), part.end);
                    self.survey_samples(range, &mut surveying)?;
                }
            }
        }
        // What tiers have of what is gone is read beside what is there.
        for layer in zones.iter().flat_map(|zone| &zone.layers) {
            self.survey_tier(&layer.held, (layer.start, layer.end), &mut surveying)?;
        }
        Ok(Some(surveying.finish()))
    }

    /// What a block of a tier has of `start < t ≤ end`.
    fn survey_tier(
        &self,
        held: &TierBlock,
        (start, end): (TimestampMs, TimestampMs),
        surveying: &mut Surveying<'_>,
    ) -> Result<(), SelectError> {
        let block = &held.block;
        let Some(index) = self.index(block) else { return Ok(()) };
        let first = start.saturating_add(1);
        let mut query = BlockQuery::new(block, &index, first, ceil(end, held.tier.window_ms()));
        let found = query.find(surveying.matchers);
        let Some(numbers) = self.whole(block, found) else { return Ok(()) };
        let (mut count, mut weight) = (0, Weight::default());
        for number in numbers {
            if (surveying.stop)() {
                return Err(SelectError::Stopped);
            }
            let Some(series) = self.whole(block, query.series(number)) else { break };
            let Some(series) = series else { continue };
            count += 1;
            weight.add(query.weight(&series.place));
            surveying.add(series.labels)?;
        }
        let place = Where::Tier(held.tier, name(&block.dir));
        surveying.survey.push(place, (first, end), (count, weight));
        Ok(())
    }

    fn survey_samples(
        &self,
        (start_ms, end_ms): (TimestampMs, TimestampMs),
        surveying: &mut Surveying<'_>,
    ) -> Result<(), SelectError> {
        let Surveying { matchers, series_max, newest, stop, .. } = *surveying;
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, 0, stop);
        let wanted = Wanted { newest, ..wanted };
        let (floats, histograms, blocks) = {
            let state = self.state();
            let floats = wanted.bounded(state.head.select(matchers, start_ms, end_ms))?;
            let histograms = state.head.select_histograms(matchers, start_ms, end_ms);
            let histograms = wanted.bounded(histograms)?;
            (floats, histograms, overlapping(&state, start_ms, end_ms))
        };
        for block in &blocks {
            let (mut count, mut weight) = (0, Weight::default());
            let one = std::slice::from_ref(block);
            self.each_in_blocks(one, &wanted, Kinds::Both, |query, series, are_histograms| {
                count += 1;
                weight.add(query.weight(&series.place));
                if are_histograms {
                    surveying.with_histograms.insert(series.labels.clone());
                }
                surveying.add(series.labels)
            })?;
            let span = (start_ms.max(block.meta.first_t), end_ms.min(block.meta.last_t));
            surveying.survey.push(Where::Block(name(&block.dir)), span, (count, weight));
        }
        let (mut of_head, mut weight) = (HashSet::new(), Weight::default());
        let open = |samples: usize| Weight {
            chunks: 0,
            bytes: (samples as u64).saturating_mul(OPEN_SAMPLE_BYTES),
            samples: samples as u64,
        };
        for mut series in floats {
            wanted.go_on()?;
            Self::wanted_beside(&wanted, &series.open, &mut series.sealed);
            series.sealed.iter().for_each(|one| weight.add(one.weight(start_ms, end_ms)));
            weight.add(open(series.open.len()));
            let is_there = !series.sealed.is_empty() || !series.open.is_empty();
            of_head.extend(is_there.then_some(series.labels));
        }
        for series in histograms {
            wanted.go_on()?;
            series.sealed.iter().for_each(|one| weight.add(one.weight(start_ms, end_ms)));
            weight.add(open(series.open.len()));
            surveying.with_histograms.insert(series.labels.clone());
            of_head.insert(series.labels);
        }
        surveying.survey.push(Where::Head, (start_ms, end_ms), (of_head.len(), weight));
        of_head.into_iter().try_for_each(|labels| surveying.add(labels))
    }
}

impl<'a> Surveying<'a> {
    fn new(
        matchers: &'a [Matcher],
        newest: bool,
        series_max: usize,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let (labels, with_histograms) = (HashSet::new(), HashSet::new());
        let survey = Survey::default();
        Self { matchers, series_max, newest, stop, labels, with_histograms, survey }
    }
}

/// A block's name: its directory's.
fn name(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

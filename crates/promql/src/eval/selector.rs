//! Selectors: what storage is asked for, and one value per step out of it.
//!
//! Storage is asked once per selector, for all the time its steps reach, and once for several that are
//! equal ([`super::reads`]).

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs, is_stale};

use super::column::Point;
use super::reads::Found;
use super::window::{RangeSeries, Shared};
use super::{Column, Evaluator, Row, Steps, Wanted};
use crate::error::QueryError;
use crate::features::Feature;
use crate::function::start::Starts;
use crate::histogram::Histogram;
use crate::histogram::reset::detect_resets;
use crate::parse::ParseError;
use crate::parse::ast::{At, Duration, Extension, Selector, Shift};
use crate::plan::Event;
use crate::storage::{Hints, SAMPLE_BYTES, Select, Series, Use};

/// `@` and `offset`, resolved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shifted {
    at: Option<TimestampMs>,
    offset: i64,
}

impl Shifted {
    /// The time that is looked at from `t`.
    pub(crate) fn apply(self, t: TimestampMs) -> TimestampMs {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }
}

/// What a selector's series are for at these steps.
pub(super) fn hints(made: Use, shifted: Shifted, steps: &Steps) -> Hints {
    let (first_ms, last_ms) = (shifted.apply(steps.start), shifted.apply(steps.last()));
    let step_ms = if first_ms == last_ms { 0 } else { steps.step };
    Hints { made, first_ms, last_ms, step_ms }
}

/// Series as loaded, stale markers among the samples. There may be more of it than was asked for, before
/// and after.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) labels: Labels,
    times: Arc<[TimestampMs]>,
    values: Arc<Vec<f64>>,
    histograms: Vec<(TimestampMs, Arc<Histogram>)>,
    starts: Starts,
}

/// How long a stretch of time is wanted, both ends included.
pub(super) type Reach = (TimestampMs, TimestampMs);

impl Evaluator<'_> {
    pub(crate) fn resolve(&self, shift: &Shift) -> Result<Shifted, QueryError> {
        let at = shift.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.times.start,
            At::End => self.times.end,
        });
        let offset = match &shift.offset {
            Some(duration) => {
                self.located(duration.resolve(self.times.step, self.query_range_ms()))?
            }
            None => 0,
        };
        Ok(Shifted { at, offset })
    }

    pub(crate) fn length(&self, duration: &Duration) -> Result<i64, QueryError> {
        self.located(duration.resolve_length(self.times.step, self.query_range_ms()))
    }

    fn located<T>(&self, result: Result<T, ParseError>) -> Result<T, QueryError> {
        result.map_err(|error| {
            QueryError::Parse(format!("{}:{}: {}", error.span.start, error.span.end, error.message))
        })
    }

    /// What is asked of storage, within what is left of the limits.
    pub(super) fn select<'a>(
        &self,
        matchers: &'a [Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
    ) -> Select<'a> {
        Select {
            matchers,
            start_ms,
            end_ms,
            series_max: self.limits.series_max,
            samples_max: self.tally.bytes_left() / SAMPLE_BYTES,
        }
    }

    /// The stretch of time a selector wants at these steps.
    pub(super) fn selector_reach(
        &self,
        selector: &Selector,
        steps: &Steps,
    ) -> Result<Reach, QueryError> {
        let shifted = self.resolve(&selector.shift)?;
        let lookback = self.limits.lookback_ms;
        let from = shifted.apply(steps.start).saturating_sub(lookback).saturating_add(1);
        let to = shifted.apply(steps.last());
        let is_smoothed = selector.extension == Some(Extension::Smoothed);
        Ok((from, if is_smoothed { to.saturating_add(lookback) } else { to }))
    }

    /// The series in a stretch of time, in order of labels.
    pub(super) fn load(
        &self,
        matchers: &[Matcher],
        (start_ms, end_ms): Reach,
        hints: &Hints,
    ) -> Result<Vec<Loaded>, QueryError> {
        self.check_cancelled()?;
        self.tell_wanted((start_ms, end_ms), hints);
        let is_shared = !self.reads_alone(hints);
        let select = self.select(matchers, start_ms, end_ms);
        // Asked by each for its own stretch: what others share is samples, and these may be gone.
        if let Some(rolled_up) = self.storage.select_rollups(&select, hints)? {
            if is_shared {
                self.pass_read(matchers, (start_ms, end_ms));
            }
            let floats = self.as_samples(matchers, rolled_up, hints);
            return self.loaded(floats, &select);
        }
        let mut shared = None;
        if is_shared {
            match self.reads.find(matchers, start_ms, end_ms) {
                Found::Own => {}
                Found::First { start, end } => shared = Some((start, end)),
                Found::Read(read) => {
                    self.caller.told(Event::Taken);
                    return Ok(read);
                }
                Found::Last(read) => {
                    self.caller.told(Event::Taken);
                    self.tally.unpin(bytes(&read));
                    self.tally.hold_bytes(bytes(&read))?;
                    return Ok(read);
                }
            }
        }
        if let Some(reach) = shared
            && let Some(loaded) = self.load_shared(matchers, reach)?
        {
            self.caller.told(Event::ReadForOthers { start_ms: reach.0, end_ms: reach.1 });
            return Ok(loaded);
        }
        let is_newest = hints.made == Use::Newest && hints.step_ms == 0;
        let newest = if is_newest { self.storage.select_newest(&select)? } else { None };
        let floats = match newest {
            Some(newest) => newest,
            None => self.storage.select(&select)?,
        };
        self.loaded(floats, &select)
    }

    /// Tells that the selector that is come to wants something of storage.
    pub(super) fn tell_wanted(&self, (start_ms, end_ms): Reach, hints: &Hints) {
        let place = self.place.get().into();
        self.caller.told(Event::Wanted { place, start_ms, end_ms, hints: *hints });
    }

    /// Whether a selector's series are read for it alone, whatever else stands in the query: where
    /// rollups are likely to do, or what is read is made into something else.
    pub(super) fn reads_alone(&self, hints: &Hints) -> bool {
        self.wanted.get() == Wanted::Statistics
            || hints.window_ms(self.storage.windows_ms()).is_some()
    }

    /// A selector that others share their samples with does without these.
    pub(super) fn pass_read(&self, matchers: &[Matcher], (start_ms, end_ms): Reach) {
        if let Some(read) = self.reads.pass(matchers, start_ms, end_ms) {
            self.tally.unpin(bytes(&read));
        }
    }

    /// Reads for several selectors. `None`: each is to read for itself, as together it is too much, or
    /// cannot be kept.
    fn load_shared(
        &self,
        matchers: &[Matcher],
        (start_ms, end_ms): Reach,
    ) -> Result<Option<Vec<Loaded>>, QueryError> {
        let mark = self.tally.mark();
        let select = self.select(matchers, start_ms, end_ms);
        let floats = self.storage.select(&select).map_err(QueryError::from);
        let loaded = match floats.and_then(|floats| self.loaded(floats, &select)) {
            Ok(loaded) => loaded,
            Err(error) if error.is_too_much() => {
                self.tally.release(mark);
                self.reads.give_up(matchers, start_ms, end_ms);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is_kept = self.reads.keep(matchers, start_ms, end_ms, &loaded);
        self.tally.release(mark);
        if is_kept {
            self.tally.pin(bytes(&loaded))?;
        } else {
            self.reads.give_up(matchers, start_ms, end_ms);
        }
        Ok(is_kept.then_some(loaded))
    }

    /// With the histograms of the same selection, counted and put in order.
    fn loaded(&self, floats: Vec<Series>, select: &Select<'_>) -> Result<Vec<Loaded>, QueryError> {
        let mut loaded: Vec<Loaded> = floats
            .into_iter()
            .map(|series| Loaded {
                labels: series.labels,
                times: series.timestamps,
                values: Arc::new(series.values),
                histograms: Vec::new(),
                starts: Starts::default(),
            })
            .collect();
        let with_histograms = self.storage.select_histograms(select)?;
        if !with_histograms.is_empty() {
            let mut at_of: HashMap<Labels, usize> =
                loaded.iter().enumerate().map(|(at, series)| (series.labels.clone(), at)).collect();
            for series in with_histograms {
                let next = loaded.len();
                let at = *at_of.entry(series.labels.clone()).or_insert(next);
                match loaded.get_mut(at) {
                    Some(known) => known.histograms = series.samples,
                    None => loaded.push(Loaded {
                        labels: series.labels,
                        times: Arc::default(),
                        values: Arc::default(),
                        histograms: series.samples,
                        starts: Starts::default(),
                    }),
                }
            }
        }
        if self.features.has(Feature::StartTimestamps) {
            self.load_starts(select, &mut loaded)?;
        }
        if self.wanted.get() == Wanted::Statistics {
            for series in &mut loaded {
                detect_resets(&mut series.histograms, &series.times);
            }
        }
        self.tally.load(loaded.iter().map(Loaded::samples).sum());
        self.tally.hold_bytes(bytes(&loaded))?;
        if loaded.len() > self.limits.series_max {
            return Err(QueryError::TooManySeries { max: self.limits.series_max });
        }
        loaded.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(loaded)
    }

    /// Adds what is known of when counters began.
    fn load_starts(&self, select: &Select<'_>, loaded: &mut [Loaded]) -> Result<(), QueryError> {
        let starts = self.storage.select_starts(select)?;
        if starts.is_empty() {
            return Ok(());
        }
        let mut of: HashMap<Labels, Starts> =
            starts.into_iter().map(|one| (one.labels, Starts::new(one.starts))).collect();
        for series in loaded {
            series.starts = of.remove(&series.labels).unwrap_or_default();
        }
        Ok(())
    }

    /// The newest sample of each series at each step.
    pub(crate) fn select_instant(
        &self,
        selector: &Selector,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        if selector.extension == Some(Extension::Smoothed) {
            return self.select_smoothed(selector, steps);
        }
        self.select_newest(selector, steps, |_, _, point| point)
    }

    /// The time of the newest sample of each series at each step, in seconds.
    pub(crate) fn select_times(
        &self,
        selector: &Selector,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        self.select_newest(selector, steps, |_, t, _| Point::Float(crate::number::seconds(t)))
    }

    /// The start timestamp of the newest sample of each series at each step, in seconds; 0 where none is
    /// known.
    pub(crate) fn select_start_times(
        &self,
        selector: &Selector,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        self.select_newest(selector, steps, |starts, t, _| {
            Point::Float(crate::number::seconds(starts.taken(t).start))
        })
    }

    /// What `make` makes of the newest sample of each series at each step.
    pub(crate) fn select_newest(
        &self,
        selector: &Selector,
        steps: &Steps,
        make: impl Fn(&Starts, TimestampMs, Point) -> Point,
    ) -> Result<Vec<Row>, QueryError> {
        let shifted = self.resolve(&selector.shift)?;
        let lookback = self.limits.lookback_ms;
        let reach = self.selector_reach(selector, steps)?;
        let hints = hints(Use::Newest, shifted, steps);
        let loaded = self.load(&selector.matchers, reach, &hints)?;
        self.check_size(loaded.len(), steps)?;
        let mut rows = Vec::with_capacity(loaded.len());
        let (mut made, mut shared) = (0, Shared::default());
        for series in loaded {
            self.visit(steps.count)?;
            if series.histograms.is_empty() {
                let newest = shared
                    .of(&series.times, || newest_within(&series.times, shifted, lookback, steps));
                let mut column = Column::empty(steps.count);
                for (step, at) in newest.iter().enumerate() {
                    if let (Some(t), Some(v)) = (series.times.get(*at), series.values.get(*at))
                        && !is_stale(*v)
                    {
                        column.set(step, make(&series.starts, *t, Point::Float(*v)));
                    }
                }
                made += self.newest_of(series.labels, column, made, &mut rows)?;
                continue;
            }
            let mut column = Column::empty(steps.count);
            let (mut floats, mut histograms) = (0, 0);
            for (step, t) in steps.times().enumerate() {
                let t = shifted.apply(t);
                floats = advance(&series.times, floats, t);
                while series.histograms.get(histograms).is_some_and(|(at, _)| *at <= t) {
                    histograms += 1;
                }
                if let Some((at, point)) = series.newest(floats, histograms)
                    && at > t.saturating_sub(lookback)
                {
                    column.set(step, make(&series.starts, at, point));
                }
            }
            made += self.newest_of(series.labels, column, made, &mut rows)?;
        }
        Ok(rows)
    }

    /// Counts what a selector gives of a series after so many samples, if that is anything; says how many
    /// more these are.
    pub(super) fn newest_of(
        &self,
        labels: Labels,
        column: Column,
        made: usize,
        rows: &mut Vec<Row>,
    ) -> Result<usize, QueryError> {
        if column.is_empty() {
            return Ok(0);
        }
        let samples = column.samples();
        self.tally.peek(made.saturating_add(samples))?;
        self.tally.count_newest(column.present(), samples);
        rows.push(Row::new(labels, column));
        Ok(samples)
    }

    /// All samples of a stretch, and maybe some around it, stale markers left out.
    pub(super) fn select_samples(
        &self,
        matchers: &[Matcher],
        reach: Reach,
    ) -> Result<Vec<RangeSeries>, QueryError> {
        let (first_ms, last_ms) = reach;
        let hints = Hints { made: Use::Samples, first_ms, last_ms, step_ms: 0 };
        let loaded = self.load(matchers, reach, &hints)?;
        Ok(loaded.into_iter().map(Loaded::without_stale).collect())
    }
}

/// About how many bytes series take. Those that share timestamps come one after the other, mostly.
fn bytes(series: &[Loaded]) -> usize {
    let mut times: Option<&Arc<[TimestampMs]>> = None;
    let mut bytes = 0;
    for one in series {
        if !times.is_some_and(|known| Arc::ptr_eq(known, &one.times)) {
            bytes += 8 * one.times.len();
        }
        times = Some(&one.times);
        bytes += 8 * one.values.len() + SAMPLE_BYTES * one.histogram_samples();
    }
    bytes
}

impl Loaded {
    pub(super) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    fn histogram_samples(&self) -> usize {
        self.histograms.iter().map(|(_, histogram)| histogram.samples()).sum()
    }

    fn samples(&self) -> usize {
        self.times.len() + self.histogram_samples()
    }

    /// The newest of the first `floats` floats and `histograms` histograms, unless it ends the
    /// series.
    fn newest(&self, floats: usize, histograms: usize) -> Option<(TimestampMs, Point)> {
        let float = floats
            .checked_sub(1)
            .and_then(|at| Some((*self.times.get(at)?, *self.values.get(at)?)));
        let histogram = histograms.checked_sub(1).and_then(|at| self.histograms.get(at));
        match (float, histogram) {
            (Some((t, v)), None) => Some((t, v)),
            (Some((t, v)), Some((other, _))) if t >= *other => Some((t, v)),
            (_, Some((t, histogram))) => {
                return (!histogram.is_stale())
                    .then(|| (*t, Point::Histogram(Arc::clone(histogram))));
            }
            (None, None) => None,
        }
        .filter(|(_, v)| !is_stale(*v))
        .map(|(t, v)| (t, Point::Float(v)))
    }

    pub(super) fn without_stale(mut self) -> RangeSeries {
        if any_stale(&self.values) {
            let kept: Vec<bool> = self.values.iter().map(|v| !is_stale(*v)).collect();
            let times = self.times.iter().zip(&kept);
            self.times = times.filter(|(_, keep)| **keep).map(|(t, _)| *t).collect();
            let values = self.values.iter().copied().filter(|v| !is_stale(*v));
            self.values = Arc::new(values.collect());
        }
        self.histograms.retain(|(_, histogram)| !histogram.is_stale());
        let (histogram_times, histograms) = self.histograms.into_iter().unzip();
        RangeSeries {
            labels: self.labels,
            drop_name: false,
            times: self.times,
            values: self.values,
            histogram_times,
            histograms,
            starts: self.starts,
        }
    }
}

fn any_stale(values: &[f64]) -> bool {
    // In pieces, each of which is looked at without a branch.
    values.chunks(512).any(|part| part.iter().fold(false, |any, v| any | is_stale(*v)))
}

/// Which sample is the newest at each step; a number that none has where there is none.
fn newest_within(
    times: &[TimestampMs],
    shifted: Shifted,
    lookback: i64,
    steps: &Steps,
) -> Vec<usize> {
    let mut next = 0;
    let newest = |t| {
        let t = shifted.apply(t);
        next = advance(times, next, t);
        let at = next.checked_sub(1)?;
        times.get(at).filter(|at| **at > t.saturating_sub(lookback))?;
        Some(at)
    };
    steps.times().map(newest).map(|at| at.unwrap_or(usize::MAX)).collect()
}

/// How many samples [`advance`] looks at one by one before it takes longer steps.
const STEPS_SHORT: usize = 8;

/// The first index from `from` on with a time after `t`.
pub(super) fn advance(times: &[TimestampMs], from: usize, t: TimestampMs) -> usize {
    let mut at = from;
    while times.get(at).is_some_and(|time| *time <= t) {
        at += 1;
        if at - from == STEPS_SHORT {
            return at + far(times.get(at..).unwrap_or_default(), t);
        }
    }
    at
}

/// How many times are not after `t`, looked for in steps that double.
fn far(times: &[TimestampMs], t: TimestampMs) -> usize {
    let mut end = STEPS_SHORT;
    while times.get(end).is_some_and(|time| *time <= t) {
        end *= 2;
    }
    let begin = if end == STEPS_SHORT { 0 } else { end / 2 };
    let part = times.get(begin..end.min(times.len())).unwrap_or_default();
    begin + part.partition_point(|time| *time <= t)
}

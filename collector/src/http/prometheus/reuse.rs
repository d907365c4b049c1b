//! What was found of the past, for dashboards that ask again: a range query with its window moved on by a
//! few steps is evaluated at the new ones only.
//!
//! Kept is, of an answer, what lies [`CLOSED_AFTER_MS`] and more before now. It is used again by the same
//! text with the same step, length of the window, place of the steps and lookback, where all of this holds:
//!
//! - each step stands for itself ([`stoa_promql::Stepwise`]), which the text tells;
//! - the past is what it was ([`stoa_tsdb::Revision`]), before and after the rest was evaluated: no sample
//!   came late, nothing was deleted or merged, no damage was met;
//! - it is of floats that were read as samples, then and now ([`Steady`]): no native histograms, no rollups;
//! - neither then nor now is something missing because of damage;
//! - all that was told of the whole (warnings, infos) is told of the new steps, too: of what is told it is not
//!   known at which steps. No more than [`NOTES_MAX`] are compared, or kept;
//! - both parts together are within the limit of samples, the kept one by the most that was held at a time
//!   for any piece of it. Those of bytes and series bound each part alone: it is less at a time.
//!
//! Where one does not, the query is evaluated as a whole, as it is for those who ask with `stats`, whose
//! figures are to be true, or with `nocache=1`, as VictoriaMetrics has it. So an answer is the same, to the
//! byte, whether a part of it was kept or not; there is no age at which one goes. Only whether there is one
//! may differ: where the whole would be refused for what it holds at a time, a part and the rest may be had.
//!
//! It knows nothing of who asks, and of the store that it is read and has a past. Bounds:
//! `query.reuse_bytes_max` bytes over all that is kept, a quarter of these for one answer; what was not used
//! for longest goes first.

mod kept;
mod steady;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stoa_model::TimestampMs;
use stoa_promql::{Answer, Engine, MatrixSeries, QueryError, SampleStats, Value, joined};
use stoa_tsdb::Revision;

use self::kept::{Held, Kept, Key};
use self::steady::Steady;
use super::query::Range;
use super::stats::Asking;
use crate::store::StoreView;

/// How long after a time it is taken to be over. What comes later is found out all the same, but costs all
/// that is kept: by then agents have delivered, unless they were cut off.
const CLOSED_AFTER_MS: i64 = 300_000;

/// Shorter steps are not told apart by what is told of them, in whole seconds.
const STEP_MS_MIN: i64 = 1000;

/// The most warnings and infos, together, of an answer that is kept or told with a part that was.
const NOTES_MAX: usize = 16;

/// What is kept, and what came of it.
#[derive(Debug)]
pub(super) struct Reuse {
    bytes_max: usize,
    held: Mutex<Held>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    unfit: AtomicU64,
}

/// What has been kept and used since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReuseFigures {
    /// Range queries answered with a part that was kept.
    pub hits: u64,
    /// Those of which nothing was kept, or nothing that still held.
    pub misses: u64,
    /// Those of which nothing can be kept.
    pub unfit: u64,
    /// Parts dropped because the past had changed.
    pub changed: u64,
    /// Parts dropped for want of room.
    pub crowded_out: u64,
    /// Parts kept now.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
}

/// A range query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) engine: Engine,
    pub(super) text: &'a str,
    pub(super) range: Range,
    pub(super) now_ms: TimestampMs,
}

impl Question<'_> {
    /// The last step.
    fn last(&self) -> TimestampMs {
        self.last_until(self.range.end).unwrap_or(self.range.start)
    }

    /// The last step up to a time.
    fn last_until(&self, until_ms: TimestampMs) -> Option<TimestampMs> {
        let Range { start, end, step } = self.range;
        let length = until_ms.min(end).checked_sub(start).filter(|length| *length >= 0)?;
        Some(start + length - length % step)
    }
}

/// What of a query can be kept.
#[derive(Clone, Copy, Debug)]
struct Closed {
    /// The last step.
    last: TimestampMs,
    /// The newest sample it depends on is no newer.
    until_ms: TimestampMs,
}

impl Reuse {
    /// Nothing is kept yet; nothing ever is of 0 bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { bytes_max, held: Mutex::default(), counters: Counters::default() }
    }

    pub(super) fn figures(&self) -> ReuseFigures {
        let held = self.held();
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        ReuseFigures {
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            unfit: read(&self.counters.unfit),
            ..held.figures()
        }
    }

    /// The answer to a query over the store that `view` shows and `asking` reads.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub(super) fn answer(
        &self,
        question: &Question<'_>,
        view: &StoreView,
        asking: &Asking<'_>,
    ) -> Result<Answer, QueryError> {
        let Some(closed) = self.closed(question) else {
            if self.bytes_max > 0 {
                self.counters.unfit.fetch_add(1, Relaxed);
            }
            return evaluate(question, question.range.start, asking, asking);
        };
        let key = Key::of(question);
        if let Some(answer) = self.continued(question, closed, &key, view, asking)? {
            self.counters.hits.fetch_add(1, Relaxed);
            return Ok(answer);
        }
        self.counters.misses.fetch_add(1, Relaxed);
        let revision = view.close_past(closed.until_ms);
        let steady = Steady::new(asking, 0);
        let answer = evaluate(question, question.range.start, &steady, asking)?;
        if steady.is_steady() && is_as_it_was(view, revision) {
            self.keep(question, closed, key, &answer, revision);
        }
        Ok(answer)
    }

    /// The answer, if part of it was kept and still holds. That it cannot be had so is no error: the query
    /// is then to be evaluated as a whole.
    ///
    /// # Errors
    /// When nobody waits for it.
    fn continued(
        &self,
        question: &Question<'_>,
        closed: Closed,
        key: &Key,
        view: &StoreView,
        asking: &Asking<'_>,
    ) -> Result<Option<Answer>, QueryError> {
        let Range { start, step, .. } = question.range;
        let revision = view.close_past(closed.until_ms);
        // What is found to be of another past is dropped with the lock given back.
        let found = self.held().find(key, revision);
        let Ok(kept) = found else { return Ok(None) };
        // Two steps at least: storage is asked in another way where there is one.
        let from = (kept.last + step).min(question.last() - step);
        if kept.first > start || from <= start {
            return Ok(None);
        }
        let steady = Steady::new(asking, from - start);
        let rest = match evaluate(question, from, &steady, asking) {
            Ok(rest) => rest,
            Err(QueryError::Cancelled) if steady.is_steady() => return Err(QueryError::Cancelled),
            // Told in the words of the whole.
            Err(_refused) => return Ok(None),
        };
        let told_again = |old: &[String], new: &[String]| old.iter().all(|text| new.contains(text));
        if !steady.is_steady()
            || !is_as_it_was(view, revision)
            || rest.warnings.len() + rest.infos.len() > NOTES_MAX
            || !told_again(&kept.warnings, &rest.warnings)
            || !told_again(&kept.infos, &rest.infos)
        {
            return Ok(None);
        }
        let Answer { value: Value::Matrix(new), warnings, infos, samples } = rest else {
            return Ok(None);
        };
        let peak = kept.peak.saturating_add(samples.peak);
        let all = joined(&kept.series, (start, from - step), new);
        let samples_max = question.engine.limits().samples_max as u64;
        let made: usize = all.iter().map(|series| series.points.len()).sum();
        if peak > samples_max || made as u64 > samples_max {
            return Ok(None);
        }
        // Not their sum: what moves on for long would seem to grow all the time.
        let samples = SampleStats { peak: kept.peak.max(samples.peak), ..samples };
        let answer = Answer { value: Value::Matrix(all), warnings, infos, samples };
        if closed.last > kept.last {
            self.keep(question, closed, key.clone(), &answer, revision);
        }
        Ok(Some(answer))
    }

    /// What of a query can be kept; `None` when that is nothing, or too little to be of use.
    fn closed(&self, question: &Question<'_>) -> Option<Closed> {
        let Range { start, end, step } = question.range;
        let is_in_order = end.checked_sub(start).is_some_and(|length| length >= 0);
        if self.bytes_max == 0 || step < STEP_MS_MIN || !is_in_order {
            return None;
        }
        let until_ms = question.now_ms.saturating_sub(CLOSED_AFTER_MS);
        // Before the text is read: half of the steps, and more than one.
        let is_enough = |last: TimestampMs| last > start && last - start >= question.last() - last;
        question.last_until(until_ms).filter(|last| is_enough(*last))?;
        let ahead_ms = question.engine.stepwise(question.text)?.ahead_ms;
        let last = question.last_until(until_ms.saturating_sub(ahead_ms))?;
        is_enough(last).then_some(Closed { last, until_ms })
    }

    /// Keeps what is closed of an answer.
    fn keep(
        &self,
        question: &Question<'_>,
        closed: Closed,
        key: Key,
        answer: &Answer,
        revision: Revision,
    ) {
        let Value::Matrix(all) = &answer.value else { return };
        let notes = || answer.warnings.iter().chain(&answer.infos);
        let is_floats = all.iter().all(|series| series.histograms.is_empty());
        if !is_floats || notes().count() > NOTES_MAX {
            return;
        }
        let up_to =
            |series: &MatrixSeries| series.points.partition_point(|(t, _)| *t <= closed.last);
        let bytes_max = self.bytes_max / 4;
        let sizes = all.iter().map(|series| Kept::bytes_of(&series.labels, up_to(series)));
        let of_notes = notes().map(|text| size_of::<String>() + text.len());
        let bytes = key.bytes() + of_notes.sum::<usize>() + sizes.sum::<usize>();
        if bytes > bytes_max {
            return;
        }
        let part = |series: &MatrixSeries| MatrixSeries {
            labels: series.labels.clone(),
            points: series.points.get(..up_to(series)).unwrap_or_default().to_vec(),
            histograms: Vec::new(),
        };
        let mut series: Vec<_> =
            all.iter().map(part).filter(|series| !series.points.is_empty()).collect();
        series.shrink_to_fit();
        let kept = Kept {
            series,
            first: question.range.start,
            last: closed.last,
            warnings: answer.warnings.clone(),
            infos: answer.infos.clone(),
            peak: answer.samples.peak,
            revision,
            bytes,
        };
        // Nobody waits for the lock while what had to go is dropped.
        let gone = self.held().keep(key, Arc::new(kept), self.bytes_max);
        drop(gone);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The steps of a query from one of them on.
fn evaluate(
    question: &Question<'_>,
    from: TimestampMs,
    storage: &dyn stoa_promql::Storage,
    asking: &Asking<'_>,
) -> Result<Answer, QueryError> {
    let Range { end, step, .. } = question.range;
    question.engine.range(storage, question.text, from, end, step, asking)
}

/// Whether what was read since a revision was told is whole, and of that revision.
fn is_as_it_was(view: &StoreView, revision: Revision) -> bool {
    view.revision() == revision && view.warnings().is_empty()
}

#[cfg(test)]
mod tests;

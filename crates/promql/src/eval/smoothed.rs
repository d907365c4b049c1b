//! `smoothed` without a range: the value at each step on the line between the samples around it, which
//! lie no further off than a sample stands for its series. After the last one its value stays.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::column::Point;
use super::selector::hints;
use super::window::RangeSeries;
use super::{Column, Evaluator, Row, Steps};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::function::extended::{interpolated, interpolated_histograms};
use crate::histogram::{Histogram, Incompatible, ResetHint};
use crate::parse::ast::{Selector, Span};
use crate::storage::Use;

impl Evaluator<'_> {
    pub(super) fn select_smoothed(
        &self,
        selector: &Selector,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let place = self.place.get();
        let shifted = self.resolve(&selector.shift)?;
        let reach = self.selector_reach(selector, steps)?;
        let hints = hints(Use::Samples, shifted, steps);
        let loaded = self.load(&selector.matchers, reach, &hints)?;
        self.check_size(loaded.len(), steps)?;
        let mut rows = Vec::with_capacity(loaded.len());
        let mut made = 0;
        for series in loaded {
            self.visit(steps.count)?;
            let series = series.without_stale();
            let mut column = Column::empty(steps.count);
            for (step, t) in steps.times().enumerate() {
                if let Some(point) = self.drawn(&series, shifted.apply(t), place) {
                    column.set(step, point);
                }
            }
            made += self.newest_of(series.labels, column, made, &mut rows)?;
        }
        Ok(rows)
    }

    /// The value of a series at `t`.
    fn drawn(&self, series: &RangeSeries, t: TimestampMs, place: Span) -> Option<Point> {
        let lookback = self.limits.lookback_ms;
        let (low, high) = (t.saturating_sub(lookback), t.saturating_add(lookback));
        let near = |times: &[TimestampMs]| {
            times.partition_point(|at| *at <= low)..times.partition_point(|at| *at <= high)
        };
        let (floats, histograms) = (near(&series.times), near(&series.histogram_times));
        if histograms.is_empty() {
            let times = series.times.get(floats.clone())?;
            let values = series.values.get(floats)?;
            let next = times.partition_point(|at| *at < t);
            let sample = |at: usize| Some((*times.get(at)?, *values.get(at)?));
            return match (next.checked_sub(1).and_then(sample), sample(next)) {
                (_, Some((at, v))) if at == t => Some(v),
                (Some(before), Some(after)) => Some(interpolated(before, after, t, false)),
                (Some((_, v)), None) => Some(v),
                (None, _) => None,
            }
            .map(Point::Float);
        }
        let metric = series.labels.metric_name().unwrap_or("");
        if !floats.is_empty() {
            self.note(&Note::MixedFloatsHistograms { metric }, place);
            return None;
        }
        let times = series.histogram_times.get(histograms.clone())?;
        let all = series.histograms.get(histograms)?;
        let next = times.partition_point(|at| *at < t);
        let sample = |at: usize| Some((*times.get(at)?, all.get(at)?));
        match (next.checked_sub(1).and_then(sample), sample(next)) {
            (_, Some((at, histogram))) if at == t => Some(Point::Histogram(Arc::clone(histogram))),
            (Some((before_time, before)), Some((after_time, after))) => {
                let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
                let counter = !(is_gauge(before) && is_gauge(after));
                let note = |note: Note<'_>| self.note(&note, place);
                let (before, after) =
                    ((before_time, before.as_ref()), (after_time, after.as_ref()));
                match interpolated_histograms(before, after, t, counter, &note) {
                    Ok(histogram) => Some(Point::Histogram(histogram.into())),
                    Err(Incompatible) => {
                        note(Note::MixedExponentialCustom { metric });
                        None
                    }
                }
            }
            (Some((_, last)), None) => {
                // Carried on, it says nothing of resets any more.
                let last = Histogram { reset_hint: ResetHint::Unknown, ..Histogram::clone(last) };
                Some(Point::Histogram(last.into()))
            }
            (None, _) => None,
        }
    }
}

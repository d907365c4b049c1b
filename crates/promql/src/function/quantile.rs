//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction` over classic and native
//! histograms in one vector.

use std::collections::HashMap;

use stoa_model::Labels;

use super::classic::{self, Cumulative};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::eval::{Cell, Column, Evaluator, Row, Steps};
use crate::features::Feature;
use crate::histogram::Histogram;
use crate::number::{format_float, format_general};
use crate::parse::ast::Span;

/// The label that holds a classic bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// What one row is beside looking at samples.
const GATHER_VISITS: usize = 64;

/// One histogram at all steps: the rows of its buckets, or the row it is in.
pub(crate) struct Gathered<'a> {
    /// With the metric's name.
    pub(crate) labels: Labels,
    classic: Vec<(f64, &'a Row)>,
    native: Vec<&'a Row>,
}

/// What one histogram is at one step.
pub(crate) enum Found<'a> {
    Classic(Vec<Cumulative>),
    Native(&'a Histogram),
}

/// The histograms in a vector. `span` is where the vector is.
pub(crate) fn gather<'a>(
    evaluator: &Evaluator<'_>,
    rows: &'a [Row],
    span: Span,
) -> Result<Vec<Gathered<'a>>, QueryError> {
    let mut at_of: HashMap<Labels, usize> = HashMap::new();
    let mut all: Vec<Gathered<'a>> = Vec::new();
    let mut at = |labels: Labels, all: &mut Vec<Gathered<'a>>| {
        *at_of.entry(labels).or_insert_with_key(|labels| {
            all.push(Gathered { labels: labels.clone(), classic: Vec::new(), native: Vec::new() });
            all.len() - 1
        })
    };
    for row in rows {
        evaluator.visit(GATHER_VISITS)?;
        let kinds = match row.column.as_floats() {
            Some(_) => (!row.column.is_empty(), false),
            None => row.column.cells().fold((false, false), |kinds, (_, cell)| match cell {
                Cell::Float(_) => (true, kinds.1),
                Cell::Histogram(_) => (kinds.0, true),
            }),
        };
        if kinds.1 {
            let at = at(row.labels.clone(), &mut all);
            if let Some(gathered) = all.get_mut(at) {
                gathered.native.push(row);
            }
        }
        if kinds.0 {
            let label = row.labels.get(BUCKET_LABEL).unwrap_or("");
            let Ok(bound) = label.parse::<f64>() else {
                evaluator.note(&Note::BadBucketLabel { metric: row.metric(), label }, span);
                continue;
            };
            let at = at(row.labels.without(BUCKET_LABEL), &mut all);
            if let Some(gathered) = all.get_mut(at) {
                gathered.classic.push((bound, row));
            }
        }
    }
    Ok(all)
}

impl Gathered<'_> {
    fn metric(&self) -> &str {
        self.labels.metric_name().unwrap_or("")
    }

    /// What notes about the result call it: nothing once its name is gone.
    fn shown(&self, evaluator: &Evaluator<'_>) -> &str {
        if evaluator.features.has(Feature::DelayedNameRemoval) { self.metric() } else { "" }
    }

    /// The histogram at a step. Both kinds at one step are none, which is noted.
    fn at(&self, evaluator: &Evaluator<'_>, step: usize, span: Span) -> Option<Found<'_>> {
        let buckets: Vec<Cumulative> = self
            .classic
            .iter()
            .filter_map(|(bound, row)| match row.column.get(step) {
                Some(Cell::Float(count)) => Some(Cumulative { bound: *bound, count }),
                _ => None,
            })
            .collect();
        let native = self.native.iter().find_map(|row| match row.column.get(step) {
            Some(Cell::Histogram(histogram)) => Some(histogram.as_ref()),
            _ => None,
        });
        match (buckets.is_empty(), native) {
            (true, None) => None,
            (true, Some(histogram)) => Some(Found::Native(histogram)),
            (false, None) => Some(Found::Classic(buckets)),
            (false, Some(_)) => {
                evaluator.note(&Note::MixedClassicNative { metric: self.metric() }, span);
                None
            }
        }
    }
}

/// Where notes of a call point to.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    /// The vector.
    pub(crate) vector: Span,
    /// The first argument.
    pub(crate) first: Span,
}

/// One quantile of each histogram; the quantile may differ from step to step.
pub(crate) fn quantiles(
    evaluator: &Evaluator<'_>,
    all: &[Gathered<'_>],
    q: &[f64],
    steps: &Steps,
    places: Places,
) -> Result<Vec<Row>, QueryError> {
    each(evaluator, all, steps, places, |gathered, step, found| {
        let q = q.get(step).copied().unwrap_or(f64::NAN);
        let metric = gathered.shown(evaluator);
        match found {
            Found::Classic(buckets) => {
                let (value, fix) = classic::quantile(q, buckets);
                if let Some(fix) = fix {
                    let at = steps.time(step);
                    let note = Note::ForcedMonotonicity { metric, at, fix };
                    evaluator.note(&note, places.vector);
                }
                value
            }
            Found::Native(histogram) => {
                let value = histogram.quantile(q);
                if (0.0..=1.0).contains(&q) && has_nan_observations(histogram) {
                    let note = if value.is_nan() {
                        Note::QuantileNanResult { metric }
                    } else {
                        Note::QuantileNanSkew { metric }
                    };
                    evaluator.note(&note, places.first);
                }
                value
            }
        }
    })
}

/// The share of each histogram's observations between two values.
pub(crate) fn fractions(
    evaluator: &Evaluator<'_>,
    all: &[Gathered<'_>],
    (lower, upper): (&[f64], &[f64]),
    steps: &Steps,
    places: Places,
) -> Result<Vec<Row>, QueryError> {
    each(evaluator, all, steps, places, |gathered, step, found| {
        let bound = |bounds: &[f64]| bounds.get(step).copied().unwrap_or(f64::NAN);
        let (lower, upper) = (bound(lower), bound(upper));
        match found {
            Found::Classic(buckets) => classic::fraction(lower, upper, buckets),
            Found::Native(histogram) => {
                if has_nan_observations(histogram) {
                    let metric = gathered.shown(evaluator);
                    evaluator.note(&Note::FractionNans { metric }, places.first);
                }
                histogram.fraction(lower, upper)
            }
        }
    })
}

fn each(
    evaluator: &Evaluator<'_>,
    all: &[Gathered<'_>],
    steps: &Steps,
    places: Places,
    value: impl Fn(&Gathered<'_>, usize, Found<'_>) -> f64,
) -> Result<Vec<Row>, QueryError> {
    let mut out = Vec::with_capacity(all.len());
    for gathered in all {
        let mut column = Column::empty(steps.count);
        for step in 0..steps.count {
            evaluator.visit(1 + gathered.classic.len() + 16 * gathered.native.len())?;
            if let Some(found) = gathered.at(evaluator, step, places.vector) {
                column.set_float(step, value(gathered, step, found));
            }
        }
        out.push(Row { labels: gathered.labels.clone(), drop_name: true, column });
    }
    Ok(out)
}

/// Whether some observations are in no bucket, which only those of NaN are.
fn has_nan_observations(histogram: &Histogram) -> bool {
    histogram.sum.is_nan()
        && histogram.buckets().iter().map(|bucket| bucket.count).sum::<f64>() < histogram.count
}

/// A quantile as the value of a label: as OpenMetrics writes numbers.
pub(crate) fn label_value(q: f64) -> String {
    if !q.is_finite() {
        return format_float(q);
    }
    let text = format_general(q);
    if text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

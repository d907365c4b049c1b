//! Function calls: which rows, cells and windows a function sees.

use std::cmp::Ordering;

use stoa_model::{Labels, MatchOp, Matcher};

use super::column::Bits;
use super::window::Shared;
use super::{
    Cell, Column, Evaluated, Evaluator, Point, RangeVector, Row, Steps, TYPE_LABEL, Wanted, merge,
    metadata_label,
};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::features::Feature;
use crate::function::date::{self, Date};
use crate::function::extrapolate::Extrapolation;
use crate::function::quantile::{Places, fractions, gather, label_value, quantiles};
use crate::function::range::{RangeFunction, Seen};
use crate::function::{info, label, math, natural, range};
use crate::number::{seconds, to_i64};
use crate::parse::ast::{Call, Expr, ExprKind, Extension, Shift, Span, Text, Type};

/// Rows that are sorted without a question whether to go on.
const SORTED_AT_ONCE: usize = 1 << 15;

/// What a function wants of the histograms in its arguments, if not all that is wanted around it.
pub(super) fn wanted_by(function: &str) -> Option<Wanted> {
    match function {
        "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
            Some(Wanted::Buckets)
        }
        "histogram_count" | "histogram_sum" | "histogram_avg" => Some(Wanted::Statistics),
        _ => None,
    }
}

impl Evaluator<'_> {
    pub(super) fn call(
        &self,
        span: Span,
        call: &Call,
        steps: &Steps,
    ) -> Result<Evaluated, QueryError> {
        let name = call.function.name;
        if call.function.returns == Type::Scalar {
            return Ok(Evaluated::Scalar(self.scalar_call(call, steps)?));
        }
        if let Some(function) = range::find(name) {
            return Ok(Evaluated::Vector(self.range_call(call, function, steps)?));
        }
        let rows = match name {
            "label_replace" | "label_join" => self.label_call(call, steps)?,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.wanting(Wanted::Buckets, || self.histogram_call(call, steps))?
            }
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                self.wanting(Wanted::Statistics, || self.histogram_statistic(call, steps))?
            }
            "histogram_stddev" | "histogram_stdvar" => self.histogram_statistic(call, steps)?,
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                self.sort_call(span, call, steps)?
            }
            "info" => {
                let base = self.vector_argument(call, 0, steps)?;
                let selector = match call.args.get(1).map(|arg| &arg.kind) {
                    Some(ExprKind::Selector(selector)) => Some(selector.as_ref()),
                    _ => None,
                };
                self.place.set(call.args.get(1).map_or(span, |arg| arg.span));
                info::enrich(self, base, selector, first_shift(self.argument(call, 0)?), steps)?
            }
            "vector" => vec![Row::of_scalar(self.scalar_argument(call, 0, steps)?)],
            "timestamp" => self.timestamp(call, steps)?,
            "start_timestamp" => self.start_timestamp(call, steps)?,
            "absent" => {
                let rows = self.vector_argument(call, 0, steps)?;
                let mut seen = Bits::new(steps.count);
                for row in &rows {
                    seen.or(row.column.present());
                }
                absent(call, &seen, steps)
            }
            "round" => {
                let nearest = match call.args.get(1) {
                    Some(_) => self.scalar_argument(call, 1, steps)?,
                    None => vec![1.0; steps.count],
                };
                let at = |step: usize| nearest.get(step).copied().unwrap_or(1.0);
                self.map_floats(call, steps, |step, v| Some(math::round(v, at(step))))?
            }
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(call, steps)?,
            _ => match (math::find(name), date::find(name)) {
                (Some(function), _) => self.map_floats(call, steps, |_, v| Some(function(v)))?,
                (None, Some(function)) => self.date_call(call, function, steps)?,
                (None, None) => {
                    let place = self.query.get(span.start..span.end).unwrap_or(name);
                    return Err(QueryError::Execution(format!("BUG: no function for {place}")));
                }
            },
        };
        Ok(Evaluated::Vector(merge(rows)?))
    }

    fn argument<'e>(&self, call: &'e Call, at: usize) -> Result<&'e Expr, QueryError> {
        call.args.get(at).ok_or_else(|| {
            QueryError::Execution(format!("BUG: {} without argument {at}", call.function.name))
        })
    }

    fn vector_argument(
        &self,
        call: &Call,
        at: usize,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        self.eval_vector(self.argument(call, at)?, steps)
    }

    fn scalar_argument(
        &self,
        call: &Call,
        at: usize,
        steps: &Steps,
    ) -> Result<Vec<f64>, QueryError> {
        self.eval_scalar(self.argument(call, at)?, steps)
    }

    fn text_argument<'e>(&self, call: &'e Call, at: usize) -> Result<&'e Text, QueryError> {
        match &self.argument(call, at)?.unwrapped().kind {
            ExprKind::Text(text) => Ok(text),
            _ => Err(QueryError::Execution("BUG: a string argument is no string".into())),
        }
    }

    fn scalar_call(&self, call: &Call, steps: &Steps) -> Result<Vec<f64>, QueryError> {
        let constant = |v: f64| Ok(vec![v; steps.count]);
        match call.function.name {
            "time" => Ok(steps.times().map(seconds).collect()),
            "pi" => constant(std::f64::consts::PI),
            "start" => constant(seconds(self.times.start)),
            "end" => constant(seconds(self.times.end)),
            "range" => constant(seconds(self.query_range_ms())),
            "step" => constant(self.query_step_seconds()),
            "scalar" => {
                let rows = self.vector_argument(call, 0, steps)?;
                let mut found: Vec<Option<f64>> = vec![None; steps.count];
                for row in &rows {
                    for (step, cell) in row.column.cells() {
                        if let (Cell::Float(v), Some(slot)) = (cell, found.get_mut(step)) {
                            // More than one is none.
                            *slot = Some(if slot.is_none() { v } else { f64::NAN });
                        }
                    }
                }
                Ok(found.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
            }
            name => {
                let left = self.scalar_argument(call, 0, steps)?;
                let right = self.scalar_argument(call, 1, steps)?;
                let pick = if name == "min_of" { math::smallest } else { math::largest };
                Ok(left.iter().zip(&right).map(|(l, r)| pick(*l, *r)).collect())
            }
        }
    }

    /// Rows of what `f` makes of each float; histograms are left out.
    fn map_floats(
        &self,
        call: &Call,
        steps: &Steps,
        f: impl Fn(usize, f64) -> Option<f64>,
    ) -> Result<Vec<Row>, QueryError> {
        let mut rows = self.vector_argument(call, 0, steps)?;
        for row in &mut rows {
            self.visit(steps.count)?;
            let mapped = row.column.change_floats(|step, v| {
                let value = f(step, *v);
                *v = value.unwrap_or(f64::NAN);
                value.is_some()
            });
            if !mapped {
                row.column = row.column.filter_map(|step, cell| match cell {
                    Cell::Float(v) => f(step, v).map(Point::Float),
                    Cell::Histogram(_) => None,
                });
            }
            row.drop_name = true;
        }
        rows.retain(|row| !row.column.is_empty());
        Ok(rows)
    }

    fn clamp(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let first = self.scalar_argument(call, 1, steps)?;
        let (min, max) = match call.function.name {
            "clamp_min" => (first, vec![f64::INFINITY; steps.count]),
            "clamp_max" => (vec![f64::NEG_INFINITY; steps.count], first),
            _ => (first, self.scalar_argument(call, 2, steps)?),
        };
        self.map_floats(call, steps, |step, v| {
            let (min, max) = (*min.get(step)?, *max.get(step)?);
            if max < min { None } else { Some(math::clamp(v, min, max)) }
        })
    }

    fn date_call(
        &self,
        call: &Call,
        function: fn(&Date) -> i64,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        // The fields of a date are small, so as seconds times 1000 they are exact.
        let of = |t: i64| seconds(function(&Date::of_seconds(t)).saturating_mul(1000));
        if call.args.is_empty() {
            let values = steps.times().map(|t| of(t.div_euclid(1000))).collect();
            return Ok(vec![Row::of_scalar(values)]);
        }
        self.map_floats(call, steps, |_, v| Some(of(to_i64(v))))
    }

    fn timestamp(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let arg = self.argument(call, 0)?.unwrapped();
        if let ExprKind::Selector(selector) = &arg.kind {
            self.place.set(arg.span);
            let mut rows = self.select_times(selector, steps)?;
            for row in &mut rows {
                row.drop_name = true;
            }
            return Ok(rows);
        }
        let rows = self.eval_vector(arg, steps)?;
        Ok(map_rows(rows, |step, _| Some(seconds(steps.time(step)))))
    }

    /// Of a selector only: nothing else has start timestamps.
    fn start_timestamp(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let arg = self.argument(call, 0)?.unwrapped();
        let mut rows = match &arg.kind {
            ExprKind::Selector(selector) if self.features.has(Feature::StartTimestamps) => {
                self.place.set(arg.span);
                self.select_start_times(selector, steps)?
            }
            _ => {
                self.eval_vector(arg, steps)?;
                Vec::new()
            }
        };
        for row in &mut rows {
            row.drop_name = true;
        }
        Ok(rows)
    }

    fn label_call(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let rows = self.vector_argument(call, 0, steps)?;
        let text = |at| self.text_argument(call, at);
        if call.function.name == "label_replace" {
            return label::replace(self, rows, text(1)?, text(2)?, text(3)?, text(4)?);
        }
        let mut sources = Vec::new();
        for at in 3..call.args.len() {
            sources.push(text(at)?);
        }
        label::join(self, rows, text(1)?, text(2)?, &sources)
    }

    fn histogram_call(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let vector_at = match call.function.name {
            "histogram_quantile" => 1,
            "histogram_quantiles" => 0,
            _ => 2,
        };
        let rows = self.in_order(self.vector_argument(call, vector_at, steps)?)?;
        let places = Places {
            vector: self.argument(call, vector_at)?.span,
            first: self.argument(call, 0)?.span,
        };
        let quantile_argument = |at: usize| -> Result<Vec<f64>, QueryError> {
            let q = self.scalar_argument(call, at, steps)?;
            for v in q.iter().filter(|v| !(0.0..=1.0).contains(*v)) {
                self.note(&Note::InvalidQuantile(*v), self.argument(call, at)?.span);
            }
            Ok(q)
        };
        match call.function.name {
            "histogram_quantile" => {
                let q = quantile_argument(0)?;
                let all = gather(self, &rows, places.vector)?;
                quantiles(self, &all, &q, steps, places)
            }
            "histogram_fraction" => {
                let lower = self.scalar_argument(call, 0, steps)?;
                let upper = self.scalar_argument(call, 1, steps)?;
                let all = gather(self, &rows, places.vector)?;
                fractions(self, &all, (&lower, &upper), steps, places)
            }
            _ => {
                let name = self.text_argument(call, 1)?;
                if name.invalid.is_some() || name.value.is_empty() {
                    let message =
                        format!("invalid label name {}", crate::number::quote(&name.value));
                    return Err(QueryError::Execution(message));
                }
                let all = gather(self, &rows, places.vector)?;
                let mut out = Vec::new();
                for at in 2..call.args.len() {
                    let q = quantile_argument(at)?;
                    for row in quantiles(self, &all, &q, steps, places)? {
                        self.visit(steps.count)?;
                        // Each step has its own quantile, and so its own label.
                        for (step, cell) in row.column.cells() {
                            let value = label_value(q.get(step).copied().unwrap_or(f64::NAN));
                            let mut column = Column::empty(steps.count);
                            column.set(step, cell.into());
                            let labels = row.labels.with(&name.value, &value);
                            out.push(Row { labels, drop_name: true, column });
                        }
                    }
                }
                Ok(out)
            }
        }
    }

    fn histogram_statistic(&self, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let rows = self.vector_argument(call, 0, steps)?;
        let name = call.function.name;
        Ok(map_rows(rows, |_, cell| {
            let Cell::Histogram(histogram) = cell else { return None };
            Some(match name {
                "histogram_count" => histogram.count,
                "histogram_sum" => histogram.sum,
                "histogram_avg" => histogram.sum / histogram.count,
                "histogram_stddev" => histogram.variance().sqrt(),
                _ => histogram.variance(),
            })
        }))
    }

    fn sort_call(&self, span: Span, call: &Call, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let rows = self.vector_argument(call, 0, steps)?;
        let name = call.function.name;
        if let "sort" | "sort_desc" = name {
            let mut rows: Vec<Row> = rows
                .into_iter()
                .map(|row| {
                    let column = row.column.filter_map(|_, cell| match cell {
                        Cell::Float(v) => Some(Point::Float(v)),
                        Cell::Histogram(_) => None,
                    });
                    Row { column, ..row }
                })
                .filter(|row| !row.column.is_empty())
                .collect();
            if self.ordered == Some(span) {
                self.sorted(&mut rows, |a, b| {
                    let (a, b) = (first_float(a), first_float(b));
                    let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                    let order = if name == "sort" { order } else { order.reverse() };
                    a.is_nan().cmp(&b.is_nan()).then(order)
                })?;
            }
            return Ok(rows);
        }
        if self.ordered != Some(span) {
            return Ok(rows);
        }
        let mut names = Vec::new();
        for at in 1..call.args.len() {
            names.push(self.text_argument(call, at)?);
        }
        let mut rows = rows;
        self.sorted(&mut rows, |a, b| {
            let order = names
                .iter()
                .map(|name| {
                    let of_a = a.labels.get(&name.value).unwrap_or("");
                    natural::compare(of_a, b.labels.get(&name.value).unwrap_or(""))
                })
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.labels.cmp(&b.labels));
            if name == "sort_by_label" { order } else { order.reverse() }
        })?;
        Ok(rows)
    }

    /// Sorts rows, stably, in parts between which it may be ended; that the parts are in order makes what
    /// is left to do little.
    pub(super) fn sorted(
        &self,
        rows: &mut [Row],
        compare: impl Fn(&Row, &Row) -> Ordering,
    ) -> Result<(), QueryError> {
        if rows.len() > SORTED_AT_ONCE {
            for part in rows.chunks_mut(SORTED_AT_ONCE) {
                self.check_cancelled()?;
                part.sort_by(&compare);
            }
        }
        self.check_cancelled()?;
        rows.sort_by(compare);
        Ok(())
    }

    /// Rows in order of labels, whichever others there are at other steps: for what depends on the order in
    /// which values are added up, or chosen among equals.
    pub(super) fn in_order(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
        let compare = |a: &Row, b: &Row| a.labels.cmp(&b.labels);
        if !rows.is_sorted_by(|a, b| compare(a, b).is_le()) {
            self.sorted(&mut rows, compare)?;
        }
        Ok(rows)
    }

    fn range_call(
        &self,
        call: &Call,
        function: RangeFunction,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let name = call.function.name;
        let rows = match self.rolled_up_call(call, steps)? {
            Some(rows) => rows,
            None => self.sampled_call(call, function, steps)?,
        };
        if name == "absent_over_time" {
            let mut seen = Bits::new(steps.count);
            for row in &rows {
                seen.or(row.column.present());
            }
            return Ok(absent(call, &seen, steps));
        }
        Ok(rows)
    }

    fn sampled_call(
        &self,
        call: &Call,
        function: RangeFunction,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let name = call.function.name;
        let mut scalars: Vec<Vec<f64>> = Vec::new();
        let mut vector: Option<RangeVector> = None;
        for arg in &call.args {
            if arg.value_type() == Type::Matrix {
                check_extension(name, arg)?;
                vector = Some(self.eval_range(arg, steps)?);
            } else {
                scalars.push(self.eval_scalar(arg, steps)?);
            }
        }
        let Some(vector) = vector else { return Ok(Vec::new()) };
        self.check_size(vector.series.len(), steps)?;
        let place = self.argument(call, 0)?.span;
        self.apply_range(call, function, &vector, &scalars, place, steps)
    }

    fn apply_range(
        &self,
        call: &Call,
        function: RangeFunction,
        vector: &RangeVector,
        scalars: &[Vec<f64>],
        place: Span,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let name = call.function.name;
        // These two give a sample as it was, so its name still fits.
        let keeps_name = matches!(name, "first_over_time" | "last_over_time");
        let range_seconds = seconds(vector.range_ms);
        let note = |note: Note<'_>| self.note(&note, place);
        let mut at_step: Vec<f64> = Vec::with_capacity(scalars.len());
        let mut rows = Vec::with_capacity(vector.series.len());
        let extrapolation = Extrapolation::of(name).filter(|_| vector.extension.is_none());
        let mut shared = Shared::default();
        let (mut counts, by_step) = (Shared::default(), self.tally.is_by_step());
        let mut made = 0usize;
        for series in &vector.series {
            self.check_cancelled()?;
            let mut windows = (0, 0);
            if !series.times.is_empty() {
                let count = |from, to| to - from;
                let counts = counts
                    .of(&series.times, || vector.counts(&series.times, count, steps, by_step));
                self.tally.count_windows(counts);
                windows = (counts.most(), counts.last());
            }
            if !series.histograms.is_empty() {
                let counts = vector.histogram_counts(series, steps, by_step);
                self.tally.count_windows(&counts);
                windows = (windows.0 + counts.most(), windows.1 + counts.last());
            }
            self.tally.peek(windows.0.saturating_add(made))?;
            let metric = series.labels.metric_name().unwrap_or("");
            let mut column = Column::empty(steps.count);
            let mut floats = false;
            if let Some(extrapolation) = extrapolation
                && series.histograms.is_empty()
                && series.starts.is_empty()
            {
                let frames = shared.of(&series.times, || vector.frames(&series.times, steps));
                extrapolation.fill(
                    &series.values,
                    frames,
                    range_seconds,
                    &mut column,
                    |samples| self.visit(samples),
                )?;
                floats = !column.is_empty();
            } else {
                vector.each_window(series, steps, |step, window| {
                    self.visit(1 + window.times.len() + 16 * window.histograms.len())?;
                    at_step.clear();
                    at_step.extend(scalars.iter().filter_map(|values| values.get(step)));
                    let seen = Seen {
                        window,
                        scalars: &at_step,
                        range_seconds,
                        extension: vector.extension,
                        metric,
                        note: &note,
                    };
                    if let Some(point) = function(&seen)? {
                        floats |= matches!(point, Point::Float(_));
                        column.set(step, point);
                    }
                    Ok::<(), QueryError>(())
                })?;
            }
            if floats
                && matches!(name, "rate" | "increase")
                && let Some(doubt) = doubt_of_counter(&series.labels)
            {
                note(doubt);
            }
            made += column.samples();
            self.tally.peek(windows.1.saturating_add(made))?;
            if !column.is_empty() {
                let drop_name = series.drop_name || !keeps_name;
                rows.push(Row { labels: series.labels.clone(), drop_name, column });
            }
        }
        Ok(rows)
    }
}

/// Rows of what `f` makes of each cell, without names.
fn map_rows(rows: Vec<Row>, f: impl Fn(usize, Cell<'_>) -> Option<f64>) -> Vec<Row> {
    rows.into_iter()
        .map(|row| Row {
            column: row.column.filter_map(|step, cell| f(step, cell).map(Point::Float)),
            drop_name: true,
            labels: row.labels,
        })
        .filter(|row| !row.column.is_empty())
        .collect()
}

/// Where the first selector of an expression looks.
fn first_shift(expr: &Expr) -> Shift {
    let mut first: Option<Shift> = None;
    expr.visit(&mut |node| {
        let shift = match &node.kind {
            ExprKind::Selector(selector) => &selector.shift,
            ExprKind::Matrix(matrix) => &matrix.selector.shift,
            _ => return,
        };
        first.get_or_insert_with(|| shift.clone());
    });
    first.unwrap_or_default()
}

fn first_float(row: &Row) -> f64 {
    match row.column.get(0) {
        Some(Cell::Float(v)) => v,
        _ => f64::NAN,
    }
}

/// What speaks against a series of floats being a counter: its type where that is known, else its
/// name.
pub(super) fn doubt_of_counter(labels: &Labels) -> Option<Note<'_>> {
    let metric = labels.metric_name().filter(|metric| !metric.is_empty())?;
    if let Some(kind) = labels.get(TYPE_LABEL).filter(|kind| !kind.is_empty()) {
        let is_counter = matches!(kind, "counter" | "histogram");
        return (!is_counter).then_some(Note::PossibleNonCounterType { metric, kind });
    }
    let is_named_so =
        ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
    (!is_named_so).then_some(Note::PossibleNonCounter { metric })
}

/// `anchored` and `smoothed` make sense for few functions.
fn check_extension(function: &str, arg: &Expr) -> Result<(), QueryError> {
    let ExprKind::Matrix(matrix) = &arg.unwrapped().kind else { return Ok(()) };
    let (word, allowed): (&str, &[&str]) = match matrix.selector.extension {
        None => return Ok(()),
        Some(Extension::Anchored) => {
            ("anchored", &["changes", "delta", "increase", "rate", "resets"])
        }
        Some(Extension::Smoothed) => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    Err(QueryError::Execution(format!(
        "{word} modifier can only be used with: {} - not with {function}",
        allowed.join(", ")
    )))
}

/// 1 wherever nothing was seen, under the labels the selector fixes.
fn absent(call: &Call, seen: &Bits, steps: &Steps) -> Vec<Row> {
    let mut column = Column::full(vec![1.0; steps.count]);
    column.remove(seen);
    if column.is_empty() {
        return Vec::new();
    }
    let matchers: &[Matcher] = match call.args.first().map(|arg| &arg.unwrapped().kind) {
        Some(ExprKind::Selector(selector)) => &selector.matchers,
        Some(ExprKind::Matrix(matrix)) => &matrix.selector.matchers,
        _ => &[],
    };
    let mut labels = Labels::empty();
    let mut fixed: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| !metadata_label(matcher.name())) {
        let name = matcher.name();
        if matcher.op() == MatchOp::Equal && !fixed.contains(&name) {
            labels = labels.with(name, matcher.value());
            fixed.push(name);
        } else {
            labels = labels.without(name);
        }
    }
    vec![Row::new(labels, column)]
}

//! Aggregations that make one series of a group: `sum`, `avg`, `count`, `min`, `max`, `group`,
//! `stddev`, `stdvar`, `quantile`. Those that choose among series are in [`super::pick`].

use std::collections::HashMap;

use stoa_model::Labels;

use super::column::{Bits, Cell, Point};
use super::{Column, Evaluated, Evaluator, Row, Steps, VISITS, metadata_label};
use crate::annotation::{Note, Operation};
use crate::error::QueryError;
use crate::histogram::running::Running;
use crate::histogram::{Histogram, ResetHint};
use crate::number::{Kahan, Mean, count};
use crate::parse::ast::{Aggregate, AggregateOp, Span};

/// The rows of one group, and the labels of its result.
pub(super) struct Group {
    pub(super) labels: Labels,
    pub(super) rows: Vec<usize>,
}

/// What grouping a row is beside looking at samples.
const GROUP_VISITS: usize = 64;

pub(super) fn group_labels(labels: &Labels, grouping: &[String], without: bool) -> Labels {
    labels.retain(|label| {
        let listed = grouping.iter().any(|name| name.as_str() == label.name.as_ref());
        if without { !listed && !metadata_label(&label.name) } else { listed }
    })
}

impl Evaluator<'_> {
    /// Groups in order of their first row.
    pub(super) fn groups(
        &self,
        rows: &[Row],
        grouping: &[String],
        without: bool,
    ) -> Result<Vec<Group>, QueryError> {
        let mut at_of: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            self.visit(GROUP_VISITS)?;
            let labels = group_labels(&row.labels, grouping, without);
            let next = groups.len();
            let at = *at_of.entry(labels.clone()).or_insert(next);
            match groups.get_mut(at) {
                Some(group) => group.rows.push(i),
                None => groups.push(Group { labels, rows: vec![i] }),
            }
        }
        Ok(groups)
    }

    pub(super) fn aggregate(
        &self,
        span: Span,
        aggregate: &Aggregate,
        steps: &Steps,
    ) -> Result<Evaluated, QueryError> {
        let rows = match aggregate.op {
            AggregateOp::CountValues => self.count_values(aggregate, steps)?,
            AggregateOp::TopK
            | AggregateOp::BottomK
            | AggregateOp::LimitK
            | AggregateOp::LimitRatio => self.pick(span, aggregate, steps)?,
            _ => self.reduce(aggregate, steps)?,
        };
        Ok(Evaluated::Vector(rows))
    }

    fn reduce(&self, aggregate: &Aggregate, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        let parameter = match &aggregate.parameter {
            Some(parameter) => self.eval_scalar(parameter, steps)?,
            None => Vec::new(),
        };
        let rows = self.in_order(self.eval_vector(&aggregate.operand, steps)?)?;
        if let Some(parameter_expr) = &aggregate.parameter {
            for q in out_of_unit_range(&parameter) {
                self.note(&Note::InvalidQuantile(q), parameter_expr.span);
            }
        }
        let mut out = Vec::new();
        for group in self.groups(&rows, &aggregate.grouping, aggregate.without)? {
            self.check_cancelled()?;
            let members: Vec<&Row> = group.rows.iter().filter_map(|at| rows.get(*at)).collect();
            let column = match aggregate.op {
                AggregateOp::Quantile => self.quantiles(&members, &parameter, aggregate, steps)?,
                op => self.fold(op, &members, aggregate.operand.span, steps)?,
            };
            // The name goes at the steps where a series that loses its name is in the group.
            let mut dropping = Bits::new(steps.count);
            for row in members.iter().filter(|row| row.drop_name) {
                dropping.or(row.column.present());
            }
            if dropping.is_empty() || dropping.covers(column.present()) {
                if !column.is_empty() {
                    let drop_name = !dropping.is_empty();
                    out.push(Row { labels: group.labels, drop_name, column });
                }
                continue;
            }
            let mut keeping = column.clone();
            keeping.remove(&dropping);
            let mut column = column;
            column.keep(&dropping);
            for (column, drop_name) in [(keeping, false), (column, true)] {
                if !column.is_empty() {
                    out.push(Row { labels: group.labels.clone(), drop_name, column });
                }
            }
        }
        Ok(out)
    }

    fn fold(
        &self,
        op: AggregateOp,
        rows: &[&Row],
        span: Span,
        steps: &Steps,
    ) -> Result<Column, QueryError> {
        if let Some(column) = self.fold_floats(op, rows, steps)? {
            return Ok(column);
        }
        let mut accumulators = vec![Accumulator::new(op); steps.count];
        for row in rows {
            self.visit(16 * steps.count)?;
            let metric = row.metric();
            for (step, cell) in row.column.cells() {
                if let Some(accumulator) = accumulators.get_mut(step) {
                    accumulator.add(cell, &|note| self.note(&note, span), metric);
                }
            }
        }
        let mut column = Column::empty(steps.count);
        for (step, accumulator) in accumulators.into_iter().enumerate() {
            if let Some(point) = accumulator.finish(&|note| self.note(&note, span)) {
                column.set(step, point);
            }
        }
        Ok(column)
    }

    fn quantiles(
        &self,
        rows: &[&Row],
        parameter: &[f64],
        aggregate: &Aggregate,
        steps: &Steps,
    ) -> Result<Column, QueryError> {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); steps.count];
        for row in rows {
            self.visit(steps.count)?;
            for (step, cell) in row.column.cells() {
                match cell {
                    Cell::Float(v) => {
                        if let Some(values) = values.get_mut(step) {
                            values.push(v);
                        }
                    }
                    Cell::Histogram(_) => self.note(
                        &Note::HistogramIgnored { aggregation: "quantile" },
                        aggregate.operand.span,
                    ),
                }
            }
        }
        let mut column = Column::empty(steps.count);
        for (step, mut values) in values.into_iter().enumerate() {
            self.visit(16 * values.len())?;
            if !values.is_empty() {
                let q = parameter.get(step).copied().unwrap_or(f64::NAN);
                column.set_float(step, quantile(q, &mut values));
            }
        }
        Ok(column)
    }

    /// The same as adding every cell to an [`Accumulator`], a whole row at a time: for the operators
    /// that are asked for most, over rows of floats only.
    fn fold_floats(
        &self,
        op: AggregateOp,
        rows: &[&Row],
        steps: &Steps,
    ) -> Result<Option<Column>, QueryError> {
        let columns: Option<Vec<(&[f64], &Bits)>> =
            rows.iter().map(|row| Some((row.column.as_floats()?, row.column.present()))).collect();
        let Some(columns) = columns else { return Ok(None) };
        let Some(mut folded) = Folded::new(op, steps.count) else { return Ok(None) };
        let mut seen = Bits::new(steps.count);
        for part in columns.chunks((VISITS / steps.count.max(1)).max(1)) {
            self.check_cancelled()?;
            folded.add(op, part, &mut seen);
        }
        Ok(Some(Column::of_floats(folded.finish(), seen)))
    }
}

/// What is gathered at each step of columns of floats, for the operators that are asked for most.
enum Folded {
    Sums(Vec<Kahan>),
    Means(Vec<Mean>),
    Values(Vec<f64>),
}

impl Folded {
    /// Nothing yet; `None` for another operator.
    fn new(op: AggregateOp, steps: usize) -> Option<Self> {
        Some(match op {
            AggregateOp::Sum => Self::Sums(vec![Kahan::default(); steps]),
            AggregateOp::Avg => Self::Means(vec![Mean::default(); steps]),
            AggregateOp::Min | AggregateOp::Max | AggregateOp::Count | AggregateOp::Group => {
                Self::Values(vec![0.0; steps])
            }
            _ => return None,
        })
    }

    fn add(&mut self, op: AggregateOp, columns: &[(&[f64], &Bits)], seen: &mut Bits) {
        match (self, op) {
            (Self::Sums(sums), _) => fold_into(sums, columns, seen, |sum, v, is_first| {
                *sum = if is_first { Kahan { sum: v, compensation: 0.0 } } else { sum.add(v) };
            }),
            (Self::Means(means), _) => fold_into(means, columns, seen, |mean, v, _| mean.add(v)),
            (Self::Values(best), AggregateOp::Min) => {
                fold_into(best, columns, seen, |best, v, is_first| {
                    if is_first || *best > v || best.is_nan() {
                        *best = v;
                    }
                });
            }
            (Self::Values(best), AggregateOp::Max) => {
                fold_into(best, columns, seen, |best, v, is_first| {
                    if is_first || *best < v || best.is_nan() {
                        *best = v;
                    }
                });
            }
            (Self::Values(counts), AggregateOp::Count) => {
                fold_into(counts, columns, seen, |count, _, _| *count += 1.0);
            }
            (Self::Values(ones), _) => fold_into(ones, columns, seen, |one, _, _| *one = 1.0),
        }
    }

    fn finish(self) -> Vec<f64> {
        match self {
            Self::Sums(sums) => sums.into_iter().map(|sum| sum.sum + sum.compensation).collect(),
            Self::Means(means) => means.into_iter().map(|mean| mean.mean()).collect(),
            Self::Values(values) => values,
        }
    }
}

/// Hands every float to what is gathered at its step, and says whether it is the first one there.
fn fold_into<T>(
    gathered: &mut [T],
    columns: &[(&[f64], &Bits)],
    seen: &mut Bits,
    mut add: impl FnMut(&mut T, f64, bool),
) {
    for (floats, present) in columns {
        present.each(|step| {
            if let (Some(slot), Some(v)) = (gathered.get_mut(step), floats.get(step)) {
                add(slot, *v, !seen.get(step));
            }
        });
        seen.or(present);
    }
}

/// The values that are no shares of a whole, each kind once.
fn out_of_unit_range(values: &[f64]) -> impl Iterator<Item = f64> {
    let nan = values.iter().copied().find(|v| v.is_nan());
    let largest = values.iter().copied().filter(|v| *v > 1.0).reduce(f64::max);
    let smallest = values.iter().copied().filter(|v| *v < 0.0).reduce(f64::min);
    nan.into_iter().chain(largest).chain(smallest)
}

/// The quantile of plain numbers, interpolated between the two around it; NaN sorts lowest.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| {
        a.is_nan()
            .cmp(&b.is_nan())
            .reverse()
            .then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let last = values.len() - 1;
    let rank = q * count(last);
    let lower = crate::number::to_usize(rank.floor().max(0.0));
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    match (values.get(lower), values.get(upper)) {
        (Some(low), Some(high)) => low * (1.0 - weight) + high * weight,
        _ => f64::NAN,
    }
}

/// What has been seen of one group at one step.
#[derive(Clone, Debug)]
struct Accumulator {
    op: AggregateOp,
    seen: bool,
    floats: f64,
    value: f64,
    sum: Kahan,
    mean: Mean,
    /// Boxed: most groups have none.
    histograms: Option<Box<Histograms>>,
}

/// The histograms of a `sum` or `avg`.
#[derive(Clone, Debug, Default)]
struct Histograms {
    running: Option<Running>,
    /// Exponential and custom buckets met, so there is no result.
    incompatible: bool,
    reset: bool,
    not_reset: bool,
}

impl Accumulator {
    fn new(op: AggregateOp) -> Self {
        Self {
            op,
            seen: false,
            floats: 0.0,
            value: 0.0,
            sum: Kahan::default(),
            mean: Mean::default(),
            histograms: None,
        }
    }

    fn add(&mut self, cell: Cell<'_>, note: &dyn Fn(Note<'_>), metric: &str) {
        match (self.op, cell) {
            (AggregateOp::Count, _) => {
                self.seen = true;
                self.value += 1.0;
            }
            (AggregateOp::Group, _) => {
                self.seen = true;
                self.value = 1.0;
            }
            (AggregateOp::Sum | AggregateOp::Avg, Cell::Histogram(histogram)) => {
                self.seen = true;
                let average = self.op == AggregateOp::Avg;
                self.histograms.get_or_insert_default().add(histogram, average, note, metric);
            }
            (op, Cell::Histogram(_)) => {
                note(Note::HistogramIgnored { aggregation: op.as_str() });
            }
            (op, Cell::Float(v)) => {
                self.seen = true;
                self.floats += 1.0;
                self.add_float(op, v);
            }
        }
    }

    fn add_float(&mut self, op: AggregateOp, v: f64) {
        let first = self.floats == 1.0;
        match op {
            AggregateOp::Sum if first => self.sum = Kahan { sum: v, compensation: 0.0 },
            AggregateOp::Sum => self.sum = self.sum.add(v),
            AggregateOp::Avg => self.mean.add(v),
            AggregateOp::Min => {
                if first || self.value > v || self.value.is_nan() {
                    self.value = v;
                }
            }
            AggregateOp::Max => {
                if first || self.value < v || self.value.is_nan() {
                    self.value = v;
                }
            }
            // Welford: `sum.sum` is the mean, `value` the sum of squared differences.
            _ if first => {
                self.sum.sum = v;
                self.value = if v.is_finite() { 0.0 } else { f64::NAN };
            }
            _ => {
                let delta = v - self.sum.sum;
                self.sum.sum += delta / self.floats;
                self.value += delta * (v - self.sum.sum);
            }
        }
    }

    fn finish(self, note: &dyn Fn(Note<'_>)) -> Option<Point> {
        if !self.seen {
            return None;
        }
        if let Some(histograms) = self.histograms {
            if self.floats > 0.0 {
                note(Note::MixedFloatsHistogramsInAggregation);
                return None;
            }
            if histograms.incompatible {
                return None;
            }
            if histograms.reset && histograms.not_reset {
                note(Note::ResetCollision(Operation::Aggregation));
            }
            let value = histograms.running?.finish();
            return Some(Point::Histogram(value.compact().into()));
        }
        Some(Point::Float(match self.op {
            AggregateOp::Sum => self.sum.sum + self.sum.compensation,
            AggregateOp::Avg => self.mean.mean(),
            AggregateOp::Stdvar => self.value / self.floats,
            AggregateOp::Stddev => (self.value / self.floats).sqrt(),
            _ => self.value,
        }))
    }
}

impl Histograms {
    fn add(&mut self, histogram: &Histogram, average: bool, note: &dyn Fn(Note<'_>), metric: &str) {
        if self.incompatible {
            return;
        }
        self.reset |= histogram.reset_hint == ResetHint::Reset;
        self.not_reset |= histogram.reset_hint == ResetHint::NotReset;
        let Some(running) = &mut self.running else {
            self.running = Some(Running::of(histogram, average));
            return;
        };
        match running.add(histogram) {
            Ok(combined) => {
                if combined.bounds_reconciled {
                    note(Note::BoundsReconciled(Operation::Aggregation));
                }
            }
            Err(_incompatible) => {
                note(Note::MixedExponentialCustom { metric });
                self.incompatible = true;
            }
        }
    }
}

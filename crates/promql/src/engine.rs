//! The way in: a query, a time or a range, limits.

use std::cell::{Cell, RefCell};

use stoa_model::TimestampMs;

use crate::annotation::Annotations;
use crate::error::QueryError;
use crate::eval::{Counts, Evaluated, Evaluator, Reads, Row, Steps, Tally, finish};
use crate::features::Features;
use crate::parse::ast::{AggregateOp, Expr, ExprKind, Span, Type};
use crate::parse::parse_with;
use crate::plan::{Event, PlanNode, outline};
use crate::storage::Storage;
use crate::value::{Answer, MatrixSeries, SampleStats, StepSamples, Value, VectorSample};

/// What one query may cost. Each is refused before the work it would cause is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most samples a query may hold at a time, as Prometheus counts them: of operands, results and
    /// the window at hand.
    pub samples_max: usize,
    /// Most bytes it may hold at a time: of samples as they were read, and of results.
    pub bytes_max: usize,
    /// Most series one selector may match.
    pub series_max: usize,
    /// Most steps of a range query.
    pub points_per_series_max: usize,
    /// How long a sample stands for its series when no newer one comes.
    pub lookback_ms: i64,
}

impl Default for Limits {
    /// Prometheus's: 50 million samples, 11,000 points, five minutes; and a GiB.
    fn default() -> Self {
        Self {
            samples_max: 50_000_000,
            bytes_max: 1 << 30,
            series_max: 1_000_000,
            points_per_series_max: 11_000,
            lookback_ms: 300_000,
        }
    }
}

/// Who asks: when to stop, and what more than the answer is wanted. A function that says when to stop is
/// one.
pub trait Caller {
    /// Whether nobody wants the answer any more. It is asked often, and the query ends soon after it says
    /// yes.
    fn is_gone(&self) -> bool;

    /// Whether samples are to be counted for each step too.
    fn wants_steps(&self) -> bool {
        false
    }

    /// All is evaluated; now it is put in order.
    fn sorts(&self) {}

    /// Whether it is only asked what is read: storage holds nothing back and gives nothing, so that what a
    /// value must not be is not looked at.
    fn rehearses(&self) -> bool {
        false
    }

    /// What evaluation does, told as it does it.
    fn told(&self, event: Event) {
        let _nobody_asked = event;
    }
}

impl<F: Fn() -> bool> Caller for F {
    fn is_gone(&self) -> bool {
        self()
    }
}

/// Evaluates queries. It has no state: one serves any number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Engine {
    limits: Limits,
    features: Features,
}

/// The times a query is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    /// 0 for an instant query.
    pub(crate) step: i64,
}

impl Engine {
    /// An engine that keeps to `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, features: Features::default() }
    }

    /// With these parts of the language switched on, and no others.
    #[must_use]
    pub fn with_features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// The parts of the language that are switched on.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// The same with a lookback of its own, in milliseconds; none or a negative one changes nothing.
    #[must_use]
    pub fn with_lookback(self, lookback_ms: Option<i64>) -> Self {
        let lookback_ms = lookback_ms.filter(|ms| *ms > 0).unwrap_or(self.limits.lookback_ms);
        Self { limits: Limits { lookback_ms, ..self.limits }, ..self }
    }

    /// The tree of a query.
    ///
    /// # Errors
    /// [`QueryError::Parse`].
    pub fn outline(&self, query: &str) -> Result<PlanNode, QueryError> {
        Ok(outline(query, &parse_with(query, self.features)?))
    }

    /// What one query may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The value of `query` at one time.
    ///
    /// # Errors
    /// [`QueryError`], each variant of which says what to tell the person who asked.
    pub fn instant(
        &self,
        storage: &dyn Storage,
        query: &str,
        time_ms: TimestampMs,
        caller: &dyn Caller,
    ) -> Result<Answer, QueryError> {
        let expr = parse_with(query, self.features)?;
        let times = Times { start: time_ms, end: time_ms, step: 0 };
        self.evaluate(storage, query, &expr, times, caller)
    }

    /// The values of `query` at `start_ms` and every `step_ms` up to `end_ms`, as a matrix.
    ///
    /// # Errors
    /// [`QueryError`], each variant of which says what to tell the person who asked.
    pub fn range(
        &self,
        storage: &dyn Storage,
        query: &str,
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        step_ms: i64,
        caller: &dyn Caller,
    ) -> Result<Answer, QueryError> {
        if step_ms <= 0 {
            return Err(QueryError::Parse(
                "zero or negative query resolution step widths are not accepted. Try a positive integer".into(),
            ));
        }
        if end_ms < start_ms {
            return Err(QueryError::Parse("end timestamp must not be before start time".into()));
        }
        let points = end_ms.saturating_sub(start_ms) / step_ms;
        if crate::number::index(points) > self.limits.points_per_series_max {
            return Err(QueryError::TooManyPoints { max: self.limits.points_per_series_max });
        }
        let expr = parse_with(query, self.features)?;
        let times = Times { start: start_ms, end: end_ms, step: step_ms };
        self.evaluate(storage, query, &expr, times, caller)
    }

    /// The value of a parsed query; `query` is the text annotations refer to.
    pub(crate) fn evaluate(
        &self,
        storage: &dyn Storage,
        query: &str,
        expr: &Expr,
        times: Times,
        caller: &dyn Caller,
    ) -> Result<Answer, QueryError> {
        let is_range = times.step > 0;
        let value_type = expr.value_type();
        if is_range && !matches!(value_type, Type::Scalar | Type::Vector) {
            return Err(QueryError::Parse(format!(
                "invalid expression type {} for range query, must be Scalar or instant Vector",
                crate::number::quote(value_type.name())
            )));
        }
        let steps = Steps::new(times.start, times.end, times.step.max(1));
        let mut evaluator = Evaluator {
            storage,
            limits: self.limits,
            features: self.features,
            caller,
            times,
            query,
            ordered: if is_range { None } else { shown_order(expr) },
            notes: RefCell::new(Annotations::default()),
            tally: Tally::new(&self.limits, steps.count, caller.wants_steps()),
            reads: Reads::default(),
            visited: Cell::new(0),
            wanted: Cell::default(),
            place: Cell::new(expr.span),
        };
        evaluator.reads = evaluator.plan_reads(expr, &steps)?;
        let value = if is_range {
            Value::Matrix(evaluator.matrix(expr, &steps)?)
        } else {
            evaluator.value(expr, &steps)?
        };
        let (warnings, infos) = evaluator.notes.borrow().texts(query);
        let (counts, peak, loaded) = evaluator.tally.finish();
        let Counts { queryable, read, by_step } = counts;
        let by_step = by_step.map(|all| {
            let step = |(t, (queryable, read))| StepSamples { t, queryable, read };
            steps.times().zip(all).map(step).collect()
        });
        let samples = SampleStats { queryable, read, peak, loaded, by_step };
        Ok(Answer { value, warnings, infos, samples })
    }
}

impl Evaluator<'_> {
    fn value(&self, expr: &Expr, steps: &Steps) -> Result<Value, QueryError> {
        let t = steps.start;
        if expr.value_type() == Type::Matrix {
            return Ok(Value::Matrix(self.raw_ranges(expr.unwrapped(), steps)?));
        }
        Ok(match self.eval(expr, steps)? {
            Evaluated::Scalar(values) => {
                Value::Scalar { t, v: values.first().copied().unwrap_or(f64::NAN) }
            }
            Evaluated::Text(s) => Value::String { t, s },
            Evaluated::Vector(rows) => {
                let mut rows = finish(rows)?;
                self.check_cancelled()?;
                self.caller.sorts();
                if self.ordered.is_none() {
                    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                }
                Value::Vector(rows.into_iter().filter_map(|row| sample(row, t)).collect())
            }
        })
    }

    fn matrix(&self, expr: &Expr, steps: &Steps) -> Result<Vec<MatrixSeries>, QueryError> {
        let rows = match self.eval(expr, steps)? {
            Evaluated::Scalar(values) => vec![Row::of_scalar(values)],
            Evaluated::Vector(rows) => finish(rows)?,
            Evaluated::Text(_) => Vec::new(),
        };
        let mut series: Vec<MatrixSeries> = Vec::with_capacity(rows.len());
        for row in rows {
            self.visit(steps.count)?;
            let (points, histograms) = row.column.into_samples(steps);
            if !points.is_empty() || !histograms.is_empty() {
                series.push(MatrixSeries { labels: row.labels, points, histograms });
            }
        }
        self.check_cancelled()?;
        self.caller.sorts();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(series)
    }
}

fn sample(row: Row, t: TimestampMs) -> Option<VectorSample> {
    let (v, histogram) = match row.column.get(0)? {
        crate::eval::Cell::Float(v) => (v, None),
        crate::eval::Cell::Histogram(histogram) => {
            (f64::NAN, Some(std::sync::Arc::clone(histogram)))
        }
    };
    Some(VectorSample { labels: row.labels, t, v, histogram })
}

/// The expression whose order is what the query is about, if there is one.
fn shown_order(expr: &Expr) -> Option<Span> {
    let expr = expr.unwrapped();
    let orders = match &expr.kind {
        ExprKind::Call(call) => call.function.name.starts_with("sort"),
        ExprKind::Aggregate(aggregate) => {
            matches!(aggregate.op, AggregateOp::TopK | AggregateOp::BottomK)
        }
        _ => false,
    };
    orders.then_some(expr.span)
}

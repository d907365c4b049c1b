//! Evaluation: an expression over all steps at once.
//!
//! A **vector** is a list of rows, a **row** is the labels of a series and a column, a **column**
//! has one cell per step. A **range vector** keeps each series' samples once and hands out windows
//! that slide over them. Sub-expressions that have the same value at every step are evaluated for
//! one step and repeated.
//!
//! A row whose name no longer fits is marked. [`finish`] removes the names of marked rows, and rows
//! that then have equal labels become one unless they have a sample at the same step: after each
//! expression, or with [`Feature::DelayedNameRemoval`] at the very end, operators carrying the mark
//! on.

mod column;
mod row;
mod steps;
mod tally;

mod reads;
mod rollup;
mod selector;
mod smoothed;
mod window;

mod aggregate;
mod arithmetic;
mod binary;
mod call;
mod invariant;
mod matching;
mod pick;

use std::cell::{Cell as StdCell, RefCell};

use crate::annotation::{Annotations, Note};
use crate::engine::{Caller, Limits, Times};
use crate::error::QueryError;
use crate::features::{Feature, Features};
use crate::number::seconds;
use crate::parse::ast::{Expr, ExprKind, Span};
use crate::plan::Event;
use crate::storage::Storage;

pub(crate) use aggregate::quantile;
pub(crate) use column::{Cell, Column, Point};
pub(crate) use invariant::is_timed;
pub(crate) use matching::labels_text;
pub(crate) use reads::Reads;
pub(crate) use row::{Row, TYPE_LABEL, finish, merge, metadata_label};
pub(crate) use steps::Steps;
pub(crate) use tally::{Counts, Tally};
pub(crate) use window::{RangeVector, Window};

/// The value of an expression at all steps.
#[derive(Clone, Debug)]
pub(crate) enum Evaluated {
    /// One number per step.
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    Text(String),
}

/// What is wanted of the histograms that selectors load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    Whole,
    /// Count and sum only. Prometheus then reads no buckets, and so has to look for resets as it
    /// reads: what it returns says of each but the first whether there was one.
    Statistics,
    /// Whole, whatever stands further inside.
    Buckets,
}

/// How many samples are looked at between two questions whether to go on.
const VISITS: usize = 1 << 17;

/// One query under evaluation.
pub(crate) struct Evaluator<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) limits: Limits,
    pub(crate) features: Features,
    pub(crate) caller: &'a dyn Caller,
    /// The query's own times; those of a subquery are in [`Steps`].
    pub(crate) times: Times,
    pub(crate) query: &'a str,
    /// Where the expression is whose order the answer shows. All others leave rows in the order
    /// they come, so that sums are the same at one step as at many.
    pub(crate) ordered: Option<Span>,
    pub(crate) notes: RefCell<Annotations>,
    pub(crate) tally: Tally,
    pub(crate) reads: Reads,
    /// Samples looked at since the caller was asked last.
    pub(crate) visited: StdCell<usize>,
    /// What the expression around wants of histograms.
    pub(crate) wanted: StdCell<Wanted>,
    /// The expression that is evaluated.
    pub(crate) place: StdCell<Span>,
}

impl Evaluator<'_> {
    pub(crate) fn note(&self, note: &Note<'_>, span: Span) {
        self.notes.borrow_mut().add(note, span);
    }

    /// Fails once the caller wants the query to end.
    pub(crate) fn check_cancelled(&self) -> Result<(), QueryError> {
        if self.caller.is_gone() { Err(QueryError::Cancelled) } else { Ok(()) }
    }

    /// Counts samples looked at; asks [`Self::check_cancelled`] now and then, so that windows that
    /// overlap a thousandfold end too.
    pub(crate) fn visit(&self, samples: usize) -> Result<(), QueryError> {
        let visited = self.visited.get().saturating_add(samples);
        if visited < VISITS {
            self.visited.set(visited);
            return Ok(());
        }
        self.visited.set(0);
        self.check_cancelled()
    }

    /// What `evaluate` makes where that is wanted of histograms; what wants buckets outside of it goes
    /// first.
    pub(crate) fn wanting<T>(&self, wanted: Wanted, evaluate: impl FnOnce() -> T) -> T {
        let outside = self.wanted.get();
        if outside != Wanted::Buckets {
            self.wanted.set(wanted);
        }
        let made = evaluate();
        self.wanted.set(outside);
        made
    }

    /// Refuses a result of that many rows before it is made.
    pub(crate) fn check_size(&self, rows: usize, steps: &Steps) -> Result<(), QueryError> {
        self.tally.peek_bytes(rows.saturating_mul(Column::bytes_of(steps.count)))
    }

    /// The value of any expression but a range vector.
    pub(crate) fn eval(&self, expr: &Expr, steps: &Steps) -> Result<Evaluated, QueryError> {
        self.check_cancelled()?;
        if steps.count > 1 && invariant::is_constant(expr) {
            let mark = self.tally.mark();
            let (value, counts) = self.tally.apart(|| self.eval_named(expr, &steps.first()));
            let value = value?;
            self.tally.count_at_each(steps.count, &counts);
            self.tally.release(mark);
            self.check_size(value.series(), steps)?;
            self.tally.peek(value.samples().saturating_mul(steps.count))?;
            let value = value.repeated(steps.count);
            self.tally.settle(mark, value.samples(), value.bytes())?;
            return Ok(value);
        }
        self.eval_named(expr, steps)
    }

    /// With the names that no longer fit, unless they go here already.
    fn eval_named(&self, expr: &Expr, steps: &Steps) -> Result<Evaluated, QueryError> {
        self.caller.told(Event::Begun(expr.span.into()));
        let value = match self.eval_node(expr, steps)? {
            Evaluated::Vector(rows)
                if !self.features.has(Feature::DelayedNameRemoval)
                    && rows.iter().any(|row| row.drop_name) =>
            {
                Evaluated::Vector(finish(rows)?)
            }
            other => other,
        };
        self.caller.told(Event::Ended(expr.span.into(), value.series()));
        Ok(value)
    }

    /// What is held while an expression is evaluated is its operands and its result, afterwards the
    /// result.
    fn eval_node(&self, expr: &Expr, steps: &Steps) -> Result<Evaluated, QueryError> {
        self.place.set(expr.span);
        match &expr.kind {
            ExprKind::Paren(inner) => return self.eval(inner, steps),
            ExprKind::Unary { negate, operand } => {
                let value = self.eval(operand, steps)?;
                return Ok(if *negate { value.negated() } else { value });
            }
            _ => {}
        }
        let mark = self.tally.mark();
        let siblings = self.tally.take_operands();
        let value = self.eval_operator(expr, steps)?;
        let operands = self.tally.take_operands();
        if matches!(expr.kind, ExprKind::Binary(_) | ExprKind::Call(_)) {
            // An operator is handed its operands step by step, and each step's are a copy.
            self.tally.peek(operands.saturating_add(value.samples()))?;
        }
        self.tally.set_operands(siblings.saturating_add(value.series()));
        self.tally.settle(mark, value.samples(), value.bytes())?;
        Ok(value)
    }

    fn eval_operator(&self, expr: &Expr, steps: &Steps) -> Result<Evaluated, QueryError> {
        match &expr.kind {
            ExprKind::Number(v) => {
                self.tally.peek(steps.count)?;
                self.check_size(1, steps)?;
                Ok(Evaluated::Scalar(vec![*v; steps.count]))
            }
            ExprKind::Text(text) => Ok(Evaluated::Text(text.value.clone())),
            ExprKind::Paren(inner) | ExprKind::Unary { operand: inner, .. } => {
                self.eval(inner, steps)
            }
            ExprKind::Binary(binary) => self.binary(expr.span, binary, steps),
            ExprKind::Aggregate(aggregate) => self.aggregate(expr.span, aggregate, steps),
            ExprKind::Call(call) => self.call(expr.span, call, steps),
            ExprKind::Selector(selector) => {
                Ok(Evaluated::Vector(self.select_instant(selector, steps)?))
            }
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => Err(QueryError::Execution(
                "BUG: a range vector was evaluated as an instant vector".into(),
            )),
        }
    }

    pub(crate) fn eval_vector(&self, expr: &Expr, steps: &Steps) -> Result<Vec<Row>, QueryError> {
        match self.eval(expr, steps)? {
            Evaluated::Vector(rows) => Ok(rows),
            Evaluated::Scalar(values) => Ok(vec![Row::of_scalar(values)]),
            Evaluated::Text(_) => Ok(Vec::new()),
        }
    }

    pub(crate) fn eval_scalar(&self, expr: &Expr, steps: &Steps) -> Result<Vec<f64>, QueryError> {
        match self.eval(expr, steps)? {
            Evaluated::Scalar(values) => Ok(values),
            Evaluated::Vector(_) | Evaluated::Text(_) => Ok(vec![f64::NAN; steps.count]),
        }
    }

    /// The query's range, in milliseconds.
    pub(crate) fn query_range_ms(&self) -> i64 {
        self.times.end.saturating_sub(self.times.start)
    }

    pub(crate) fn query_step_seconds(&self) -> f64 {
        seconds(self.times.step)
    }
}

impl Evaluated {
    /// How many series it is of.
    fn series(&self) -> usize {
        match self {
            Self::Scalar(_) => 1,
            Self::Vector(rows) => rows.len(),
            Self::Text(_) => 0,
        }
    }

    /// How many samples it holds.
    fn samples(&self) -> usize {
        match self {
            Self::Scalar(values) => values.len(),
            Self::Vector(rows) => rows.iter().map(|row| row.column.samples()).sum(),
            Self::Text(_) => 0,
        }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Scalar(values) => values.len() * 8,
            Self::Vector(rows) => rows.iter().map(|row| row.column.bytes()).sum(),
            Self::Text(text) => text.len(),
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Scalar(values) => Self::Scalar(values.into_iter().map(|v| -v).collect()),
            Self::Vector(mut rows) => {
                for row in &mut rows {
                    row.drop_name = true;
                    row.column.map(|v| -v, |histogram| histogram.times(-1.0));
                }
                Self::Vector(rows)
            }
            Self::Text(text) => Self::Text(text),
        }
    }

    /// A value at one step as the value at `count` steps.
    fn repeated(self, count: usize) -> Self {
        match self {
            Self::Scalar(values) => {
                Self::Scalar(vec![values.first().copied().unwrap_or(f64::NAN); count])
            }
            Self::Vector(rows) => Self::Vector(
                rows.into_iter()
                    .map(|row| Row { column: row.column.repeated(count), ..row })
                    .collect(),
            ),
            Self::Text(text) => Self::Text(text),
        }
    }
}

//! Operators on two values.

use super::column::{Cell, Point};
use crate::annotation::{Note, Operation};
use crate::histogram::trim::Keep;
use crate::histogram::{Combined, Histogram, Incompatible, ResetHint};
use crate::parse::ast::BinaryOp;

/// What an operator makes of two values.
pub(super) struct Outcome {
    /// The value; of a comparison, the left value.
    pub(super) point: Point,
    /// Whether a comparison holds; true for other operators.
    pub(super) holds: bool,
    pub(super) notes: Vec<Note<'static>>,
}

impl Outcome {
    fn value(point: Point) -> Self {
        Self { point, holds: true, notes: Vec::new() }
    }

    fn histogram(histogram: Histogram) -> Self {
        Self::value(Point::Histogram(histogram.compact().into()))
    }
}

/// Two numbers; a comparison is 1 or 0.
pub(super) fn scalars(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => power(left, right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => truth(compare(op, left, right)),
    }
}

/// Go's `math.Pow`, which differs from C's for none of the cases PromQL can see.
fn power(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

#[expect(clippy::float_cmp, reason = "PromQL compares exactly")]
pub(super) fn compare(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Greater => left > right,
        BinaryOp::Less => left < right,
        BinaryOp::GreaterOrEqual => left >= right,
        BinaryOp::LessOrEqual => left <= right,
        _ => false,
    }
}

/// Two values of any kind; none with a note when the operator does not take them.
pub(super) fn elements(
    op: BinaryOp,
    left: Cell<'_>,
    right: Cell<'_>,
) -> Result<Outcome, Note<'static>> {
    let refused = |left: &'static str, right: &'static str| {
        Err(Note::IncompatibleTypes { left, op: op.as_str(), right })
    };
    match (left, right) {
        (Cell::Float(l), Cell::Float(r)) => match op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => refused("float", "float"),
            _ if op.is_comparison() => {
                Ok(Outcome { point: Point::Float(l), holds: compare(op, l, r), notes: Vec::new() })
            }
            _ => Ok(Outcome::value(Point::Float(scalars(op, l, r)))),
        },
        (Cell::Float(l), Cell::Histogram(r)) => match op {
            BinaryOp::Mul => Ok(Outcome::histogram(Histogram::clone(r).times(l))),
            _ => refused("float", "histogram"),
        },
        (Cell::Histogram(l), Cell::Float(r)) => {
            let l = || Histogram::clone(l);
            match op {
                BinaryOp::Mul => Ok(Outcome::histogram(l().times(r))),
                BinaryOp::Div => Ok(Outcome::histogram(l().divided_by(r))),
                BinaryOp::TrimUpper => Ok(Outcome::histogram(l().trimmed(r, Keep::Below))),
                BinaryOp::TrimLower => Ok(Outcome::histogram(l().trimmed(r, Keep::Above))),
                _ => refused("histogram", "float"),
            }
        }
        (Cell::Histogram(l), Cell::Histogram(r)) => match op {
            BinaryOp::Add => combined(op, l.plus(r), Operation::Addition, None),
            BinaryOp::Sub => {
                combined(op, l.minus(r), Operation::Subtraction, Some(ResetHint::Gauge))
            }
            BinaryOp::Equal | BinaryOp::NotEqual => Ok(Outcome {
                point: Point::Histogram(std::sync::Arc::clone(l)),
                holds: l.same_as(r) == (op == BinaryOp::Equal),
                notes: Vec::new(),
            }),
            _ => refused("histogram", "histogram"),
        },
    }
}

fn combined(
    op: BinaryOp,
    result: Result<(Histogram, Combined), Incompatible>,
    operation: Operation,
    hint: Option<ResetHint>,
) -> Result<Outcome, Note<'static>> {
    let (mut histogram, combined) =
        result.map_err(|Incompatible| Note::IncompatibleBucketLayout { op: op.as_str() })?;
    if let Some(hint) = hint {
        histogram.reset_hint = hint;
    }
    let mut outcome = Outcome::histogram(histogram);
    if combined.reset_collision {
        outcome.notes.push(Note::ResetCollision(operation));
    }
    if combined.bounds_reconciled {
        outcome.notes.push(Note::BoundsReconciled(operation));
    }
    Ok(outcome)
}

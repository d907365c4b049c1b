//! Which expressions have the same value at every step.

use crate::parse::ast::{Expr, ExprKind};

/// Functions whose value depends on the time they are evaluated at, whatever their arguments.
const TIMED: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether a function's value depends on the time it is evaluated at.
pub(crate) fn is_timed(function: &str) -> bool {
    TIMED.contains(&function)
}

/// Whether the value is the same at every step.
pub(crate) fn is_constant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => true,
        ExprKind::Selector(selector) => selector.shift.at.is_some(),
        ExprKind::Matrix(matrix) => matrix.selector.shift.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.shift.at.is_some(),
        ExprKind::Call(call) if is_timed(call.function.name) => false,
        // The second argument of `info` only selects labels.
        ExprKind::Call(call) if call.function.name == "info" => {
            call.args.first().is_some_and(is_constant)
        }
        _ => expr.children().into_iter().all(is_constant),
    }
}

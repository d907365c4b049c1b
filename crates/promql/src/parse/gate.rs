//! Refuses what is behind a switch that is off.

use super::ParseError;
use super::ast::{AggregateOp, Duration, DurationKind, Expr, ExprKind, Extension, Selector};
use crate::features::{Feature, Features};
use crate::number::quote;

const EXPERIMENTAL_FUNCTIONS: [&str; 19] = [
    "double_exponential_smoothing",
    "end",
    "first_over_time",
    "histogram_quantiles",
    "info",
    "mad_over_time",
    "max_of",
    "min_of",
    "range",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "start_timestamp",
    "step",
    "timeseries_gen",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// The outermost part of an expression that is not switched on.
pub(super) fn check(expr: &Expr, features: Features) -> Result<(), ParseError> {
    let mut refused = None;
    expr.visit(&mut |expr| {
        if refused.is_none() {
            refused = refusal(expr, features);
        }
    });
    refused.map_or(Ok(()), Err)
}

fn refusal(expr: &Expr, features: Features) -> Option<ParseError> {
    let off = |feature| !features.has(feature);
    match &expr.kind {
        ExprKind::Call(call)
            if off(Feature::ExperimentalFunctions)
                && EXPERIMENTAL_FUNCTIONS.contains(&call.function.name) =>
        {
            let message = format!("function {} is not enabled", quote(call.function.name));
            Some(ParseError::new(expr.span, message))
        }
        ExprKind::Aggregate(aggregate)
            if off(Feature::ExperimentalFunctions)
                && matches!(aggregate.op, AggregateOp::LimitK | AggregateOp::LimitRatio) =>
        {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature={}",
                aggregate.op.as_str(),
                Feature::ExperimentalFunctions.name()
            );
            Some(ParseError::new(expr.span, message))
        }
        ExprKind::Binary(binary)
            if off(Feature::FillModifiers)
                && (binary.matching.fill_left.is_some()
                    || binary.matching.fill_right.is_some()) =>
        {
            let message = "binop fill modifiers are experimental and not enabled";
            Some(ParseError::new(expr.span, message))
        }
        ExprKind::Selector(selector) => of_selector(expr, selector, features),
        ExprKind::Matrix(matrix) => of_duration(&matrix.range, features)
            .or_else(|| of_selector(expr, &matrix.selector, features)),
        ExprKind::Subquery(subquery) => {
            let durations =
                [Some(&subquery.range), subquery.step.as_ref(), subquery.shift.offset.as_ref()];
            durations.into_iter().flatten().find_map(|duration| of_duration(duration, features))
        }
        _ => None,
    }
}

fn of_selector(expr: &Expr, selector: &Selector, features: Features) -> Option<ParseError> {
    let word = selector.extension.map(Extension::as_str);
    if let (Some(word), false) = (word, features.has(Feature::ExtendedRangeSelectors)) {
        let message = format!("{word} modifier is experimental and not enabled");
        return Some(ParseError::new(expr.span, message));
    }
    of_duration(selector.shift.offset.as_ref()?, features)
}

fn of_duration(duration: &Duration, features: Features) -> Option<ParseError> {
    let is_literal = match &duration.kind {
        DurationKind::Negate(inner) => inner.constant().is_some(),
        _ => duration.constant().is_some(),
    };
    if is_literal || features.has(Feature::DurationExpressions) {
        return None;
    }
    let message = "experimental duration expression is not enabled";
    Some(ParseError::new(duration.span, message))
}

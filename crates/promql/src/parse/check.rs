//! Gives every node a type, or says why it has none.

use super::ParseError;
use super::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, ExprKind, Selector, Type,
};
use super::signature::Variadic;
use crate::number::quote;

pub(super) fn check(expr: &Expr) -> Result<(), ParseError> {
    if let ExprKind::Call(call) = &expr.kind
        && call.function.name == "info"
    {
        return check_info(expr, call);
    }
    for child in expr.children() {
        check(child)?;
    }
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Paren(_) => Ok(()),
        ExprKind::Unary { operand, .. } => match operand.value_type() {
            Type::Scalar | Type::Vector => Ok(()),
            other => Err(ParseError::new(
                operand.span,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(other.name())
                ),
            )),
        },
        ExprKind::Binary(binary) => check_binary(expr, binary),
        ExprKind::Aggregate(aggregate) => check_aggregate(expr, aggregate),
        ExprKind::Call(call) => check_call(expr, call),
        ExprKind::Selector(selector) => check_selector(expr, selector),
        ExprKind::Matrix(matrix) => check_selector(expr, &matrix.selector),
        ExprKind::Subquery(subquery) => match subquery.expr.value_type() {
            Type::Vector => Ok(()),
            other => Err(ParseError::new(
                expr.span,
                format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    other.short()
                ),
            )),
        },
    }
}

fn check_selector(expr: &Expr, selector: &Selector) -> Result<(), ParseError> {
    if selector.matchers.iter().all(stoa_model::Matcher::matches_absent) {
        let message = "vector selector must contain at least one non-empty matcher";
        return Err(ParseError::new(expr.span, message));
    }
    Ok(())
}

fn expect_type(expr: &Expr, wanted: Type, context: &str) -> Result<(), ParseError> {
    let got = expr.value_type();
    if got == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.name(), got.name());
    Err(ParseError::new(expr.span, message))
}

fn check_binary(expr: &Expr, binary: &Binary) -> Result<(), ParseError> {
    let fail = |message: String| Err(ParseError::new(expr.span, message));
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    let matching = &binary.matching;
    if binary.return_bool && !binary.op.is_comparison() {
        return fail("bool modifier can only be used on comparison operators".into());
    }
    if binary.op.is_comparison()
        && !binary.return_bool
        && (left, right) == (Type::Scalar, Type::Scalar)
    {
        return fail("comparisons between scalars must use BOOL modifier".into());
    }
    if matching.on {
        for label in &matching.labels {
            if matching.include.contains(label) {
                return fail(format!(
                    "label {} must not occur in ON and GROUP clause at once",
                    quote(label)
                ));
            }
        }
    }
    for side in [&binary.left, &binary.right] {
        if !matches!(side.value_type(), Type::Scalar | Type::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::new(side.span, message));
        }
    }
    if binary.op.is_set() && expr.matches_vectors() {
        if matching.cardinality != Cardinality::ManyToMany {
            let op = quote(binary.op.as_str());
            return fail(format!("no grouping allowed for {op} operation"));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return fail("filling in missing series not allowed for set operators".into());
        }
    }
    if left != Type::Vector || right != Type::Vector {
        // `on()` says nothing, and is let pass.
        if !matching.labels.is_empty() {
            return fail("vector matching only allowed between instant vectors".into());
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return fail("filling in missing series only allowed between instant vectors".into());
        }
        if binary.op.is_set() {
            return fail(format!(
                "set operator {} not allowed in binary scalar expression",
                quote(binary.op.as_str())
            ));
        }
    }
    Ok(())
}

fn check_aggregate(expr: &Expr, aggregate: &Aggregate) -> Result<(), ParseError> {
    expect_type(&aggregate.operand, Type::Vector, "aggregation expression")?;
    match (&aggregate.parameter, aggregate.op) {
        (Some(parameter), AggregateOp::CountValues) => {
            expect_type(parameter, Type::Text, "aggregation parameter")
        }
        (Some(parameter), _) => expect_type(parameter, Type::Scalar, "aggregation parameter"),
        (None, op) if op.has_parameter() => {
            Err(ParseError::new(expr.span, "no parameter for aggregate expression provided"))
        }
        (None, _) => Ok(()),
    }
}

fn check_count(expr: &Expr, call: &Call) -> Result<(), ParseError> {
    let function = call.function;
    let (listed, got) = (function.args.len(), call.args.len());
    let (least, most) = match function.variadic {
        Variadic::Fixed => (listed, listed),
        Variadic::Optional => (listed.saturating_sub(1), listed),
        Variadic::AtMost(more) => {
            (listed.saturating_sub(1), listed.saturating_sub(1).saturating_add(more))
        }
        Variadic::Any => (listed.saturating_sub(1), usize::MAX),
    };
    let bound = if function.variadic == Variadic::Fixed {
        (got != listed).then_some(("", listed))
    } else if got < least {
        Some(("at least ", least))
    } else if got > most {
        Some(("at most ", most))
    } else {
        None
    };
    match bound {
        None => Ok(()),
        Some((word, wanted)) => Err(ParseError::new(
            expr.span,
            format!(
                "expected {word}{wanted} argument(s) in call to {}, got {got}",
                quote(function.name)
            ),
        )),
    }
}

fn check_call(expr: &Expr, call: &Call) -> Result<(), ParseError> {
    check_count(expr, call)?;
    for (i, arg) in call.args.iter().enumerate() {
        let Some(wanted) = call.function.args.get(i).or(call.function.args.last()) else {
            continue;
        };
        expect_type(arg, *wanted, &format!("call to function {}", quote(call.function.name)))?;
    }
    Ok(())
}

/// The second argument of `info` is not a selector but a set of label matchers, so it may match
/// everything.
fn check_info(expr: &Expr, call: &Call) -> Result<(), ParseError> {
    check_call(expr, call)?;
    if let Some(first) = call.args.first() {
        check(first)?;
    }
    if let Some(second) = call.args.get(1) {
        match &second.kind {
            ExprKind::Selector(selector) if selector.is_plain() => {}
            ExprKind::Selector(_) => {
                let message = "expected label selectors only";
                return Err(ParseError::new(second.span, message));
            }
            _ => return Err(ParseError::new(second.span, "expected label selectors only")),
        }
    }
    Ok(())
}

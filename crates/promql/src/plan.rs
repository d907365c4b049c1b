//! What evaluating a query does: its tree before ([`outline`]), and what happens while it does it
//! ([`Event`]), for people who ask what a query costs.
//!
//! What a selector reads depends on all that is around it (subqueries, `@`, `offset`, the function it is for,
//! equal selectors elsewhere), so it is not reckoned here: evaluation tells it as it decides. What a query
//! *would* read is what evaluation tells over a storage that only says what it has, to a caller who rehearses
//! ([`Caller::rehearses`](crate::Caller::rehearses)): that takes the time of the steps, none of samples. Only
//! what `info` reads of info series depends on what was read before, and is not told then.
//!
//! It knows no storage and no clock. Bounds: a node per expression of the query.

use stoa_model::{Matcher, TimestampMs};

use crate::parse::ast::{Expr, ExprKind, Span};
use crate::storage::Hints;

/// Bytes `start..end` of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The first.
    pub start: usize,
    /// The one after the last.
    pub end: usize,
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self { start: span.start, end: span.end }
    }
}

/// An expression of a query; parentheses are none.
#[derive(Clone, Debug)]
pub struct PlanNode {
    /// What it does with what is below: `sum by (job)`, `rate`, `/`; of a selector or a literal its text.
    pub operation: String,
    /// Where it stands in the query.
    pub place: Place,
    /// What its value is, in the documentation's words.
    pub value: &'static str,
    /// Which series it selects, if it is a selector.
    pub matchers: Option<Vec<Matcher>>,
    /// What it works on.
    pub children: Vec<Self>,
}

/// Something that evaluation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins with an expression.
    Begun(Place),
    /// The expression has a value of so many series. Not told of one that fails.
    Ended(Place, usize),
    /// A selector wants series of some time: what storage is asked next is for it.
    Wanted {
        /// Where the selector stands.
        place: Place,
        /// From when on, inclusive: range, lookback, `offset` and `@` reckoned in.
        start_ms: TimestampMs,
        /// Up to when, inclusive.
        end_ms: TimestampMs,
        /// What the series are for.
        hints: Hints,
    },
    /// This much was read for it, as others of the same matchers that are still to come want some of it too.
    ReadForOthers {
        /// From when on, inclusive.
        start_ms: TimestampMs,
        /// Up to when, inclusive.
        end_ms: TimestampMs,
    },
    /// It takes what was read for another before it.
    Taken,
}

/// The tree of an expression; `query` is its text.
pub(crate) fn outline(query: &str, expr: &Expr) -> PlanNode {
    let expr = expr.unwrapped();
    let is_info = |at: usize| match &expr.kind {
        ExprKind::Call(call) => call.function.name == "info" && at > 0,
        _ => false,
    };
    // The second argument of `info` is no selector of its own.
    let child = |(at, child): (usize, &Expr)| {
        let child = outline(query, child);
        if is_info(at) { PlanNode { matchers: None, ..child } } else { child }
    };
    let matchers = match &expr.kind {
        ExprKind::Selector(selector) => Some(selector.matchers.clone()),
        ExprKind::Matrix(matrix) => Some(matrix.selector.matchers.clone()),
        _ => None,
    };
    PlanNode {
        operation: operation(query, expr),
        place: expr.span.into(),
        value: expr.value_type().name(),
        matchers,
        children: expr.children().into_iter().enumerate().map(child).collect(),
    }
}

fn operation(query: &str, expr: &Expr) -> String {
    let text = |span: Span| query.get(span.start..span.end).unwrap_or_default().trim().to_owned();
    match &expr.kind {
        ExprKind::Unary { negate, .. } => (if *negate { "-" } else { "+" }).to_owned(),
        ExprKind::Binary(binary) => {
            let matching = &binary.matching;
            let mut out = binary.op.as_str().to_owned();
            if binary.return_bool {
                out.push_str(" bool");
            }
            if matching.on || !matching.labels.is_empty() {
                let word = if matching.on { "on" } else { "ignoring" };
                out.push_str(&format!(" {word} ({})", matching.labels.join(", ")));
            }
            out
        }
        ExprKind::Aggregate(aggregate) => {
            let op = aggregate.op.as_str();
            let word = if aggregate.without { "without" } else { "by" };
            match aggregate.grouping.join(", ") {
                list if list.is_empty() && !aggregate.without => op.to_owned(),
                list => format!("{op} {word} ({list})"),
            }
        }
        ExprKind::Call(call) => call.function.name.to_owned(),
        ExprKind::Subquery(subquery) => {
            let step = subquery.step.as_ref().map(|step| text(step.span));
            format!("subquery [{}:{}]", text(subquery.range.span), step.unwrap_or_default())
        }
        _ => text(expr.span),
    }
}

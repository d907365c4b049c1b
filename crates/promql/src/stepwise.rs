//! Range queries in parts: whether what a query says of each step is the same whatever other steps are asked
//! for with it, and how two parts of an answer are joined.
//!
//! Then an answer about `a..=c` is that about `a..=b` and, behind it, that about the steps after `b`, to the
//! last bit; and what was found at `b` holds as long as no sample changes up to `b` and [`Stepwise::ahead_ms`].
//! It is told by the text alone, and in doubt denied:
//!
//! - only selectors, ranges and operators are taken, and the functions and aggregations of [`FUNCTIONS`] and
//!   [`is_known`], all of which see one step at a time;
//! - not `@`, nor `start()`, `end()` and `range()`: they speak of the whole query;
//! - not subqueries, `anchored`, `smoothed`, `fill`, `info`, `limitk`, `limit_ratio` and `count_values`, for
//!   which nobody has shown it;
//! - not where names are dropped late or start timestamps count ([`Feature`]).
//!
//! It holds for floats that are read as samples. Whether native histograms or rollups come in is seen only
//! when storage is asked, so that the caller has to look there.
//!
//! Sums of floats depend on their order: aggregations go through series in order of labels, whichever
//! others there are at other steps.

use std::iter::Peekable;

use stoa_model::TimestampMs;

use crate::engine::Engine;
use crate::features::{Feature, Features};
use crate::parse::ast::{
    Aggregate, AggregateOp, Binary, Duration, DurationKind, Expr, ExprKind, Selector, Shift,
};
use crate::parse::parse_with;
use crate::value::MatrixSeries;

/// A query whose steps do not depend on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepwise {
    /// How far after a step the newest sample may be that it depends on, milliseconds: 0 but for negative
    /// offsets.
    pub ahead_ms: i64,
}

/// Functions of one step: of its cells, or of the window that ends there.
const FUNCTIONS: [&str; 58] = [
    "abs",
    "absent",
    "absent_over_time",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "count_over_time",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "delta",
    "deriv",
    "exp",
    "first_over_time",
    "floor",
    "histogram_quantile",
    "hour",
    "idelta",
    "increase",
    "irate",
    "label_join",
    "label_replace",
    "last_over_time",
    "ln",
    "log10",
    "log2",
    "max_over_time",
    "min_over_time",
    "minute",
    "month",
    "pi",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rad",
    "rate",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sin",
    "sort",
    "sort_desc",
    "sqrt",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "tan",
    "time",
    "timestamp",
    "vector",
    "year",
];

impl Engine {
    /// Whether a range query can be answered in parts. `None`: no, or nobody knows; a text that is no query
    /// is none, either.
    #[must_use]
    pub fn stepwise(&self, query: &str) -> Option<Stepwise> {
        let features = self.features();
        if features.has(Feature::DelayedNameRemoval) || features.has(Feature::StartTimestamps) {
            return None;
        }
        stepwise(query, features)
    }
}

fn stepwise(query: &str, features: Features) -> Option<Stepwise> {
    let expr = parse_with(query, features).ok()?;
    let mut ahead_ms = Some(0);
    expr.visit(&mut |node| {
        ahead_ms = ahead_ms.zip(ahead(node)).map(|(one, other): (i64, i64)| one.max(other));
    });
    ahead_ms.map(|ahead_ms| Stepwise { ahead_ms })
}

/// How far a node itself looks ahead; `None` when it is none that sees one step at a time.
fn ahead(node: &Expr) -> Option<i64> {
    match &node.kind {
        ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Paren(_) | ExprKind::Unary { .. } => {
            Some(0)
        }
        ExprKind::Binary(binary) => is_plain(binary).then_some(0),
        ExprKind::Aggregate(aggregate) => is_known(aggregate).then_some(0),
        ExprKind::Call(call) => FUNCTIONS.contains(&call.function.name).then_some(0),
        ExprKind::Selector(selector) => of_selector(selector),
        ExprKind::Matrix(matrix) => {
            literal_ms(&matrix.range)?;
            of_selector(&matrix.selector)
        }
        ExprKind::Subquery(_) => None,
    }
}

fn is_plain(binary: &Binary) -> bool {
    let matching = &binary.matching;
    !binary.op.is_trim() && matching.fill_left.is_none() && matching.fill_right.is_none()
}

/// Aggregations that look at one step at a time. A parameter is a number: one that changes is checked over
/// all steps at once.
fn is_known(aggregate: &Aggregate) -> bool {
    let is_number = |parameter: &Expr| match &parameter.unwrapped().kind {
        ExprKind::Unary { operand, .. } => matches!(operand.unwrapped().kind, ExprKind::Number(_)),
        kind => matches!(kind, ExprKind::Number(_)),
    };
    match aggregate.op {
        AggregateOp::Sum
        | AggregateOp::Avg
        | AggregateOp::Count
        | AggregateOp::Min
        | AggregateOp::Max
        | AggregateOp::Group
        | AggregateOp::Stddev
        | AggregateOp::Stdvar => true,
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::Quantile => {
            aggregate.parameter.as_ref().is_some_and(is_number)
        }
        AggregateOp::CountValues | AggregateOp::LimitK | AggregateOp::LimitRatio => false,
    }
}

fn of_selector(selector: &Selector) -> Option<i64> {
    let Shift { at: None, offset } = &selector.shift else { return None };
    if selector.extension.is_some() {
        return None;
    }
    let offset_ms = offset.as_ref().map_or(Some(0), literal_ms)?;
    Some(offset_ms.saturating_neg().max(0))
}

/// A duration as it is written; `None` where it is reckoned.
fn literal_ms(duration: &Duration) -> Option<i64> {
    match &duration.kind {
        DurationKind::Seconds(_) => duration.resolve(0, 0).ok(),
        _ => None,
    }
}

/// What was found before, of the times `first..=last`, and behind it what was found of later steps. Both are
/// in order of labels, without two of the same, and so is what becomes of them; series without a sample are
/// left out. Of floats.
#[must_use]
pub fn joined(
    before: &[MatrixSeries],
    (first, last): (TimestampMs, TimestampMs),
    after: Vec<MatrixSeries>,
) -> Vec<MatrixSeries> {
    let mut all = Vec::with_capacity(before.len().max(after.len()));
    let mut after = after.into_iter().peekable();
    for old in before {
        all.extend(before_labels(&mut after, old));
        let new = after.next_if(|new| new.labels == old.labels);
        let from = old.points.partition_point(|(t, _)| *t < first);
        let to = old.points.partition_point(|(t, _)| *t <= last);
        let kept = old.points.get(from..to).unwrap_or_default();
        match new {
            None if kept.is_empty() => {}
            None => all.push(MatrixSeries {
                labels: old.labels.clone(),
                points: kept.to_vec(),
                histograms: Vec::new(),
            }),
            Some(new) => {
                let mut points = Vec::with_capacity(kept.len() + new.points.len());
                points.extend_from_slice(kept);
                points.extend_from_slice(&new.points);
                all.push(MatrixSeries { points, ..new });
            }
        }
    }
    all.extend(after);
    all
}

/// The series that come before another one.
fn before_labels<'a>(
    after: &'a mut Peekable<std::vec::IntoIter<MatrixSeries>>,
    old: &'a MatrixSeries,
) -> impl Iterator<Item = MatrixSeries> + 'a {
    std::iter::from_fn(|| after.next_if(|new| new.labels < old.labels))
}

#[cfg(test)]
mod tests {
    use stoa_model::Labels;

    use super::*;
    use crate::engine::Limits;
    use crate::parse::{WordKind, vocabulary};

    #[track_caller]
    fn check(query: &str, ahead_ms: Option<i64>) {
        let engine = Engine::new(Limits::default()).with_features(Features::all());
        let found = stepwise(query, engine.features());
        assert_eq!(found.map(|found| found.ahead_ms), ahead_ms, "{query}");
    }

    #[test]
    fn what_sees_one_step_at_a_time_can_be_answered_in_parts() {
        for query in [
            "up",
            "1 + 1",
            "rate(x_total[5m] offset 1h) / on (a) group_left (b) y > bool 3",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
            "topk(3, -x) or vector(time()) unless absent(y)",
            "label_replace(quantile(0.5, x), \"a\", \"$1\", \"b\", \"(.*)\")",
        ] {
            check(query, Some(0));
        }
        check("x offset -1m", Some(60_000));
        check("rate(x[5m] offset -2m) + y offset -1m + z offset 3m", Some(120_000));
    }

    #[test]
    fn what_speaks_of_the_whole_query_can_not() {
        for query in [
            "(",
            "x @ 5",
            "rate(x[5m] @ end())",
            "x + y @ start()",
            "time() - start()",
            "x * range()",
            "step() + x",
            "rate(x[range()])",
            "x offset (range() / 2)",
            "max_over_time(x[1h:1m])",
            "x anchored",
            "rate(x[5m] smoothed)",
            "info(x)",
            "limitk(2, x)",
            "limit_ratio(0.5, x)",
            "count_values(\"v\", x)",
            "topk(scalar(x), y)",
            "x + fill(0) y",
            "x >/ 1",
            "histogram_count(x)",
        ] {
            check(query, None);
        }
        for feature in [Feature::DelayedNameRemoval, Feature::StartTimestamps] {
            let engine =
                Engine::new(Limits::default()).with_features(Features::none().with(feature));
            assert_eq!(engine.stepwise("x"), None);
        }
        assert!(Engine::new(Limits::default()).stepwise("x").is_some());
    }

    #[test]
    fn the_functions_are_some_of_those_there_are() {
        for name in FUNCTIONS {
            assert!(vocabulary().any(|word| word == (name, WordKind::Function)), "{name}");
        }
        assert!(FUNCTIONS.is_sorted());
    }

    fn series(name: &str, points: &[(i64, f64)]) -> MatrixSeries {
        let labels = Labels::from_pairs([("n", name)]).unwrap();
        MatrixSeries { labels, points: points.to_vec(), histograms: Vec::new() }
    }

    #[test]
    fn parts_are_joined_series_by_series() {
        let before = [
            series("a", &[(1, 1.0), (2, 2.0)]),
            series("c", &[(1, 3.0)]),
            series("d", &[(2, 4.0), (3, 9.0)]),
        ];
        let after =
            vec![series("b", &[(3, 5.0)]), series("d", &[(3, 6.0)]), series("e", &[(4, 7.0)])];
        let all = joined(&before, (2, 2), after);
        let shown: Vec<_> =
            all.iter().map(|one| (one.labels.get("n").unwrap(), &*one.points)).collect();
        assert_eq!(
            shown,
            [
                ("a", &[(2, 2.0)][..]),
                ("b", &[(3, 5.0)]),
                ("d", &[(2, 4.0), (3, 6.0)]),
                ("e", &[(4, 7.0)]),
            ]
        );
        assert!(joined(&before, (9, 9), Vec::new()).is_empty());
    }
}

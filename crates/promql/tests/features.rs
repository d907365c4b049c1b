//! What is behind a switch: refused while it is off, in Prometheus's words.

#![expect(clippy::unwrap_used, reason = "a test; a broken load is its failure")]

use stoa_promql::script::{Memory, run_with};
use stoa_promql::{Answer, Engine, Feature, Features, Limits, QueryError, Value};

fn ask(query: &str, features: Features) -> Result<Answer, QueryError> {
    let samples = "load 1m\n  a_total{l=\"1\"} 0 60 120\n  b_total{l=\"1\"} 0 60 120\n";
    let storage = Memory::load(samples).unwrap();
    let engine = Engine::new(Limits::default()).with_features(features);
    engine.instant(&storage, query, 120_000, &|| false)
}

/// A query, the feature it needs, and what is said without.
const REFUSED: [(&str, Feature, &str); 16] = [
    (
        "sum(info(a_total))",
        Feature::ExperimentalFunctions,
        r#"1:5: parse error: function "info" is not enabled"#,
    ),
    (
        "sort_by_label(a_total, \"l\")",
        Feature::ExperimentalFunctions,
        r#"1:1: parse error: function "sort_by_label" is not enabled"#,
    ),
    (
        "1 + step()",
        Feature::ExperimentalFunctions,
        r#"1:5: parse error: function "step" is not enabled"#,
    ),
    (
        "first_over_time(a_total[5m])",
        Feature::ExperimentalFunctions,
        r#"1:1: parse error: function "first_over_time" is not enabled"#,
    ),
    (
        "limitk(1, a_total)",
        Feature::ExperimentalFunctions,
        "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
    ),
    (
        "limit_ratio(1, a_total)",
        Feature::ExperimentalFunctions,
        "1:1: parse error: limit_ratio() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
    ),
    (
        "rate(a_total[5m * 2])",
        Feature::DurationExpressions,
        "1:14: parse error: experimental duration expression is not enabled",
    ),
    (
        "rate(a_total[range() + 1m])",
        Feature::DurationExpressions,
        "1:14: parse error: experimental duration expression is not enabled",
    ),
    (
        "a_total offset (1m / 2)",
        Feature::DurationExpressions,
        "1:16: parse error: experimental duration expression is not enabled",
    ),
    (
        "max_over_time(a_total[5m:30s*2])",
        Feature::DurationExpressions,
        "1:26: parse error: experimental duration expression is not enabled",
    ),
    (
        "rate(a_total[5m] anchored)",
        Feature::ExtendedRangeSelectors,
        "1:6: parse error: anchored modifier is experimental and not enabled",
    ),
    (
        "a_total smoothed",
        Feature::ExtendedRangeSelectors,
        "1:1: parse error: smoothed modifier is experimental and not enabled",
    ),
    (
        "a_total + fill(0) b_total",
        Feature::FillModifiers,
        "1:1: parse error: binop fill modifiers are experimental and not enabled",
    ),
    (
        "a_total + on(l) group_left fill_right(0) b_total",
        Feature::FillModifiers,
        "1:1: parse error: binop fill modifiers are experimental and not enabled",
    ),
    // Two series that differ by their names only, until these can be seen no more.
    (
        r#"label_replace(rate({__name__=~"._total"}[5m]), "n", "$1", "__name__", "(.*)")"#,
        Feature::DelayedNameRemoval,
        "vector cannot contain metrics with the same labelset",
    ),
    (
        r#"sum(-{__name__=~"._total"})"#,
        Feature::DelayedNameRemoval,
        "vector cannot contain metrics with the same labelset",
    ),
];

#[test]
fn what_is_off_is_refused() {
    for (query, feature, message) in REFUSED {
        let others: Features = Feature::ALL.into_iter().filter(|other| *other != feature).collect();
        assert_eq!(ask(query, others).unwrap_err().to_string(), message, "{query}");
    }
}

#[test]
fn what_is_on_is_answered() {
    for (query, feature, _) in REFUSED {
        let only = Features::none().with(feature);
        assert!(ask(query, only).is_ok(), "{query}");
    }
    for query in ["a_total offset -1m", "a_total[5m]", "rate(a_total[5m]) > bool 0", "time()"] {
        assert!(ask(query, Features::none()).is_ok(), "{query}");
    }
}

#[test]
fn names_go_where_they_cease_to_fit_or_at_the_end() {
    let labels = |query: &str, features: Features| {
        let Value::Vector(samples) = ask(query, features).unwrap().value else { panic!("{query}") };
        samples.iter().map(|sample| sample.labels.to_string()).collect::<Vec<_>>()
    };
    let late = Features::none().with(Feature::DelayedNameRemoval);
    for (query, early_labels, late_labels) in [
        ("rate(a_total[5m])", r#"{l="1"}"#, r#"{l="1"}"#),
        ("sum by (__name__) (rate(a_total[5m]))", "{}", "{}"),
        (
            r#"label_replace(-a_total, "n", "$1", "__name__", "(.*)")"#,
            r#"{l="1"}"#,
            r#"{l="1", n="a_total"}"#,
        ),
        (r#"label_replace(-a_total, "__name__", "x", "", "")"#, r#"x{l="1"}"#, r#"x{l="1"}"#),
    ] {
        assert_eq!(labels(query, Features::none()), [early_labels], "{query}");
        assert_eq!(labels(query, late), [late_labels], "{query}");
    }
}

/// Series that differ by their names only, and what is made of them while names go where they cease to fit.
const EARLY: &str = r#"
load 1m
  a_total{l="x"} 0 60 120 180
  b_total{l="x"} 0 6 12 18
  old{l="x"} 1 2 stale _
  new{l="x"} _ _ 3 4
  c_bucket{le="1"} 3x3
  c_bucket{le="2"} 2x3
  c_bucket{le="+Inf"} 3x3

# Nothing is lost while names stay.
eval instant at 3m {__name__=~"._total"} > 0
  a_total{l="x"} 180
  b_total{l="x"} 18

eval instant at 3m sum({__name__=~"._total"})
  {} 198

eval instant at 3m last_over_time({__name__=~"._total"}[5m])
  a_total{l="x"} 180
  b_total{l="x"} 18

eval instant at 3m max by (__name__) ({__name__=~"._total"})
  a_total 180
  b_total 18

eval instant at 3m a_total / ignoring () b_total
  {l="x"} 10

eval instant at 3m rate(a_total[3m]) or rate(b_total[3m])
  {l="x"} 1

eval instant at 3m sum by (__name__) (rate(a_total[3m]))
  {} 1

# One name after the other.
eval range from 0 to 3m step 1m -{__name__=~"old|new"}
  {l="x"} -1 -2 -3 -4

eval range from 0 to 3m step 1m abs({__name__=~"old|new"})
  {l="x"} 1 2 3 4

eval range from 0 to 3m step 1m {__name__=~"old|new"} + 1
  {l="x"} 2 3 4 5

# A note about what has no name any more names nothing.
eval instant at 3m histogram_quantile(0.5, c_bucket)
  expect info regex: /#histogram_quantile\), from buckets 2 to 2, with a max diff of 1, over 1 samples from .* \(1:25\)
  {} 0.5
"#;

/// Where names would go, though two series still differ by them.
const COLLIDING: [&str; 17] = [
    "rate(%[3m])",
    "-%",
    "sum(-%)",
    "sum(rate(%[3m]))",
    "count(abs(%))",
    "% + 0",
    "% * on (l, __name__) %",
    "% > bool 0",
    "timestamp(%)",
    "scalar(-%)",
    "absent(clamp_max(%, 1))",
    "topk(1, increase(%[3m]))",
    "max_over_time(%[3m:1m])",
    "last_over_time((% * 2)[3m:1m])",
    "sum(hour(%))",
    r#"label_replace(round(%), "n", "$1", "__name__", "(.*)")"#,
    r#"sort(label_join(%, "__name__", "", "l"))"#,
];

#[test]
fn names_that_go_early_collide_where_they_go() {
    let report = run_with(EARLY, Features::default());
    assert!(report.failed.is_empty() && report.passed > 10, "{report:?}");
    for query in COLLIDING {
        let query = query.replace('%', r#"{__name__=~"._total"}"#);
        let refused = ask(&query, Features::default()).unwrap_err().to_string();
        assert_eq!(refused, "vector cannot contain metrics with the same labelset", "{query}");
    }
}

#[test]
fn names_are_prometheus_s() {
    for feature in Feature::ALL {
        assert_eq!(feature.name().parse(), Ok(feature));
    }
    let unknown = "promql-magic".parse::<Feature>().unwrap_err();
    assert!(unknown.to_string().starts_with("no such feature; there are promql-"), "{unknown}");
    assert!(!Features::default().has(Feature::DelayedNameRemoval));
    assert!(Features::default().has(Feature::FillModifiers));
}

#[test]
fn scripts_run_with_what_is_on() {
    let script = "eval instant at 0 step()\n  0\n";
    assert_eq!(run_with(script, Features::all()).passed, 1);
    assert_eq!(run_with(script, Features::none()).failed.len(), 1);
}

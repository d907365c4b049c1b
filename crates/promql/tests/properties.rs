//! What holds for any query over any data: no panic, and a range query gives at each step what an
//! instant query gives there.

#![expect(clippy::expect_used, reason = "a test; what is missing is its failure")]

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use stoa_promql::script::Memory;
use stoa_promql::{Answer, Engine, Features, Limits, QueryError, Value, format_query};

const START_MS: i64 = 60_000;
const STEP_MS: i64 = 45_000;
const STEPS: i64 = 9;

fn memory() -> Memory {
    Memory::load(
        r#"load 30s
        a{l="x", m="1"} 0+1x6 stale _ 5+2x9
        a{l="y", m="1"} 10-1x20
        a{l="x", m="2"} _x4 1 1 1 NaN Inf 2 3 0 1
        b{l="x"} 1+0.5x20
        b{l="y"} _x3 7 _x9 8 9
        c_total 0+3x7 0+4x12
        d_bucket{le="0.5"} 0+1x20
        d_bucket{le="1"} 0+3x20
        d_bucket{le="+Inf"} 0+4x20
        h{l="x"} {{schema:0 count:3 sum:4 buckets:[1 2]}}+{{schema:0 count:2 sum:1 buckets:[1 1]}}x9 1 2 3
        h{l="y"} 1 2 3 {{schema:-53 count:3 sum:4 custom_values:[1 2] buckets:[1 1 1]}}x9
        "#,
    )
    .expect("a valid load")
}

fn selector() -> impl Strategy<Value = String> {
    let name = select(vec![
        "a",
        "a{l=\"x\"}",
        "a{l!=\"x\",m=~\"1|2\"}",
        "b",
        "c_total",
        "d_bucket",
        "h",
        "{__name__=~\"a|b\"}",
        "none",
    ]);
    let shift =
        select(vec!["", "", "", " offset 40s", " offset -1m", " @ 200", " @ 100 offset 30s"]);
    (name, shift).prop_map(|(name, shift)| format!("{name}{shift}"))
}

fn matrix() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b{l=\"y\"}", "c_total", "h", "{l=\"x\"}"]);
    let range = select(vec!["1m", "2m", "90s", "10s", "5m:45s", "3m:", "4m:1m"]);
    let shift = select(vec!["", "", " offset 1m", " @ 240"]);
    (name, range, shift).prop_map(|(name, range, shift)| format!("{name}[{range}]{shift}"))
}

fn scalar() -> impl Strategy<Value = String> {
    select(vec!["1", "0", "-2.5", "NaN", "Inf", "time()", "scalar(b{l=\"x\"})", "0.5", "3"])
        .prop_map(str::to_owned)
}

fn vector() -> impl Strategy<Value = String> {
    let over_time = select(vec![
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "deriv",
        "resets",
        "changes",
        "avg_over_time",
        "sum_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "first_over_time",
        "present_over_time",
        "absent_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "mad_over_time",
        "ts_of_max_over_time",
    ]);
    let leaf = prop_oneof![
        selector(),
        (over_time, matrix()).prop_map(|(f, m)| format!("{f}({m})")),
        (scalar(), matrix()).prop_map(|(q, m)| format!("quantile_over_time({q}, {m})")),
        (scalar(), matrix()).prop_map(|(t, m)| format!("predict_linear({m}, {t})")),
        scalar().prop_map(|s| format!("vector({s})")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let function = select(vec![
            "abs",
            "ceil",
            "sqrt",
            "ln",
            "sgn",
            "-",
            "timestamp",
            "absent",
            "round",
            "hour",
            "sort",
            "histogram_count",
            "histogram_avg",
            "sort_desc",
            "day_of_week",
            "",
        ]);
        let aggregation = select(vec![
            "sum",
            "avg",
            "count",
            "min",
            "max",
            "group",
            "stddev",
            "stdvar",
            "topk(2, ",
            "bottomk(1, ",
            "quantile(0.3, ",
            "limitk(2, ",
            "limit_ratio(0.5, ",
            "count_values(\"v\", ",
            "topk(scalar(b{l=\"x\"}), ",
        ]);
        let grouping =
            select(vec!["", " by (l)", " without (m)", " by (__name__)", " by (l, none)"]);
        let operator = select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "==",
            "!=",
            ">",
            "< bool",
            ">=",
            "and",
            "or",
            "unless",
            "and on (l)",
            "or ignoring (m)",
            "unless on (l)",
            "* on (l) group_left ()",
            "+ ignoring (m) group_right (m)",
            "== on (l)",
            "+ on (l) fill (0)",
            "</",
            ">/",
        ]);
        let arithmetic = select(vec!["+", "/", "%", "> bool", "<=", "^", "*"]);
        prop_oneof![
            (function, inner.clone()).prop_map(|(f, v)| format!("{f}({v})")),
            (aggregation, grouping, inner.clone()).prop_map(|(op, grouping, v)| {
                if op.contains('(') {
                    format!("{op}{v}){grouping}")
                } else {
                    format!("{op}{grouping} ({v})")
                }
            }),
            (inner.clone(), operator, inner.clone())
                .prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            (inner.clone(), arithmetic.clone(), scalar())
                .prop_map(|(l, op, r)| format!("({l}) {op} {r}")),
            (scalar(), arithmetic, inner.clone()).prop_map(|(l, op, r)| format!("{l} {op} ({r})")),
            (inner.clone(), select(vec!["3m:45s", "2m:", "100s:30s"]))
                .prop_map(|(v, range)| format!("max_over_time(({v})[{range}])")),
            (inner.clone(), select(vec!["2m:45s", "3m:1m"]))
                .prop_map(|(v, range)| format!("rate(({v})[{range}] offset 30s)")),
            inner
                .clone()
                .prop_map(|v| format!("label_replace({v}, \"n\", \"$1\", \"l\", \"(.)\")")),
            inner.clone().prop_map(|v| format!("label_join({v}, \"l\", \"-\", \"m\", \"l\")")),
            (scalar(), inner.clone()).prop_map(|(q, v)| format!("histogram_quantile({q}, {v})")),
            inner.clone().prop_map(|v| format!("histogram_fraction(0, 0.7, {v})")),
            (scalar(), scalar(), inner).prop_map(|(a, b, v)| format!("clamp({v}, {a}, {b})")),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => vector(),
        1 => (vector(), Just(())).prop_map(|(v, ())| format!("scalar({v})")),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("{a} * {b}")),
    ]
}

/// Values by series, NaN equal to NaN.
type Snapshot = BTreeMap<String, String>;

fn snapshot(answer: &Answer) -> Snapshot {
    let of = |v: f64, histogram: Option<String>| histogram.unwrap_or_else(|| format!("{v:?}"));
    match &answer.value {
        Value::Scalar { v, .. } => BTreeMap::from([("{}".into(), of(*v, None))]),
        Value::Vector(samples) => samples
            .iter()
            .map(|s| (s.labels.to_string(), of(s.v, s.histogram.as_ref().map(ToString::to_string))))
            .collect(),
        Value::String { .. } | Value::Matrix(_) => panic!("not an instant vector"),
    }
}

fn snapshots(answer: &Answer) -> BTreeMap<i64, Snapshot> {
    let Value::Matrix(all) = &answer.value else { panic!("a range query gives a matrix") };
    let mut snapshots: BTreeMap<i64, Snapshot> = BTreeMap::new();
    for series in all {
        let floats = series.points.iter().map(|(t, v)| (*t, format!("{v:?}")));
        let histograms = series.histograms.iter().map(|(t, h)| (*t, h.to_string()));
        for (t, text) in floats.chain(histograms) {
            let twice = snapshots.entry(t).or_default().insert(series.labels.to_string(), text);
            assert!(twice.is_none(), "{} stands twice at {t}", series.labels);
        }
    }
    snapshots
}

fn check(query: &str) {
    let engine = Engine::new(Limits { samples_max: 200_000, ..Limits::default() });
    let memory = memory();
    let end = START_MS + STEP_MS * (STEPS - 1);
    let range = engine.range(&memory, query, START_MS, end, STEP_MS, &|| false);
    let instants: Vec<(i64, Result<Answer, QueryError>)> = (0..STEPS)
        .map(|step| START_MS + STEP_MS * step)
        .map(|t| (t, engine.instant(&memory, query, t, &|| false)))
        .collect();
    match range {
        Err(error) => assert!(
            instants.iter().any(|(_, answer)| answer.is_err()),
            "{query}: only the range query failed: {error}"
        ),
        Ok(range) => {
            let mut by_step = snapshots(&range);
            for (t, answer) in instants {
                let answer = answer.unwrap_or_else(|error| panic!("{query} at {t}: {error}"));
                let expect = snapshot(&answer);
                assert_eq!(by_step.remove(&t).unwrap_or_default(), expect, "{query} at {t}");
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]

    #[test]
    fn a_range_is_its_instants(query in query()) {
        check(&query);
    }

    /// Laid out, a query is what it was, and is laid out already.
    #[test]
    fn laid_out_it_means_the_same(query in query()) {
        let of = |query: &str| format_query(query, Features::all());
        if let Ok(text) = of(&query) {
            let again = of(&text).unwrap_or_else(|error| panic!("{query}: {text}: {error}"));
            assert_eq!(again, text, "{query}");
            let at = |query: &str| Engine::default().instant(&memory(), query, START_MS, &|| false);
            match (at(&query), at(&text)) {
                (Ok(was), Ok(is)) => assert_eq!(snapshot(&is), snapshot(&was), "{query}: {text}"),
                (was, is) => assert!(was.is_err() && is.is_err(), "{query}: {text}: {is:?}"),
            }
        }
    }

    /// Another parser of the same language judges ours; it knows no `</` and `>/`.
    #[test]
    fn what_is_promql_is_parsed(query in query()) {
        let known = promql_parser::parser::parse(&query).is_ok();
        let ours = Engine::default().instant(&Memory::default(), &query, 0, &|| false);
        let refused = matches!(ours, Err(QueryError::Parse(_)));
        assert!(!(known && refused), "{query}: {ours:?}");
        assert!(known || !refused || query.contains('/'), "{query}: neither takes it");
    }
}

#[test]
fn a_query_stops_when_told_to() {
    let stopped = Engine::default().instant(&memory(), "sum(a)", START_MS, &|| true);
    assert!(matches!(stopped, Err(QueryError::Cancelled)), "{stopped:?}");
}

#[test]
fn a_query_stops_amid_windows_that_overlap() {
    // One series: what is loaded is little, what is looked at is not.
    let asked = std::cell::Cell::new(0);
    let late = || {
        asked.set(asked.get() + 1);
        asked.get() > 20
    };
    let query = "quantile_over_time(0.5, vector(1)[1d:10s])";
    let stopped = Engine::default().range(&memory(), query, 0, 10_000_000, 1000, &late);
    assert!(matches!(stopped, Err(QueryError::Cancelled)), "{stopped:?}");
}

#[test]
fn limits_are_kept() {
    let ask = |limits: Limits, query: &str, end: i64, step: i64| {
        Engine::new(limits)
            .range(&memory(), query, 0, end, step, &|| false)
            .unwrap_err()
            .to_string()
    };
    let few = Limits { samples_max: 5, ..Limits::default() };
    assert_eq!(
        ask(few, "a", 60_000, 30_000),
        "query processing would load too many samples into memory in query execution"
    );
    let narrow = Limits { series_max: 1, ..Limits::default() };
    assert_eq!(ask(narrow, "a", 60_000, 30_000), "the query selects more than 1 series");
    assert_eq!(
        ask(Limits::default(), "a", 11_001_000, 1_000),
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
    );
    assert_eq!(
        ask(Limits::default(), "a", 1_000, 0),
        "zero or negative query resolution step widths are not accepted. Try a positive integer"
    );
    assert_eq!(
        ask(Limits::default(), "a[5m]", 1_000, 1_000),
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
    let subquery = ask(few, "max_over_time(vector(1)[1h:1s])", 1_000, 1_000);
    assert_eq!(
        subquery,
        "query processing would load too many samples into memory in query execution"
    );
}

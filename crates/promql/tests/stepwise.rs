//! A query that is said to be stepwise: its parts, joined, are the whole, to the last bit.
//!
//! The data is made so that it shows: series come and go with a short lookback, some are equal, and sums
//! depend on the order they are made in.

#![expect(clippy::expect_used, reason = "a test; what is missing is its failure")]

use proptest::prelude::{Strategy, prop_oneof};
use proptest::sample::select;
use stoa_promql::script::Memory;
use stoa_promql::{Answer, Engine, Limits, MatrixSeries, Value, joined};

const START_MS: i64 = 60_000;
const STEP_MS: i64 = 20_000;
const LOOKBACK_MS: i64 = 40_000;

/// Lines of a script: series that come and go.
fn floats(seed: u64) -> String {
    let mut state = seed;
    let mut next = |below: u64| {
        // Knuth's MMIX: good enough to scatter samples.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = "load 15s\n".to_owned();
    for series in [
        "a{l=\"x\", m=\"1\"}",
        "a{l=\"x\", m=\"2\"}",
        "a{l=\"x\", m=\"3\"}",
        "a{l=\"y\", m=\"1\"}",
        "a{l=\"y\", m=\"3\"}",
        "a{l=\"z\", m=\"2\"}",
        "b{l=\"x\"}",
        "b{l=\"y\"}",
        "b{l=\"y\", m=\"1\"}",
        "b{l=\"z\", m=\"2\"}",
        "c_total{l=\"x\"}",
        "c_total{l=\"z\"}",
        "d_bucket{le=\"0.5\"}",
        "d_bucket{le=\"1\"}",
        "d_bucket{le=\"1.0\"}",
        "d_bucket{le=\"1.00\"}",
        "d_bucket{le=\"+Inf\"}",
    ] {
        text.push_str(series);
        for _ in 0..7 {
            let run = 1 + next(8);
            match next(4) {
                0 => text.push_str(&format!(" stale _x{run}")),
                1 => text.push_str(&format!(" _x{run}")),
                _ => {}
            }
            for _ in 0..run {
                let value = ["NaN", "-0", "0", "1", "1", "0.1", "0.3", "1e16", "-1e16", "3.3e8"];
                let at = usize::try_from(next(value.len() as u64)).expect("small");
                text.push_str(&format!(" {}", value.get(at).expect("one of them")));
            }
        }
        text.push('\n');
    }
    text
}

fn vector() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "a{l=\"x\"}", "b", "c_total", "d_bucket", "{__name__=~\"a|b\"}"]);
    let shift = select(vec!["", "", "", " offset 20s", " offset -35s"]);
    let function = select(vec![
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
    ]);
    let range = select(vec!["30s", "45s", "100s"]);
    let leaf = prop_oneof![
        4 => (name.clone(), shift.clone()).prop_map(|(n, s)| format!("{n}{s}")),
        4 => (function, name.clone(), range.clone(), shift)
            .prop_map(|(f, n, r, s)| format!("{f}({n}[{r}]{s})")),
        1 => (name.clone(), range.clone())
            .prop_map(|(n, r)| format!("quantile_over_time(0.3, {n}[{r}])")),
        1 => (name, range).prop_map(|(n, r)| format!("predict_linear({n}[{r}], 60)")),
        1 => select(vec!["vector(1)", "vector(time())", "vector(scalar(b{m=\"1\"}))", "hour()"])
            .prop_map(str::to_owned),
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
            "minute",
            "sort",
            "sort_desc",
            "clamp_max",
        ]);
        let aggregation = select(vec![
            "sum(",
            "sum(",
            "avg(",
            "avg(",
            "count(",
            "min(",
            "max(",
            "group(",
            "stddev(",
            "stdvar(",
            "topk(1, ",
            "topk(2, ",
            "bottomk(1, ",
            "quantile(0.3, ",
        ]);
        let grouping =
            select(vec!["", "", " by (l)", " by (m)", " by (le)", " without (m)", " without (l)"]);
        let operator = select(vec![
            "+",
            "-",
            "*",
            "/",
            "==",
            "!=",
            "> bool",
            "<",
            "and",
            "or",
            "unless",
            "and on (l)",
            "or on (m)",
            "or ignoring (m)",
            "unless on (l)",
            "* on (l) group_left ()",
            "+ ignoring (m) group_right (m)",
            "/ on (l)",
            "+ on (m)",
        ]);
        let scalar = select(vec!["1", "-2.5", "NaN", "time()", "scalar(b{m=\"1\"})"]);
        prop_oneof![
            1 => (function, inner.clone()).prop_map(|(f, v)| match f {
                "clamp_max" => format!("clamp_max({v}, 1)"),
                f => format!("{f}({v})"),
            }),
            4 => (aggregation, grouping, inner.clone())
                .prop_map(|(op, grouping, v)| format!("{op}{v}){grouping}")),
            2 => (inner.clone(), operator, inner.clone())
                .prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            1 => (inner.clone(), select(vec!["+", "/", "^", "> bool", "<="]), scalar)
                .prop_map(|(l, op, r)| format!("({l}) {op} {r}")),
            1 => inner.clone()
                .prop_map(|v| format!("label_replace({v}, \"l\", \"$1\", \"m\", \"(.)\")")),
            1 => inner.prop_map(|v| format!("histogram_quantile(0.4, {v})")),
        ]
    })
}

fn series(answer: &Answer) -> &[MatrixSeries] {
    let Value::Matrix(all) = &answer.value else { panic!("a range query gives a matrix") };
    all
}

/// Labels, times and the bits of values.
fn bits(all: &[MatrixSeries]) -> Vec<(String, Vec<(i64, u64)>)> {
    let of = |one: &MatrixSeries| {
        assert!(one.histograms.is_empty(), "{}: a histogram", one.labels);
        (one.labels.to_string(), one.points.iter().map(|(t, v)| (*t, v.to_bits())).collect())
    };
    all.iter().map(of).collect()
}

/// A window of `1 + steps` that has moved on by `moved`: its first `cut` steps are taken from when it had
/// not.
fn check(query: &str, seed: u64, (moved, cut, steps): (i64, i64, i64)) {
    let text = floats(seed);
    let memory = Memory::load(&text).expect("a valid load");
    let engine = Engine::new(Limits::default()).with_lookback(Some(LOOKBACK_MS));
    assert!(engine.stepwise(query).is_some(), "{query}");
    let at = |step: i64| START_MS + STEP_MS * step;
    let ask = |first: i64, last: i64| {
        engine.range(&memory, query, at(first), at(last), STEP_MS, &|| false)
    };
    let (before, after) = (ask(0, moved + cut - 1), ask(moved + cut, moved + steps));
    let whole = ask(moved, moved + steps);
    let Ok(before) = before else { return };
    let after = match after {
        Ok(after) => after,
        Err(error) => {
            assert!(whole.is_err(), "{query}: only the end failed: {error}");
            return;
        }
    };
    let whole = whole.unwrap_or_else(|error| panic!("{query}: only the whole failed: {error}"));
    let all = joined(series(&before), (at(moved), at(moved + cut - 1)), series(&after).to_vec());
    assert_eq!(bits(&all), bits(series(&whole)), "{query} moved {moved} of {cut}, {steps}: {text}");
    // What is told of the end is told of the whole; that is all, if it is told of the rest too.
    let told = |answer: &Answer| [answer.warnings.clone(), answer.infos.clone()];
    for ((before, after), whole) in told(&before).iter().zip(&told(&after)).zip(&told(&whole)) {
        if before.iter().all(|text| after.contains(text)) {
            assert_eq!(after, whole, "{query}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]

    #[test]
    fn the_whole_is_its_parts(
        query in vector(), seed: u64, moved in 0i64..8, cut in 1i64..12, more in 0i64..6,
    ) {
        check(&query, seed, (moved, cut, cut + more));
    }
}

#[test]
fn sums_of_sums_do_not_depend_on_who_else_was_there() {
    for seed in 0..400 {
        for query in [
            "sum(sum by (m) (a))",
            "avg(a + on (l, m) group_left () b)",
            "topk(1, sum by (m) (a > 0))",
            "sum(rate({__name__=~\"a|b\"}[45s]))",
            "stddev(b or a)",
            "histogram_quantile(0.5, sum by (le) (d_bucket))",
        ] {
            check(query, seed, (5, 6, 9));
        }
    }
}

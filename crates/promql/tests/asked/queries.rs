//! Queries made up at random, and what they are asked of.

use proptest::prelude::{Strategy, prop_oneof};
use proptest::sample::select;
use stoa_promql::script::Memory;

pub(crate) fn memory() -> Memory {
    Memory::load(
        r#"load 10s
        a{l="x", m="1"} 0+1x60 stale _x5 5+2x60
        a{l="y", m="1"} 10-1x120
        a{l="z", m="2"} _x40 1 1 1 NaN Inf 2 3 0 1
        c_total{l="x"} 0+3x47 0+4x70
        c_total{l="y"} _x30 0+4x70
        h{l="x"} {{schema:0 count:3 sum:4 buckets:[1 2]}}+{{schema:0 count:2 sum:1 buckets:[1 1]}}x90 1 2 3
        "#,
    )
    .expect("a valid load")
}

/// Of one metric, with a place in its braces for a matcher that holds for all.
fn leaf() -> impl Strategy<Value = String> {
    let name = select(vec!["a{§}", "a{l=\"x\",§}", "a{m=\"1\",§}", "c_total{§}", "h{§}"]);
    let shift = select(vec!["", "", " offset 40s", " offset -1m", " @ 600", " @ end()"]);
    let range = select(vec!["30s", "1m", "5m", "2m:20s", "100s:30s"]);
    let function = select(vec![
        "rate",
        "increase",
        "delta",
        "resets",
        "avg_over_time",
        "max_over_time",
        "last_over_time",
        "count_over_time",
        "absent_over_time",
        "quantile_over_time",
        "predict_linear",
    ]);
    prop_oneof![
        2 => (name.clone(), shift.clone()).prop_map(|(name, shift)| format!("{name}{shift}")),
        3 => (function, name, range, shift).prop_map(|(function, name, range, shift)| {
            match function {
                "quantile_over_time" => format!("{function}(0.3, {name}[{range}]{shift})"),
                "predict_linear" => format!("{function}({name}[{range}]{shift}, 60)"),
                _ => format!("{function}({name}[{range}]{shift})"),
            }
        }),
    ]
}

pub(crate) fn query() -> impl Strategy<Value = String> {
    leaf().prop_recursive(3, 8, 2, |inner| {
        let operator = select(vec!["+", "/", "or", "and", "unless", "> bool", "* on (l, m)"]);
        let around = select(vec!["sum by (l) ", "count", "abs", "timestamp", "histogram_count"]);
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone())
                .prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            1 => (around, inner.clone()).prop_map(|(f, v)| format!("{f}({v})")),
            1 => (inner, select(vec!["2m:30s", "90s:15s"]))
                .prop_map(|(v, range)| format!("max_over_time(({v})[{range}])")),
        ]
    })
}

/// The query with a matcher of its own in each selector, which no other has: nothing is shared.
pub(crate) fn apart(query: &str) -> String {
    let mut out = String::new();
    for (n, part) in query.split('§').enumerate() {
        if n > 0 {
            out.push_str(&format!("none{n}=\"\""));
        }
        out.push_str(part);
    }
    out
}

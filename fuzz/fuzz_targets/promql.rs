//! Any text as a query. Property: it is refused or read, without panic; what was read is laid out, means
//! then what it meant and is laid out already; over data it has an answer or an error, soon.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stoa_promql::script::Memory;
use stoa_promql::{
    Engine, Features, Limits, format_query, parse_selector, query_tree, selector_groups,
};

static DATA: LazyLock<Memory> = LazyLock::new(|| {
    let samples = "load 30s\n  a{l=\"x\"} 0+1x9 stale _ 5 NaN\n  b_bucket{le=\"1\"} 1+1x9\n  \
                   b_bucket{le=\"+Inf\"} 2+2x9\n  \
                   h {{schema:0 count:3 sum:4 buckets:[1 2]}}+{{count:1 sum:1 buckets:[1]}}x9\n";
    Memory::load(samples).unwrap_or_default()
});

fuzz_target!(|query: &str| {
    let _selectors = (parse_selector(query), selector_groups(query));
    let Ok(text) = format_query(query, Features::all()) else { return };
    assert_eq!(format_query(&text, Features::all()).unwrap(), text);
    assert_eq!(
        query_tree(&text, Features::all()).unwrap().len(),
        query_tree(query, Features::all()).unwrap().len()
    );
    let limits = Limits { samples_max: 10_000, points_per_series_max: 20, ..Limits::default() };
    let engine = Engine::new(limits).with_features(Features::all());
    let asked = std::cell::Cell::new(0);
    let enough = || {
        asked.set(asked.get() + 1);
        asked.get() > 2_000
    };
    let _answers = (
        engine.instant(&*DATA, query, 120_000, &enough),
        engine.range(&*DATA, query, 0, 300_000, 30_000, &enough),
    );
});

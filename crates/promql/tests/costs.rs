//! What queries cost: samples, counted as Prometheus counts them, and the limits on these.

#![expect(clippy::expect_used, reason = "a test; what is missing is its failure")]

use std::cell::Cell;

use stoa_promql::script::Memory;
use stoa_promql::{Caller, Engine, Limits, QueryError, SampleStats};

/// One series and three, a sample every 10 s.
fn memory() -> Memory {
    Memory::load(
        "load 10s\n  one 1+1x100\n  three{l=\"a\"} 1+1x100\n  three{l=\"b\"} 2+1x100\n  three{l=\"c\"} 3+1x100\n",
    )
    .expect("a valid load")
}

/// Wants to know all.
struct Curious;

impl Caller for Curious {
    fn is_gone(&self) -> bool {
        false
    }

    fn wants_steps(&self) -> bool {
        true
    }
}

fn of(answer: Result<stoa_promql::Answer, QueryError>) -> SampleStats {
    answer.expect("a value").samples
}

/// Queryable, read and peak of an instant query at 201 s.
#[track_caller]
fn check(query: &str, expected: (u64, u64, u64)) {
    let found = of(Engine::default().instant(&memory(), query, 201_000, &Curious));
    assert_eq!((found.queryable, found.read, found.peak), expected, "{query}");
    let by_step = found.by_step.expect("asked for");
    let sums = by_step.iter().fold((0, 0), |sum, step| (sum.0 + step.queryable, sum.1 + step.read));
    assert_eq!(sums, (found.queryable, found.read), "{query}");
}

/// The same over 201 s to 220 s, every 5 s; and the queryable of each step.
#[track_caller]
fn check_range(query: &str, expected: (u64, u64, u64), by_step: [u64; 4]) {
    let found = of(Engine::default().range(&memory(), query, 201_000, 220_000, 5_000, &Curious));
    assert_eq!((found.queryable, found.read, found.peak), expected, "{query}");
    let steps: Vec<u64> =
        found.by_step.expect("asked for").iter().map(|step| step.queryable).collect();
    assert_eq!(steps, by_step, "{query}");
}

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    check("one", (1, 1, 1));
    check("three", (3, 3, 3));
    check("1", (0, 0, 1));
    check("one[60s]", (6, 6, 6));
    check("three[60s]", (18, 18, 18));
    // The window of the series at hand, and its result.
    check("max_over_time(one[60s])", (6, 6, 7));
    check("max_over_time(three[60s])", (18, 18, 9));
    // A subquery as a value counts what is inside, as an argument its own result.
    check("one[60s:10s]", (6, 6, 6));
    check("max_over_time(one[60s])[20s:5s]", (24, 8, 10));
    check("sum_over_time(one[60s:10s])", (6, 6, 13));
    check("sum(three)", (3, 3, 4));
    check_range("one", (4, 4, 4), [1, 1, 1, 1]);
    check_range("three", (12, 12, 12), [3, 3, 3, 3]);
    check_range("max_over_time(one[60s])", (24, 7, 10), [6, 6, 6, 6]);
    check_range("max_over_time(three[60s])", (72, 21, 18), [18, 18, 18, 18]);
    // The same at every step: counted at each.
    check_range("one @ 201", (4, 4, 4), [1, 1, 1, 1]);
    check_range("max_over_time(one[60s] @ 201)", (24, 24, 7), [6, 6, 6, 6]);
}

fn limited(samples_max: usize, query: &str) -> Result<SampleStats, String> {
    let engine = Engine::new(Limits { samples_max, ..Limits::default() });
    let answer = engine.range(&memory(), query, 201_000, 220_000, 5_000, &|| false);
    answer.map(|answer| answer.samples).map_err(|error| error.to_string())
}

#[test]
fn the_limit_is_on_the_peak() {
    for query in [
        "one",
        "max_over_time(three[60s])",
        "sum by (l) (rate(three[1m])) / on (l) three",
        "topk(2, three)",
        "max_over_time((three * 2)[60s:10s])",
        "label_replace(three, \"a\", \"b\", \"\", \"\") or one",
    ] {
        let peak = limited(usize::MAX, query).expect("a value").peak;
        let peak = usize::try_from(peak).expect("small");
        assert!(limited(peak, query).is_ok(), "{query}: {peak}");
        assert_eq!(
            limited(peak - 1, query).expect_err("too many"),
            "query processing would load too many samples into memory in query execution",
            "{query}: {peak}"
        );
    }
    // What was read is more than the limit, what is held at a time is not.
    let read = limited(20, "max_over_time(three[60s])").expect("a value");
    assert!(read.loaded > 20 && read.queryable > 20);
}

#[test]
fn labels_that_are_written_are_counted_before_they_are() {
    let ask = |bytes_max, query: &str| {
        let engine = Engine::new(Limits { bytes_max, ..Limits::default() });
        let answer = engine.instant(&memory(), query, 201_000, &|| false);
        answer.map(|_| ()).map_err(|error| error.to_string())
    };
    let nested = |levels: usize, before: &str, after: &str| {
        format!("{}three{}", before.repeat(levels), after.repeat(levels))
    };
    let many = "query processing would load too many bytes into memory in query execution";
    for (function, before, after) in [
        ("label_join", "label_join(", ", \"l\", \"\", \"l\", \"l\")"),
        ("label_replace", "label_replace(", ", \"l\", \"$1$1\", \"l\", \"(.*)\")"),
    ] {
        // The text doubles with each level.
        assert_eq!(ask(10_000, &nested(8, before, after)), Ok(()), "{function}");
        let error = ask(10_000, &nested(12, before, after)).expect_err("too much");
        assert_eq!(error, many, "{function}");
        let error = ask(1 << 40, &nested(40, before, after)).expect_err("too much");
        let long = format!("label value of more than 1048576 bytes in {function}()");
        assert_eq!(error, long);
    }
    // Counted while the query lasts, whatever became of them.
    let one = "count(label_join(three, \"x\", \"\", \"l\"))";
    let between = "0123456789".repeat(60);
    let long = format!("count(label_join(three, \"x\", \"{between}\", \"l\", \"l\"))");
    assert_eq!(ask(5_000, one), Ok(()));
    assert_eq!(ask(5_000, &long), Ok(()));
    assert_eq!(ask(5_000, &format!("{long} + {long} + {long} + {long}")), Err(many.to_owned()));
}

#[test]
fn long_work_ends_when_it_is_told_to() {
    use std::fmt::Write as _;
    let mut load = "load 10s\n".to_owned();
    for n in 0..700 {
        writeln!(load, "  m{{n=\"{n}\", le=\"{}\"}} 1+{n}x20", n % 10).expect("in memory");
    }
    let memory = Memory::load(&load).expect("a valid load");
    for query in [
        "topk(300, m)",
        "quantile(0.5, m)",
        "stddev(m)",
        "count_values(\"v\", m)",
        "m * on (n) group_left () m",
        "m + m",
        "m and m",
        "histogram_quantile(0.9, m)",
        "label_replace(m, \"x\", \"$1\", \"n\", \"(.*)\")",
        "label_join(m, \"x\", \"-\", \"n\", \"le\")",
        "sum by (n) (m)",
        "avg(m)",
        "abs(m)",
        "clamp(m, 1, 2)",
    ] {
        // How often it asks in all; then it is told to stop at each time in turn, or some of them.
        let asked = Cell::new(0usize);
        let count = || {
            asked.set(asked.get() + 1);
            false
        };
        let ask =
            |caller: &dyn Caller| Engine::default().range(&memory, query, 0, 200_000, 500, caller);
        ask(&count).expect("a value");
        let all = asked.get();
        asked.set(0);
        Engine::default().range(&memory, "m", 0, 200_000, 500, &count).expect("a value");
        // The selector and the operator's own begin are not the loop of the operator.
        assert!(all > asked.get() + 1, "{query} asked {all} times, m alone {}", asked.get());
        for stop in [all / 2, all - 1] {
            asked.set(0);
            let late = || {
                asked.set(asked.get() + 1);
                asked.get() > stop
            };
            let stopped = ask(&late);
            assert!(matches!(stopped, Err(QueryError::Cancelled)), "{query} at {stop} of {all}");
            assert_eq!(asked.get(), stop + 1, "{query}: it asked again");
        }
    }
}

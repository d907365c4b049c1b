//! Selectors that stand in a query more than once: read once, and nothing else changes by it.

#![expect(clippy::expect_used, reason = "a test; what is missing is its failure")]

#[path = "asked/queries.rs"]
mod asked;

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use proptest::sample::select;
use stoa_model::{Rollup, RollupFold};
use stoa_promql::script::Memory;
use stoa_promql::storage::{Coarser, HistogramSeries, RolledUp, RolledUpSeries};
use stoa_promql::{Answer, Engine, Hints, Limits, Select, Series, Storage, StorageError};

use asked::{apart, memory, query};

/// Counts how often it is asked for samples.
struct Counted(Memory, AtomicUsize);

impl Storage for Counted {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.select(select)
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        self.0.select_histograms(select)
    }
}

#[track_caller]
fn check_reads(query: &str, expected: usize) {
    let storage = Counted(memory(), AtomicUsize::new(0));
    let answer = Engine::default().range(&storage, query, 300_000, 900_000, 30_000, &|| false);
    answer.expect("a value");
    assert_eq!(storage.1.into_inner(), expected, "{query}");
}

#[test]
fn equal_selectors_are_read_once() {
    check_reads("a + a", 1);
    check_reads("a + b", 2);
    check_reads("a{l=\"x\"} + on () a{l=\"y\"}", 2);
    check_reads("rate(c_total[1m]) / on (l) rate(c_total[5m]) > bool on (l) c_total", 1);
    check_reads("a - a offset 1m", 1);
    // Nothing of the one is wanted by the other.
    check_reads("a - a offset 1h", 2);
    check_reads("max_over_time(a[5m:1m]) - min_over_time(a[5m:1m])", 1);
    check_reads("a + (a @ 500)", 1);
    check_reads("a + a + a + a", 1);
    // Hints of histograms depend on where reading begins.
    check_reads("h + h", 3);
}

/// Value, counts and what is said of them, but where in the query that is.
fn told(answer: Answer) -> String {
    let mut said: Vec<String> = answer.warnings.into_iter().chain(answer.infos).collect();
    for text in &mut said {
        let place = text.rfind(" (").unwrap_or(text.len());
        text.truncate(place);
    }
    said.sort();
    said.dedup();
    let samples = stoa_promql::SampleStats { loaded: 0, ..answer.samples };
    format!("{:?} {samples:?} {said:?}", answer.value)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]

    #[test]
    fn reading_once_changes_nothing(query in query(), step in select(vec![10_000, 25_000, 60_000])) {
        let memory = memory();
        let ask = |query: &str| {
            Engine::default().range(&memory, query, 200_000, 900_000, step, &|| false)
        };
        let once = ask(&query.replace('§', ""));
        let each = ask(&apart(&query));
        match (once, each) {
            (Ok(once), Ok(each)) => proptest::prop_assert_eq!(told(once), told(each)),
            (Err(once), Err(each)) => {
                let known = |text: String| text.chars().take(40).collect::<String>();
                proptest::prop_assert_eq!(known(once.to_string()), known(each.to_string()));
            }
            (once, each) => proptest::prop_assert!(false, "{query}: {once:?} {each:?}"),
        }
    }
}

#[test]
fn what_is_too_much_together_is_read_apart() {
    // A minute an hour ago and now: the hour between them is not to be paid for.
    let memory = Memory::load("load 10s\n  a 0+1x1000\n").expect("a valid load");
    let query = "max_over_time(a[10m]) - max_over_time(a[10m] offset 5m)";
    let ask = |bytes_max| {
        let engine = Engine::new(Limits { bytes_max, ..Limits::default() });
        engine.instant(&memory, query, 9_000_000, &|| false)
    };
    // 60 samples of 16 bytes each for one of the two.
    assert!(ask(3_000).is_ok());
    assert!(ask(1_200).is_ok());
    let error = ask(500).expect_err("too much");
    assert_eq!(
        error.to_string(),
        "query processing would load too many bytes into memory in query execution"
    );
}

#[test]
fn what_is_too_much_together_by_its_histograms_is_read_apart() {
    let memory = memory();
    let query = "count_over_time(h{§}[5m]) - count_over_time(h{§}[5m] offset 4m)";
    let ask = |bytes_max, query: &str| {
        let engine = Engine::new(Limits { bytes_max, ..Limits::default() });
        engine.instant(&memory, query, 900_000, &|| false).is_ok()
    };
    let each: Vec<bool> = (1..100).map(|n| ask(n * 200, &apart(query))).collect();
    let once: Vec<bool> = (1..100).map(|n| ask(n * 200, &query.replace('§', ""))).collect();
    assert!(each.contains(&true) && each.contains(&false), "{each:?}");
    assert_eq!(once, each);
}

/// Keeps samples after [`Forgetful::KEPT_MS`], and of those before rollups of a minute.
struct Forgetful(Memory, AtomicUsize);

impl Forgetful {
    const KEPT_MS: i64 = 600_000;
    const WINDOW_MS: i64 = 60_000;
}

impl Storage for Forgetful {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let start_ms = select.start_ms.max(Self::KEPT_MS + 1);
        self.0.select(&Select { start_ms, ..select.clone() })
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        _hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        if select.start_ms > Self::KEPT_MS {
            return Ok(None);
        }
        let mut samples = 0;
        let rolled_up = |series: Series| {
            samples += series.values.len();
            let kept = series.timestamps.partition_point(|t| *t <= Self::KEPT_MS);
            let pairs: Vec<(i64, f64)> =
                series.timestamps.iter().copied().zip(series.values).collect();
            let (gone, kept) = pairs.split_at(kept);
            let window = |pair: &(i64, f64)| (pair.0 - 1).div_euclid(Self::WINDOW_MS);
            let windows = gone.chunk_by(|a, b| window(a) == window(b));
            let rollups = windows.filter_map(|samples| {
                let mut fold = RollupFold::default();
                samples.iter().for_each(|(t, v)| fold.push(&Rollup::of(*t, *v)));
                fold.finish()
            });
            RolledUpSeries {
                labels: series.labels,
                timestamps: kept.iter().map(|(t, _)| *t).collect(),
                values: kept.iter().map(|(_, v)| *v).collect(),
                rollups: rollups.collect(),
            }
        };
        let series = self.0.select(select)?.into_iter().map(rolled_up).collect();
        let coarser = Coarser { window_ms: Self::WINDOW_MS, start_ms: 0, end_ms: Self::KEPT_MS };
        let (coarser, samples_kept_ms) = (vec![coarser], Self::KEPT_MS);
        Ok(Some(RolledUp { series, window_ms: 1, coarser, samples_kept_ms, samples }))
    }
}

#[test]
fn what_is_kept_as_rollups_only_is_seen_beside_samples_that_are_shared() {
    let ask = |query: &str| {
        let storage = Forgetful(memory(), AtomicUsize::new(0));
        let answer = Engine::default().instant(&storage, query, 900_000, &|| false);
        told(answer.expect("a value"))
    };
    let long = ask("stddev_over_time(c_total[13m])");
    assert_ne!(long, ask("stddev_over_time(c_total[5m])"));
    assert!(long.contains("aggregates"), "{long}");
    for query in [
        "c_total{§} / stddev_over_time(c_total{§}[13m])",
        "stddev_over_time(c_total{§}[13m]) / c_total{§}",
        "c_total{§} / stddev_over_time(c_total{§}[13m]) * c_total{§}",
        "c_total{§} + c_total{§} / quantile_over_time(0.2, c_total{§}[11m])",
        "c_total{§} / rate(c_total{§}[12m]) / c_total{§}",
        "rate(c_total{§}[12m]) / c_total{§} / c_total{§}",
        "c_total{§} - c_total{§} offset 8m",
        "c_total{§} offset 8m - c_total{§}",
    ] {
        assert_eq!(ask(&query.replace('§', "")), ask(&apart(query)), "{query}");
    }
}

/// Has rollups of nothing, and remembers the longest stretch that samples were asked for.
struct Tiered(Memory, AtomicI64);

impl Storage for Tiered {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.1.fetch_max(select.end_ms - select.start_ms + 1, Ordering::Relaxed);
        self.0.select(select)
    }

    fn windows_ms(&self) -> &[i64] {
        &[60_000]
    }

    fn select_rollups(
        &self,
        _select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let (series, coarser) = (Vec::new(), Vec::new());
        let window_ms = hints.window_ms(self.windows_ms());
        let rolled_up =
            |window_ms| RolledUp { series, window_ms, coarser, samples_kept_ms: 0, samples: 0 };
        Ok(window_ms.map(rolled_up))
    }
}

#[test]
fn nothing_is_read_for_those_that_read_for_themselves() {
    let day_ms = 86_400_000;
    for (query, longest_ms) in [
        ("a - rate(a[1d])", 300_000),
        ("rate(a[1d]) - a", 300_000),
        ("a - a - rate(a[1d])", 300_000),
        ("a - rate(a[10m])", 600_000),
        ("a - histogram_count(a offset 4m)", 300_000),
        ("a - a offset 4m", 540_000),
        // Buckets are wanted of what is inside.
        ("a - histogram_count(histogram_quantile(0.5, a offset 4m))", 540_000),
    ] {
        let storage = Tiered(memory(), AtomicI64::new(0));
        let answer = Engine::default().instant(&storage, query, 2 * day_ms, &|| false);
        answer.expect("a value");
        assert_eq!(storage.1.into_inner(), longest_ms, "{query}");
    }
}

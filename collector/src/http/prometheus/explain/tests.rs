use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_model::{Labels, TimestampMs};
use stoa_promql::storage::{HistogramSeries, RolledUp};
use stoa_promql::{Hints, Select, Series, StorageError};
use stoa_tsdb::{Batch, Db, GroupId, HistogramSample, Options, Row};
use stoa_wal::disk::SimDisk;

use super::*;
use crate::config::{Config, StorageConfig};
use crate::store::Store;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A multiple of a day.
const START: i64 = 1_698_883_200_000;
const DAYS: i64 = 7;
const END: i64 = START + DAYS * DAY_MS;

fn config() -> StorageConfig {
    StorageConfig {
        retention: Duration::from_secs(2 * 86_400),
        retention_1m: Duration::from_secs(5 * 86_400),
        retention_1h: Duration::from_secs(730 * 86_400),
        out_of_order: Duration::from_secs(6 * 3600),
        free_bytes_min: 0,
        series_max: 1000,
        ..Config::defaults().unwrap().storage
    }
}

fn histogram(n: u64) -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 1e-128,
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        counts: Counts::Integer(BucketCounts {
            count: n,
            positive: vec![n],
            ..BucketCounts::default()
        }),
        reset: ResetHint::Unknown,
    }
}

/// A week of two counters, a gauge and a histogram, a sample a minute at half past: of the oldest days only
/// aggregates are left.
fn stored() -> Store {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap();
    let options = Options {
        retention_ms: millis(config().retention),
        minute_retention_ms: millis(config().retention_1m),
        hour_retention_ms: millis(config().retention_1h),
        out_of_order_ms: millis(config().out_of_order),
        ..Options::default()
    };
    let disk = SimDisk::new(1);
    let (db, _) = Db::open(Arc::new(disk.clone()), Path::new("/data"), options, START).unwrap();
    let group = GroupId(1);
    for hour in 0..DAYS * 24 {
        let resolve = |name, host| {
            let labels = Labels::from_pairs([("__name__", name), ("host", host)]).unwrap();
            db.resolve(group, &labels).unwrap()
        };
        let (a, b) = (resolve("requests_total", "a"), resolve("requests_total", "b"));
        let (load, h) = (resolve("load", "a"), resolve("h", "a"));
        let time = |minute| START + hour * HOUR_MS + minute * 60_000 + 30_000;
        let rows = (0..60).map(|minute| {
            let n = (hour * 60 + minute) as f64;
            Row { t_ms: time(minute), samples: vec![(a, n), (b, 2.0 * n), (load, n % 97.0)] }
        });
        let histograms = (0..60).map(|minute| HistogramSample {
            t_ms: time(minute),
            series: h,
            histogram: Arc::new(histogram((hour * 60 + minute).cast_unsigned())),
        });
        let batch = Batch { group, rows: rows.collect(), marks: Vec::new() };
        db.append_with(&batch, &histograms.collect::<Vec<_>>()).unwrap();
        if hour % 2 == 1 {
            let now = START + (hour + 1) * HOUR_MS;
            db.maintain(now).unwrap();
            db.compact(now).unwrap();
        }
    }
    db.close().unwrap();
    Store::open(Arc::new(disk), Path::new("/data"), &config(), Arc::new(|| END)).unwrap().0
}

/// One thing that storage was asked, and how many series and samples it gave.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    of: &'static str,
    matchers: Vec<String>,
    range: (TimestampMs, TimestampMs),
    labels: Vec<Labels>,
    samples: usize,
}

/// The store, and all that it is asked.
struct Recorder<'a>(&'a StoreView, std::sync::Mutex<Vec<Call>>);

impl Recorder<'_> {
    fn note(&self, of: &'static str, select: &Select<'_>, labels: Vec<Labels>, samples: usize) {
        let matchers = texts(select.matchers);
        let range = (select.start_ms, select.end_ms);
        self.1.lock().unwrap().push(Call { of, matchers, range, labels, samples });
    }

    fn floats(&self, of: &'static str, select: &Select<'_>, found: &[Series]) {
        let labels = found.iter().map(|series| series.labels.clone()).collect();
        self.note(of, select, labels, found.iter().map(|series| series.values.len()).sum());
    }
}

impl Storage for Recorder<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        let found = self.0.select(select)?;
        self.floats("samples", select, &found);
        Ok(found)
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        let found = self.0.select_newest(select)?;
        self.floats("newest", select, found.as_deref().unwrap());
        Ok(found)
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let found = self.0.select_histograms(select)?;
        let mut calls = self.1.lock().unwrap();
        // A part of the same read.
        if let Some(call) = calls.last_mut().filter(|call| call.of != "rollups") {
            call.labels.extend(found.iter().map(|series| series.labels.clone()));
            call.samples += found.iter().map(|series| series.samples.len()).sum::<usize>();
        }
        Ok(found)
    }

    fn windows_ms(&self) -> &[i64] {
        self.0.windows_ms()
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let found = self.0.select_rollups(select, hints)?;
        if let Some(found) = &found {
            let labels = found.series.iter().map(|series| series.labels.clone()).collect();
            self.note("rollups", select, labels, found.samples);
        }
        Ok(found)
    }
}

/// A query's rehearsal, and the reads of the query itself.
fn both(view: &StoreView, text: &str, times: Times) -> (Vec<Selection>, Vec<Call>) {
    let question = Question { engine: Engine::default(), text, times };
    let stop = Stop::default();
    let rehearsal = Rehearsal::new(view, &stop);
    question.evaluate(&rehearsal, &rehearsal).unwrap();
    let recorder = Recorder(view, std::sync::Mutex::default());
    question.evaluate(&recorder, &|| false).unwrap();
    (rehearsal.finish(), recorder.1.into_inner().unwrap())
}

const EXPRESSIONS: [&str; 18] = [
    "load",
    "load + load offset 1h",
    "load - load offset 5d",
    "sum by (host) (rate(requests_total[1h])) / on (host) requests_total",
    "rate(requests_total[5m]) / rate(requests_total[15m])",
    "avg_over_time(load[1h])",
    "avg_over_time(load[1d])",
    "max_over_time(load[6d])",
    "stddev_over_time(load[3d])",
    "h + h",
    "rate(h[1d])",
    "histogram_count(rate(h[1h])) / histogram_sum(h)",
    "max_over_time(rate(requests_total[5m])[1h:1m])",
    "quantile_over_time(scalar(load), load[2h])",
    "topk(scalar(count(load)), load)",
    "{host=\"a\"} and on () vector(1)",
    "nothing or absent(nothing)",
    "load @ 1699000000 + timestamp(load)",
];

#[test]
fn what_is_planned_is_what_storage_sees() {
    let store = stored();
    let view = store.view();
    let range = |from, step| Times::Range(query::Range { start: END - from, end: END, step });
    let mut kinds = std::collections::BTreeSet::new();
    for text in EXPRESSIONS {
        for times in [
            Times::Instant(END),
            range(2 * HOUR_MS, 60_000),
            range(2 * DAY_MS, HOUR_MS),
            range(6 * DAY_MS, HOUR_MS),
        ] {
            let (selections, calls) = both(&view, text, times);
            let reads: Vec<&Read> =
                selections.iter().flat_map(|selection| &selection.reads).collect();
            let case = format!("{text} {times:?}");
            assert_eq!(reads.len(), calls.len(), "{case}: {selections:?} {calls:?}");
            for (read, call) in reads.into_iter().zip(calls) {
                let of = match read.kind {
                    Kind::Samples => "samples",
                    Kind::Newest => "newest",
                    Kind::Rollups(_) => "rollups",
                };
                let range = (read.start_ms, read.end_ms);
                assert_eq!((of, range), (call.of, call.range), "{case}");
                assert_eq!(texts(&read.matchers), call.matchers, "{case}");
                // Rollups know nothing of histograms.
                if of != "rollups" {
                    let mut labels = call.labels;
                    labels.sort();
                    labels.dedup();
                    assert_eq!(read.series, labels.len(), "{case}");
                }
                if of == "samples" {
                    let slack = 2 * read.weight.chunks;
                    let samples = call.samples as u64;
                    let is_near = read.weight.samples.abs_diff(samples) <= slack;
                    assert!(is_near, "{case}: {samples} {:?}", read.weight);
                }
                kinds.insert((of, read.places.iter().any(is_of_tier)));
            }
        }
    }
    // All of them were seen, with rollups and without.
    for kind in [("newest", false), ("samples", false), ("rollups", true)] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

fn is_of_tier(place: &stoa_tsdb::Surveyed) -> bool {
    matches!(place.place, stoa_tsdb::Where::Tier(..))
}

#[test]
fn what_is_shared_is_told_on_both_sides() {
    let store = stored();
    let view = store.view();
    let text = "load + load offset 1h";
    let question = Question { engine: Engine::default(), text, times: Times::Instant(END) };
    let outline = question.engine.outline(text).unwrap();
    let (selections, _) = both(&view, text, question.times);
    let told = Told::new(&outline, &selections, &view, None);
    let mut nodes = Vec::new();
    told.node(&outline, 0, &mut nodes);
    let selects: Vec<&Selects> = nodes.iter().filter_map(|node| node.selects.as_ref()).collect();
    assert_eq!(selects.len(), 2);
    // An hour and no more of the past is read with what is now only where these overlap.
    assert!(selects.iter().all(|one| one.taken_from.is_none()));
    let text = "load + load offset 1m";
    let outline = question.engine.outline(text).unwrap();
    let (selections, _) = both(&view, text, question.times);
    let told = Told::new(&outline, &selections, &view, None);
    let mut nodes = Vec::new();
    told.node(&outline, 0, &mut nodes);
    let selects: Vec<&Selects> = nodes.iter().filter_map(|node| node.selects.as_ref()).collect();
    assert_eq!(selects[0].shared_with, [[7, 21]]);
    assert_eq!((selects[1].taken_from, selects[1].reads.len()), (Some([0, 4]), 0));
    let read = &selects[0].reads[0];
    assert_eq!((read.start_ms, read.end_ms), (END - 360_000 + 1, END));
}

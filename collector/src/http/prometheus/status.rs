//! What the server says about itself: `status/*`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use stoa_model::{Labels, METRIC_NAME};
use stoa_tsdb::BlockFigures;

use super::active::Asked;
use super::outward::unlisted;
use super::params::{Params, rfc3339};
use super::reply::{ApiError, Success};
use super::{Shared, json};
use crate::store::Span;

/// The version Grafana is told: it decides by it what it may ask (label matching, `limit`).
const COMPATIBLE_VERSION: &str = "2.50.1";

/// How many of the largest counts are shown when no limit is given.
const TOP_DEFAULT: usize = 10;

/// The largest limit, as in Prometheus.
const TOP_MAX: usize = 10_000;

/// The range whose series are counted: a head's.
const HEAD_MS: i64 = 2 * 3600 * 1000;

/// `/api/v1/status/buildinfo`; without the key `features`, which would say Mimir.
pub(super) async fn buildinfo() -> Success {
    object(&[
        ("version", Field::Text(COMPATIBLE_VERSION)),
        ("revision", Field::Text(concat!("stoa-", env!("CARGO_PKG_VERSION")))),
        ("branch", Field::Text("")),
        ("buildUser", Field::Text("")),
        ("buildDate", Field::Text("")),
        ("goVersion", Field::Text("")),
    ])
}

/// `/api/v1/status/runtimeinfo`; what only Go has is there, as nothing.
pub(super) async fn runtimeinfo(State(prometheus): State<Arc<Shared>>) -> Success {
    let (started, now) = (rfc3339(prometheus.started_ms), rfc3339(prometheus.now_ms()));
    let retention = stoa_daemon::Span(prometheus.store.retention()).to_string();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let directory = std::env::current_dir().unwrap_or_default().display().to_string();
    let damaged = prometheus.store.view().stats().log_damaged;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // Threads stand for what Prometheus calls goroutines.
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let number = |count: usize| Field::Count(i64::try_from(count).unwrap_or(i64::MAX));
    object(&[
        ("startTime", Field::Text(&started)),
        ("CWD", Field::Text(&directory)),
        ("hostname", Field::Text(hostname.trim())),
        ("serverTime", Field::Text(&now)),
        ("reloadConfigSuccess", Field::Flag(true)),
        ("lastConfigTime", Field::Text(&started)),
        ("corruptionCount", Field::Count(i64::try_from(damaged).unwrap_or(i64::MAX))),
        ("goroutineCount", number(threads)),
        ("GOMAXPROCS", number(processors)),
        ("GOMEMLIMIT", Field::Count(0)),
        ("GOGC", Field::Text("")),
        ("GODEBUG", Field::Text("")),
        ("storageRetention", Field::Text(&retention)),
    ])
}

/// `/api/v1/status/tsdb`: what the head holds and what of it is most.
pub(super) async fn tsdb(
    State(prometheus): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let most = top_of(&params)?;
    let asked = Arc::clone(&prometheus);
    let work = move |stop: &super::Stop| {
        let view = asked.store.view().until(stop.flag());
        let stats = view.stats();
        let newest = stats.max_t.unwrap_or(0);
        let oldest = newest.saturating_sub(HEAD_MS).max(stats.min_t.unwrap_or(i64::MIN));
        let span = Span {
            start_ms: oldest,
            end_ms: newest,
            limit: asked.series_max,
            bytes_max: asked.bytes_max,
        };
        let series = view.series(&[&[]], &span).map_err(|error| unlisted(&error))?;
        let counts = Counts::of(&series);
        let is_cut = series.len() >= asked.series_max;
        let data = Success::data(|out| {
            out.extend_from_slice(b"{\"headStats\":{\"numSeries\":");
            json::integer(out, stats.series);
            for (key, count) in [
                ("numLabelPairs", i64::try_from(counts.series_by_pair.len()).unwrap_or(0)),
                ("chunkCount", i64::try_from(stats.head_chunks).unwrap_or(i64::MAX)),
                ("minTime", oldest),
                ("maxTime", newest),
            ] {
                out.push(b',');
                json::string(out, key);
                out.push(b':');
                json::integer(out, count);
            }
            out.push(b'}');
            for (key, table) in [
                ("seriesCountByMetricName", counts.series_by_metric),
                ("labelValueCountByLabelName", counts.values_by_label),
                ("memoryInBytesByLabelName", counts.bytes_by_label),
                ("seriesCountByLabelValuePair", counts.series_by_pair),
            ] {
                out.push(b',');
                json::string(out, key);
                out.push(b':');
                top(out, table, most);
            }
            out.push(b'}');
        });
        Ok(data.truncated(is_cut))
    };
    let of = Asked::new("/api/v1/status/tsdb", String::new(), prometheus.now_ms());
    prometheus.gate.run(of, prometheus.gate.timeout_max(), work).await
}

/// How many of each list are wanted.
fn top_of(params: &Params) -> Result<usize, ApiError> {
    let Some(text) = params.get("limit") else { return Ok(TOP_DEFAULT) };
    match text.parse::<i64>().ok().and_then(|number| usize::try_from(number).ok()) {
        None | Some(0) => Err(ApiError::bad_data("limit must be a positive number")),
        Some(most) if most > TOP_MAX => {
            Err(ApiError::bad_data(format!("limit must not exceed {TOP_MAX}")))
        }
        Some(most) => Ok(most),
    }
}

/// `/api/v1/status/tsdb/blocks`: the blocks of samples. The head and aggregates are not among them.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn blocks(State(prometheus): State<Arc<Shared>>) -> Result<Success, ApiError> {
    let asked = Arc::clone(&prometheus);
    let work = move |_: &super::Stop| {
        let blocks = asked.store.view().blocks();
        Ok(Success::data(|out| {
            out.extend_from_slice(b"{\"blocks\":");
            json::each(out, &blocks, block);
            out.push(b'}');
        }))
    };
    let of = Asked::new("/api/v1/status/tsdb/blocks", String::new(), prometheus.now_ms());
    prometheus.gate.run(of, prometheus.gate.timeout_max(), work).await
}

/// Writes a block; as in Prometheus's, its last sample is before its end.
fn block(out: &mut Vec<u8>, block: &BlockFigures) {
    out.extend_from_slice(b"{\"ulid\":");
    json::string(out, &block.name);
    for (key, number) in
        [("minTime", block.first_t), ("maxTime", block.last_t.saturating_add(1)), ("version", 1)]
    {
        out.push(b',');
        json::string(out, key);
        out.push(b':');
        json::integer(out, number);
    }
    out.extend_from_slice(b",\"stats\":{\"numSamples\":");
    json::integer(out, block.samples);
    out.extend_from_slice(b",\"numSeries\":");
    json::integer(out, block.series);
    out.extend_from_slice(b",\"numTombstones\":");
    json::integer(out, block.tombstones);
    out.extend_from_slice(b"},\"compaction\":{\"level\":");
    json::integer(out, block.level);
    // What it was merged from is gone; of itself it knows its name.
    if block.parents == 0 {
        out.extend_from_slice(b",\"sources\":");
        json::strings(out, [&block.name]);
    }
    out.extend_from_slice(b"}}");
}

/// `/api/v1/status/active_queries`: what is asked now, the oldest first; the times in seconds.
pub(super) async fn active_queries(State(prometheus): State<Arc<Shared>>) -> Success {
    let active = prometheus.gate.active();
    Success::data(|out| {
        out.push(b'[');
        for (i, query) in active.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"query\":");
            json::string(out, &query.asked.text);
            out.extend_from_slice(b",\"path\":");
            json::string(out, query.asked.path);
            out.extend_from_slice(b",\"startTime\":");
            json::string(out, &rfc3339(query.asked.came_ms));
            out.extend_from_slice(b",\"elapsed\":");
            json::float(out, query.elapsed.as_secs_f64());
            out.extend_from_slice(b",\"phase\":");
            json::string(out, if query.is_running { "evaluation" } else { "queue" });
            out.push(b'}');
        }
        out.push(b']');
    })
}

/// How the labels of series are spread.
#[derive(Default)]
struct Counts {
    series_by_metric: HashMap<String, usize>,
    values_by_label: HashMap<String, usize>,
    bytes_by_label: HashMap<String, usize>,
    series_by_pair: HashMap<String, usize>,
}

impl Counts {
    fn of(series: &[Labels]) -> Self {
        let mut counts = Self::default();
        for label in series.iter().flat_map(Labels::iter) {
            if *label.name == *METRIC_NAME {
                *counts.series_by_metric.entry(label.value.to_string()).or_default() += 1;
            }
            *counts.bytes_by_label.entry(label.name.to_string()).or_default() += label.value.len();
            let of_pair =
                counts.series_by_pair.entry(format!("{}={}", label.name, label.value)).or_default();
            if *of_pair == 0 {
                *counts.values_by_label.entry(label.name.to_string()).or_default() += 1;
            }
            *of_pair += 1;
        }
        counts
    }
}

/// Writes the largest counts, the largest first.
fn top(out: &mut Vec<u8>, counts: HashMap<String, usize>, most: usize) {
    let mut list: Vec<(String, usize)> = counts.into_iter().collect();
    list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out.push(b'[');
    for (i, (name, count)) in list.iter().take(most).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        json::string(out, name);
        out.extend_from_slice(b",\"value\":");
        json::integer(out, *count);
        out.push(b'}');
    }
    out.push(b']');
}

/// A member's value.
enum Field<'a> {
    Text(&'a str),
    Count(i64),
    Flag(bool),
}

fn object(fields: &[(&str, Field<'_>)]) -> Success {
    Success::data(|out| {
        out.push(b'{');
        for (i, (key, field)) in fields.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::string(out, key);
            out.push(b':');
            match field {
                Field::Text(text) => json::string(out, text),
                Field::Count(count) => json::integer(out, *count),
                Field::Flag(true) => out.extend_from_slice(b"true"),
                Field::Flag(false) => out.extend_from_slice(b"false"),
            }
        }
        out.push(b'}');
    })
}

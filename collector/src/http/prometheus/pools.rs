//! Targets by their pool, and what is said about the metrics of each: `scrape_pools`,
//! `scrape_pools/config`, `targets/metadata`, `targets/relabel_steps`.
//!
//! A pool is the targets of one `job`. Nothing is scraped here, so a pool has no configuration but what
//! its targets show, and no rule that changes labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use stoa_model::{Labels, METRIC_NAME, Matcher, MetricKind};
use stoa_promql::parse_selector;

use super::around::About;
use super::outward::unlisted;
use super::params::Params;
use super::reply::{ApiError, ErrorKind, Success};
use super::series::count;
use super::targets::{self, TARGET_MS, TARGETS_MAX, Target};
use super::{Shared, json};
use crate::store::{Description, Metadata, Span, StoreView};

/// Most metrics of one target that are looked at.
const METRICS_MAX: usize = 100_000;

/// What a histogram's or summary's series are called beyond their family.
const SUFFIXES: [&str; 4] = ["_bucket", "_count", "_sum", "_total"];

/// `/api/v1/scrape_pools`: the names of all pools.
pub(super) async fn scrape_pools(State(about): State<Arc<About>>) -> Result<Success, ApiError> {
    targets::run("/api/v1/scrape_pools", &about, |list, _, _| {
        let pools: BTreeSet<&str> = list.iter().take(TARGETS_MAX).map(Target::pool).collect();
        Ok(Success::data(|out| {
            out.extend_from_slice(b"{\"scrapePools\":");
            json::strings(out, pools);
            out.push(b'}');
        }))
    })
    .await
}

/// `/api/v1/scrape_pools/config`: a pool's name, and how often most of its targets send.
///
/// # Errors
/// When no pool is named, or there is none of that name.
pub(super) async fn config(
    State(about): State<Arc<About>>,
    params: Params,
) -> Result<Success, ApiError> {
    let pool = pool_of(&params)?;
    targets::run("/api/v1/scrape_pools/config", &about, move |list, _, _| {
        let mut intervals: BTreeMap<_, usize> = BTreeMap::new();
        for target in list.iter().filter(|target| target.pool() == pool) {
            *intervals.entry(target.interval).or_default() += 1;
        }
        let most = intervals.iter().max_by_key(|(_, count)| **count);
        let interval =
            most.map(|(interval, _)| stoa_daemon::Span(*interval)).ok_or_else(|| unknown(&pool))?;
        let mut yaml = b"job_name: ".to_vec();
        // JSON's texts are YAML's too.
        json::string(&mut yaml, &pool);
        yaml.extend_from_slice(format!("\nscrape_interval: {interval}\n").as_bytes());
        Ok(Success::data(|out| {
            out.extend_from_slice(b"{\"yaml\":");
            json::string(out, &String::from_utf8_lossy(&yaml));
            out.push(b'}');
        }))
    })
    .await
}

/// `/api/v1/targets/relabel_steps`: none, as no pool has rules.
///
/// # Errors
/// When no pool or no labels are given, these are none, or there is no such pool.
pub(super) async fn relabel_steps(
    State(about): State<Arc<About>>,
    params: Params,
) -> Result<Success, ApiError> {
    let pool = pool_of(&params)?;
    let labels =
        params.get("labels").ok_or_else(|| ApiError::bad_data("no labels parameter provided"))?;
    serde_json::from_str::<BTreeMap<String, String>>(labels)
        .map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    targets::run("/api/v1/targets/relabel_steps", &about, move |list, _, _| {
        match list.iter().any(|target| target.pool() == pool) {
            true => Ok(Success::data(|out| out.extend_from_slice(b"{\"steps\":[]}"))),
            false => Err(unknown(&pool)),
        }
    })
    .await
}

fn pool_of(params: &Params) -> Result<String, ApiError> {
    let pool = params.get("scrapePool").map(str::to_owned);
    pool.ok_or_else(|| ApiError::bad_data("no scrapePool parameter provided"))
}

fn unknown(pool: &str) -> ApiError {
    ApiError::bad_data(format!("error getting scrape config: scrape pool {pool:?} not found"))
}

/// `/api/v1/targets/metadata`: what is said about the metrics that each target has.
///
/// # Errors
/// Of its parameters; `not_found` when there is nothing.
pub(super) async fn metadata(
    State(about): State<Arc<About>>,
    params: Params,
) -> Result<Success, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let match_target = params.get("match_target").map(str::to_owned);
    let metric = params.get("metric").map(str::to_owned);
    targets::run("/api/v1/targets/metadata", &about, move |list, prometheus, stop| {
        // Its patterns are compiled here: it may take a while.
        let matchers = match_target.map(|text| parse_selector(&text)).transpose();
        let matchers = matchers.map_err(|error| ApiError::bad_data(error.to_string()))?;
        let matchers = matchers.unwrap_or_default();
        let now = prometheus.now_ms();
        let view = prometheus.store.view().until(stop.flag());
        let known = prometheus.store.metadata();
        let is_named = metric.is_none();
        let (mut said, mut printed, mut is_cut) = (0, Vec::new(), list.len() > TARGETS_MAX);
        'all: for target in list.iter().take(TARGETS_MAX) {
            // As in Prometheus, it says how many targets are looked at and not how much of the last.
            if said >= limit {
                break;
            }
            let value = |matcher: &Matcher| target.labels.get(matcher.name()).unwrap_or("");
            if !matchers.iter().all(|matcher| matcher.matches(value(matcher))) {
                continue;
            }
            let found = families(prometheus, &view, known, target, now, metric.as_deref())?;
            for (name, about) in found {
                let before = printed.len();
                printed.extend_from_slice(if said == 0 { b"[" } else { b"," });
                print(&mut printed, &target.labels, is_named.then_some(&name), &about);
                if printed.len() > prometheus.bytes_max {
                    printed.truncate(before);
                    is_cut = true;
                    break 'all;
                }
                said += 1;
            }
        }
        if said == 0 {
            return Err(ApiError::new(ErrorKind::NotFound, "specified metadata not found"));
        }
        printed.push(b']');
        let data = Success::data(|out| out.append(&mut printed));
        Ok(data.truncated(is_cut).warnings(view.warnings()))
    })
    .await
}

/// The families of metrics that a target has, as far as something is said about them.
fn families(
    prometheus: &Shared,
    view: &StoreView,
    known: &Metadata,
    target: &Target,
    now: i64,
    metric: Option<&str>,
) -> Result<BTreeMap<String, Description>, ApiError> {
    let matchers: Vec<Matcher> =
        target.labels.iter().map(|label| Matcher::equal(&*label.name, &*label.value)).collect();
    let span = Span {
        start_ms: now.saturating_sub(TARGET_MS),
        end_ms: now,
        limit: METRICS_MAX.min(prometheus.series_max),
        bytes_max: prometheus.bytes_max,
    };
    let names = view.label_values(METRIC_NAME, &matchers, &span);
    let names = names.map_err(|error| unlisted(&error))?;
    let mut found = BTreeMap::new();
    for name in &names {
        let shorter = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
        for family in [name.as_str()].into_iter().chain(shorter) {
            if metric.is_some_and(|metric| metric != family) || found.contains_key(family) {
                continue;
            }
            if let Some(about) = known.get(family) {
                found.insert(family.to_owned(), about);
                break;
            }
        }
    }
    Ok(found)
}

fn print(out: &mut Vec<u8>, target: &Labels, metric: Option<&String>, about: &Description) {
    out.extend_from_slice(b"{\"target\":");
    json::labels(out, target);
    if let Some(metric) = metric {
        out.extend_from_slice(b",\"metric\":");
        json::string(out, metric);
    }
    out.push(b',');
    described(out, about);
    out.push(b'}');
}

/// Writes what is said about a metric: three members.
pub(super) fn described(out: &mut Vec<u8>, about: &Description) {
    let kind = match about.kind {
        MetricKind::Untyped => "unknown",
        kind => kind.as_str(),
    };
    for (key, text) in
        [(&b"\"type\":"[..], kind), (b",\"help\":", &about.help), (b",\"unit\":", &about.unit)]
    {
        out.extend_from_slice(key);
        json::string(out, text);
    }
}

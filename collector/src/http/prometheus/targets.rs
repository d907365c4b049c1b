//! `/api/v1/targets`: everything that has said `up` of late, agents as well as what they scrape.
//!
//! An agent is not scraped, it sends: the interval is the one its `up` came in, the duration the one
//! it told (`scrape_duration_seconds`), and its URL has a scheme of its own so that nobody tries to
//! open it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use stoa_daemon::Span;
use stoa_model::{Labels, METRIC_NAME, Matcher, TimestampMs, is_stale};
use stoa_promql::{Select, Series, Storage as _};

use super::active::Asked;
use super::params::{Params, rfc3339};
use super::reply::{ApiError, ErrorKind, Success};
use super::{Shared, Stop, json};

/// How long after its last `up` a target is still shown: Prometheus's own look-back.
const TARGET_MS: i64 = 5 * 60 * 1000;

/// Most targets listed.
const TARGETS_MAX: usize = 10_000;

/// Gaps between samples that the interval is taken from.
const GAPS_MAX: usize = 32;

/// Gaps of a second and more are rounded to this: clocks jitter.
const ROUND_MS: i64 = 100;

/// The route.
pub(super) async fn targets(
    State(prometheus): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let state = params.get("state").unwrap_or("any").to_ascii_lowercase();
    let (wants_active, wants_dropped) =
        (matches!(&*state, "any" | "active"), matches!(&*state, "any" | "dropped"));
    let pool = params.get("scrapePool").map(str::to_owned);
    let now = prometheus.now_ms();
    let asked = Arc::clone(&prometheus);
    let work = move |_: &Stop| {
        let mut list = active(&asked, now)?;
        let is_cut = list.len() > TARGETS_MAX;
        list.truncate(TARGETS_MAX);
        list.retain(|target| pool.as_deref().is_none_or(|pool| target.pool() == pool));
        let pools: BTreeSet<String> =
            list.iter().filter(|_| wants_dropped).map(|target| target.pool().to_owned()).collect();
        if !wants_active {
            list.clear();
        }
        Ok(Success::data(|out| {
            out.extend_from_slice(b"{\"activeTargets\":[");
            for (i, target) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                target.write(out);
            }
            out.extend_from_slice(b"],\"droppedTargets\":[],\"droppedTargetCounts\":{");
            for (i, pool) in pools.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json::string(out, pool);
                out.extend_from_slice(b":0");
            }
            out.extend_from_slice(b"}}");
        })
        .truncated(is_cut))
    };
    let of = Asked::new("/api/v1/targets", String::new(), now);
    prometheus.gate.run(of, prometheus.gate.timeout_max(), work).await
}

struct Target {
    labels: Labels,
    seen_ms: TimestampMs,
    up: bool,
    interval: Duration,
    /// Of its last reading, in seconds; 0 when it does not tell.
    duration_s: f64,
}

fn recent(prometheus: &Shared, metric: &str, now: TimestampMs) -> Result<Vec<Series>, ApiError> {
    prometheus
        .store
        .view()
        .select(&Select {
            matchers: &[Matcher::equal(METRIC_NAME, metric)],
            start_ms: now.saturating_sub(TARGET_MS),
            end_ms: now,
            series_max: prometheus.series_max,
            samples_max: prometheus.samples_max,
        })
        .map_err(|error| ApiError::new(ErrorKind::Execution, stoa_daemon::error_chain(&error)))
}

fn active(prometheus: &Shared, now: TimestampMs) -> Result<Vec<Target>, ApiError> {
    let durations: HashMap<Labels, f64> = recent(prometheus, "scrape_duration_seconds", now)?
        .into_iter()
        .filter_map(|series| {
            let last = *series.values.last()?;
            last.is_finite().then(|| (series.labels.without(METRIC_NAME), last))
        })
        .collect();
    let mut targets: Vec<Target> = recent(prometheus, "up", now)?
        .into_iter()
        .filter_map(|series| {
            let (&seen_ms, &value) = (series.timestamps.last()?, series.values.last()?);
            if is_stale(value) {
                return None;
            }
            let labels = series.labels.without(METRIC_NAME);
            Some(Target {
                seen_ms,
                up: value > 0.0,
                interval: interval(&series.timestamps),
                duration_s: durations.get(&labels).copied().unwrap_or(0.0),
                labels,
            })
        })
        .collect();
    targets.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(targets)
}

/// The middle one of the last gaps; zero when there is none.
fn interval(timestamps: &[TimestampMs]) -> Duration {
    let (before, after) = (timestamps.iter(), timestamps.iter().skip(1));
    let mut gaps: Vec<i64> =
        before.zip(after).map(|(a, b)| b.saturating_sub(*a)).rev().take(GAPS_MAX).collect();
    gaps.sort_unstable();
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
    let rounded =
        if middle >= 1000 { (middle + ROUND_MS / 2) / ROUND_MS * ROUND_MS } else { middle };
    Duration::from_millis(u64::try_from(rounded).unwrap_or(0))
}

impl Target {
    fn pool(&self) -> &str {
        self.labels.get("job").unwrap_or("")
    }

    fn write(&self, out: &mut Vec<u8>) {
        let instance = self.labels.get("instance").unwrap_or("");
        let host = self.labels.get("host");
        let url = match host {
            Some(host) if host == instance => format!("stoa://{host}"),
            _ => format!("http://{instance}/metrics"),
        };
        let interval = Span(self.interval).to_string();
        out.extend_from_slice(b"{\"discoveredLabels\":");
        let discovered = Labels::from_pairs_last_wins([
            ("__address__", instance),
            ("__scrape_interval__", &interval),
            ("__scrape_timeout__", &interval),
            ("job", self.pool()),
        ]);
        json::labels(out, &discovered);
        out.extend_from_slice(b",\"labels\":");
        json::labels(out, &self.labels);
        let seen = rfc3339(self.seen_ms);
        let health = if self.up { "up" } else { "down" };
        let error = match (self.up, host) {
            (true, _) => "",
            (false, Some(_)) => "the host has fallen silent, or the target does not answer",
            (false, None) => "the target does not answer",
        };
        for (key, text) in [
            ("scrapePool", self.pool()),
            ("scrapeUrl", &url),
            ("globalUrl", &url),
            ("lastError", error),
            ("lastScrape", &seen),
            ("health", health),
            ("scrapeInterval", &interval),
            ("scrapeTimeout", &interval),
        ] {
            out.push(b',');
            json::string(out, key);
            out.push(b':');
            json::string(out, text);
        }
        out.extend_from_slice(b",\"lastScrapeDuration\":");
        json::float(out, self.duration_s);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_what_samples_mostly_come_in() {
        let check = |timestamps: &[i64], ms| {
            assert_eq!(interval(timestamps), Duration::from_millis(ms), "{timestamps:?}");
        };
        check(&[], 0);
        check(&[5], 0);
        check(&[0, 1000, 2003, 3001, 9000, 10_002], 1000);
        check(&[0, 250, 500, 751], 250);
        check(&[0, 15_000, 30_000], 15_000);
    }

    #[test]
    fn an_agent_is_a_target_nobody_is_told_to_open() {
        let pairs = [("host", "pve1"), ("instance", "pve1"), ("job", "node")];
        let target = Target {
            labels: Labels::from_pairs_last_wins(pairs),
            seen_ms: 1000,
            up: true,
            interval: Duration::from_secs(1),
            duration_s: 0.0125,
        };
        let mut out = Vec::new();
        target.write(&mut out);
        let expected = serde_json::json!({
            "discoveredLabels": {
                "__address__": "pve1", "__scrape_interval__": "1s", "__scrape_timeout__": "1s",
                "job": "node",
            },
            "labels": { "host": "pve1", "instance": "pve1", "job": "node" },
            "scrapePool": "node", "scrapeUrl": "stoa://pve1", "globalUrl": "stoa://pve1",
            "lastError": "", "lastScrape": "1970-01-01T00:00:01Z", "health": "up",
            "scrapeInterval": "1s", "scrapeTimeout": "1s", "lastScrapeDuration": 0.0125,
        });
        let written: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(written, expected);
    }
}

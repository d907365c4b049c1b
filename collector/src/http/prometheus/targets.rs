//! `/api/v1/targets`: who sends here, and everything that has said `up` of late.
//!
//! Nothing is scraped: agents send, and so do those that push by remote write or OTLP. What they are is
//! told by the [surroundings](super::around); what *they* scrape or probe is known by the `up` they pass
//! on: the interval is the one it came in, the duration the one they told (`scrape_duration_seconds`).
//! An agent's URL has a scheme of its own so that nobody tries to open it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use stoa_daemon::Span;
use stoa_model::{Labels, METRIC_NAME, Matcher, TimestampMs, is_stale};
use stoa_promql::{Select, Series, Storage as _};

use super::active::Asked;
use super::around::{About, Attendant, Health};
use super::params::{Params, rfc3339};
use super::reply::{ApiError, ErrorKind, Success};
use super::{Shared, Stop, json};

/// How long after its last `up` a target is still shown: Prometheus's own look-back.
pub(super) const TARGET_MS: i64 = 5 * 60 * 1000;

/// Most targets listed.
pub(super) const TARGETS_MAX: usize = 10_000;

/// Gaps between samples that the interval is taken from.
const GAPS_MAX: usize = 32;

/// Gaps of a second and more are rounded to this: clocks jitter.
const ROUND_MS: i64 = 100;

/// What Prometheus says of a target it has never scraped.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The route.
pub(super) async fn targets(
    State(about): State<Arc<About>>,
    params: Params,
) -> Result<Success, ApiError> {
    let state = params.get("state").unwrap_or("any").to_ascii_lowercase();
    let (wants_active, wants_dropped) =
        (matches!(&*state, "any" | "active"), matches!(&*state, "any" | "dropped"));
    let pool = params.get("scrapePool").map(str::to_owned);
    run("/api/v1/targets", &about, move |mut list, _, _| {
        let is_cut = list.len() > TARGETS_MAX;
        list.truncate(TARGETS_MAX);
        list.retain(|target| pool.as_deref().is_none_or(|pool| target.pool() == pool));
        let pools: BTreeSet<String> =
            list.iter().filter(|_| wants_dropped).map(|target| target.pool().to_owned()).collect();
        if !wants_active {
            list.clear();
        }
        Ok(Success::data(|out| {
            out.extend_from_slice(b"{\"activeTargets\":");
            json::each(out, &list, |out, target| target.write(out));
            out.extend_from_slice(b",\"droppedTargets\":[],\"droppedTargetCounts\":{");
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
    })
    .await
}

/// Answers from the targets there are now, in order of their labels.
pub(super) async fn run(
    path: &'static str,
    about: &Arc<About>,
    answer: impl FnOnce(Vec<Target>, &Shared, &Stop) -> Result<Success, ApiError> + Send + 'static,
) -> Result<Success, ApiError> {
    let now = about.prometheus.now_ms();
    let asked = Arc::clone(about);
    let work = move |stop: &Stop| {
        let list = active(&asked.prometheus, asked.around.attendants(), now)?;
        answer(list, &asked.prometheus, stop)
    };
    let of = Asked::new(path, String::new(), now);
    let gate = &about.prometheus.gate;
    gate.run(of, gate.timeout_max(), work).await
}

/// Someone or something that is expected to send, or to answer whoever passes it on.
pub(super) struct Target {
    pub(super) labels: Labels,
    /// How people may reach it; made of the labels when empty.
    url: String,
    seen_ms: Option<TimestampMs>,
    health: Health,
    error: String,
    pub(super) interval: Duration,
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

/// What has said `up` of late, with what is known of those who send; in order of labels.
fn active(
    prometheus: &Shared,
    attendants: Vec<Attendant>,
    now: TimestampMs,
) -> Result<Vec<Target>, ApiError> {
    let durations: HashMap<Labels, f64> = recent(prometheus, "scrape_duration_seconds", now)?
        .into_iter()
        .filter_map(|series| {
            let last = *series.values.last()?;
            last.is_finite().then(|| (series.labels.without(METRIC_NAME), last))
        })
        .collect();
    let mut targets = BTreeMap::new();
    for series in recent(prometheus, "up", now)? {
        let (Some(&seen_ms), Some(&value)) = (series.timestamps.last(), series.values.last())
        else {
            continue;
        };
        if is_stale(value) {
            continue;
        }
        let labels = series.labels.without(METRIC_NAME);
        let (health, error) = match value > 0.0 {
            true => (Health::Up, ""),
            false => (Health::Down, "the target does not answer"),
        };
        let target = Target {
            url: String::new(),
            seen_ms: Some(seen_ms),
            health,
            error: error.to_owned(),
            interval: interval(&series.timestamps),
            duration_s: durations.get(&labels).copied().unwrap_or(0.0),
            labels,
        };
        targets.insert(target.labels.clone(), target);
    }
    for attendant in attendants {
        let said = targets.remove(&attendant.labels);
        let (interval, duration_s) =
            said.map_or((Duration::ZERO, 0.0), |said| (said.interval, said.duration_s));
        let target = Target {
            labels: attendant.labels,
            url: attendant.url,
            seen_ms: attendant.seen_ms,
            health: attendant.health,
            error: attendant.error,
            interval: attendant.interval.unwrap_or(interval),
            duration_s,
        };
        targets.insert(target.labels.clone(), target);
    }
    Ok(targets.into_values().collect())
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
    pub(super) fn pool(&self) -> &str {
        self.labels.get("job").unwrap_or("")
    }

    fn write(&self, out: &mut Vec<u8>) {
        let instance = self.labels.get("instance").unwrap_or("");
        let made;
        let url = if self.url.is_empty() {
            made = format!("http://{instance}/metrics");
            &made
        } else {
            &self.url
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
        let seen = self.seen_ms.map_or_else(|| NEVER.to_owned(), rfc3339);
        for (key, text) in [
            ("scrapePool", self.pool()),
            ("scrapeUrl", url),
            ("globalUrl", url),
            ("lastError", &self.error),
            ("lastScrape", &seen),
            ("health", self.health.as_str()),
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
            url: "stoa://pve1".to_owned(),
            seen_ms: Some(1000),
            health: Health::Up,
            error: String::new(),
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

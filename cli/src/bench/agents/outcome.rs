//! What a run with many hosts found.

use std::time::Duration;

use serde::Serialize;
use stoa_agent::uplink::UplinkFigures;

use super::super::cost::Cost;
use super::super::latency::Latency;
use super::super::report::{self, Report, megabytes};
use super::Reading;
use crate::table::counted;

/// What holds has worked off its queue this long after the last tick.
pub(super) const DRAINED: Duration = Duration::from_secs(5);

/// What holds acknowledges 99 % within this.
const ACKNOWLEDGED_P99_MS: f64 = 2000.0;

/// Uplinks' counters, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Totals {
    pub(in super::super) produced: u64,
    pub(in super::super) acknowledged: u64,
    /// Dropped by agents, or acknowledged but not stored.
    pub(in super::super) lost: u64,
    pub(in super::super) sent_bytes: u64,
    pub(in super::super) sent_samples: u64,
    pub(in super::super) hang_ups: u64,
}

impl Totals {
    /// With one more uplink.
    pub(in super::super) fn with(self, one: &UplinkFigures) -> Self {
        Self {
            produced: self.produced + one.produced,
            acknowledged: self.acknowledged + one.acknowledged,
            lost: self.lost + one.dropped.iter().chain(&one.lost).sum::<u64>(),
            sent_bytes: self.sent_bytes + one.sent_bytes,
            sent_samples: self.sent_samples + one.sent_samples,
            hang_ups: self.hang_ups + one.hang_ups,
        }
    }

    /// Samples handed in and not acknowledged.
    pub(in super::super) fn waiting(&self) -> u64 {
        self.produced.saturating_sub(self.acknowledged)
    }
}

/// What was read.
pub(super) struct Measured {
    pub(super) readings: String,
    pub(super) hosts: u16,
    pub(super) series: usize,
    pub(super) interval: Duration,
    /// The collector before any host joined.
    pub(super) idle: Cost,
    /// At the begin, the middle and the end.
    pub(super) moments: [Reading; 3],
    /// After the last tick was acknowledged.
    pub(super) end: Totals,
    /// How long that took; `None` when it did not come to pass.
    pub(super) drained: Option<Duration>,
    /// Samples the collector counts as received and stored.
    pub(super) stored: f64,
    pub(super) disk_bytes_per_sample: f64,
    pub(super) latency: Latency,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    measured_s: f64,
    due_samples_per_s: f64,
    produced_samples_per_s: f64,
    acknowledged_samples_per_s: f64,
    pub(in super::super) wire_payload_bytes_per_sample: f64,
    /// All that passed over loopback, both ways, headers and everyone else's included.
    loopback_bytes_per_sample: f64,
    acknowledged_latency: Latency,
    collector_cpu_percent_of_core: f64,
    pub(in super::super) collector_cpu_us_per_sample: f64,
    collector_rss_bytes: u64,
    collector_rss_idle_bytes: u64,
    pub(in super::super) collector_rss_bytes_per_series: f64,
    hosts_cpu_percent_of_core: f64,
    disk_bytes_per_sample: f64,
    waiting_at_middle_samples: u64,
    waiting_at_end_samples: u64,
    sessions_ended: u64,
    /// From the last tick until nothing waited; none when it did not come to that.
    drained_s: Option<f64>,
    lost_samples: f64,
    pub(in super::super) holds: bool,
}

impl Outcome {
    pub(super) fn new(measured: Measured) -> Self {
        let Measured { readings, hosts, series, interval, idle, moments, end, drained, .. } =
            measured;
        let [first, middle, last] = moments;
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let count = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let acknowledged = count(last.totals.acknowledged, first.totals.acknowledged);
        let cpu_s = last.collector.cpu_since(&first.collector).as_secs_f64();
        let all_series = f64::from(hosts) * series as f64;
        let rss_grown = count(last.collector.rss_bytes, idle.rss_bytes);
        let missing = end.produced as f64 - measured.stored;
        let lost_samples = end.lost as f64 + missing.max(0.0);
        let one_tick_of_all = u64::from(hosts) * series as u64;
        let grows = last.totals.waiting() > middle.totals.waiting().max(one_tick_of_all);
        let half = (
            count(last.totals.produced, middle.totals.produced),
            count(last.totals.acknowledged, middle.totals.acknowledged),
        );
        let due = all_series / interval.as_secs_f64();
        let produced = count(last.totals.produced, first.totals.produced) / seconds;
        // One tick of one host may be under way at the middle and not at the end, or the reverse.
        let holds = half.1 + series as f64 >= 0.99 * half.0
            && produced >= 0.99 * due
            && !grows
            && drained.is_some_and(|took| took <= DRAINED)
            && measured.latency.p99_ms <= ACKNOWLEDGED_P99_MS
            && lost_samples < 0.5;
        Self {
            readings,
            hosts,
            series_per_host: series,
            interval_s: interval.as_secs_f64(),
            measured_s: seconds,
            due_samples_per_s: due,
            produced_samples_per_s: produced,
            acknowledged_samples_per_s: acknowledged / seconds,
            wire_payload_bytes_per_sample: count(last.totals.sent_bytes, first.totals.sent_bytes)
                / count(last.totals.sent_samples, first.totals.sent_samples).max(1.0),
            loopback_bytes_per_sample: count(last.loopback_bytes, first.loopback_bytes)
                / acknowledged.max(1.0),
            acknowledged_latency: measured.latency,
            collector_cpu_percent_of_core: cpu_s / seconds * 100.0,
            collector_cpu_us_per_sample: cpu_s * 1e6 / acknowledged.max(1.0),
            collector_rss_bytes: last.collector.rss_bytes,
            collector_rss_idle_bytes: idle.rss_bytes,
            collector_rss_bytes_per_series: rss_grown / all_series,
            hosts_cpu_percent_of_core: last.own.cpu_since(&first.own).as_secs_f64() / seconds
                * 100.0,
            disk_bytes_per_sample: measured.disk_bytes_per_sample,
            waiting_at_middle_samples: middle.totals.waiting(),
            waiting_at_end_samples: last.totals.waiting(),
            sessions_ended: end.hang_ups,
            drained_s: drained.map(|took| took.as_secs_f64()),
            lost_samples,
            holds,
        }
    }
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let Latency { p50_ms, p99_ms, max_ms, .. } = self.acknowledged_latency;
        vec![
            ("readings", self.readings.clone()),
            (
                "load",
                format!(
                    "{} of {} series every {} s, for {:.0} s",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.measured_s
                ),
            ),
            (
                "samples",
                format!(
                    "{:.0}/s due, {:.0}/s produced, {:.0}/s acknowledged",
                    self.due_samples_per_s,
                    self.produced_samples_per_s,
                    self.acknowledged_samples_per_s
                ),
            ),
            (
                "holds",
                format!(
                    "{} ({} samples under way at the middle, {} at the end, {}, {} sessions ended)",
                    if self.holds { "yes" } else { "no" },
                    self.waiting_at_middle_samples,
                    self.waiting_at_end_samples,
                    match self.drained_s {
                        Some(took) => format!("none {took:.1} s later"),
                        None => "still some 30 s later".to_owned(),
                    },
                    self.sessions_ended,
                ),
            ),
            ("lost", format!("{:.0} samples", self.lost_samples)),
            (
                "wire",
                format!(
                    "{:.2} B/sample of payload ({}), {:.2} B/sample on loopback, both ways, all in all",
                    self.wire_payload_bytes_per_sample,
                    report::goal(self.wire_payload_bytes_per_sample, 2.0, "B"),
                    self.loopback_bytes_per_sample,
                ),
            ),
            (
                "handed in to acknowledged",
                format!("{p50_ms:.1} ms p50, {p99_ms:.1} ms p99, {max_ms:.1} ms at most"),
            ),
            (
                "collector's CPU",
                format!(
                    "{:.1} % of a core, {:.2} µs/sample",
                    self.collector_cpu_percent_of_core, self.collector_cpu_us_per_sample
                ),
            ),
            (
                "collector's memory",
                format!(
                    "{} resident ({} before the hosts), {:.0} B/series",
                    megabytes(self.collector_rss_bytes),
                    megabytes(self.collector_rss_idle_bytes),
                    self.collector_rss_bytes_per_series,
                ),
            ),
            ("disk", format!("{:.2} B/sample of log and blocks", self.disk_bytes_per_sample)),
            (
                "simulated hosts' CPU",
                format!("{:.1} % of a core, all of them", self.hosts_cpu_percent_of_core),
            ),
        ]
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}

//! The agent's own figures, as one more source: what a scrape would say about itself, what the
//! uplink has done, and what the process costs. docs/metrics.md lists every name.
//!
//! They are read every [`READ_EVERY`] ticks and told again between, so that they do not make a quiet
//! host's ticks larger.
//!
//! Told always: what is added up (samples produced, recovered, returned, taken, waiting and unaccounted
//! make a sum, and a sum with an absent term is absent), what is looked at on a well host (sessions,
//! bytes sent, ticks, the process), and what a scrape tells. Counts of what a well host never does, and
//! the reasons for losing samples, are told once there are any ([`RareCount`]).

use std::collections::BTreeMap;

use stoa_model::{Family, Labels, MetricKind, TimestampMs};
use stoa_proto::delivery::DropReason;

use crate::page::PageFigures;
use crate::process::Process;
use crate::rare_count::RareCount;
use crate::scrape::ScrapeFigures;
use crate::sources::inventory::InventoryFigures;
use crate::sources::{Now, Reading, label, no_labels};
use crate::uplink::UplinkFigures;

/// The figures are read anew once in so many ticks.
const READ_EVERY: u32 = 10;

/// What the next tick's own families are made of.
#[derive(Debug)]
pub struct SelfStats {
    ticks: u32,
    told: Reading,
    /// Labels, each always the same allocation.
    build: Labels,
    reasons: Vec<(&'static str, Labels)>,
    outcomes: [(&'static str, Labels); 3],
    /// By the series' name and the value of its label.
    rare: BTreeMap<(&'static str, &'static str), RareCount>,
    process: Process,
}

/// What is known of the tick they go with.
#[derive(Clone, Copy, Debug)]
pub struct TickFacts {
    /// Its moment.
    pub t_ms: TimestampMs,
    /// Readings in it, without our own.
    pub samples: usize,
    /// Series in it that the tick before did not have.
    pub series_added: usize,
    /// How long reading took, in seconds.
    pub duration_s: f64,
    /// Readings that were refused: too many series, or labels over the limits.
    pub refused: u64,
    /// What was asked of the page, where there is one.
    pub page: Option<PageFigures>,
    /// What was scraped, where anything is.
    pub scraping: Option<ScrapeFigures>,
}

impl Default for SelfStats {
    fn default() -> Self {
        Self {
            ticks: 0,
            told: Reading::default(),
            build: label("version", env!("CARGO_PKG_VERSION")),
            reasons: DropReason::ALL
                .iter()
                .map(|it| (it.as_str(), label("reason", it.as_str())))
                .collect(),
            outcomes: ["told", "refused", "failed"].map(|it| (it, label("outcome", it))),
            rare: BTreeMap::new(),
            process: Process::default(),
        }
    }
}

impl SelfStats {
    /// The families for this tick.
    pub fn families(
        &mut self,
        facts: TickFacts,
        figures: impl FnOnce() -> (UplinkFigures, InventoryFigures),
    ) -> impl Iterator<Item = &Family> {
        if self.ticks.is_multiple_of(READ_EVERY) {
            self.told.begin();
            self.scrape(facts);
            let (uplink, inventory) = figures();
            let now = Now { unix_micros: facts.t_ms.saturating_mul(1000) };
            self.uplink(&uplink, now);
            self.inventory(inventory, now);
            facts.scraping.into_iter().for_each(|figures| self.scraping(figures, now));
            let help = "Readings left out: too many series, or labels over the limits.";
            self.rare("stoa_agent_readings_refused_total", help, facts.refused, now);
            self.process.tell(&mut self.told);
            self.told.end();
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.told.families()
    }

    fn one(&mut self, kind: MetricKind, name: &str, help: &str, value: f64) {
        self.told.named(name, help, kind).push(no_labels(), value);
    }

    /// A count of what a well host never does.
    fn rare(&mut self, name: &'static str, help: &str, count: u64, now: Now) {
        self.rare_by(name, help, [("", no_labels(), count)], now);
    }

    /// The same by a label, whose value is given beside it.
    fn rare_by(
        &mut self,
        name: &'static str,
        help: &str,
        counts: impl IntoIterator<Item = (&'static str, Labels, u64)>,
        now: Now,
    ) {
        let family = self.told.named(name, help, MetricKind::Counter);
        for (value, labels, count) in counts {
            let known = self.rare.entry((name, value)).or_default();
            if let Some(count) = known.set(count, now) {
                family.push(labels, count as f64);
            }
        }
    }

    fn scrape(&mut self, facts: TickFacts) {
        let samples = facts.samples as f64;
        let help = "Always 1; the labels say what is running.";
        let info = self.told.named("stoa_agent_build_info", help, MetricKind::Gauge);
        info.push(self.build.clone(), 1.0);
        for (name, help, value) in [
            ("up", "Whether the host is heard.", 1.0),
            ("scrape_duration_seconds", "How long reading took.", facts.duration_s),
            ("scrape_samples_scraped", "Readings of the tick.", samples),
            ("scrape_samples_post_metric_relabeling", "Readings of the tick.", samples),
            (
                "scrape_series_added",
                "Series the tick before did not have.",
                facts.series_added as f64,
            ),
        ] {
            self.one(MetricKind::Gauge, name, help, value);
        }
        let Some(page) = facts.page else { return };
        for (name, help, value) in [
            ("stoa_agent_pages_given_total", "Pages of metrics given to a scraper.", page.given),
            (
                "stoa_agent_pages_refused_total",
                "Requests for the page of metrics that got none.",
                page.refused,
            ),
        ] {
            self.one(MetricKind::Counter, name, help, value as f64);
        }
    }

    fn uplink(&mut self, uplink: &UplinkFigures, now: Now) {
        for (name, help, value) in [
            ("stoa_agent_samples_produced_total", "Samples read.", uplink.produced),
            (
                "stoa_agent_samples_recovered_total",
                "Samples of earlier processes found in the spool.",
                uplink.recovered,
            ),
            (
                "stoa_agent_samples_returned_total",
                "Samples acknowledged once that the collector no longer had.",
                uplink.returned,
            ),
            (
                "stoa_agent_samples_acknowledged_total",
                "Samples the collector has taken over.",
                uplink.acknowledged,
            ),
            ("stoa_agent_sessions_total", "Sessions with the collector.", uplink.sessions),
            ("stoa_agent_session_ends_total", "Sessions that ended.", uplink.hang_ups),
            ("stoa_agent_sent_bytes_total", "Payload bytes sent.", uplink.sent_bytes),
            (
                "stoa_agent_sent_samples_total",
                "Samples sent, those sent again included.",
                uplink.sent_samples,
            ),
        ] {
            self.one(MetricKind::Counter, name, help, value as f64);
        }
        for (name, help, value) in [
            ("stoa_agent_samples_in_memory", "Samples waiting in memory only.", uplink.in_memory),
            ("stoa_agent_samples_in_spool", "Samples waiting in the spool.", uplink.in_spool),
            (
                "stoa_agent_samples_unaccounted",
                "Samples neither accounted for nor waiting: 0, or a bug.",
                u64::try_from(uplink.imbalance().unsigned_abs()).unwrap_or(u64::MAX),
            ),
        ] {
            self.one(MetricKind::Gauge, name, help, value as f64);
        }
        for (name, help, count) in [
            ("stoa_agent_legs_total", "Times live readings overtook a backlog.", uplink.legs),
            (
                "stoa_agent_resyncs_total",
                "Times the collector could not read a frame.",
                uplink.resyncs,
            ),
            (
                "stoa_agent_fenced_total",
                "Times another process used this host's identity.",
                uplink.fenced,
            ),
            (
                "stoa_agent_collector_rollbacks_total",
                "Times the collector had less than it once acknowledged.",
                uplink.collector_rollbacks,
            ),
            (
                "stoa_agent_drops_untold_total",
                "Drop records that could not be kept, and so not told.",
                uplink.untold_drops,
            ),
            (
                "stoa_agent_samples_miscounted_total",
                "Samples that were to leave memory or the spool and were not counted there: a bug.",
                uplink.miscounted,
            ),
        ] {
            self.rare(name, help, count, now);
        }
        self.by_reason(
            "stoa_agent_samples_dropped_total",
            "Samples dropped here, by reason.",
            &uplink.dropped,
            now,
        );
        self.by_reason(
            "stoa_agent_samples_lost_total",
            "Acknowledged samples the collector did not store, by reason.",
            &uplink.lost,
            now,
        );
    }

    fn inventory(&mut self, inventory: InventoryFigures, now: Now) {
        let counts = [inventory.told, inventory.refused, inventory.failed];
        let outcomes = self.outcomes.clone();
        self.rare_by(
            "stoa_agent_inventory_told_total",
            "Times the inventory was sent, by what came of it.",
            outcomes.into_iter().zip(counts).map(|((value, labels), count)| (value, labels, count)),
            now,
        );
        for (name, help, value) in [
            ("stoa_agent_inventory_bytes", "Size of the inventory.", inventory.bytes),
            (
                "stoa_agent_inventory_items_left_out",
                "Items that do not fit the inventory.",
                inventory.left_out,
            ),
        ] {
            self.one(MetricKind::Gauge, name, help, value as f64);
        }
    }

    fn scraping(&mut self, figures: ScrapeFigures, now: Now) {
        let is_whole = u64::from(figures.is_whole);
        for (name, help, value) in [
            ("stoa_agent_scrape_targets", "Targets that are scraped.", figures.targets),
            ("stoa_agent_scrape_targets_down", "Those that could not be.", figures.down),
            ("stoa_agent_scrape_series", "Series of all targets.", figures.series),
            (
                "stoa_agent_scrape_config_ok",
                "Whether all that says what is scraped could be read and meant.",
                is_whole,
            ),
        ] {
            self.one(MetricKind::Gauge, name, help, value as f64);
        }
        for (name, help, value) in [
            ("stoa_agent_scrapes_total", "Scrapes done.", figures.scrapes),
            ("stoa_agent_scrapes_failed_total", "Scrapes that failed.", figures.failed),
        ] {
            self.one(MetricKind::Counter, name, help, value as f64);
        }
        for (name, help, count) in [
            (
                "stoa_agent_scrapes_missed_total",
                "Moments at which a target was not asked.",
                figures.missed,
            ),
            (
                "stoa_agent_scrape_samples_dropped_total",
                "Scraped samples dropped because nothing took them in time.",
                figures.dropped,
            ),
            (
                "stoa_agent_scrape_samples_refused_total",
                "Scraped samples left out for their labels.",
                figures.refused,
            ),
            (
                "stoa_agent_scrape_samples_skipped_total",
                "Exemplars and native histograms, which are not sent.",
                figures.skipped,
            ),
        ] {
            self.rare(name, help, count, now);
        }
    }

    fn by_reason(&mut self, name: &'static str, help: &str, counts: &[u64], now: Now) {
        let reasons = self.reasons.clone();
        let counts = reasons.into_iter().zip(counts);
        let counts = counts.map(|((reason, labels), count)| (reason, labels, *count));
        self.rare_by(name, help, counts, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at this second, `name{label="value"}` to value.
    fn told(stats: &mut SelfStats, second: i64, uplink: &UplinkFigures) -> BTreeMap<String, f64> {
        let facts = TickFacts {
            t_ms: second * 1000,
            samples: 3,
            series_added: 0,
            duration_s: 0.002,
            refused: 0,
            page: None,
            scraping: None,
        };
        let families = stats.families(facts, || (uplink.clone(), InventoryFigures::default()));
        let series = families.flat_map(|family| {
            family.metrics.iter().map(|it| (format!("{}{}", family.name, it.labels), it.value))
        });
        series.collect()
    }

    #[test]
    fn figures_are_told_again_between_readings() {
        let mut stats = SelfStats::default();
        let mut uplink = UplinkFigures::default();
        let mut sent = Vec::new();
        for second in 0..25 {
            let told = told(&mut stats, second, &uplink);
            assert_eq!(told["up{}"], 1.0);
            assert!(told.contains_key("process_cpu_seconds_total{}"));
            sent.push(told["stoa_agent_sent_samples_total{}"]);
            uplink.sent_samples += 1;
        }
        assert_eq!(sent, [[0.0; 10].as_slice(), &[10.0; 10], &[20.0; 5]].concat());
    }

    #[test]
    fn what_a_well_host_never_does_is_told_once_it_has() {
        let mut stats = SelfStats::default();
        let mut uplink = UplinkFigures::default();
        let fenced = "stoa_agent_fenced_total{}";
        let dropped = format!("stoa_agent_samples_dropped_total{}", stats.reasons[0].1);
        let quiet = told(&mut stats, 0, &uplink);
        assert!(!quiet.contains_key(fenced) && !quiet.contains_key(&dropped));
        assert_eq!(quiet["stoa_agent_samples_unaccounted{}"], 0.0);
        (uplink.fenced, uplink.dropped[0]) = (1, 5);
        let mut rises = Vec::new();
        for second in 1..=110 {
            let told = told(&mut stats, second, &uplink);
            rises.push(told.get(fenced).copied().zip(told.get(&dropped).copied()));
        }
        rises.dedup();
        assert_eq!(rises, [None, Some((0.0, 0.0)), Some((1.0, 5.0))]);
    }
}

//! The agent's own figures, as one more source: what a scrape would say about itself, what the
//! uplink has done, and what the process costs. docs/metrics.md lists every name.
//!
//! They are read every [`READ_EVERY`] ticks and told again between, so that they do not make a quiet
//! host's ticks larger.

use stoa_model::{Family, Labels, MetricKind};
use stoa_proto::delivery::DropReason;

use crate::page::PageFigures;
use crate::process::Process;
use crate::sources::inventory::InventoryFigures;
use crate::sources::{Reading, label, no_labels};
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
    reasons: Vec<Labels>,
    process: Process,
}

/// What is known of the tick they go with.
#[derive(Clone, Copy, Debug)]
pub struct TickFacts {
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
}

impl Default for SelfStats {
    fn default() -> Self {
        Self {
            ticks: 0,
            told: Reading::default(),
            build: label("version", env!("CARGO_PKG_VERSION")),
            reasons: DropReason::ALL.iter().map(|it| label("reason", it.as_str())).collect(),
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
            self.uplink(&uplink);
            self.inventory(inventory);
            self.process.tell(&mut self.told);
            self.told.end();
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.told.families()
    }

    fn one(&mut self, kind: MetricKind, name: &str, help: &str, value: f64) {
        self.told.named(name, help, kind).push(no_labels(), value);
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
        self.one(
            MetricKind::Counter,
            "stoa_agent_readings_refused_total",
            "Readings left out: too many series, or labels over the limits.",
            facts.refused as f64,
        );
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

    fn uplink(&mut self, uplink: &UplinkFigures) {
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
                "Samples that were to leave memory or the spool and were not counted there: 0, or a bug.",
                uplink.miscounted,
            ),
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
        self.by_reason(
            "stoa_agent_samples_dropped_total",
            "Samples dropped here, by reason.",
            &uplink.dropped,
        );
        self.by_reason(
            "stoa_agent_samples_lost_total",
            "Acknowledged samples the collector did not store, by reason.",
            &uplink.lost,
        );
    }

    fn inventory(&mut self, inventory: InventoryFigures) {
        let help = "Times the inventory was sent, by what came of it.";
        let name = "stoa_agent_inventory_told_total";
        let told = self.told.named(name, help, MetricKind::Counter);
        for (outcome, count) in
            [("told", inventory.told), ("refused", inventory.refused), ("failed", inventory.failed)]
        {
            let labels = Labels::from_pairs_last_wins([("outcome", outcome)]);
            told.push(labels, count as f64);
        }
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

    fn by_reason(&mut self, name: &str, help: &str, counts: &[u64]) {
        let family = self.told.named(name, help, MetricKind::Counter);
        for (labels, count) in self.reasons.iter().zip(counts).filter(|(_, count)| **count > 0) {
            family.push(labels.clone(), *count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: TickFacts =
        TickFacts { samples: 3, series_added: 0, duration_s: 0.002, refused: 0, page: None };

    #[test]
    fn figures_are_told_again_between_readings() {
        let mut stats = SelfStats::default();
        let mut asked = 0;
        for _ in 0..25 {
            let families: Vec<&Family> = stats
                .families(FACTS, || {
                    asked += 1;
                    (UplinkFigures::default(), InventoryFigures::default())
                })
                .collect();
            assert!(families.iter().any(|family| family.name == "up"));
            assert!(families.iter().any(|family| family.name == "process_cpu_seconds_total"));
        }
        assert_eq!(asked, 3);
    }
}

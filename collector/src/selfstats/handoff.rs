//! The figures of what is passed on to other engines.

use stoa_model::{Family, Labels, MetricKind};

use super::Page;
use crate::remote::{ElsewhereFigures, TargetFigures};

/// A family with one series per target: kind, name, help, value.
type OfOne = (MetricKind, &'static str, &'static str, fn(&TargetFigures) -> f64);

impl Page {
    pub(super) fn handoff(&mut self, targets: &[TargetFigures]) {
        if targets.is_empty() {
            return;
        }
        let counter = MetricKind::Counter;
        self.of_targets(
            counter,
            "stoa_collector_handoff_samples_total",
            "Samples for a target of remote write or OTLP, by what became of them.",
            targets,
            |target| {
                vec![
                    (Some(("outcome", "sent")), target.samples_sent as f64),
                    (Some(("outcome", "rejected")), target.samples_rejected as f64),
                    (Some(("outcome", "lost")), target.samples_lost as f64),
                    (Some(("outcome", "orphaned")), target.samples_orphaned as f64),
                    (Some(("outcome", "filtered")), target.samples_filtered as f64),
                    (Some(("outcome", "unfit")), target.samples_unfit as f64),
                ]
            },
        );
        self.of_targets(
            counter,
            "stoa_collector_handoff_requests_total",
            "Requests to a target of remote write or OTLP, by how they were answered.",
            targets,
            |target| {
                vec![
                    (Some(("outcome", "accepted")), target.requests_accepted as f64),
                    (Some(("outcome", "rejected")), target.requests_rejected as f64),
                    (Some(("outcome", "failed")), target.requests_failed as f64),
                ]
            },
        );
        let of_one: [OfOne; 10] = [
            (
                counter,
                "stoa_collector_handoff_samples_apart_total",
                "Samples of histograms and summaries that a target of OTLP was sent as gauges, since a part of their point did not come in time or its counts are none.",
                |target| target.samples_apart as f64,
            ),
            (
                counter,
                "stoa_collector_handoff_answers_unread_total",
                "Requests a target took with an answer that could not be read: what of them it refused is not known.",
                |target| target.answers_unread as f64,
            ),
            (
                counter,
                "stoa_collector_handoff_samples_retried_total",
                "Samples of requests to a target that had to be sent again.",
                |target| target.samples_retried as f64,
            ),
            (
                counter,
                "stoa_collector_handoff_sent_bytes_total",
                "Compressed bytes of requests a target took.",
                |target| target.sent_bytes as f64,
            ),
            (
                counter,
                "stoa_collector_handoff_log_damaged_total",
                "Damaged places of the log passed over for a target.",
                |target| target.log_damaged as f64,
            ),
            (
                counter,
                "stoa_collector_handoff_restarts_total",
                "How often passing on to a target broke and was begun again.",
                |target| target.restarts as f64,
            ),
            (
                MetricKind::Gauge,
                "stoa_collector_handoff_pending_bytes",
                "Bytes of the log a target has not got yet.",
                |target| target.pending_bytes as f64,
            ),
            (
                MetricKind::Gauge,
                "stoa_collector_handoff_lag_seconds",
                "Age of the newest of the samples being sent; 0 when a target has everything.",
                |target| target.lag_ms as f64 / 1000.0,
            ),
            (
                MetricKind::Gauge,
                "stoa_collector_handoff_newest_sent_timestamp_seconds",
                "The newest timestamp a target took; 0 before the first.",
                |target| target.newest_sent_ms as f64 / 1000.0,
            ),
            (
                MetricKind::Gauge,
                "stoa_collector_handoff_failing",
                "Whether requests to a target fail now.",
                |target| f64::from(u8::from(target.failing)),
            ),
        ];
        for (kind, name, help, value) in of_one {
            self.of_targets(kind, name, help, targets, |target| vec![(None, value(target))]);
        }
    }

    pub(super) fn elsewhere(&mut self, elsewhere: ElsewhereFigures) {
        self.add(
            MetricKind::Counter,
            "stoa_collector_queries_elsewhere_total",
            "Questions that went to the engine of `storage.remote`, by what became of them.",
            &[
                (&[("outcome", "answered")], elsewhere.answered),
                (&[("outcome", "failed")], elsewhere.failed),
            ],
        );
    }

    fn of_targets(
        &mut self,
        kind: MetricKind,
        name: &str,
        help: &str,
        targets: &[TargetFigures],
        rows: impl Fn(&TargetFigures) -> Vec<(Option<(&'static str, &'static str)>, f64)>,
    ) {
        let mut family = Family::new(name, help, kind);
        for target in targets {
            for (label, value) in rows(target) {
                // `target` is a word of scraping already.
                let of = ("remote", target.target.as_str());
                let labels = Labels::from_pairs_last_wins([of].into_iter().chain(label));
                family.push(labels, value);
            }
        }
        self.0.push(family);
    }
}

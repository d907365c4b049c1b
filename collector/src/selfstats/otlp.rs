//! What came by OTLP.

use stoa_model::MetricKind;

use super::Page;
use crate::http::pushed::PushFigures;

impl Page {
    pub(super) fn otlp(&mut self, otlp: &PushFigures) {
        self.add(
            MetricKind::Counter,
            "stoa_collector_otlp_requests_total",
            "Requests of OTLP, by how they were answered.",
            &[
                (&[("outcome", "accepted")], otlp.accepted),
                (&[("outcome", "partial")], otlp.partial),
                (&[("outcome", "unreadable")], otlp.unreadable),
                (&[("outcome", "deferred")], otlp.deferred),
            ],
        );
        let samples = &otlp.samples;
        self.add(
            MetricKind::Counter,
            "stoa_collector_otlp_samples_total",
            "Samples made of points that came by OTLP, by what became of them.",
            &[
                (&[("outcome", "stored")], samples.stored),
                (&[("outcome", "duplicate")], samples.duplicate),
                (&[("outcome", "conflicting")], samples.conflicting),
                (&[("outcome", "too_old")], samples.too_old),
                (&[("outcome", "too_far_ahead")], samples.ahead),
                (&[("outcome", "bad_labels")], samples.labels),
                (&[("outcome", "over_limit")], samples.limit),
            ],
        );
        for (name, help, value) in [
            (
                "stoa_collector_otlp_received_bytes_total",
                "Compressed bytes that came by OTLP.",
                otlp.bytes,
            ),
            (
                "stoa_collector_otlp_points_refused_total",
                "Points that came by OTLP and cannot be kept for what they are, deltas among them.",
                otlp.points_refused,
            ),
            (
                "stoa_collector_otlp_histograms_refused_total",
                "Exponential and custom histograms that came by OTLP, are not valid or too large, and \
                 were refused.",
                otlp.histograms_refused,
            ),
            (
                "stoa_collector_otlp_exemplars_ignored_total",
                "Exemplars that came by OTLP and were not kept.",
                otlp.exemplars_ignored,
            ),
        ] {
            self.counter(name, help, value);
        }
        self.gauge("stoa_collector_otlp_senders", "Senders of OTLP known now.", otlp.senders);
        self.gauge("stoa_collector_otlp_series", "Series of these senders known now.", otlp.series);
    }
}

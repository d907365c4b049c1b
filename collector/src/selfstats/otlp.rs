//! What came by OTLP.

use stoa_exchange::otlp::DeltaCounts;
use stoa_model::MetricKind;

use super::Page;
use crate::http::pushed::PushFigures;

impl Page {
    pub(super) fn otlp(&mut self, otlp: &PushFigures) {
        self.requests(
            "stoa_collector_otlp_requests_total",
            "Requests of OTLP, by how they were answered.",
            otlp,
        );
        self.samples(
            "stoa_collector_otlp_samples_total",
            "Samples made of points that came by OTLP, by what became of them.",
            &otlp.samples,
        );
        for (name, help, value) in [
            (
                "stoa_collector_otlp_received_bytes_total",
                "Compressed bytes that came by OTLP.",
                otlp.bytes,
            ),
            (
                "stoa_collector_otlp_points_refused_total",
                "Points that came by OTLP and cannot be kept for what they are.",
                otlp.points_refused,
            ),
            (
                "stoa_collector_otlp_histograms_refused_total",
                "Exponential and custom histograms that came by OTLP, are not valid or too large, and \
                 were refused.",
                otlp.histograms_refused,
            ),
            (
                "stoa_collector_otlp_starts_total",
                "Zeroes stored where series that came by OTLP begin to count.",
                otlp.starts,
            ),
            (
                "stoa_collector_otlp_exemplars_kept_total",
                "Exemplars that came by OTLP and were kept.",
                otlp.exemplars_written,
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

    pub(super) fn deltas(&mut self, deltas: &DeltaCounts) {
        self.add(
            MetricKind::Counter,
            "stoa_collector_otlp_deltas_total",
            "Points that came by OTLP and count from the point before, by what became of them.",
            &[
                (&[("outcome", "added")], deltas.added),
                (&[("outcome", "repeated")], deltas.repeated),
                (&[("outcome", "out_of_order")], deltas.out_of_order),
                (&[("outcome", "older_start")], deltas.older_start),
                (&[("outcome", "too_far_ahead")], deltas.ahead),
                (&[("outcome", "over_limit")], deltas.over_limit),
                (&[("outcome", "unfit")], deltas.unfit),
            ],
        );
        self.counter(
            "stoa_collector_otlp_delta_gaps_total",
            "Deltas that count from after the point before: what lies between did not come, or nothing was \
             measured.",
            deltas.gaps,
        );
        self.counter(
            "stoa_collector_otlp_delta_streams_ended_total",
            "Series of deltas that ended because nothing came for long; they begin anew with their next \
             point.",
            deltas.ended,
        );
        self.gauge(
            "stoa_collector_otlp_delta_bytes",
            "What series of deltas take in memory, of 128 MiB.",
            deltas.bytes,
        );
        self.gauge(
            "stoa_collector_otlp_delta_streams",
            "Series of deltas that are added up now.",
            deltas.streams,
        );
    }
}

//! What came by remote write.

use super::Page;
use crate::http::pushed::PushFigures;

impl Page {
    pub(super) fn remote_write(&mut self, remote: &PushFigures) {
        self.requests(
            "stoa_collector_remote_write_requests_total",
            "Requests of remote write, by how they were answered.",
            remote,
        );
        self.samples(
            "stoa_collector_remote_write_samples_total",
            "Samples that came by remote write, by what became of them.",
            &remote.samples,
        );
        for (name, help, value) in [
            (
                "stoa_collector_remote_write_received_bytes_total",
                "Compressed bytes that came by remote write.",
                remote.bytes,
            ),
            (
                "stoa_collector_remote_write_histograms_refused_total",
                "Native histograms that came by remote write and were refused.",
                remote.histograms_refused,
            ),
            (
                "stoa_collector_remote_write_exemplars_kept_total",
                "Exemplars that came by remote write and were kept.",
                remote.exemplars_written,
            ),
            (
                "stoa_collector_remote_write_starts_total",
                "Zeroes stored where series that came by remote write begin to count.",
                remote.starts,
            ),
            (
                "stoa_collector_remote_write_exemplars_ignored_total",
                "Exemplars that came by remote write and were not kept.",
                remote.exemplars_ignored,
            ),
        ] {
            self.counter(name, help, value);
        }
        self.gauge(
            "stoa_collector_remote_write_senders",
            "Senders of remote write known now.",
            remote.senders,
        );
        self.gauge(
            "stoa_collector_remote_write_series",
            "Series of these senders known now.",
            remote.series,
        );
    }
}

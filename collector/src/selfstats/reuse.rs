//! What was kept of answers, and used again.

use stoa_model::MetricKind;

use super::Page;
use crate::http::prometheus::ReuseFigures;

impl Page {
    pub(super) fn reuse(&mut self, reuse: &ReuseFigures) {
        self.add(
            MetricKind::Counter,
            "stoa_collector_query_reuse_total",
            "Range queries, by whether a part of the answer had been kept.",
            &[
                (&[("outcome", "hit")], reuse.hits),
                (&[("outcome", "miss")], reuse.misses),
                (&[("outcome", "unfit")], reuse.unfit),
            ],
        );
        self.add(
            MetricKind::Counter,
            "stoa_collector_query_reuse_dropped_total",
            "Kept parts of answers that were let go, by why.",
            &[
                (&[("reason", "changed")], reuse.changed),
                (&[("reason", "room")], reuse.crowded_out),
            ],
        );
        self.gauge(
            "stoa_collector_query_reuse_entries",
            "Parts of answers that are kept.",
            reuse.entries,
        );
        self.gauge(
            "stoa_collector_query_reuse_bytes",
            "Memory of the parts of answers that are kept.",
            reuse.bytes,
        );
    }
}

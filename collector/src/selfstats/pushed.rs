//! What all ways have in common by which others push samples.

use stoa_model::MetricKind;

use super::Page;
use crate::http::pushed::{PushFigures, SampleFigures};

impl Page {
    pub(super) fn requests(&mut self, name: &str, help: &str, pushed: &PushFigures) {
        self.add(
            MetricKind::Counter,
            name,
            help,
            &[
                (&[("outcome", "accepted")], pushed.accepted),
                (&[("outcome", "partial")], pushed.partial),
                (&[("outcome", "unreadable")], pushed.unreadable),
                (&[("outcome", "deferred")], pushed.deferred),
            ],
        );
    }

    pub(super) fn samples(&mut self, name: &str, help: &str, samples: &SampleFigures) {
        self.add(
            MetricKind::Counter,
            name,
            help,
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
    }
}

//! What became of what a request held.

use stoa_tsdb::AppendError;

use crate::store::Stored;

/// The longest first complaint repeated to a sender, in bytes.
const COMPLAINT_BYTES_MAX: usize = 200;

/// What became of what a request held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// What the store did.
    pub(crate) done: Stored,
    /// Samples too far in the future.
    pub(crate) ahead: u64,
    /// Samples of series whose labels break the rules.
    pub(crate) labels: u64,
    /// Samples of series over a limit.
    pub(crate) limit: u64,
    /// Native histograms that are none, or too large.
    pub(crate) histograms: u64,
    /// Points that cannot be kept for what they are.
    pub(crate) points: u64,
    /// Points of which something was refused; only OTLP has points.
    pub(crate) rejected: u64,
    /// Of what the store did, native histograms that are in it now.
    pub(crate) histograms_written: u64,
    /// Exemplars that are kept now, those that were before included.
    pub(crate) exemplars_written: u64,
    /// Exemplars that are not: too late, too long, or without a series; no sender is told.
    pub(crate) exemplars_ignored: u64,
    /// Zeroes stored where a series begins to count, which are no samples of the sender's.
    pub(crate) starts: u64,
    /// What the first series refused was refused for.
    first: Option<String>,
}

impl Tally {
    pub(super) fn stored(&mut self, done: Stored) {
        self.done.stored += done.stored;
        self.done.duplicate += done.duplicate;
        self.done.conflicting += done.conflicting;
        self.done.too_old += done.too_old;
    }

    /// A batch the store refuses as a whole.
    pub(super) fn unstorable(&mut self, samples: u64, error: &AppendError) {
        self.over_limit(samples, || error.to_string());
    }

    /// Samples of a series whose labels break the rules.
    pub(crate) fn mislabelled(&mut self, samples: u64, why: impl FnOnce() -> String) {
        self.labels += samples;
        self.say(why);
    }

    /// Samples of a series over a limit.
    pub(super) fn over_limit(&mut self, samples: u64, why: impl FnOnce() -> String) {
        self.limit += samples;
        self.say(why);
    }

    /// A point that cannot be kept for what it is.
    pub(super) fn unfit(&mut self, why: impl FnOnce() -> String) {
        self.points += 1;
        self.say(why);
    }

    /// Samples and histograms that are in the store now, those that were there before included.
    pub(crate) fn written(&self) -> u64 {
        self.done.stored + self.done.duplicate
    }

    /// What the sender is told when something was refused.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Stored { conflicting, too_old, .. } = self.done;
        let parts = [
            (conflicting, "samples for times that have another value"),
            (too_old, "samples too old"),
            (self.ahead, "samples too far in the future"),
            (self.labels, "samples with bad labels"),
            (self.limit, "samples of series over a limit"),
            (self.histograms, "native histograms that are not valid or too large"),
            (self.points, "points that cannot be kept"),
        ];
        let refused: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if refused.is_empty() {
            return None;
        }
        let first = self.first.as_ref().map(|first| format!(" (first: {first})"));
        let first = first.unwrap_or_default();
        Some(format!("stored {}, refused {}{first}", self.written(), refused.join(", ")))
    }

    pub(super) fn say(&mut self, why: impl FnOnce() -> String) {
        self.first.get_or_insert_with(|| {
            let mut text = why();
            text.truncate(text.floor_char_boundary(COMPLAINT_BYTES_MAX));
            text
        });
    }
}

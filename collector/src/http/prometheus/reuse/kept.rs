//! Parts of answers, those used last the longest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};
use stoa_promql::MatrixSeries;
use stoa_tsdb::Revision;

use super::{Question, ReuseFigures};

/// What an entry takes beside its text and its samples, in bytes.
const ENTRY_BYTES: usize = 512;

/// What a label takes beside its text.
const LABEL_BYTES: usize = 96;

/// What an answer can be used for again: the same text, with steps of the same length at the same places, as
/// many of them, and the same lookback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    text: String,
    step_ms: i64,
    /// Where steps lie, from a multiple of the step on.
    phase_ms: i64,
    length_ms: i64,
    lookback_ms: i64,
}

impl Key {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let range = question.range;
        Self {
            text: question.text.to_owned(),
            step_ms: range.step,
            phase_ms: range.start.rem_euclid(range.step),
            length_ms: range.end - range.start,
            lookback_ms: question.engine.limits().lookback_ms,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + self.text.len()
    }
}

/// The steps of an answer from `first` to `last`.
#[derive(Debug)]
pub(super) struct Kept {
    /// In order of labels.
    pub(super) series: Vec<MatrixSeries>,
    pub(super) first: TimestampMs,
    pub(super) last: TimestampMs,
    /// Told of these steps, or of others of the same answer.
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
    /// The most samples held at a time to make a piece of it.
    pub(super) peak: u64,
    /// What the past was.
    pub(super) revision: Revision,
    /// About what it takes.
    pub(super) bytes: usize,
}

impl Kept {
    /// About what a series of so many samples takes.
    pub(super) fn bytes_of(labels: &Labels, samples: usize) -> usize {
        let of_labels = labels.text_bytes() + LABEL_BYTES * labels.len();
        size_of::<MatrixSeries>() + of_labels + size_of::<(TimestampMs, f64)>() * samples
    }
}

#[derive(Debug)]
struct Entry {
    kept: Arc<Kept>,
    /// When it was used last: its place in the order.
    used: u64,
}

/// What is kept no more: for the caller to drop, with the lock given back.
pub(super) type Gone = Vec<Arc<Kept>>;

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: HashMap<Arc<Key>, Entry>,
    order: BTreeMap<u64, Arc<Key>>,
    uses: u64,
    bytes: usize,
    changed: u64,
    crowded_out: u64,
}

impl Held {
    /// What was kept, if the past is what it was then; else it goes.
    pub(super) fn find(&mut self, key: &Key, revision: Revision) -> Result<Arc<Kept>, Gone> {
        let Some((key, entry)) = self.entries.get_key_value(key) else { return Err(Gone::new()) };
        let (key, kept, used) = (Arc::clone(key), Arc::clone(&entry.kept), entry.used);
        if kept.revision != revision {
            self.changed += 1;
            return Err(self.remove(&key).into_iter().collect());
        }
        self.order.remove(&used);
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used = self.uses;
        }
        self.order.insert(self.uses, key);
        Ok(kept)
    }

    /// Keeps a part in place of what was kept under its key, and lets others go for it.
    #[must_use]
    pub(super) fn keep(&mut self, key: Key, kept: Arc<Kept>, bytes_max: usize) -> Gone {
        let mut gone: Gone = self.remove(&key).into_iter().collect();
        let key = Arc::new(key);
        self.uses += 1;
        self.bytes += kept.bytes;
        self.order.insert(self.uses, Arc::clone(&key));
        self.entries.insert(key, Entry { kept, used: self.uses });
        while self.bytes > bytes_max
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = Arc::clone(oldest);
            gone.extend(self.remove(&oldest));
            self.crowded_out += 1;
        }
        gone
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Kept>> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.kept.bytes;
        Some(entry.kept)
    }

    /// Those of what is held.
    pub(super) fn figures(&self) -> ReuseFigures {
        ReuseFigures {
            changed: self.changed,
            crowded_out: self.crowded_out,
            entries: self.entries.len() as u64,
            bytes: self.bytes as u64,
            ..ReuseFigures::default()
        }
    }
}

//! A host's documents by time: what one said then, and what differs between then and now.

use serde::{Deserialize, Serialize};
use stoa_model::inventory::changes;
use stoa_model::{Inventory, TimestampMs};

use super::document::{ChangeLine, Document};
use super::{Entry, Inventories};
use crate::state::StateError;

/// Changes in one answer, at most; more are counted.
pub const STEP_CHANGES_MAX: usize = 10_000;

/// A document and when it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated {
    /// Whose it is.
    pub host: String,
    /// Since when it is so.
    pub at_ms: TimestampMs,
    /// How many documents of the host are kept.
    pub kept: usize,
    /// Since when there is something to compare with.
    pub kept_since_ms: TimestampMs,
    /// What it says.
    #[serde(flatten)]
    pub document: Document,
}

/// What differs between two moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Of which host.
    pub host: String,
    /// From then.
    pub from_ms: TimestampMs,
    /// Until then.
    pub to_ms: TimestampMs,
    /// When the first document came, if that was later than `from_ms`: what was before is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_ms: Option<TimestampMs>,
    /// The changes, the oldest first.
    pub steps: Vec<Step>,
    /// Changes that are not told for want of room.
    pub left_out: u64,
}

/// What was different when a document came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it came.
    pub at_ms: TimestampMs,
    /// What differed from the one before.
    pub changes: Vec<ChangeLine>,
}

impl Inventories {
    /// The document that was so at `at_ms`; the newest when absent. `None` when there is none.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn document(
        &self,
        host: &str,
        at_ms: Option<TimestampMs>,
    ) -> Result<Option<Dated>, StateError> {
        let entries = self.entries(host);
        let is_then = |entry: &&Entry| at_ms.is_none_or(|at_ms| entry.at_ms <= at_ms);
        for entry in entries.iter().rev().filter(is_then) {
            if let Some(document) = self.read(host, entry)? {
                return Ok(Some(Dated {
                    host: host.to_owned(),
                    at_ms: entry.at_ms,
                    kept: entries.len(),
                    kept_since_ms: entries.first().map_or(entry.at_ms, |first| first.at_ms),
                    document: (&document).into(),
                }));
            }
        }
        Ok(None)
    }

    /// What differs from `from_ms` until `to_ms`: each change at its time, or, if `is_net`, the last
    /// document compared with the first. `None` when there is no document of the host.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn changes(
        &self,
        host: &str,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        is_net: bool,
    ) -> Result<Option<Changes>, StateError> {
        let entries = self.entries(host);
        let Some(first) = entries.first() else { return Ok(None) };
        let base = entries.iter().rposition(|entry| entry.at_ms <= from_ms);
        let begins_ms = base.is_none().then_some(first.at_ms);
        let mut told = Changes {
            host: host.to_owned(),
            from_ms,
            to_ms,
            begins_ms,
            steps: Vec::new(),
            left_out: 0,
        };
        let mut before: Option<Inventory> = None;
        let mut last: Option<(TimestampMs, Inventory)> = None;
        let within = entries.iter().skip(base.unwrap_or(0));
        for entry in within.take_while(|entry| entry.at_ms <= to_ms || entry.at_ms <= from_ms) {
            // One that is damaged is passed over: its changes are told with the next one's.
            let Some(document) = self.read(host, entry)? else { continue };
            let Some(base) = &before else {
                before = Some(document);
                continue;
            };
            if is_net {
                last = Some((entry.at_ms, document));
            } else {
                told.push(entry.at_ms, base, &document);
                before = Some(document);
            }
        }
        if let (Some(before), Some((at_ms, after))) = (&before, &last) {
            told.push(*at_ms, before, after);
        }
        Ok(Some(told))
    }

    fn entries(&self, host: &str) -> Vec<Entry> {
        let histories = self.histories();
        histories.get(host).map_or_else(Vec::new, |history| history.documents.clone().into())
    }
}

impl Changes {
    fn push(&mut self, at_ms: TimestampMs, before: &Inventory, after: &Inventory) {
        let changes = changes(before, after);
        let told: usize = self.steps.iter().map(|step| step.changes.len()).sum();
        let room = STEP_CHANGES_MAX.saturating_sub(told);
        self.left_out += changes.len().saturating_sub(room) as u64;
        let changes: Vec<ChangeLine> = changes.iter().take(room).map(Into::into).collect();
        if !changes.is_empty() {
            self.steps.push(Step { at_ms, changes });
        }
    }
}

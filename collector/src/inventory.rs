//! What hosts are made of, and were: each host's documents, from the newest back.
//!
//! It owns two tables of the state database: `inventory`, a document each under `HOST/NUMBER`, and
//! `inventory_history`, per host when each of its documents was first told. Only the second is in
//! memory. A document that says what the last one said is not kept again. Times are the collector's,
//! of when a document came.
//!
//! Bounds, per host: [`DOCUMENTS_MAX`], [`HISTORY_BYTES_MAX`], [`AGE_MAX_MS`] (the newest stays),
//! and one change in [`EVERY_MS`]. Where there is no more room documents are thinned out, not cut off
//! at the old end: those go that lie nearest together for their age, so that something which changes
//! every few minutes costs the accuracy of times long past, not what was known of them. Over all hosts
//! [`TOTAL_BYTES_MAX`], beyond which a host's newest document alone is kept.
//!
//! Blocking: all but [`Inventories::known`] and [`Inventories::figures`] may wait for the disk.

mod document;
mod history;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use stoa_model::{Hex, HostId, Inventory, TimestampMs};
use stoa_proto::message::{Digest, InventoryTold};

pub use document::{
    BeforeAfter, ChangeLine, Document, FieldsLine, SectionLine, ValueLine, WhatLine,
};
pub use history::{Changes, Dated, STEP_CHANGES_MAX, Step};

use crate::state::{Change, State, StateError, Table};
use document::Packed;

/// Documents kept of one host, at most; then they are thinned out.
pub const DOCUMENTS_MAX: usize = 200;

/// Bytes kept of one host's documents, compressed; then they are thinned out.
pub const HISTORY_BYTES_MAX: u64 = 4 << 20;

/// Bytes kept of all hosts' documents, compressed.
pub const TOTAL_BYTES_MAX: u64 = 512 << 20;

/// How long a document is kept that is not the newest, milliseconds: 90 days.
pub const AGE_MAX_MS: i64 = 90 * 86_400_000;

/// A host's document is taken at most so often, milliseconds: each costs a sync.
pub const EVERY_MS: i64 = 10_000;

const DOCUMENTS: Table<Packed> = Table::named("inventory");
const HISTORIES: Table<History> = Table::named("inventory_history");

/// Why a document is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The last one came just now.
    #[error("the last inventory came less than {} s ago", EVERY_MS / 1000)]
    TooSoon,
    /// There is no room.
    #[error("{} MiB of inventories are kept already", TOTAL_BYTES_MAX >> 20)]
    Full,
    /// It could not be put into words.
    #[error("encode the inventory")]
    Encode(#[source] std::io::Error),
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Whether a document was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It differs from the one before.
    Changed,
    /// It says what the one before said.
    Same,
}

/// When a host's documents came, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct History {
    documents: VecDeque<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    number: u64,
    at_ms: TimestampMs,
    /// As the agent told it, in hex.
    digest: String,
    /// What it takes, compressed.
    bytes: u64,
}

/// What was told and what became of it, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryFigures {
    /// Hosts of which there is a document.
    pub hosts: u64,
    /// Documents kept now.
    pub documents: u64,
    /// What they take, compressed.
    pub bytes: u64,
    /// Documents that were news.
    pub changed: u64,
    /// Documents that were not.
    pub same: u64,
    /// Documents refused because they were malformed or over a bound.
    pub malformed: u64,
    /// Documents refused for coming too soon.
    pub too_soon: u64,
    /// Documents refused for want of room.
    pub full: u64,
    /// Documents that could not be written.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    changed: AtomicU64,
    same: AtomicU64,
    malformed: AtomicU64,
    too_soon: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

/// The documents of all hosts.
#[derive(Debug)]
pub struct Inventories {
    state: Arc<State>,
    /// Held to look up or replace an entry only.
    histories: Mutex<HashMap<String, History>>,
    /// Held while a document is written: when each host's last came, by the steady clock.
    writing: Mutex<HashMap<String, i64>>,
    counters: Counters,
}

impl Inventories {
    /// The documents in `state`; those of hosts that `is_known` is false of are removed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(state: Arc<State>, is_known: impl Fn(&str) -> bool) -> Result<Self, StateError> {
        let all: HashMap<String, History> = state.all(&HISTORIES)?.into_iter().collect();
        let (histories, gone): (HashMap<_, _>, HashMap<_, _>) =
            all.into_iter().partition(|(host, _)| is_known(host));
        if !gone.is_empty() {
            state.change(|change| {
                gone.iter().try_for_each(|(host, history)| history.remove(host, change))
            })?;
        }
        Ok(Self {
            state,
            histories: Mutex::new(histories),
            writing: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// The digest of the newest document of a host; empty when there is none.
    #[must_use]
    pub fn known(&self, host: &HostId) -> Digest {
        let histories = self.histories();
        let newest = histories.get(host.as_str()).and_then(|history| history.documents.back());
        newest.and_then(|entry| unhex(&entry.digest)).unwrap_or_default()
    }

    /// Takes a host's document; durable when this returns. `steady_ms` is by a clock nobody sets.
    ///
    /// # Errors
    /// [`KeepError`]; nothing has changed then.
    pub fn keep(
        &self,
        host: &HostId,
        told: &InventoryTold,
        now_ms: TimestampMs,
        steady_ms: i64,
    ) -> Result<Kept, KeepError> {
        let kept = self.write(host.as_str(), told, now_ms, steady_ms);
        let counter = match &kept {
            Ok(Kept::Changed) => &self.counters.changed,
            Ok(Kept::Same) => &self.counters.same,
            Err(KeepError::TooSoon) => &self.counters.too_soon,
            Err(KeepError::Full) => &self.counters.full,
            Err(KeepError::Encode(_) | KeepError::State(_)) => &self.counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        kept
    }

    /// Removes what is kept of a host that is none any more: whoever has its name next is another.
    ///
    /// # Errors
    /// [`StateError`]; it is all there then, and goes at the next start.
    pub fn forget(&self, host: &str) -> Result<(), StateError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let history = self.histories().get(host).cloned();
        if let Some(history) = history {
            self.state.change(|change| history.remove(host, change))?;
        }
        self.histories().remove(host);
        writing.remove(host);
        Ok(())
    }

    /// Counts a document that could not be read.
    pub fn malformed(&self) {
        self.counters.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// What there is and what was done.
    #[must_use]
    pub fn figures(&self) -> InventoryFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let histories = self.histories();
        let documents = || histories.values().flat_map(|history| &history.documents);
        InventoryFigures {
            hosts: histories.len() as u64,
            documents: documents().count() as u64,
            bytes: documents().map(|entry| entry.bytes).sum(),
            changed: read(&self.counters.changed),
            same: read(&self.counters.same),
            malformed: read(&self.counters.malformed),
            too_soon: read(&self.counters.too_soon),
            full: read(&self.counters.full),
            failed: read(&self.counters.failed),
        }
    }

    fn write(
        &self,
        host: &str,
        told: &InventoryTold,
        now_ms: TimestampMs,
        steady_ms: i64,
    ) -> Result<Kept, KeepError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut history = self.histories().get(host).cloned().unwrap_or_default();
        let digest = Hex(&told.digest.0).to_string();
        let newest = history.documents.back_mut();
        if newest.as_ref().is_some_and(|newest| newest.digest == digest) {
            return Ok(Kept::Same);
        }
        if writing.get(host).is_some_and(|last_ms| steady_ms.saturating_sub(*last_ms) < EVERY_MS) {
            return Err(KeepError::TooSoon);
        }
        if let Some(newest) = newest
            && self.read(host, newest)?.is_some_and(|document| document == told.document)
        {
            // Another agent's way of making digests.
            newest.digest = digest;
            self.state.change(|change| change.put(&HISTORIES, host, &history))?;
            self.histories().insert(host.to_owned(), history);
            writing.insert(host.to_owned(), steady_ms);
            return Ok(Kept::Same);
        }
        let packed = Packed::pack(&told.document).map_err(KeepError::Encode)?;
        let last = history.documents.back();
        let entry = Entry {
            number: last.map_or(1, |last| last.number.saturating_add(1)),
            // The order of documents is that of their times, whatever the clock does.
            at_ms: last.map_or(now_ms, |last| now_ms.max(last.at_ms)),
            digest,
            bytes: packed.bytes(),
        };
        let others = self.total_bytes_without(host);
        let gone = history.make_room(&entry, others)?;
        let place = name(host, &entry);
        history.documents.push_back(entry);
        self.state.change(|change| {
            change.put(&DOCUMENTS, &place, &packed)?;
            gone.iter().try_for_each(|entry| change.remove(&DOCUMENTS, &name(host, entry)))?;
            change.put(&HISTORIES, host, &history)
        })?;
        self.histories().insert(host.to_owned(), history);
        writing.insert(host.to_owned(), steady_ms);
        Ok(Kept::Changed)
    }

    /// A document; `None` when it is damaged or gone.
    fn read(&self, host: &str, entry: &Entry) -> Result<Option<Inventory>, StateError> {
        let packed = self.state.one(&DOCUMENTS, &name(host, entry))?;
        Ok(packed.and_then(|packed| packed.unpack()))
    }

    fn total_bytes_without(&self, host: &str) -> u64 {
        let histories = self.histories();
        let others = histories.iter().filter(|(name, _)| name.as_str() != host);
        others.flat_map(|(_, history)| &history.documents).map(|entry| entry.bytes).sum()
    }

    fn histories(&self) -> MutexGuard<'_, HashMap<String, History>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    /// Takes off what is too old, and what is missed least until `entry` fits beside what all other
    /// hosts take.
    fn make_room(&mut self, entry: &Entry, others: u64) -> Result<Vec<Entry>, KeepError> {
        if others.saturating_add(entry.bytes) > TOTAL_BYTES_MAX {
            return Err(KeepError::Full);
        }
        let mut bytes = entry.bytes + self.documents.iter().map(|entry| entry.bytes).sum::<u64>();
        let mut gone = Vec::new();
        loop {
            // An old document says what was so until the next one came.
            let until_ms = self.documents.get(1).map_or(entry.at_ms, |next| next.at_ms);
            let fits = self.documents.len() < DOCUMENTS_MAX
                && bytes <= HISTORY_BYTES_MAX
                && others.saturating_add(bytes) <= TOTAL_BYTES_MAX;
            let place = if entry.at_ms.saturating_sub(until_ms) > AGE_MAX_MS {
                0
            } else if fits {
                break;
            } else {
                self.least_missed(entry.at_ms)
            };
            let Some(least) = self.documents.remove(place) else { break };
            bytes = bytes.saturating_sub(least.bytes);
            gone.push(least);
        }
        Ok(gone)
    }

    /// The place of the document without which least is lost when another comes at `now_ms`: the time
    /// between its neighbours, within which its changes are told then, is the least part of its age.
    /// The oldest, which says how all began, goes last.
    fn least_missed(&self, now_ms: TimestampMs) -> usize {
        let at = |place: usize| self.documents.get(place).map_or(now_ms, |entry| entry.at_ms);
        let lost = |place: usize| {
            let between = at(place + 1).saturating_sub(at(place - 1));
            let age = now_ms.saturating_sub(at(place)).max(1);
            between as f64 / age as f64
        };
        (1..self.documents.len()).min_by(|a, b| lost(*a).total_cmp(&lost(*b))).unwrap_or(0)
    }

    fn remove(&self, host: &str, change: &mut Change) -> Result<(), StateError> {
        change.remove(&HISTORIES, host)?;
        let mut entries = self.documents.iter();
        entries.try_for_each(|entry| change.remove(&DOCUMENTS, &name(host, entry)))
    }
}

fn name(host: &str, entry: &Entry) -> String {
    format!("{host}/{:020}", entry.number)
}

fn unhex(text: &str) -> Option<Digest> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let pair = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    Some(Digest(digits?.chunks(2).map(pair).collect::<Vec<u8>>().into()))
}

#[cfg(test)]
mod tests;

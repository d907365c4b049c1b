//! Which questions are being answered, and which took long.
//!
//! A question is in the table from when it came until it is answered or given up: as many as the gate
//! admits and those that are answered elsewhere, their texts cut to [`TEXT_BYTES_MAX`]. One that took long
//! is logged once: when it is answered, or else when it leaves the table, given up or passed on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stoa_model::TimestampMs;
use tokio::time::Instant;

use crate::remote::Ends;

/// Bytes kept of a question's text.
const TEXT_BYTES_MAX: usize = 4096;

/// What is asked, as people recognize it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The route.
    pub path: &'static str,
    /// PromQL, or selectors.
    pub text: String,
    /// When it came, ms since 1970.
    pub came_ms: TimestampMs,
}

impl Asked {
    /// A question; long texts are cut.
    pub(super) fn new(path: &'static str, mut text: String, came_ms: TimestampMs) -> Self {
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        Self { path, text, came_ms }
    }
}

/// One that is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) asked: Arc<Asked>,
    pub(super) elapsed: Duration,
    /// It has its turn.
    pub(super) is_running: bool,
}

#[derive(Debug)]
struct Entry {
    asked: Arc<Asked>,
    since: Instant,
    is_running: bool,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
}

/// A question's place in the table; gone with this.
#[derive(Debug)]
pub(super) struct Listed {
    table: Arc<Table>,
    number: u64,
    slow: Duration,
    /// It has been said how it ended.
    ended: AtomicBool,
}

impl Table {
    /// Enters a question; if it takes as long as `slow` or longer that is logged.
    pub(super) fn enter(self: &Arc<Self>, asked: Asked, slow: Duration) -> Listed {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        let entry = Entry { asked: Arc::new(asked), since: Instant::now(), is_running: false };
        entries.by_number.insert(number, entry);
        Listed { table: Arc::clone(self), number, slow, ended: AtomicBool::new(false) }
    }

    /// What is in it, the oldest first.
    pub(super) fn list(&self) -> Vec<Active> {
        let entries = self.entries();
        let all = entries.by_number.values().map(|entry| Active {
            asked: Arc::clone(&entry.asked),
            elapsed: entry.since.elapsed(),
            is_running: entry.is_running,
        });
        all.collect()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// It has its turn.
    pub(super) fn runs(&self) {
        if let Some(entry) = self.table.entries().by_number.get_mut(&self.number) {
            entry.is_running = true;
        }
    }

    /// It has ended, in this way; only the first time counts. Says in the log that it took long, if it
    /// did.
    pub(super) fn end(&self, outcome: &str) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let entries = self.table.entries();
        let Some(entry) = entries.by_number.get(&self.number) else { return };
        let elapsed = entry.since.elapsed();
        if elapsed >= self.slow {
            let asked = Arc::clone(&entry.asked);
            drop(entries);
            let (path, query) = (asked.path, asked.text.as_str());
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(path, query, elapsed_ms, outcome, "a query was slow");
        }
    }
}

impl Ends for Listed {
    fn end(&self, outcome: &str) {
        Self::end(self, outcome);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.end("given up");
        self.table.entries().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_are_listed_while_they_are_answered() {
        let table = Arc::new(Table::default());
        let first = table.enter(Asked::new("/a", "up".to_owned(), 7), Duration::MAX);
        let second = table.enter(Asked::new("/b", "ä".repeat(3000), 8), Duration::MAX);
        second.runs();
        tokio::time::advance(Duration::from_secs(3)).await;
        let found = table.list();
        let of = |at: usize| found.get(at).unwrap();
        assert_eq!((of(0).asked.path, of(0).is_running), ("/a", false));
        assert_eq!((of(1).is_running, of(1).elapsed), (true, Duration::from_secs(3)));
        assert_eq!(of(1).asked.text, "ä".repeat(2048) + "…");
        drop(first);
        assert_eq!(table.list().len(), 1);
        drop(second);
        assert_eq!(table.list(), []);
    }
}

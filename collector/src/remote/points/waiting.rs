//! Parts of histograms and summaries that wait for the others: those of one point may have come in
//! several writes, and so be read apart.
//!
//! A point is whole when it has the parts that the last one of its stream had. One of which that is not
//! known, as of a stream that is new, or that has other parts, waits for [`WAIT`], and goes with what has
//! come by then; so do those of its stream after it, which stay in order. While the log is being caught up
//! with it is its time that counts, by the newest sample read, not ours: a slow target makes nothing go apart.
//!
//! What waits is not delivered: the target's cursor stays before it, and a start finds it again.
//!
//! Bounds: [`SAMPLES_MAX`] wait, beyond which all go, from which nothing is learnt; [`STREAMS_MAX`] streams are known, beyond which all
//! are forgotten and their next points wait once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use stoa_model::TimestampMs;
use stoa_tsdb::Cursor;
use tokio::time::Instant;

use super::{Parts, Stream};

/// How long a point waits for its other parts: longer than senders need for the requests of one scrape.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Most samples that wait.
const SAMPLES_MAX: u64 = 100_000;

/// Most streams, and most families, of which something is known.
const STREAMS_MAX: usize = 100_000;

/// Points by stream and time.
pub(super) type Points = BTreeMap<Stream, BTreeMap<TimestampMs, Parts>>;

/// What waits, and what is known of streams.
#[derive(Debug, Default)]
pub(in crate::remote) struct Waiting {
    held: Points,
    /// By the hash of a stream, that of the parts its last point had.
    known: HashMap<u64, u64>,
    hasher: RandomState,
    /// Families whose buckets have been seen.
    families: HashSet<String>,
    /// Reads so far, and where those end that are not delivered, or are the last before them.
    reads: u64,
    ends: VecDeque<(u64, Cursor)>,
}

impl Waiting {
    /// Adds families whose buckets were seen to those seen before, and says which they are now.
    pub(super) fn families(&mut self, seen: HashSet<&str>) -> &HashSet<String> {
        if self.families.len() + seen.len() > STREAMS_MAX {
            self.families.clear();
        }
        for family in seen {
            if !self.families.contains(family) {
                self.families.insert(family.to_owned());
            }
        }
        &self.families
    }

    /// Takes what a read gave, and leaves there what is to go now. `newest_t` is of what was read, where
    /// there is more in the log.
    pub(super) fn settle(
        &mut self,
        points: &mut Points,
        newest_t: Option<TimestampMs>,
        now: Instant,
    ) {
        self.reads += 1;
        for (stream, held) in std::mem::take(&mut self.held) {
            let own = points.entry(stream).or_default();
            for (t, before) in held {
                own.entry(t).or_default().add(before);
            }
        }
        let wait_ms = i64::try_from(WAIT.as_millis()).unwrap_or(i64::MAX);
        let read = self.reads;
        for (stream, own) in points.iter_mut() {
            let stream_hash = self.hasher.hash_one(stream);
            let mut held = std::mem::take(own);
            while let Some(first) = held.first_entry() {
                let t = *first.key();
                let parts = first.get();
                let hash = parts.layout(&self.hasher);
                let is_whole = self.known.get(&stream_hash) == Some(&hash);
                let is_over = match newest_t {
                    Some(newest) => newest.saturating_sub(t) >= wait_ms,
                    None => parts.since.is_some_and(|(_, since)| now.duration_since(since) >= WAIT),
                };
                if !(is_whole || is_over) {
                    break;
                }
                if !is_whole {
                    if self.known.len() >= STREAMS_MAX {
                        self.known.clear();
                    }
                    self.known.insert(stream_hash, hash);
                }
                own.insert(t, first.remove());
            }
            for parts in held.values_mut() {
                parts.since.get_or_insert((read, now));
            }
            if !held.is_empty() {
                self.held.insert(stream.clone(), held);
            }
        }
        let samples: u64 = self.held.values().flat_map(BTreeMap::values).map(Parts::samples).sum();
        if samples > SAMPLES_MAX {
            for (stream, held) in std::mem::take(&mut self.held) {
                points.entry(stream).or_default().extend(held);
            }
        }
    }

    /// Up to where all that was read can go, when what was read last ends at `end`: before what waits.
    /// `None` where nothing can.
    pub(super) fn cursor(&mut self, end: Cursor) -> Option<Cursor> {
        self.ends.push_back((self.reads, end));
        let since = |parts: &Parts| parts.since.map(|(read, _)| read);
        let oldest = self.held.values().flat_map(BTreeMap::values).filter_map(since).min();
        let last = oldest.map_or(self.reads, |oldest| oldest.saturating_sub(1));
        while self.ends.get(1).is_some_and(|(read, _)| *read <= last) {
            self.ends.pop_front();
        }
        self.ends.front().filter(|(read, _)| *read <= last).map(|(_, end)| *end)
    }
}

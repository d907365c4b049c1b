//! Which series each sender has been writing, so that labels are made into a set and looked up in the
//! store once and not with every sample.
//!
//! A series is known by 96 bits of its labels as sent: a keyed `SipHash` and a CRC. No sender can make
//! two series agree in the first, and what agrees by chance in both is not met. Bounds:
//! [`SENDERS_MAX`] senders, and for each a number of series that have come within [`ACTIVE_S`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use stoa_exchange::remote_write::RawLabel;
use stoa_model::TimestampMs;
use stoa_tsdb::{GroupId, SeriesRef};

use super::Way;

/// Most senders remembered; beyond it the one that has been silent longest is forgotten, and its
/// series are looked up again when it comes back.
const SENDERS_MAX: usize = 64;

/// For how long a series counts as one of its sender's after its last sample, seconds.
const ACTIVE_S: i64 = 3600;

/// How often at most a full list is searched for series that come no more, seconds.
const SWEEP_S: i64 = 60;

/// Where a series' samples go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) group: GroupId,
    pub(super) series: SeriesRef,
}

/// Why a series has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unplaced {
    /// Its labels break the rules.
    Labels(String),
    /// There are too many.
    Limit(String),
}

/// All senders.
#[derive(Debug)]
pub(super) struct Senders {
    series_max: usize,
    known: Mutex<HashMap<(Way, String), Arc<Sender>>>,
}

/// One sender: a way in, and a credential's name.
#[derive(Debug)]
pub(super) struct Sender {
    way: Way,
    pub(super) name: String,
    /// Held while a message of this sender is walked, never over an await.
    cache: Mutex<Cache>,
    /// Held to tell or ask only.
    last: Mutex<Last>,
}

/// What became of a sender's last messages.
#[derive(Clone, Debug, Default)]
struct Last {
    stored_ms: Option<TimestampMs>,
    interval_ms: Option<i64>,
    complaint: Option<String>,
}

/// A sender, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SenderStanding {
    /// How it sends.
    pub(crate) way: Way,
    /// Its credential's name.
    pub(crate) name: String,
    /// When something of it was last stored; `None` when nothing was.
    pub(crate) stored_ms: Option<TimestampMs>,
    /// Between the last two times.
    pub(crate) interval_ms: Option<i64>,
    /// What of its last message was refused for good.
    pub(crate) complaint: Option<String>,
}

/// The series of a sender.
#[derive(Debug)]
pub(super) struct Cache {
    series_max: usize,
    hasher: RandomState,
    series: HashTable<Entry>,
    /// One series' labels as bytes.
    bytes: Vec<u8>,
    now_s: i64,
    swept_s: i64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    check: u32,
    place: Place,
    seen_s: i64,
}

impl Senders {
    pub(super) fn new(series_max: usize) -> Self {
        Self { series_max, known: Mutex::default() }
    }

    /// The sender of a name.
    pub(super) fn named(&self, way: Way, name: &str) -> Arc<Sender> {
        let mut known = self.known();
        let key = (way, name.to_owned());
        if let Some(sender) = known.get(&key) {
            return Arc::clone(sender);
        }
        if known.len() >= SENDERS_MAX {
            // One that is writing right now has been seen just now.
            let seen = |sender: &Sender| sender.cache.try_lock().map_or(i64::MAX, |c| c.now_s);
            let oldest = known.values().min_by_key(|sender| seen(sender));
            if let Some(key) = oldest.map(|sender| (sender.way, sender.name.clone())) {
                known.remove(&key);
            }
        }
        let cache = Mutex::new(Cache::new(self.series_max));
        let last = Mutex::default();
        let sender = Arc::new(Sender { way, name: name.to_owned(), cache, last });
        known.insert(key, Arc::clone(&sender));
        sender
    }

    /// Forgets the places of a sender's series; they are looked up again.
    pub(super) fn forget(&self, way: Way, name: &str) {
        self.known().remove(&(way, name.to_owned()));
    }

    /// A message of a sender has been stored, but for what is complained about.
    pub(super) fn stored(
        &self,
        way: Way,
        name: &str,
        now_ms: TimestampMs,
        complaint: Option<String>,
    ) {
        let sender = self.named(way, name);
        let mut last = sender.last();
        last.interval_ms = last.stored_ms.map(|before| now_ms - before).or(last.interval_ms);
        last.stored_ms = Some(now_ms);
        last.complaint = complaint;
    }

    /// Every sender that is remembered.
    pub(super) fn standings(&self) -> Vec<SenderStanding> {
        let senders: Vec<Arc<Sender>> = self.known().values().cloned().collect();
        let each = senders.iter().map(|sender| {
            let Last { stored_ms, interval_ms, complaint } = sender.last().clone();
            let name = sender.name.clone();
            SenderStanding { way: sender.way, name, stored_ms, interval_ms, complaint }
        });
        each.collect()
    }

    /// How many senders come this way, and how many series of them.
    pub(super) fn counts(&self, way: Way) -> (u64, u64) {
        let known = self.known();
        let senders = known.values().filter(|sender| sender.way == way);
        let senders: Vec<Arc<Sender>> = senders.cloned().collect();
        drop(known);
        let series = senders.iter().map(|sender| sender.cache().series.len() as u64).sum();
        (senders.len() as u64, series)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(Way, String), Arc<Sender>>> {
        // Every change under the lock is whole: what a panicking holder left is good.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    fn last(&self) -> MutexGuard<'_, Last> {
        // Told as a whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        // An entry is inserted whole or not at all.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn new(series_max: usize) -> Self {
        Self {
            series_max,
            hasher: RandomState::new(),
            series: HashTable::new(),
            bytes: Vec::new(),
            now_s: 0,
            swept_s: 0,
        }
    }

    /// A message begins.
    pub(super) fn begin(&mut self, now_ms: TimestampMs) {
        self.now_s = now_ms.div_euclid(1000);
    }

    /// The place of the series with these labels; `find` is asked when it is new.
    pub(super) fn place(
        &mut self,
        labels: &[RawLabel<'_>],
        find: impl FnOnce() -> Result<Place, Unplaced>,
    ) -> Result<Place, Unplaced> {
        self.bytes.clear();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(&len.to_le_bytes());
            self.bytes.extend_from_slice(text);
        }
        let hash = self.hasher.hash_one(self.bytes.as_slice());
        let check = crc32c::crc32c(&self.bytes);
        let is_it = |entry: &Entry| entry.hash == hash && entry.check == check;
        if let Some(entry) = self.series.find_mut(hash, is_it) {
            entry.seen_s = self.now_s;
            return Ok(entry.place);
        }
        if self.series.len() >= self.series_max {
            self.sweep();
            if self.series.len() >= self.series_max {
                return Err(Unplaced::Limit(format!(
                    "the sender has {} series active already",
                    self.series_max
                )));
            }
        }
        let place = find()?;
        let entry = Entry { hash, check, place, seen_s: self.now_s };
        self.series.insert_unique(hash, entry, |entry| entry.hash);
        Ok(place)
    }

    fn sweep(&mut self) {
        if self.now_s - self.swept_s >= SWEEP_S {
            self.swept_s = self.now_s;
            let now_s = self.now_s;
            self.series.retain(|entry| now_s - entry.seen_s <= ACTIVE_S);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way::RemoteWrite;

    fn place(number: u32) -> Place {
        Place { group: GroupId(1), series: SeriesRef(number) }
    }

    #[test]
    fn a_series_is_looked_up_once_and_makes_room_when_it_comes_no_more() {
        let senders = Senders::new(2);
        let sender = senders.named(WAY, "a");
        let mut cache = sender.cache();
        let mut ask = |at_s: i64, name: &str, number: u32| {
            cache.begin(at_s * 1000);
            cache.place(&[(name.as_bytes(), b"v")], || Ok(place(number)))
        };
        assert_eq!(ask(100, "x", 1), Ok(place(1)));
        assert_eq!(ask(200, "x", 9), Ok(place(1)), "known, not asked for again");
        assert_eq!(ask(200, "y", 2), Ok(place(2)));
        let full = ask(200 + ACTIVE_S, "z", 3);
        assert!(matches!(full, Err(Unplaced::Limit(_))), "{full:?}");
        assert_eq!(ask(200 + ACTIVE_S, "x", 9), Ok(place(1)));
        let full = ask(201 + ACTIVE_S, "z", 3);
        assert!(matches!(full, Err(Unplaced::Limit(_))), "swept a moment ago: {full:?}");
        assert_eq!(ask(260 + ACTIVE_S, "z", 3), Ok(place(3)), "y makes room");
        drop(cache);
        assert_eq!(senders.counts(WAY), (1, 2));
        senders.forget(WAY, "a");
        assert_eq!(senders.counts(WAY), (0, 0));
    }

    #[test]
    fn what_became_of_a_sender_is_told() {
        let senders = Senders::new(1);
        senders.named(WAY, "a");
        senders.stored(Way::Otlp, "b", 1000, None);
        senders.stored(Way::Otlp, "b", 16_000, Some("1 samples too old".to_owned()));
        let mut told = senders.standings();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        let of = |way, name: &str, stored_ms, interval_ms, complaint: Option<&str>| {
            let (name, complaint) = (name.to_owned(), complaint.map(str::to_owned));
            SenderStanding { way, name, stored_ms, interval_ms, complaint }
        };
        let b = of(Way::Otlp, "b", Some(16_000), Some(15_000), Some("1 samples too old"));
        assert_eq!(told, [of(WAY, "a", None, None, None), b]);
    }

    #[test]
    fn where_one_label_ends_matters() {
        let senders = Senders::new(10);
        let sender = senders.named(WAY, "a");
        let mut cache = sender.cache();
        let sets: [&[RawLabel<'_>]; 4] =
            [&[(b"ab", b"c")], &[(b"a", b"bc")], &[(b"ab", b""), (b"c", b"")], &[(b"abc", b"")]];
        for (number, labels) in (0..).zip(sets) {
            assert_eq!(cache.place(labels, || Ok(place(number))), Ok(place(number)));
        }
    }

    #[test]
    fn the_sender_silent_longest_makes_room() {
        let senders = Senders::new(1);
        for number in 0..SENDERS_MAX {
            let sender = senders.named(WAY, &number.to_string());
            sender.cache().begin(if number == 7 { 1000 } else { 2000 });
        }
        senders.named(WAY, "one more");
        assert_eq!(senders.counts(WAY).0, SENDERS_MAX as u64);
        assert!(!senders.known().contains_key(&(WAY, "7".to_owned())));
    }
}

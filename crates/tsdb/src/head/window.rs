//! What a window leaves behind when it is sealed: one compressed chunk per series, their timestamps
//! once.
//!
//! A sealed window lies within one block range and its samples never change, so readers and the block
//! writer share it without a lock. Its chunks are in memory until the next maintenance has written
//! them to a file of the head (`crate::head_file`); what stays is two bytes and a bit per chunk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::column::Presence;
use crate::block::BlockError;
use crate::bytes::{Cursor, Malformed};
use crate::chunk::{
    decode_histograms, decode_times, decode_values, encode_times, holds_histograms,
};
use crate::head_file::{CRC_BYTES, HeadFile, check};
use crate::select::{Samples, WholeTimes, within};
use crate::weight::Weight;

/// One sealed window of a group.
#[derive(Debug)]
pub(crate) struct Window {
    /// Counts the windows of the process in the order they were sealed.
    pub(crate) serial: u64,
    first_t: TimestampMs,
    last_t: TimestampMs,
    ticks: usize,
    /// The timestamps as a chunk.
    times: Box<[u8]>,
    /// Slots of the members that have a chunk.
    slots: Slots,
    /// Bytes of each chunk with its presence, in order of slots.
    lens: Box<[u16]>,
    /// Bytes of all chunks before each [`STRIDE`]th.
    strides: Box<[u32]>,
    samples: u64,
    /// Its chunks are of native histograms, all of them.
    has_histograms: bool,
    place: Mutex<Place>,
}

/// Of so many chunks the lengths are added up to find one.
const STRIDE: usize = 64;

/// Where the chunks are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// One after the other.
    Memory(Arc<[u8]>),
    /// From this offset on, each behind its checksum.
    File { file: Arc<HeadFile>, offset: u64 },
}

impl Place {
    /// The number of the file.
    pub(crate) fn file(&self) -> Option<u64> {
        match self {
            Self::Memory(_) => None,
            Self::File { file, .. } => Some(file.number),
        }
    }
}

/// A set of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    pub(crate) fn insert(&mut self, slot: u32) {
        let at = (slot / 64) as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(crate) fn has(&self, slot: u32) -> bool {
        self.0.get((slot / 64) as usize).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// How many slots below `slot` are in the set, if it is in the set itself.
    fn rank(&self, slot: u32) -> Option<usize> {
        if !self.has(slot) {
            return None;
        }
        let at = (slot / 64) as usize;
        let whole: usize = self.0.iter().take(at).map(|word| word.count_ones() as usize).sum();
        let part = self.0.get(at).map_or(0, |word| word & ((1 << (slot % 64)) - 1));
        Some(whole + part.count_ones() as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.iter().zip((0u32..).step_by(64));
        words.flat_map(|(word, first)| {
            let next = |word: &u64| Some(word & (word - 1)).filter(|rest| *rest != 0);
            std::iter::successors(Some(*word).filter(|word| *word != 0), next)
                .map(move |word| first + word.trailing_zeros())
        })
    }
}

/// A window on its way to be sealed.
#[derive(Debug, Default)]
pub(crate) struct WindowBuilder {
    slots: Slots,
    lens: Vec<u16>,
    bytes: Vec<u8>,
    samples: u64,
    has_histograms: bool,
}

impl WindowBuilder {
    /// Adds the chunk `put` appends, of a member behind all that were added. `present` says which
    /// ticks it has; all when `None`.
    pub(crate) fn push(
        &mut self,
        slot: u32,
        samples: usize,
        present: Option<&Presence>,
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        // A chunk of 256 values takes some 2 KiB at the very most.
        let _fits = self.push_any(slot, samples, present, put);
    }

    /// Adds a chunk of histograms of a member behind all that were added; false when it is too long
    /// or the window has floats.
    pub(crate) fn push_histograms(
        &mut self,
        slot: u32,
        samples: usize,
        present: Option<&Presence>,
        chunk: &[u8],
    ) -> bool {
        if !self.has_histograms && !self.is_empty() {
            return false;
        }
        self.has_histograms = true;
        self.push_any(slot, samples, present, |bytes| bytes.extend_from_slice(chunk))
    }

    fn push_any(
        &mut self,
        slot: u32,
        samples: usize,
        present: Option<&Presence>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let at = self.bytes.len();
        put_presence(&mut self.bytes, present);
        put(&mut self.bytes);
        match u16::try_from(self.bytes.len() - at) {
            Ok(len) => {
                self.lens.push(len);
                self.slots.insert(slot);
                self.samples += samples as u64;
                true
            }
            Err(_too_long) => {
                self.bytes.truncate(at);
                false
            }
        }
    }

    /// Adds a chunk with its presence as it was stored; says whether it is one.
    pub(crate) fn push_stored(&mut self, slot: u32, ticks: usize, stored: &[u8]) -> bool {
        let Ok((present, chunk)) = split_stored(stored) else { return false };
        let count = present.as_ref().map_or(ticks, Presence::count);
        if holds_histograms(chunk) {
            return decode_histograms(chunk, count, &mut Vec::new()).is_ok()
                && self.push_histograms(slot, count, present.as_ref(), chunk);
        }
        if self.has_histograms {
            return false;
        }
        if stored.len() > usize::from(u16::MAX)
            || decode_values(chunk, count, &mut Vec::new()).is_err()
        {
            return false;
        }
        self.push(slot, count, present.as_ref(), |bytes| bytes.extend_from_slice(chunk));
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// The chunks with their presence, by slot.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.slots.iter().zip(&self.lens).map(move |(slot, len)| {
            let (stored, behind) = rest.split_at_checked(usize::from(*len)).unwrap_or_default();
            rest = behind;
            (slot, stored)
        })
    }

    /// The window; its chunks are in memory. `times` ascend and are not empty.
    pub(crate) fn finish(self, serial: u64, times: &[TimestampMs]) -> Window {
        let place = Place::Memory(Arc::from(self.bytes));
        let window = Window::new(serial, times, self.slots, self.lens.into(), self.samples, place);
        Window { has_histograms: self.has_histograms, ..window }
    }
}

/// Appends what stands in front of a chunk: which ticks it has values for.
pub(crate) fn put_presence(out: &mut Vec<u8>, present: Option<&Presence>) {
    match present {
        None => out.push(0),
        Some(present) => {
            out.push(1);
            present.words().iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }
}

/// Presence and chunk of what [`put_presence`] and an encoder wrote.
pub(crate) fn split_stored(stored: &[u8]) -> Result<(Option<Presence>, &[u8]), Malformed> {
    let mut cursor = Cursor::new(stored);
    let present = Presence::get(&mut cursor)?;
    let chunk = cursor.take(cursor.len())?;
    Ok((present, chunk))
}

impl Window {
    pub(crate) fn new(
        serial: u64,
        times: &[TimestampMs],
        slots: Slots,
        lens: Box<[u16]>,
        samples: u64,
        place: Place,
    ) -> Self {
        let mut encoded = Vec::new();
        encode_times(times, &mut encoded);
        let mut before = 0u32;
        let stride = |lens: &[u16]| {
            let bytes: u32 = lens.iter().map(|len| u32::from(*len)).sum();
            let end = before.saturating_add(bytes);
            std::mem::replace(&mut before, end)
        };
        let strides = lens.chunks(STRIDE).map(stride).collect();
        Self {
            serial,
            first_t: times.first().copied().unwrap_or(TimestampMs::MAX),
            last_t: times.last().copied().unwrap_or(TimestampMs::MIN),
            ticks: times.len(),
            times: encoded.into(),
            slots,
            lens,
            strides,
            samples,
            has_histograms: false,
            place: Mutex::new(place),
        }
    }

    /// The same, of chunks of native histograms.
    pub(crate) fn of_histograms(self) -> Self {
        Self { has_histograms: true, ..self }
    }

    /// Whether its chunks are of native histograms.
    pub(crate) fn has_histograms(&self) -> bool {
        self.has_histograms
    }

    pub(crate) fn first_t(&self) -> TimestampMs {
        self.first_t
    }

    pub(crate) fn last_t(&self) -> TimestampMs {
        self.last_t
    }

    pub(crate) fn ticks(&self) -> usize {
        self.ticks
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn lens(&self) -> &[u16] {
        &self.lens
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// How many series have a chunk in it.
    pub(crate) fn chunks(&self) -> usize {
        self.lens.len()
    }

    /// Bytes of all chunks.
    pub(crate) fn bytes(&self) -> u64 {
        self.lens.iter().map(|len| u64::from(*len)).sum()
    }

    /// The timestamps as a chunk.
    pub(crate) fn encoded_times(&self) -> &[u8] {
        &self.times
    }

    pub(crate) fn times(&self) -> Vec<TimestampMs> {
        let mut times = Vec::with_capacity(self.ticks);
        // They were encoded by this process.
        decode_times(&self.times, self.ticks, &mut times).unwrap_or_default();
        times
    }

    pub(crate) fn has(&self, t: TimestampMs) -> bool {
        self.first_t <= t && t <= self.last_t && self.times().binary_search(&t).is_ok()
    }

    pub(crate) fn overlaps(&self, start: TimestampMs, end: TimestampMs) -> bool {
        self.first_t <= end && self.last_t >= start
    }

    pub(crate) fn place(&self) -> Place {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its chunks have been written to a file: they need no memory any more.
    pub(crate) fn set_place(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// The chunk of the member in a slot, if it has one.
    pub(crate) fn sealed(self: &Arc<Self>, slot: u32) -> Option<Sealed> {
        let rank = self.slots.rank(slot)?;
        Some(Sealed { window: Arc::clone(self), rank: u32::try_from(rank).ok()? })
    }

    /// All members' chunks, with their slots.
    pub(crate) fn all_sealed(self: &Arc<Self>) -> impl Iterator<Item = (u32, Sealed)> {
        let ranked = self.slots.iter().zip(0u32..);
        ranked.map(|(slot, rank)| (slot, Sealed { window: Arc::clone(self), rank }))
    }

    /// A chunk with its presence.
    fn stored(&self, rank: usize, cache: &mut TimesCache) -> Result<Vec<u8>, BlockError> {
        let len = usize::from(*self.lens.get(rank).ok_or(Malformed("no chunk of that number"))?);
        let whole = self.strides.get(rank / STRIDE).map_or(0, |bytes| *bytes as usize);
        let part = self.lens.iter().take(rank).skip(rank - rank % STRIDE);
        let before = whole + part.map(|len| usize::from(*len)).sum::<usize>();
        match self.place() {
            Place::Memory(bytes) => {
                let stored = bytes.get(before..before + len);
                Ok(stored.ok_or(Malformed("chunk out of place"))?.to_vec())
            }
            Place::File { file, offset } => {
                let from = before + rank * CRC_BYTES;
                let at = offset + from as u64;
                let all = cache.chunks(self, &file, offset);
                let stored = all.as_ref().and_then(|all| all.get(from..from + CRC_BYTES + len));
                match stored.map(|stored| check(file.number, at, stored)) {
                    Some(Ok(chunk)) => Ok(chunk.to_vec()),
                    Some(Err(_)) | None => file.read_chunk(at, len),
                }
            }
        }
    }
}

/// One series' values in one sealed window.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) window: Arc<Window>,
    /// Which of the window's chunks.
    rank: u32,
}

/// Timestamps of windows that were read lately, so that the series of a group decode them once; and
/// the chunks of windows of which most series are to be read, so that they are read at once.
#[derive(Debug, Default)]
pub(crate) struct TimesCache {
    times: HashMap<u64, Arc<[TimestampMs]>>,
    /// Of series that were not there at each tick.
    present: HashMap<(u64, Presence), Arc<[TimestampMs]>>,
    /// `None` when they could not be read or do not fit.
    chunks: HashMap<u64, Option<Arc<[u8]>>>,
    /// Bytes of chunks that may still be held.
    room: u64,
}

/// Bytes of chunks held at most; windows that do not fit are read chunk by chunk.
const CHUNKS_CACHED_BYTES: u64 = 32 << 20;

/// Windows whose timestamps one query or one group of a block writer holds at most, and as many sets
/// of ticks of such: 8 MiB.
const TIMES_CACHED_MAX: usize = 2048;

impl TimesCache {
    fn get(&mut self, window: &Window) -> Arc<[TimestampMs]> {
        if self.times.len() >= TIMES_CACHED_MAX {
            self.times.clear();
        }
        Arc::clone(self.times.entry(window.serial).or_insert_with(|| window.times().into()))
    }

    /// The timestamps of the ticks a series was there at.
    fn of(&mut self, window: &Window, present: Option<&Presence>) -> Arc<[TimestampMs]> {
        let all = self.get(window);
        let Some(present) = present else { return all };
        if self.present.len() >= TIMES_CACHED_MAX {
            self.present.clear();
        }
        let ticks = || present.ticks().filter_map(|tick| all.get(tick).copied()).collect();
        Arc::clone(self.present.entry((window.serial, *present)).or_insert_with(ticks))
    }

    /// One that holds whole windows.
    pub(crate) fn with_chunks() -> Self {
        Self { room: CHUNKS_CACHED_BYTES, ..Self::default() }
    }

    /// All chunks of a window, unchecked.
    fn chunks(&mut self, window: &Window, file: &HeadFile, offset: u64) -> Option<Arc<[u8]>> {
        if let Some(known) = self.chunks.get(&window.serial) {
            return known.clone();
        }
        let bytes = window.bytes() + (window.lens.len() * CRC_BYTES) as u64;
        let room = self.room.checked_sub(bytes)?;
        let read = file.read(offset, usize::try_from(bytes).ok()?).ok().map(Arc::from);
        self.room = room;
        self.chunks.insert(window.serial, read.clone());
        read
    }
}

impl Sealed {
    /// How much the series has from `start` to `end`, both included, decoding nothing.
    pub(crate) fn weight(&self, start: TimestampMs, end: TimestampMs) -> Weight {
        let window = &self.window;
        let bytes = window.lens.get(self.rank as usize).copied().unwrap_or_default();
        let span = (window.first_t, window.last_t);
        Weight::chunk(u64::from(bytes), window.ticks as u64, span, (start, end))
    }

    /// How many samples the series has in the window, if all of it is in the range and that is seen
    /// without reading: each of its series was there at each tick.
    pub(crate) fn samples_within(&self, start: TimestampMs, end: TimestampMs) -> usize {
        let window = &*self.window;
        let is_within = start <= window.first_t && window.last_t <= end;
        let is_full = window.samples == (window.ticks * window.lens.len()) as u64;
        if is_within && is_full { window.ticks } else { 0 }
    }

    /// Whether the series has a sample at `t`, and which one.
    pub(crate) fn find(&self, t: TimestampMs) -> Result<Option<f64>, BlockError> {
        let mut found = Samples::default();
        self.decode(t, t, &mut TimesCache::default(), &mut found)?;
        let (_, values) = found.into_columns(&mut WholeTimes::default());
        Ok(values.first().copied())
    }

    /// Whether the series has a histogram at `t`, and which one.
    pub(crate) fn find_histogram(&self, t: TimestampMs) -> Result<Option<Histogram>, BlockError> {
        let mut found = Vec::new();
        self.decode_histograms(t, t, &mut TimesCache::default(), &mut found)?;
        Ok(found.pop().map(|(_, histogram)| histogram))
    }

    /// Appends the histograms in the range, both ends included; none of a window of floats. After an
    /// error `out` may hold some.
    pub(crate) fn decode_histograms(
        &self,
        start: TimestampMs,
        end: TimestampMs,
        times: &mut TimesCache,
        out: &mut Vec<(TimestampMs, Histogram)>,
    ) -> Result<(), BlockError> {
        if !self.window.has_histograms {
            return Ok(());
        }
        let stored = self.window.stored(self.rank as usize, times)?;
        let (present, chunk) = split_stored(&stored)?;
        let times = times.get(&self.window);
        let mut histograms = Vec::new();
        let in_range = |(t, _): &(TimestampMs, Histogram)| start <= *t && *t <= end;
        match present {
            None => {
                decode_histograms(chunk, times.len(), &mut histograms)?;
                out.extend(times.iter().copied().zip(histograms).filter(in_range));
            }
            Some(present) => {
                decode_histograms(chunk, present.count(), &mut histograms)?;
                let times = present.ticks().filter_map(|tick| times.get(tick).copied());
                out.extend(times.zip(histograms).filter(in_range));
            }
        }
        Ok(())
    }

    /// Appends the samples in the range, both ends included, none of a window of histograms; after an
    /// error none.
    pub(crate) fn decode(
        &self,
        start: TimestampMs,
        end: TimestampMs,
        times: &mut TimesCache,
        out: &mut Samples,
    ) -> Result<(), BlockError> {
        if self.window.has_histograms {
            return Ok(());
        }
        let stored = self.window.stored(self.rank as usize, times)?;
        let (present, chunk) = split_stored(&stored)?;
        let times = times.of(&self.window, present.as_ref());
        let count = present.map_or(times.len(), |present| present.count());
        let part = within(&times, start, end);
        if part.is_empty() {
            return Ok(());
        }
        let skip = part.start;
        out.extend(&times, part, skip, |values| decode_values(chunk, count, values))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use std::collections::BTreeSet;

    use super::Slots;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn slots_are_a_set(given in proptest::collection::btree_set(0u32..400, 0..90)) {
            let mut slots = Slots::default();
            given.iter().rev().for_each(|slot| slots.insert(*slot));
            assert!(slots.iter().eq(given.iter().copied()));
            for slot in 0..450 {
                let rank = given.contains(&slot).then(|| given.range(..slot).count());
                assert_eq!(slots.rank(slot), rank);
            }
            let mut union = Slots::default();
            union.insert(7);
            union.add_all(&slots);
            let expected: BTreeSet<u32> = given.iter().copied().chain([7]).collect();
            assert!(union.iter().eq(expected));
        }
    }
}

//! Followers of the log: reading on, acknowledging, and what is kept for them.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, TimestampMs};
use stoa_wal::{DamageReason, Entry, Position, Reader, WalError};

use super::maintain::remove_error;
use super::{Db, check_mark};
use crate::bytes::Cursor as Bytes;
use crate::follow::{Departed, KEY_PREFIX, Standing, batch_of, encode};
use crate::log::LogError;
use crate::record::{self, HistogramsRecord, KIND_SERIES};
use crate::{
    AppendError, Cursor, DbError, Followed, FollowedSeries, Follower, FollowerFigures,
    HistogramSample, Mark, SeriesRef,
};

/// What is read of the log by one call although it holds no samples.
const READ_BYTES_MAX: usize = 16 << 20;

/// How many calls in a row may fail to open a segment before it is passed over: what cannot be opened
/// now, for want of file descriptors or memory, can be later.
const OPENINGS_MAX: u32 = 64;

/// Followers hold no more than one part in so many of the room there would be without what they hold.
const FOLLOW_SHARE: u64 = 4;

impl Db {
    /// Begins to follow the log, or goes on: where the saved cursor of that name stands, at the end
    /// of what is durable when there is none. From then on the log is kept for it, within bounds,
    /// over restarts too, until [`Self::unfollow`].
    ///
    /// # Errors
    /// [`AppendError::MarkTooLong`] for a name of over a thousand bytes; [`AppendError::DiskFull`] and
    /// [`AppendError::Stopped`] when a new name cannot be written down.
    pub fn follow(&self, name: &str) -> Result<Follower, AppendError> {
        let known = self.followers_mut().by_name.get(name).copied();
        let cursor = match known {
            Some(standing) => standing.acknowledged,
            None => {
                let position = self.writer().log.durable();
                let cursor = Cursor { position, ..Cursor::default() };
                self.save_follower(name, cursor, true)?;
                let standing = Standing { acknowledged: cursor, saved: cursor, samples_lost: 0 };
                self.followers_mut().by_name.insert(name.to_owned(), standing);
                cursor
            }
        };
        let (name, departed) = (name.to_owned(), Departed::default());
        Ok(Follower { name, cursor, reader: None, torn: None, unopened: 0, departed })
    }

    /// Ends following under a name; says whether there was one. Not durable before [`Self::sync`].
    ///
    /// # Errors
    /// [`AppendError::DiskFull`], [`AppendError::Stopped`].
    pub fn unfollow(&self, name: &str) -> Result<bool, AppendError> {
        // First, so that maintenance does not write its cursor down again.
        let known = self.followers_mut().by_name.remove(name).is_some();
        self.remove_mark(&key_of(name))?;
        Ok(known)
    }

    /// Reads on from where the last call ended: up to `samples_max` samples, and the rest of the batch
    /// with which that is reached. Reads from the disk; call it from a thread that may block.
    #[must_use]
    pub fn read_on(&self, follower: &mut Follower, samples_max: usize) -> Followed {
        let least = self.followers_mut().by_name.get(&follower.name).copied().unwrap_or_default();
        if follower.cursor.position < least.acknowledged.position {
            // What it would have come to has been dropped.
            follower.cursor.position = least.acknowledged.position;
            follower.reader = None;
        }
        let mut gathered = Gathered::default();
        let mut bytes = 0;
        while gathered.len() < samples_max && bytes < READ_BYTES_MAX {
            let Some(entry) = self.next_entry(follower) else {
                gathered.is_all = true;
                break;
            };
            match entry {
                Entry::Record { position, .. } if follower.torn == Some(position.segment) => {}
                Entry::Record { kind, payload, .. } => {
                    bytes += payload.len();
                    match batch_of(kind, &payload, &mut follower.cursor.sequence) {
                        Ok(Some(record)) => {
                            follower.cursor.batches += u64::from(gathered.add(record));
                        }
                        Ok(None) => {}
                        Err(_malformed) => gathered.damaged += 1,
                    }
                }
                // What this process wrote is read only as far as it is durable: no crash tore it.
                Entry::Damage { segment, synced, .. } => {
                    if synced || segment == self.writer().log.durable().segment {
                        gathered.damaged += 1;
                    } else {
                        follower.torn = Some(segment);
                    }
                }
            }
        }
        let is_all = gathered.is_all;
        let followed = self.labelled(follower, gathered);
        if is_all {
            follower.departed = Departed::default();
        }
        Followed { cursor: follower.cursor, is_all, ..followed }
    }

    /// The next thing in the log that is durable.
    fn next_entry(&self, follower: &mut Follower) -> Option<Entry> {
        use DamageReason::{Misplaced, Missing, Unreadable, Version};
        loop {
            if let Some(reader) = &mut follower.reader {
                let entry = reader.next();
                if let Some(Entry::Damage { reason: Unreadable, segment, .. }) = entry {
                    follower.reader = None;
                    follower.cursor.position = Position { segment, offset: 0 };
                    return self.unopened(follower, entry, segment);
                }
                follower.cursor.position = reader.reached();
                if entry.is_some() {
                    return entry;
                }
                follower.reader = None;
            }
            let (from, durable) = (follower.cursor.position, self.writer().log.durable());
            if from >= durable {
                return None;
            }
            let mut reader = self.log_between(from, durable).ok()?;
            let entry = reader.next();
            let reached = reader.reached();
            match entry {
                Some(Entry::Damage { reason: Unreadable, segment, .. }) => {
                    return self.unopened(follower, entry, segment);
                }
                Some(Entry::Damage {
                    reason: Missing | Version(_) | Misplaced(_),
                    segment,
                    ..
                }) => {
                    follower.cursor.position = Position { segment: segment + 1, offset: 0 };
                    return entry;
                }
                _ => follower.unopened = 0,
            }
            if reached == from {
                // Nothing that could be read; it may be there the next time.
                return None;
            }
            follower.cursor.position = reached;
            if entry.is_some() {
                follower.reader = Some(reader);
                return entry;
            }
        }
    }

    /// A segment that could not be opened is waited for; one that never can be is passed over once it
    /// is no longer written to.
    fn unopened(
        &self,
        follower: &mut Follower,
        entry: Option<Entry>,
        segment: u64,
    ) -> Option<Entry> {
        follower.unopened += 1;
        if follower.unopened < OPENINGS_MAX || segment >= self.writer().log.durable().segment {
            return None;
        }
        follower.unopened = 0;
        follower.cursor.position = Position { segment: segment + 1, offset: 0 };
        entry
    }

    fn log_between(&self, from: Position, end: Position) -> Result<Reader, WalError> {
        Reader::between(Arc::clone(&self.disk), &self.dir.join("wal"), from, end)
    }

    /// Puts together what is of one series, and labels to it.
    fn labelled(&self, follower: &mut Follower, gathered: Gathered) -> Followed {
        let Gathered { mut samples, mut histograms, damaged, max_t, is_all } = gathered;
        let mut followed = Followed { damaged, max_t, is_all, ..Followed::default() };
        // Stable: a series' samples keep their order.
        samples.sort_by_key(|(series, _, _)| *series);
        histograms.sort_by_key(|sample| sample.series);
        let mut of_series: Vec<Gained> = Vec::new();
        for samples in samples.chunk_by(|a, b| a.0 == b.0) {
            let Some((series, ..)) = samples.first() else { continue };
            let samples = samples.iter().map(|(_, t, v)| (*t, *v)).collect();
            of_series.push(Gained { series: *series, samples, histograms: Vec::new() });
        }
        for of_one in histograms.chunk_by(|a, b| a.series == b.series) {
            let Some(HistogramSample { series, .. }) = of_one.first() else { continue };
            let histograms = of_one.iter().map(|h| (h.t_ms, Arc::clone(&h.histogram))).collect();
            match of_series.binary_search_by_key(series, |gained| gained.series) {
                Ok(at) => {
                    if let Some(gained) = of_series.get_mut(at) {
                        gained.histograms = histograms;
                    }
                }
                Err(at) => {
                    of_series.insert(at, Gained { series: *series, samples: vec![], histograms });
                }
            }
        }
        let named = of_series.iter().map(|gained| gained.series);
        let mut labels: Vec<(SeriesRef, Option<Labels>)> = {
            let state = self.state();
            named.map(|series| (series, state.head.labels(series))).collect()
        };
        if labels.iter().any(|(_, labels)| labels.is_none()) {
            let missing = labels.iter().filter(|(_, labels)| labels.is_none());
            let missing: HashSet<SeriesRef> = missing.map(|(series, _)| *series).collect();
            if !missing.iter().all(|series| follower.departed.labels.contains_key(series)) {
                // Of all of them: those that are known already may have to make room.
                self.collect_departed(&mut follower.departed, &missing);
            }
            for (series, labels) in labels.iter_mut().filter(|(_, labels)| labels.is_none()) {
                *labels = follower.departed.labels.get(series).cloned();
            }
        }
        for (gained, (_, labels)) in of_series.into_iter().zip(labels) {
            let Gained { samples, histograms, .. } = gained;
            let count = samples.len() + histograms.len();
            match labels {
                Some(labels) => {
                    followed.samples += count;
                    followed.series.push(FollowedSeries { labels, samples, histograms });
                }
                None => followed.orphaned += count as u64,
            }
        }
        followed
    }

    /// Collects the labels of series that left the head, as far as the log has them: those wanted now,
    /// and others as there is room. Reads the log once per checkpoint, with which they leave, unless
    /// there were too many to keep.
    fn collect_departed(&self, departed: &mut Departed, wanted: &HashSet<SeriesRef>) {
        let (since, durable) = {
            let writer = self.writer();
            (writer.since, writer.log.durable())
        };
        if departed.since == Some(since) && !departed.is_cut {
            return;
        }
        *departed = Departed { since: Some(since), ..Departed::default() };
        let Ok(reader) = self.log_between(Position::default(), durable) else { return };
        for entry in reader {
            let Entry::Record { kind: KIND_SERIES, payload, .. } = entry else { continue };
            let mut bytes = Bytes::new(&payload);
            let defined = bytes.varint().and_then(|_sequence| record::get_series(&mut bytes));
            let Ok((_, defined)) = defined else { continue };
            let state = self.state();
            for (series, labels) in defined {
                if state.head.knows(series) {
                    continue;
                }
                if departed.labels.len() < self.options.follow_departed_max
                    || wanted.contains(&series)
                {
                    departed.labels.insert(series, labels);
                } else {
                    departed.is_cut = true;
                }
            }
        }
    }

    /// Takes note that everything read before a cursor has been delivered; the log before it is no
    /// longer kept for this follower. Kept over a crash once [`Self::save_followers`] and
    /// [`Self::sync`] have been called.
    pub fn acknowledge(&self, follower: &str, cursor: Cursor) {
        let mut followers = self.followers_mut();
        if let Some(standing) = followers.by_name.get_mut(follower)
            && standing.acknowledged.position < cursor.position
        {
            standing.acknowledged = cursor;
        }
    }

    /// Writes down the cursors under which samples were delivered since the last call. Not durable
    /// before [`Self::sync`].
    ///
    /// # Errors
    /// [`AppendError::DiskFull`], [`AppendError::Stopped`]; the next call tries again.
    pub fn save_followers(&self) -> Result<(), AppendError> {
        for (name, acknowledged) in self.moved_followers() {
            self.save_follower(&name, acknowledged, false)?;
            if let Some(standing) = self.followers_mut().by_name.get_mut(&name) {
                standing.saved = acknowledged;
            }
        }
        Ok(())
    }

    /// The followers whose cursors are to be saved.
    fn moved_followers(&self) -> Vec<(String, Cursor)> {
        let followers = self.followers_mut();
        let moved = followers.by_name.iter().filter(|(_, Standing { acknowledged, saved, .. })| {
            acknowledged.batches != saved.batches
                || acknowledged.position.segment != saved.position.segment
        });
        moved.map(|(name, standing)| (name.clone(), standing.acknowledged)).collect()
    }

    fn save_follower(&self, name: &str, cursor: Cursor, is_new: bool) -> Result<(), AppendError> {
        let mark = Mark { key: key_of(name), value: encode(cursor) };
        check_mark(&mark)?;
        let mut writer = self.writer();
        if !is_new && !self.followers_mut().by_name.contains_key(name) {
            return Ok(());
        }
        self.put_mark(&mut writer, mark)
    }

    /// Where the followers stand, by name.
    #[must_use]
    pub fn followers(&self) -> Vec<FollowerFigures> {
        let (segments, durable) = {
            let writer = self.writer();
            (writer.log.segments(), writer.log.durable())
        };
        let followers = self.followers_mut();
        let figures = followers.by_name.iter().map(|(name, standing)| {
            let delivered = standing.acknowledged.position;
            let bytes_of = |(segment, bytes): &(u64, u64)| {
                let end = if *segment == durable.segment { durable.offset } else { *bytes };
                match segment.cmp(&delivered.segment) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => end.saturating_sub(delivered.offset),
                    std::cmp::Ordering::Greater => end,
                }
            };
            FollowerFigures {
                name: name.clone(),
                delivered,
                pending_bytes: segments.iter().map(bytes_of).sum(),
                samples_lost: standing.samples_lost,
            }
        });
        figures.collect()
    }

    /// Removes the log before a segment, but for what followers need.
    pub(super) fn remove_log(&self, before: u64) -> Result<(), DbError> {
        let needed = self.followers_mut().needed().unwrap_or(before);
        self.cut_log(before.min(needed))
    }

    fn cut_log(&self, before: u64) -> Result<(), DbError> {
        let mut writer = self.writer();
        if writer.log.segments().first().is_none_or(|(first, _)| *first >= before) {
            return Ok(());
        }
        if !self.followers_mut().by_name.is_empty() {
            // A crash must not bring back a cursor in what is removed: it would be counted twice. A full
            // disk lets nothing be written before there is room.
            match writer.log.sync() {
                Ok(()) | Err(LogError::Full(_)) => {}
                Err(stopped) => return Err(stopped.into()),
            }
        }
        let removed = writer.log.remove_before(before);
        let dir = self.dir.join("wal");
        removed.map_err(|error| remove_error(&dir, io::Error::other(error)))?;
        self.followers_mut().removed_before(before);
        Ok(())
    }

    /// Drops what is kept for followers beyond its bounds, and counts it. When the log itself finds no
    /// room that is all of it: no follower is the reason that nothing is taken.
    pub(super) fn bound_followers(
        &self,
        now_ms: TimestampMs,
        checkpoint: u64,
    ) -> Result<(), DbError> {
        let (segments, is_full) = {
            let writer = self.writer();
            (writer.log.segments(), writer.log.is_full())
        };
        if segments.is_empty() {
            return Ok(());
        }
        let mut least = self.followers_mut().expired(checkpoint, now_ms, self.options.follow_ms);
        let kept: Vec<_> = segments.into_iter().filter(|(n, _)| *n < checkpoint).collect();
        let mut kept_bytes: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        let free_bytes = self.disk.free_bytes(&self.dir).ok();
        let share = free_bytes.map(|free| free.saturating_add(kept_bytes) / FOLLOW_SHARE);
        let bytes_max = self.options.follow_bytes_max.min(share.unwrap_or(u64::MAX));
        for (segment, bytes) in kept {
            if kept_bytes > bytes_max {
                least = least.max(segment + 1);
                kept_bytes -= bytes;
            }
        }
        if is_full || free_bytes.is_some_and(|free| free < self.options.free_bytes_min) {
            least = least.max(checkpoint);
        }
        let least = least.min(checkpoint);
        self.move_followers(least);
        // Where this fails the log is kept for the cursors that were saved before.
        drop(self.save_followers());
        let needed = self.followers_mut().needed().unwrap_or(checkpoint);
        // Beyond the bounds also what defines series before a cursor.
        self.cut_log(needed.max(least).min(checkpoint))
    }

    /// Moves followers that stand before a segment to its start; what lies between is lost to them.
    fn move_followers(&self, least: u64) {
        let target = Position { segment: least, offset: 0 };
        let behind: Vec<(String, Cursor)> = {
            let followers = self.followers_mut();
            let all = followers.by_name.iter();
            all.filter(|(_, standing)| standing.acknowledged.position < target)
                .map(|(name, standing)| (name.clone(), standing.acknowledged))
                .collect()
        };
        for (name, cursor) in behind {
            let (samples, sequence) = self.count_samples(cursor, target);
            let mut followers = self.followers_mut();
            let Some(standing) = followers.by_name.get_mut(&name) else { continue };
            if standing.acknowledged.position < target {
                standing.acknowledged.position = target;
                standing.acknowledged.sequence = sequence;
                standing.samples_lost += samples;
                self.counters.follow_samples_lost.fetch_add(samples, Relaxed);
            }
        }
    }

    /// The samples between two places of the log, and the last sequence number there.
    fn count_samples(&self, from: Cursor, end: Position) -> (u64, u64) {
        let mut sequence = from.sequence;
        let end = Position { segment: end.segment.saturating_sub(1), offset: u64::MAX };
        let Ok(reader) = self.log_between(from.position, end) else { return (0, sequence) };
        let mut samples = 0;
        for entry in reader {
            let Entry::Record { kind, payload, .. } = entry else { continue };
            if let Ok(Some(record)) = batch_of(kind, &payload, &mut sequence) {
                samples += record.histograms.len() as u64;
                samples +=
                    record.batch.rows.iter().map(|row| row.samples.len() as u64).sum::<u64>();
            }
        }
        (samples, sequence)
    }
}

fn key_of(name: &str) -> Vec<u8> {
    [KEY_PREFIX, name.as_bytes()].concat()
}

/// What was read of one series.
struct Gained {
    series: SeriesRef,
    samples: Vec<(TimestampMs, f64)>,
    histograms: Vec<(TimestampMs, Arc<Histogram>)>,
}

/// Samples in the order in which they came.
#[derive(Default)]
struct Gathered {
    samples: Vec<(SeriesRef, TimestampMs, f64)>,
    histograms: Vec<HistogramSample>,
    damaged: u64,
    max_t: Option<TimestampMs>,
    is_all: bool,
}

impl Gathered {
    fn len(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Adds a batch; says whether it had samples.
    fn add(&mut self, record: HistogramsRecord) -> bool {
        let before = self.len();
        for row in &record.batch.rows {
            self.samples.extend(row.samples.iter().map(|(series, v)| (*series, row.t_ms, *v)));
            if !row.samples.is_empty() {
                self.max_t = self.max_t.max(Some(row.t_ms));
            }
        }
        self.max_t = self.max_t.max(record.histograms.iter().map(|sample| sample.t_ms).max());
        self.histograms.extend(record.histograms);
        self.len() > before
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoa_wal::disk::SimDisk;

    use super::*;
    use crate::{Batch, GroupId, Options, Row};

    #[test]
    fn a_follower_that_ends_while_its_cursor_is_saved_is_gone() {
        let disk = SimDisk::new(1);
        let open = || {
            let disk = Arc::new(disk.clone());
            Db::open(disk, Path::new("/db"), Options::default(), 0).unwrap().0
        };
        let db = open();
        let mut follower = db.follow("a").unwrap();
        let group = GroupId(1);
        let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
        let series = db.resolve(group, &labels).unwrap();
        let rows = vec![Row { t_ms: 1, samples: vec![(series, 1.0)] }];
        db.append(&Batch { group, rows, marks: vec![] }).unwrap();
        db.sync().unwrap();
        let followed = db.read_on(&mut follower, 10);
        db.acknowledge("a", followed.cursor);
        let moved = db.moved_followers();
        assert_eq!(moved.len(), 1);
        assert!(db.unfollow("a").unwrap());
        for (name, cursor) in moved {
            db.save_follower(&name, cursor, false).unwrap();
        }
        assert_eq!(db.mark(&key_of("a")), None);
        db.close().unwrap();
        let db = open();
        assert_eq!((db.mark(&key_of("a")), db.followers()), (None, vec![]));
    }
}

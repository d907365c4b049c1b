//! The head written down, so that the log before it can go.
//!
//! A checkpoint is a directory named for the log segment from which reading goes on. Inside it is a
//! log of its own, so that its records have the log's checksums and damage to one costs that one. It
//! is written under a temporary name, synced, renamed. At most one is kept; `docs/formats/head.md`
//! has every byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};
use stoa_wal::{Disk, Wal, WalOptions};

use crate::bytes::{Cursor, Malformed, put_bytes, put_varint};
use crate::chunk::{decode_times, encode_times};
use crate::error::DbError;
use crate::head::{Presence, Sealed, WINDOW_TICKS_MAX};
use crate::record::{self, KIND_MARKS, KIND_SERIES, SERIES_PER_RECORD};
use crate::{GroupId, SeriesRef};

/// What the head as a whole knows.
pub(crate) const KIND_HEAD: u8 = 16;
/// Timestamps of sealed windows of one group.
pub(crate) const KIND_WINDOWS: u8 = 17;
/// Chunks of series of one group.
pub(crate) const KIND_CHUNKS: u8 = 18;
/// How many records there are before this one.
pub(crate) const KIND_END: u8 = 19;

/// A record of chunks is ended when it is longer than this.
const CHUNKS_RECORD_BYTES: usize = 256 << 10;
const WINDOWS_PER_RECORD: usize = 1000;

/// A head at the moment the log began a segment. Everything in it is sealed.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The segment from which reading the log goes on.
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    pub(crate) next_ref: u32,
    pub(crate) max_t: TimestampMs,
    pub(crate) marks: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) groups: Vec<GroupSnapshot>,
}

#[derive(Debug)]
pub(crate) struct GroupSnapshot {
    pub(crate) id: GroupId,
    pub(crate) last_t: TimestampMs,
    pub(crate) members: Vec<MemberSnapshot>,
}

#[derive(Debug)]
pub(crate) struct MemberSnapshot {
    pub(crate) series: SeriesRef,
    pub(crate) labels: Labels,
    pub(crate) sealed: Vec<Sealed>,
}

/// The directory of the checkpoint at a segment.
pub(crate) fn checkpoint_dir(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("checkpoint-{segment:016x}"))
}

/// The segment a name says, if it is a checkpoint's.
pub(crate) fn segment_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Writes a checkpoint, durable when this returns.
pub(crate) fn write(disk: &Arc<dyn Disk>, dir: &Path, snapshot: &Snapshot) -> Result<(), DbError> {
    let path = checkpoint_dir(dir, snapshot.segment);
    let tmp = path.with_extension("tmp");
    let write = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if disk.exists(&tmp)? {
            disk.remove_dir_all(&tmp)?;
        }
        let mut wal = Wal::open(Arc::clone(disk), &tmp, WalOptions::default())?;
        let mut records = 0u64;
        let mut put = |kind: u8, body: &[u8]| {
            records += 1;
            // The checkpoint's records are applied always: their sequence number is 0.
            let mut payload = vec![0];
            payload.extend_from_slice(body);
            wal.append(kind, &payload).map(drop)
        };
        put(KIND_HEAD, &head_body(snapshot))?;
        for body in record::marks_bodies(snapshot.marks.iter().map(|(k, v)| (k, v))) {
            put(KIND_MARKS, &body)?;
        }
        for group in &snapshot.groups {
            put_group(group, &mut put)?;
        }
        let mut end = Vec::new();
        put_varint(&mut end, records);
        let mut put_end = vec![0];
        put_end.extend_from_slice(&end);
        wal.append(KIND_END, &put_end)?;
        wal.sync()?;
        drop(wal);
        disk.rename(&tmp, &path)?;
        disk.sync_dir(dir)?;
        Ok(())
    };
    write().map_err(|source| {
        // What is left of it is removed by the next attempt or the next start.
        drop(disk.remove_dir_all(&tmp));
        DbError::Checkpoint { path, source }
    })
}

fn head_body(snapshot: &Snapshot) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&snapshot.segment.to_le_bytes());
    body.extend_from_slice(&snapshot.sequence.to_le_bytes());
    body.extend_from_slice(&snapshot.next_ref.to_le_bytes());
    body.extend_from_slice(&snapshot.max_t.to_le_bytes());
    body
}

fn put_group<E>(
    group: &GroupSnapshot,
    put: &mut impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut body = Vec::new();
    for members in group.members.chunks(SERIES_PER_RECORD) {
        let series: Vec<_> = members.iter().map(|m| (m.series, m.labels.clone())).collect();
        body.clear();
        record::put_series(&mut body, group.id, &series);
        put(KIND_SERIES, &body)?;
    }
    let mut windows: Vec<_> =
        group.members.iter().flat_map(|m| &m.sealed).map(|sealed| &sealed.ticks).collect();
    windows.sort_unstable_by_key(|ticks| ticks.serial);
    windows.dedup_by_key(|ticks| ticks.serial);
    let mut windows = windows.as_slice();
    loop {
        let (part, rest) = windows.split_at(windows.len().min(WINDOWS_PER_RECORD));
        body.clear();
        body.extend_from_slice(&group.id.0.to_le_bytes());
        body.extend_from_slice(&group.last_t.to_le_bytes());
        put_varint(&mut body, part.len() as u64);
        let mut times = Vec::new();
        for ticks in part {
            put_varint(&mut body, ticks.serial);
            put_varint(&mut body, ticks.times.len() as u64);
            times.clear();
            encode_times(&ticks.times, &mut times);
            put_bytes(&mut body, &times);
        }
        put(KIND_WINDOWS, &body)?;
        windows = rest;
        if windows.is_empty() {
            break;
        }
    }
    put_chunks(group, put)
}

fn put_chunks<E>(
    group: &GroupSnapshot,
    put: &mut impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let start = || group.id.0.to_le_bytes().to_vec();
    let mut body = start();
    for (member, sealed) in
        group.members.iter().flat_map(|member| member.sealed.iter().map(move |s| (member, s)))
    {
        put_varint(&mut body, u64::from(member.series.0));
        put_varint(&mut body, sealed.ticks.serial);
        match &sealed.present {
            None => body.push(0),
            Some(present) => {
                body.push(1);
                present.words().iter().for_each(|w| body.extend_from_slice(&w.to_le_bytes()));
            }
        }
        put_bytes(&mut body, &sealed.chunk);
        if body.len() > CHUNKS_RECORD_BYTES {
            put(KIND_CHUNKS, &body)?;
            body = start();
        }
    }
    if body.len() > start().len() { put(KIND_CHUNKS, &body) } else { Ok(()) }
}

/// What [`KIND_HEAD`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadRecord {
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    pub(crate) next_ref: u32,
    pub(crate) max_t: TimestampMs,
}

pub(crate) fn get_head(cursor: &mut Cursor<'_>) -> Result<HeadRecord, Malformed> {
    Ok(HeadRecord {
        segment: cursor.u64()?,
        sequence: cursor.u64()?,
        next_ref: cursor.u32()?,
        max_t: cursor.i64()?,
    })
}

/// What [`KIND_WINDOWS`] says: each window's number in the checkpoint, and its timestamps.
#[derive(Debug)]
pub(crate) struct WindowsRecord {
    pub(crate) group: GroupId,
    pub(crate) last_t: TimestampMs,
    pub(crate) windows: Vec<(u64, Vec<TimestampMs>)>,
}

pub(crate) fn get_windows(cursor: &mut Cursor<'_>) -> Result<WindowsRecord, Malformed> {
    let (group, last_t) = (GroupId(cursor.u64()?), cursor.i64()?);
    let count = cursor.count(3)?;
    let mut windows = Vec::with_capacity(count);
    for _ in 0..count {
        let serial = cursor.varint()?;
        let ticks = cursor.varint_u32()? as usize;
        if ticks == 0 || ticks > WINDOW_TICKS_MAX {
            return Err(Malformed("window of no or too many ticks"));
        }
        let mut times = Vec::new();
        decode_times(cursor.bytes()?, ticks, &mut times)?;
        windows.push((serial, times));
    }
    Ok(WindowsRecord { group, last_t, windows })
}

/// One chunk of [`KIND_CHUNKS`].
#[derive(Debug)]
pub(crate) struct ChunkRecord<'a> {
    pub(crate) series: SeriesRef,
    pub(crate) serial: u64,
    pub(crate) present: Option<Presence>,
    pub(crate) chunk: &'a [u8],
}

pub(crate) fn get_chunk<'a>(cursor: &mut Cursor<'a>) -> Result<ChunkRecord<'a>, Malformed> {
    let series = SeriesRef(cursor.varint_u32()?);
    let serial = cursor.varint()?;
    let present = match cursor.u8()? {
        0 => None,
        1 => {
            let mut words = [0; WINDOW_TICKS_MAX / 64];
            for word in &mut words {
                *word = cursor.u64()?;
            }
            Some(Presence::from_words(words))
        }
        _ => return Err(Malformed("unknown presence")),
    };
    Ok(ChunkRecord { series, serial, present, chunk: cursor.bytes()? })
}

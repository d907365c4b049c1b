//! The head written down, so that the log before it can go.
//!
//! A checkpoint is a directory named for the log segment from which reading goes on. Inside it is a
//! log of its own, so that its records have the log's checksums and damage to one costs that one. It
//! names the places of sealed chunks (`crate::head_file`) and holds open columns. It is written under a
//! temporary name, synced, renamed. At most one is kept; `docs/formats/head.md` has every byte.
//!
//! Groups are written one after the other while appends go on: what a group took after the segment
//! began is in the log too, and is recognised as there already when the log is applied.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};
use stoa_wal::{Disk, Wal, WalOptions};

use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::chunk::{decode_times, encode_times};
use crate::error::DbError;
use crate::head::{OpenImage, Place, Presence, Sealed, WINDOW_TICKS_MAX, Window, put_presence};
use crate::record::{self, KIND_MARKS, KIND_SERIES, RECORD_BYTES};
use crate::{GroupId, SeriesRef};

/// What the head as a whole knows.
pub(crate) const KIND_HEAD: u8 = 16;
/// Timestamps of sealed windows of one group; version 1 only.
pub(crate) const KIND_WINDOWS: u8 = 17;
/// Chunks of series of one group; version 1 only.
pub(crate) const KIND_CHUNKS: u8 = 18;
/// How many records there are before this one.
pub(crate) const KIND_END: u8 = 19;
/// Places of sealed windows of one group.
pub(crate) const KIND_PLACES: u8 = 20;
/// Open columns of one group.
pub(crate) const KIND_OPEN: u8 = 21;

/// How long the files are that sealed windows are in.
pub(crate) const KIND_FILES: u8 = 22;

/// A head at the moment the log began a segment, but for its groups.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The segment from which reading the log goes on.
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    pub(crate) next_ref: u32,
    pub(crate) max_t: TimestampMs,
    pub(crate) marks: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A group at that moment or later.
#[derive(Debug)]
pub(crate) struct GroupImage {
    pub(crate) id: GroupId,
    pub(crate) last_t: TimestampMs,
    pub(crate) series: Vec<(SeriesRef, Labels)>,
    /// Sealed windows with the series of their chunks, in order.
    pub(crate) windows: Vec<(Arc<Window>, Vec<SeriesRef>)>,
    pub(crate) open: Vec<OpenImage>,
}

/// A group's chunks on their way to a block.
#[derive(Clone, Debug)]
pub(crate) struct GroupSnapshot {
    pub(crate) id: GroupId,
    pub(crate) members: Vec<MemberSnapshot>,
}

/// A series' chunks on their way to a block.
#[derive(Clone, Debug)]
pub(crate) struct MemberSnapshot {
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

/// Writes a checkpoint, durable when this returns. Windows that are in memory still are written as
/// open columns are. `files` says, after the last group, the numbers and lengths of files that grow no
/// more.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    snapshot: &Snapshot,
    groups: impl Iterator<Item = GroupImage>,
    files: impl Fn() -> Vec<(u64, u64)>,
) -> Result<(), DbError> {
    let path = checkpoint_dir(dir, snapshot.segment);
    let tmp = path.with_extension("tmp");
    let mut groups = groups;
    let mut write = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
        for group in groups.by_ref() {
            put_group(&group, &mut put)?;
        }
        put(KIND_FILES, &files_body(&files()))?;
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

fn files_body(files: &[(u64, u64)]) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, files.len() as u64);
    for (number, bytes) in files {
        put_varint(&mut body, *number);
        put_varint(&mut body, *bytes);
    }
    body
}

/// What [`KIND_FILES`] says: numbers and lengths.
pub(crate) fn get_files(cursor: &mut Cursor<'_>) -> Result<Vec<(u64, u64)>, Malformed> {
    let count = cursor.count(2)?;
    (0..count).map(|_| Ok((cursor.varint()?, cursor.varint()?))).collect()
}

fn put_group<E>(
    group: &GroupImage,
    put: &mut impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut body = Vec::new();
    let mut undefined = group.series.as_slice();
    while !undefined.is_empty() {
        body.clear();
        undefined = record::put_series(&mut body, group.id, undefined);
        put(KIND_SERIES, &body)?;
    }
    // The group's newest tick stands here: so there is always one.
    let start = || {
        let mut body = group.id.0.to_le_bytes().to_vec();
        body.extend_from_slice(&group.last_t.to_le_bytes());
        body
    };
    let mut body = start();
    let mut is_due = true;
    for (window, series) in &group.windows {
        match window.place() {
            Place::File { file, offset } => {
                put_place(&mut body, window, series, (file.number, offset));
            }
            Place::Memory(bytes) => put_in_memory(group.id, window, series, &bytes, put)?,
        }
        is_due = true;
        if body.len() > RECORD_BYTES {
            put(KIND_PLACES, &body)?;
            body = start();
            is_due = false;
        }
    }
    if is_due {
        put(KIND_PLACES, &body)?;
    }
    for open in &group.open {
        let columns = open.columns.iter().map(|(series, stored)| (*series, stored.as_slice()));
        let (mut times, ticks) = (Vec::new(), open.times.len());
        encode_times(&open.times, &mut times);
        put_open(group.id, open.what, (ticks, &times), columns, put)?;
    }
    Ok(())
}

fn put_place(out: &mut Vec<u8>, window: &Window, series: &[SeriesRef], (file, offset): (u64, u64)) {
    put_varint(out, window.ticks() as u64);
    put_bytes(out, window.encoded_times());
    put_varint(out, file);
    put_varint(out, offset);
    put_varint(out, window.samples());
    put_varint(out, series.len() as u64);
    let mut next = 0i64;
    for run in series.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
        let Some(first) = run.first() else { continue };
        put_zigzag(out, i64::from(first.0) - next);
        put_varint(out, run.len() as u64);
        next = i64::from(first.0) + run.len() as i64;
    }
    for len in window.lens() {
        put_varint(out, u64::from(*len));
    }
}

/// A window that was sealed since the files were written last.
fn put_in_memory<E>(
    group: GroupId,
    window: &Window,
    series: &[SeriesRef],
    bytes: &[u8],
    put: &mut impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = bytes;
    let chunks = series.iter().zip(window.lens()).map(|(series, len)| {
        let (stored, behind) = rest.split_at_checked(usize::from(*len)).unwrap_or_default();
        rest = behind;
        (*series, stored)
    });
    put_open(group, OpenKind::Sealed, (window.ticks(), window.encoded_times()), chunks, put)
}

fn put_open<'a, E>(
    group: GroupId,
    what: OpenKind,
    (ticks, times): (usize, &[u8]),
    chunks: impl Iterator<Item = (SeriesRef, &'a [u8])>,
    put: &mut impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let start = || {
        let mut body = group.0.to_le_bytes().to_vec();
        body.push(what as u8);
        put_varint(&mut body, ticks as u64);
        put_bytes(&mut body, times);
        body
    };
    let mut body = start();
    let mut is_due = true;
    for (series, stored) in chunks {
        put_varint(&mut body, u64::from(series.0));
        put_bytes(&mut body, stored);
        is_due = true;
        if body.len() > RECORD_BYTES {
            put(KIND_OPEN, &body)?;
            body = start();
            is_due = false;
        }
    }
    if is_due { put(KIND_OPEN, &body) } else { Ok(()) }
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
        windows.push((serial, get_times(cursor)?));
    }
    Ok(WindowsRecord { group, last_t, windows })
}

/// One chunk of [`KIND_CHUNKS`].
#[derive(Debug)]
pub(crate) struct ChunkRecord {
    pub(crate) series: SeriesRef,
    pub(crate) serial: u64,
    /// Presence and chunk as a window keeps them.
    pub(crate) stored: Vec<u8>,
}

pub(crate) fn get_chunk(cursor: &mut Cursor<'_>) -> Result<ChunkRecord, Malformed> {
    let series = SeriesRef(cursor.varint_u32()?);
    let serial = cursor.varint()?;
    let present = Presence::get(cursor)?;
    let mut stored = Vec::new();
    put_presence(&mut stored, present.as_ref());
    stored.extend_from_slice(cursor.bytes()?);
    Ok(ChunkRecord { series, serial, stored })
}

/// One window of [`KIND_PLACES`].
#[derive(Debug)]
pub(crate) struct PlaceRecord {
    pub(crate) times: Vec<TimestampMs>,
    pub(crate) file: u64,
    pub(crate) offset: u64,
    pub(crate) samples: u64,
    /// The series of its chunks and how long these are.
    pub(crate) members: Vec<(SeriesRef, u16)>,
}

pub(crate) fn get_places(
    cursor: &mut Cursor<'_>,
) -> Result<(GroupId, TimestampMs, Vec<PlaceRecord>), Malformed> {
    let (group, last_t) = (GroupId(cursor.u64()?), cursor.i64()?);
    let mut places = Vec::new();
    while cursor.len() > 0 {
        let times = get_times(cursor)?;
        let (file, offset, samples) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
        let count = cursor.count(1)?;
        let series = record::get_runs(cursor, count)?;
        let mut members = Vec::with_capacity(count);
        for series in series {
            let len = u16::try_from(cursor.varint()?).ok().ok_or(Malformed("chunk too long"))?;
            members.push((series, len));
        }
        places.push(PlaceRecord { times, file, offset, samples, members });
    }
    Ok((group, last_t, places))
}

/// Whose columns a [`KIND_OPEN`] record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenKind {
    Live = 0,
    Late = 1,
    /// Of a window that is sealed, but in no file yet.
    Sealed = 2,
}

/// What [`KIND_OPEN`] says.
#[derive(Debug)]
pub(crate) struct OpenRecord<'a> {
    pub(crate) group: GroupId,
    pub(crate) what: OpenKind,
    pub(crate) times: Vec<TimestampMs>,
    /// Presence and chunk of each series.
    pub(crate) columns: Vec<(SeriesRef, &'a [u8])>,
}

pub(crate) fn get_open<'a>(cursor: &mut Cursor<'a>) -> Result<OpenRecord<'a>, Malformed> {
    let group = GroupId(cursor.u64()?);
    let what = match cursor.u8()? {
        0 => OpenKind::Live,
        1 => OpenKind::Late,
        2 => OpenKind::Sealed,
        _ => return Err(Malformed("unknown kind of open columns")),
    };
    let times = get_times(cursor)?;
    let mut columns = Vec::new();
    while cursor.len() > 0 {
        columns.push((SeriesRef(cursor.varint_u32()?), cursor.bytes()?));
    }
    Ok(OpenRecord { group, what, times, columns })
}

fn get_times(cursor: &mut Cursor<'_>) -> Result<Vec<TimestampMs>, Malformed> {
    let ticks = cursor.varint_u32()? as usize;
    if ticks == 0 || ticks > WINDOW_TICKS_MAX {
        return Err(Malformed("window of no or too many ticks"));
    }
    let mut times = Vec::new();
    decode_times(cursor.bytes()?, ticks, &mut times)?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{GroupId, KIND_OPEN, OpenKind, RECORD_BYTES, SeriesRef, get_open, put_open};
    use crate::bytes::Cursor;
    use crate::chunk::encode_times;

    #[test]
    fn open_columns_make_as_many_records_as_they_fill() {
        let mut times = Vec::new();
        encode_times(&[1, 2], &mut times);
        let records = |lens: &[usize]| {
            let columns: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
            let columns = (0..).map(SeriesRef).zip(columns.iter().map(Vec::as_slice));
            let mut counts = Vec::new();
            let Ok(()) =
                put_open(GroupId(1), OpenKind::Sealed, (2, &times), columns, &mut |kind, body| {
                    assert_eq!(kind, KIND_OPEN);
                    counts.push(get_open(&mut Cursor::new(body)).unwrap().columns.len());
                    Ok::<(), Infallible>(())
                });
            counts
        };
        assert_eq!(records(&[]), [0]);
        assert_eq!(records(&[1, 1]), [2]);
        assert_eq!(records(&[RECORD_BYTES]), [1]);
        assert_eq!(records(&[1, RECORD_BYTES, 1]), [2, 1]);
        assert_eq!(records(&[RECORD_BYTES, RECORD_BYTES]), [1, 1]);
    }
}

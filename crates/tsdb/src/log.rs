//! The log the head is rebuilt from, and what happens to it when the disk fails.
//!
//! What was appended and not yet made durable is kept in memory as well, up to
//! [`UNSYNCED_BYTES_MAX`]. When the disk is full the log is closed; once there is room a new segment is
//! begun and what was kept is written again, under its old sequence numbers, so that nothing that was
//! taken is lost and nothing is applied twice. Any other failed write and every failed sync ends the
//! log for good: what the kernel reports after one cannot be trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_wal::{Disk, Position, Wal, WalError, WalOptions};

use crate::bytes::put_varint;

/// Beyond this many bytes that are not yet durable an append makes them so itself.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;

/// Sequence numbers left out after damage, so that no number that was lost is used again.
const SEQUENCE_GAP: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: State,
    /// The number of the last record.
    sequence: u64,
    /// What was durable when the log was open last.
    durable: Position,
    /// Appended and not durable: kind and payload.
    unsynced: Vec<(u8, Vec<u8>)>,
    unsynced_bytes: usize,
}

#[derive(Debug)]
enum State {
    Open(Wal),
    /// The disk had no room; why, as last seen.
    Full(WalError),
    Stopped(WalError),
}

/// Why the log did not take a record or could not make one durable.
#[derive(Debug, Clone)]
pub(crate) enum LogError {
    /// Try again when there is room.
    Full(WalError),
    /// For good.
    Stopped(WalError),
    /// The record is too long; nothing else is wrong.
    TooLong(WalError),
}

impl Log {
    /// Opens the log for appending; a full disk is no error.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, WalError> {
        let state = match Wal::open(Arc::clone(&disk), dir, WalOptions::default()) {
            Ok(wal) => State::Open(wal),
            Err(error) if is_full(&error) => State::Full(error),
            Err(error) => return Err(error),
        };
        let (dir, durable) = (dir.to_owned(), Position::default());
        Ok(Self { disk, dir, state, sequence: 0, durable, unsynced: Vec::new(), unsynced_bytes: 0 })
    }

    /// Continues the numbers found in the log.
    pub(crate) fn continue_after(&mut self, sequence: u64, damaged: bool) {
        let gap = if damaged { SEQUENCE_GAP } else { 0 };
        self.sequence = self.sequence.max(sequence.saturating_add(gap));
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends a record; its body is written after its sequence number.
    pub(crate) fn append(&mut self, kind: u8, body: &[u8]) -> Result<(), LogError> {
        if self.unsynced_bytes > UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        let mut payload = Vec::with_capacity(body.len() + 10);
        put_varint(&mut payload, self.sequence + 1);
        payload.extend_from_slice(body);
        let wal = self.ready()?;
        if let Err(error) = wal.append(kind, &payload) {
            return Err(self.fail(error));
        }
        self.sequence += 1;
        self.keep(kind, payload);
        Ok(())
    }

    /// Appends a record that must not get lost, even if the disk is full now.
    pub(crate) fn append_later(&mut self, kind: u8, body: &[u8]) -> Result<(), LogError> {
        match self.append(kind, body) {
            Err(LogError::Full(_)) => {
                self.sequence += 1;
                let mut payload = Vec::with_capacity(body.len() + 10);
                put_varint(&mut payload, self.sequence);
                payload.extend_from_slice(body);
                self.keep(kind, payload);
                Ok(())
            }
            done => done,
        }
    }

    fn keep(&mut self, kind: u8, payload: Vec<u8>) {
        self.unsynced_bytes += payload.len();
        self.unsynced.push((kind, payload));
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.ready()?.sync() {
            return Err(self.fail(error));
        }
        self.unsynced = Vec::new();
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Makes everything appended durable and begins a segment; what is appended from here on is in
    /// that one or later.
    pub(crate) fn cut(&mut self) -> Result<u64, LogError> {
        self.sync()?;
        match self.ready()?.cut() {
            Ok(segment) => Ok(segment),
            Err(error) => Err(self.fail(error)),
        }
    }

    pub(crate) fn remove_before(&mut self, segment: u64) -> Result<(), WalError> {
        match &mut self.state {
            State::Open(wal) => wal.remove_before(segment),
            // It makes room.
            State::Full(_) => stoa_wal::remove_segments_before(&*self.disk, &self.dir, segment),
            State::Stopped(_) => Ok(()),
        }
    }

    /// Bytes of all segments, if the log is open.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match &self.state {
            State::Open(wal) => Some(wal.bytes()),
            State::Full(_) | State::Stopped(_) => None,
        }
    }

    /// The place before which everything is durable. While the disk is full, that of before; not known
    /// when it was full from the start.
    pub(crate) fn durable(&self) -> Position {
        match &self.state {
            State::Open(wal) => wal.synced(),
            State::Full(_) | State::Stopped(_) => self.durable,
        }
    }

    /// The segments with their bytes, ascending; none when the log has ended, or cannot be looked at.
    pub(crate) fn segments(&self) -> Vec<(u64, u64)> {
        match &self.state {
            State::Open(wal) => wal.sizes().collect(),
            State::Full(_) => stoa_wal::segments(&*self.disk, &self.dir).unwrap_or_default(),
            State::Stopped(_) => Vec::new(),
        }
    }

    /// Bytes of the segments from one on, if the log is open.
    pub(crate) fn bytes_from(&self, segment: u64) -> Option<u64> {
        match &self.state {
            State::Open(wal) => {
                let sizes = wal.sizes().filter(|(number, _)| *number >= segment);
                Some(sizes.map(|(_, bytes)| bytes).sum())
            }
            State::Full(_) | State::Stopped(_) => None,
        }
    }

    /// Whether it waits for room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.state, State::Full(_))
    }

    /// Whether the log has ended for good.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped(_))
    }

    /// The open log; one closed by a full disk is opened anew if there is room.
    fn ready(&mut self) -> Result<&mut Wal, LogError> {
        if let State::Full(_) = &self.state {
            match self.reopen() {
                Ok(wal) => self.state = State::Open(wal),
                Err(error) => return Err(self.fail(error)),
            }
        }
        match &mut self.state {
            State::Open(wal) => Ok(wal),
            State::Full(error) => Err(LogError::Full(error.clone())),
            State::Stopped(error) => Err(LogError::Stopped(error.clone())),
        }
    }

    /// Opens the log anew with what was kept, durable. What has no room leaves nothing behind: each try
    /// would take some of it.
    fn reopen(&mut self) -> Result<Wal, WalError> {
        let mut wal = Wal::open(Arc::clone(&self.disk), &self.dir, WalOptions::default())?;
        let begun = wal.position().segment;
        let mut write = || {
            for (kind, payload) in &self.unsynced {
                wal.append(*kind, payload)?;
            }
            wal.sync()
        };
        if let Err(error) = write() {
            let segments = wal.segments();
            drop(wal);
            for segment in segments.into_iter().rev().take_while(|segment| *segment >= begun) {
                // What stays is read by the next start, and known.
                drop(self.disk.remove_file(&self.dir.join(format!("{segment:016x}.wal"))));
            }
            return Err(error);
        }
        self.unsynced = Vec::new();
        self.unsynced_bytes = 0;
        Ok(wal)
    }

    fn fail(&mut self, error: WalError) -> LogError {
        if matches!(error, WalError::Record { .. }) {
            return LogError::TooLong(error);
        }
        self.durable = self.durable();
        if is_full(&error) {
            self.state = State::Full(error.clone());
            LogError::Full(error)
        } else {
            self.state = State::Stopped(error.clone());
            LogError::Stopped(error)
        }
    }
}

/// Whether a disk without room is the reason, and one after which going on is safe: a failed sync
/// never is.
fn is_full(error: &WalError) -> bool {
    match error {
        WalError::Create { source, .. }
        | WalError::Write { source, .. }
        | WalError::Open { source, .. } => is_for_want_of_room(source),
        WalError::Poisoned { cause, .. } => is_full(cause),
        WalError::Sync { .. } | WalError::Remove { .. } | WalError::Record { .. } => false,
    }
}

/// Whether there is no room on the disk, or none for this user.
pub(crate) fn is_for_want_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), StorageFull | QuotaExceeded | WriteZero)
}

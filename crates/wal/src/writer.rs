//! The writing end of the log.
//!
//! Constraints: one writer per directory. What was appended is durable only once [`Wal::sync`]
//! returned a position after it. After a write or a sync that failed nothing is written any more:
//! the kernel may have dropped the bytes and will report success the next time. What was not durable
//! is then cut off, as far as the disk still allows, so that no reader builds on it.
//!
//! Bounds: a segment holds [`WalOptions::segment_bytes_max`] (or one longer record); at most
//! [`BUFFER_BYTES`] and one record wait in memory for the next write. The log as a whole is as long
//! as its owner lets it: [`Wal::remove_before`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::create_dir_durable;
use crate::record::{HEADER_BYTES, RecordHeader};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, list_segments, segment_path};
use crate::{Disk, DiskFile, Position, WalError};

/// Appended bytes wait for [`Wal::sync`] in memory up to this many; then they are written.
const BUFFER_BYTES: usize = 256 * 1024;
/// No segment and no record is longer, whatever the options say: offsets into a segment fit in 32
/// bits.
const BYTES_MAX: u32 = 1 << 30;

/// The limits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// A segment is ended before it grows beyond this many bytes. At most 1 GiB.
    pub segment_bytes_max: u32,
    /// A longer payload is refused. At most 1 GiB.
    pub record_bytes_max: u32,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, record_bytes_max: 16 << 20 }
    }
}

/// A log open for appending.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    /// The segments before the current one, with their lengths.
    ended: Vec<(u64, u64)>,
    current: Segment,
    /// The failure after which nothing is written.
    poison: Option<WalError>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Bytes known to be durable: a prefix of those written.
    synced_bytes: u64,
    /// Bytes handed to the disk.
    written_bytes: u64,
    /// Appended after those.
    buffer: Vec<u8>,
}

impl Wal {
    /// Opens the log in `dir` for appending, making the directory if need be. It never writes to a
    /// segment that is there: it makes what the last one holds durable and starts the next.
    /// Whatever damage there is does not matter here; a [`Reader`](crate::Reader) reports it.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions) -> Result<Self, WalError> {
        let options = WalOptions {
            segment_bytes_max: options.segment_bytes_max.min(BYTES_MAX),
            record_bytes_max: options.record_bytes_max.min(BYTES_MAX),
        };
        let open_error = |source| WalError::Open { dir: dir.to_owned(), source: Arc::new(source) };
        create_dir_durable(&*disk, dir).map_err(open_error)?;
        let numbers = list_segments(&*disk, dir).map_err(open_error)?;
        // A process that was killed leaves bytes that every reader sees and a power cut still takes
        // away. Readers build on them and answer for them, so they must stay.
        if let Some(last) = numbers.last() {
            let path = segment_path(dir, *last);
            make_durable(&*disk, &path)
                .map_err(|source| WalError::Sync { path, source: Arc::new(source) })?;
        }
        let mut ended = Vec::new();
        for number in numbers {
            let bytes = disk.open(&segment_path(dir, number)).and_then(|file| file.size());
            ended.push((number, bytes.unwrap_or(0)));
        }
        let header = SegmentHeader {
            segment: ended.last().map_or(1, |(last, _)| last + 1),
            continues: false,
            previous_bytes: ended.last().map_or(0, |(_, bytes)| *bytes),
        };
        let current = Segment::create(&*disk, dir, header)?;
        Ok(Self { disk, dir: dir.to_owned(), options, ended, current, poison: None })
    }

    /// Appends a record of a kind that means something to the caller only, and says where it starts.
    /// It is durable when a later [`Wal::sync`] returns a position beyond that. Ends the segment
    /// (by [`Wal::cut`]) when the record no longer fits.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<Position, WalError> {
        self.trusted()?;
        let bytes_max = self.options.record_bytes_max;
        let payload_bytes = u32::try_from(payload.len())
            .ok()
            .filter(|bytes| *bytes <= bytes_max)
            .ok_or(WalError::Record { bytes: payload.len(), bytes_max })?;
        let record_bytes = (HEADER_BYTES + payload.len()) as u64;
        let held = self.current.bytes();
        if held > SEGMENT_HEADER_BYTES as u64
            && held + record_bytes > u64::from(self.options.segment_bytes_max)
        {
            self.cut()?;
        }
        let segment = &mut self.current;
        let position = segment.end();
        let unsynced_bytes =
            u32::try_from(position.offset - segment.synced_bytes).unwrap_or(u32::MAX);
        RecordHeader::of(kind, unsynced_bytes, payload_bytes, payload)
            .encode(position, &mut segment.buffer);
        segment.buffer.extend_from_slice(payload);
        if segment.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(position)
    }

    /// Hands all appended records to the operating system: a killed process no longer loses them, a
    /// power cut does.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.trusted()?;
        self.current.flush().map_err(|error| self.stop(error))
    }

    /// Makes all appended records durable and returns the position before which all are.
    pub fn sync(&mut self) -> Result<Position, WalError> {
        self.trusted()?;
        self.current.sync().map_err(|error| self.stop(error))
    }

    /// Ends the current segment, durably, starts the next and returns its number: what is appended
    /// from here on is in that one or later.
    pub fn cut(&mut self) -> Result<u64, WalError> {
        self.sync()?;
        let bytes = self.current.written_bytes;
        let header = SegmentHeader {
            segment: self.current.number + 1,
            continues: true,
            previous_bytes: bytes,
        };
        let next =
            Segment::create(&*self.disk, &self.dir, header).map_err(|error| self.stop(error))?;
        self.ended.push((self.current.number, bytes));
        self.current = next;
        Ok(self.current.number)
    }

    /// Removes the segments before `segment`, oldest first; never the current one. A failure leaves
    /// the log whole and usable.
    pub fn remove_before(&mut self, segment: u64) -> Result<(), WalError> {
        self.trusted()?;
        let remove_error = |path: &Path, source| WalError::Remove {
            path: path.to_owned(),
            source: Arc::new(source),
        };
        let mut removed = false;
        while let Some((number, _)) = self.ended.first().filter(|(number, _)| *number < segment) {
            let path = segment_path(&self.dir, *number);
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(remove_error(&path, error));
                }
                _ => removed = true,
            }
            self.ended.remove(0);
        }
        if removed {
            self.disk.sync_dir(&self.dir).map_err(|error| remove_error(&self.dir, error))?;
        }
        Ok(())
    }

    /// Removes one segment, wherever it stands, or renames it to `aside`; never the current one.
    pub(crate) fn remove(&mut self, segment: u64, aside: Option<&Path>) -> Result<(), WalError> {
        self.trusted()?;
        let path = segment_path(&self.dir, segment);
        if segment == self.current.number {
            return Ok(());
        }
        let gone = match aside {
            None => self.disk.remove_file(&path),
            Some(aside) => self.disk.rename(&path, aside),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(WalError::Remove { path, source: Arc::new(error) });
            }
            _ => {}
        }
        // It is gone for us. If the disk does not make that durable, a crash may bring it back.
        drop(self.disk.sync_dir(&self.dir));
        drop(aside.and_then(Path::parent).map(|dir| self.disk.sync_dir(dir)));
        self.ended.retain(|(number, _)| *number != segment);
        Ok(())
    }

    /// Where the next record will start, unless it begins a new segment.
    pub fn position(&self) -> Position {
        self.current.end()
    }

    /// The position before which everything is durable.
    pub fn synced(&self) -> Position {
        Position { segment: self.current.number, offset: self.current.synced_bytes }
    }

    /// The numbers of the segments, ascending; the last is the current one.
    pub fn segments(&self) -> Vec<u64> {
        let ended = self.ended.iter().map(|(number, _)| *number);
        ended.chain([self.current.number]).collect()
    }

    /// Bytes of all segments, appended ones included.
    pub fn bytes(&self) -> u64 {
        self.ended.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.current.bytes()
    }

    /// The segments with their bytes, ascending; the last is the current one.
    pub fn sizes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ended.iter().copied().chain([(self.current.number, self.current.bytes())])
    }

    fn trusted(&self) -> Result<(), WalError> {
        match &self.poison {
            None => Ok(()),
            Some(cause) => {
                Err(WalError::Poisoned { dir: self.dir.clone(), cause: Box::new(cause.clone()) })
            }
        }
    }

    fn stop(&mut self, error: WalError) -> WalError {
        self.poison = Some(error.clone());
        error
    }
}

/// The segments in a directory with their bytes, ascending, while no log is open there: the disk may have
/// had no room for one.
///
/// # Errors
/// When the directory cannot be listed.
pub fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let numbers = list_segments(disk, dir)?;
    let bytes = |number| disk.open(&segment_path(dir, number)).and_then(|file| file.size());
    Ok(numbers.into_iter().map(|number| (number, bytes(number).unwrap_or(0))).collect())
}

/// Removes the segments before `segment`, oldest first, but never the last, while no log is open there.
///
/// # Errors
/// [`WalError::Open`] and [`WalError::Remove`]; what was not removed is there as it was.
pub fn remove_segments_before(disk: &dyn Disk, dir: &Path, segment: u64) -> Result<(), WalError> {
    let remove_error =
        |path: &Path, source| WalError::Remove { path: path.to_owned(), source: Arc::new(source) };
    let open_error = |source| WalError::Open { dir: dir.to_owned(), source: Arc::new(source) };
    let mut numbers = list_segments(disk, dir).map_err(open_error)?;
    numbers.pop();
    numbers.retain(|number| *number < segment);
    for number in &numbers {
        let path = segment_path(dir, *number);
        disk.remove_file(&path).map_err(|source| remove_error(&path, source))?;
    }
    if !numbers.is_empty() {
        disk.sync_dir(dir).map_err(|source| remove_error(dir, source))?;
    }
    Ok(())
}

/// Syncs a file that another process may have written. If that fails, what a reader sees of it
/// need not be on the disk and a second sync would say that it is; so it is written anew.
fn make_durable(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let synced = disk.append(path).and_then(|mut file| file.sync_data());
    synced.or_else(|_untrusted| disk.replace(path, &disk.read(path)?))
}

impl Segment {
    fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader) -> Result<Self, WalError> {
        let path = segment_path(dir, header.segment);
        let create = || {
            let mut file = disk.create(&path)?;
            file.write_all(&header.encode())?;
            file.sync_data()?;
            disk.sync_dir(dir)?;
            Ok(file)
        };
        match create() {
            Ok(file) => Ok(Self {
                number: header.segment,
                path,
                file,
                synced_bytes: SEGMENT_HEADER_BYTES as u64,
                written_bytes: SEGMENT_HEADER_BYTES as u64,
                buffer: Vec::new(),
            }),
            Err(source) => {
                // Nothing was promised of it; left behind it would only be an empty segment.
                drop(disk.remove_file(&path));
                Err(WalError::Create { path, source: Arc::new(source) })
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    fn end(&self) -> Position {
        Position { segment: self.number, offset: self.bytes() }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        if let Err(source) = self.file.write_all(&self.buffer) {
            drop(self.file.truncate(self.written_bytes));
            return Err(WalError::Write { path: self.path.clone(), source: Arc::new(source) });
        }
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> Result<Position, WalError> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        if self.synced_bytes < self.written_bytes {
            if let Err(source) = self.file.sync_data() {
                // The second sync is for the cut, not for what the first one lost.
                drop(self.file.truncate(self.synced_bytes).and_then(|()| self.file.sync_data()));
                return Err(WalError::Sync { path: self.path.clone(), source: Arc::new(source) });
            }
            self.synced_bytes = self.written_bytes;
        }
        Ok(self.end())
    }
}

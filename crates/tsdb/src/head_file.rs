//! Files of chunks that were sealed in the head and wait there for their block.
//!
//! What is in a file is durable before anything refers to it: a window's chunks stay in memory until
//! they are written and synced. A file that once failed is never written again. So no failure of
//! these files loses a sample: the log has them all until a checkpoint has named their places.
//!
//! A chunk stands behind a checksum that is bound to file and place. Which series it belongs to, how
//! long it is and when its samples were taken is in the checkpoint, not here; after the last
//! checkpoint it is in the log. `docs/formats/head.md` has every byte.
//!
//! Bounds: a file is ended beyond [`FILE_BYTES_MAX`], by every checkpoint, and goes with the first
//! checkpoint that names none of its windows.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_wal::disk::create_dir_durable;
use stoa_wal::{Disk, DiskFile, DiskRead};

use crate::block::BlockError;
use crate::bytes::Malformed;
use crate::head::{Place, Window};
use crate::quarantine::set_aside;

const MAGIC: [u8; 8] = *b"STOAHED\0";
const VERSION: u16 = 1;
/// Magic, version, six bytes of nothing.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes in front of each chunk: its checksum.
pub(crate) const CRC_BYTES: usize = 4;
/// A file is ended when it is longer than this.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What is written to the disk at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A file open for reading.
#[derive(Debug)]
pub(crate) struct HeadFile {
    pub(crate) number: u64,
    reader: Box<dyn DiskRead>,
}

impl HeadFile {
    /// Opens a file an earlier process wrote. Its header is for people: each chunk's checksum says
    /// whether it is what the checkpoint means, and a header that was damaged costs nothing.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<Self> {
        Ok(Self { number, reader: disk.open(&path(dir, number))? })
    }

    /// Whether the first bytes are those every such file begins with.
    pub(crate) fn header_is_plain(&self) -> bool {
        let mut read = [0; HEADER_BYTES];
        self.reader.read_exact_at(&mut read, 0).is_ok() && read == header()
    }

    /// The chunk whose checksum stands at `offset`.
    pub(crate) fn read_chunk(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, BlockError> {
        let mut read = vec![0; CRC_BYTES + bytes];
        read_twice(&*self.reader, &mut read, offset)?;
        let chunk = check(self.number, offset, &read)?.len();
        read.drain(..read.len() - chunk);
        Ok(read)
    }

    /// Neighbouring bytes, unchecked; fewer where the file ends.
    pub(crate) fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let left = self.reader.size()?.saturating_sub(offset);
        let mut read = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(bytes)];
        self.reader.read_exact_at(&mut read, offset)?;
        Ok(read)
    }
}

/// Fills `buf`; a read that failed is tried once more. A file that is too short is damaged, not
/// unreadable.
pub(crate) fn read_twice(
    reader: &dyn DiskRead,
    buf: &mut [u8],
    offset: u64,
) -> Result<(), BlockError> {
    let mut read = reader.read_exact_at(buf, offset);
    if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
        read = reader.read_exact_at(buf, offset);
    }
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Malformed("file ends early").into(),
        _ => error.into(),
    })
}

/// The chunk behind a checksum, if that holds.
pub(crate) fn check(file: u64, offset: u64, stored: &[u8]) -> Result<&[u8], Malformed> {
    let (crc, chunk) = stored.split_first_chunk::<CRC_BYTES>().ok_or(Malformed("ends early"))?;
    if u32::from_le_bytes(*crc) == bound_crc(file, offset, chunk) {
        Ok(chunk)
    } else {
        Err(Malformed("chunk fails its checksum"))
    }
}

fn bound_crc(file: u64, offset: u64, chunk: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&file.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, chunk)
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (magic, rest) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    let (version, _) = rest.split_at_mut(2);
    version.copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The directory of these files.
pub(crate) fn head_dir(dir: &Path) -> PathBuf {
    dir.join("head")
}

/// Writes a file anew whose header was damaged.
pub(crate) fn mend_header(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let path = path(dir, number);
    let mut bytes = disk.read(&path)?;
    for (byte, expected) in bytes.iter_mut().zip(header()) {
        *byte = expected;
    }
    disk.replace(&path, &bytes)
}

/// A file's place.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    head_dir(dir).join(format!("{number:016x}.chunks"))
}

fn number_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".chunks").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct HeadFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The number of the next file; never one that was used.
    next: u64,
    current: Option<Current>,
    /// Lengths of the files that are there, the current one's left out.
    ended: Vec<(u64, u64)>,
    /// Files that hold something that could not be read: set aside where others are removed.
    spared: BTreeSet<u64>,
    /// Files of which a write failed, or that did not say: how long they are nobody knows.
    failed: BTreeSet<u64>,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: Box<dyn DiskFile>,
    reader: Arc<HeadFile>,
    written: u64,
    /// Something refers to it.
    is_used: bool,
}

impl HeadFiles {
    /// Goes on after the files that are there.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        let mut files = Self {
            disk,
            dir: dir.to_owned(),
            next: 1,
            current: None,
            ended: vec![],
            spared: BTreeSet::new(),
            failed: BTreeSet::new(),
        };
        for number in files.numbers()? {
            let bytes = files.disk.open(&path(dir, number)).and_then(|file| file.size());
            if bytes.is_err() {
                files.failed.insert(number);
            }
            files.ended.push((number, bytes.unwrap_or(0)));
            files.next = number.saturating_add(1);
        }
        Ok(files)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.written);
        self.ended.iter().map(|(_, bytes)| bytes).sum::<u64>() + current
    }

    /// Writes the chunks of windows, makes them durable, and only then lets them go from memory.
    /// After an error those that were not done are in memory still.
    pub(crate) fn store(&mut self, windows: &[Arc<Window>]) -> io::Result<()> {
        let mut windows = windows;
        while !windows.is_empty() {
            let stored = self.store_some(windows).inspect_err(|_failed| self.give_up())?;
            windows = windows.get(stored..).unwrap_or_default();
        }
        Ok(())
    }

    /// Stores as many windows as the current file takes; says how many.
    fn store_some(&mut self, windows: &[Arc<Window>]) -> io::Result<usize> {
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(Current::create(&*self.disk, &self.dir, &mut self.next)?),
        };
        let mut buffer = Vec::new();
        let mut places = Vec::new();
        for window in windows {
            let Place::Memory(bytes) = window.place() else {
                places.push(None);
                continue;
            };
            let offset = current.written + buffer.len() as u64;
            put_window(&mut buffer, current.number, offset, window, &bytes);
            places.push(Some(offset));
            if buffer.len() >= BUFFER_BYTES {
                current.write(&mut buffer)?;
            }
            if current.written > FILE_BYTES_MAX {
                break;
            }
        }
        current.write(&mut buffer)?;
        current.file.sync_data()?;
        current.is_used = true;
        for (window, offset) in windows.iter().zip(&places) {
            if let Some(offset) = *offset {
                window.set_place(Place::File { file: Arc::clone(&current.reader), offset });
            }
        }
        if current.written > FILE_BYTES_MAX {
            self.end();
        }
        Ok(places.len())
    }

    /// The next window goes to a new file.
    pub(crate) fn end(&mut self) {
        if let Some(current) = self.current.take() {
            self.ended.push((current.number, current.written));
        }
    }

    /// Numbers and lengths of all files; none of these grows any more.
    pub(crate) fn end_all(&mut self) -> Vec<(u64, u64)> {
        self.end();
        self.ended.iter().filter(|(number, _)| !self.failed.contains(number)).copied().collect()
    }

    /// What a failed file holds since its last sync is unknown; it is not written again.
    fn give_up(&mut self) {
        let Some(current) = self.current.take() else { return };
        if current.is_used {
            self.ended.push((current.number, current.written));
            self.failed.insert(current.number);
        } else {
            drop(self.disk.remove_file(&path(&self.dir, current.number)));
        }
    }

    /// Files that hold something that could not be read: the disk may give it another day, so they go
    /// to `quarantine/` once nothing refers to them.
    pub(crate) fn spare(&mut self, files: impl IntoIterator<Item = u64>) {
        self.spared.extend(files);
    }

    /// Spares all files that are there but those that are used.
    pub(crate) fn spare_all_but(&mut self, used: &BTreeSet<u64>) {
        let unused = self.ended.iter().map(|(number, _)| *number);
        self.spared.extend(unused.filter(|number| !used.contains(number)));
    }

    /// Removes the files nothing refers to.
    pub(crate) fn keep_only(&mut self, used: &BTreeSet<u64>) -> io::Result<()> {
        let current = self.current.as_ref().map(|current| current.number);
        let mut removed = false;
        for number in self.numbers()? {
            if used.contains(&number) || Some(number) == current {
                continue;
            }
            let path = path(&self.dir, number);
            if self.spared.contains(&number) {
                let name = format!("head-{number:016x}.chunks");
                set_aside(&*self.disk, &self.dir, &path, &name)?;
                self.spared.remove(&number);
            } else {
                self.disk.remove_file(&path)?;
            }
            self.ended.retain(|(ended, _)| *ended != number);
            removed = true;
        }
        if removed { self.disk.sync_dir(&head_dir(&self.dir)) } else { Ok(()) }
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let dir = head_dir(&self.dir);
        if !self.disk.exists(&dir)? {
            return Ok(Vec::new());
        }
        let names = self.disk.list(&dir)?;
        Ok(names.iter().filter_map(|name| number_of_name(name)).collect())
    }
}

impl Current {
    fn create(disk: &dyn Disk, dir: &Path, next: &mut u64) -> io::Result<Self> {
        create_dir_durable(disk, &head_dir(dir))?;
        let number = *next;
        let path = path(dir, number);
        *next += 1;
        let create = || {
            let mut file = disk.create(&path)?;
            file.write_all(&header())?;
            disk.sync_dir(&head_dir(dir))?;
            let reader = Arc::new(HeadFile { number, reader: disk.open(&path)? });
            let written = HEADER_BYTES as u64;
            Ok(Self { number, file, reader, written, is_used: false })
        };
        create().inspect_err(|_failed| drop(disk.remove_file(&path)))
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all(buffer)?;
        self.written += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}

fn put_window(out: &mut Vec<u8>, file: u64, offset: u64, window: &Window, mut bytes: &[u8]) {
    let start = out.len();
    for len in window.lens() {
        let (chunk, rest) = bytes.split_at_checked(usize::from(*len)).unwrap_or_default();
        bytes = rest;
        let at = offset + (out.len() - start) as u64;
        out.extend_from_slice(&bound_crc(file, at, chunk).to_le_bytes());
        out.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use stoa_wal::disk::SimDisk;

    use super::*;

    #[test]
    fn a_file_that_does_not_say_its_length_is_not_told_to_be_empty() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/db");
        disk.create_dir_all(&head_dir(dir)).unwrap();
        for number in [1, 2] {
            disk.replace(&path(dir, number), &header()).unwrap();
        }
        let open = || HeadFiles::open(Arc::new(disk.clone()), dir).unwrap();
        let bytes = HEADER_BYTES as u64;
        assert_eq!(open().end_all(), [(1, bytes), (2, bytes)]);
        disk.fail_opens(1);
        let mut files = open();
        disk.clear_faults();
        assert_eq!((files.end_all(), files.next), (vec![(2, bytes)], 3));
    }
}

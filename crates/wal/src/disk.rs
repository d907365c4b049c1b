//! The file system as everything durable in Stoa sees it: a real one, and (in `sim`) one that
//! fails on demand.
//!
//! Every durable part (WAL, spool, blocks) reads and writes through [`Disk`], so that a test can
//! lose un-synced bytes, tear a sector, fill the disk or fail an fsync, by seed.
//!
//! What a caller may rely on, and nothing else: bytes written to a [`DiskFile`] are durable once
//! [`DiskFile::sync_data`] returned `Ok`; a created, renamed or removed name is durable once
//! [`Disk::sync_dir`] of its directory returned `Ok`. After an error from `sync_data` the file's
//! unsynced bytes are in an unknown state and stay so: never sync the same file again and trust it
//! (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

pub mod sim;

pub use sim::{Fault, SimDisk, SimSnapshot};

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a directory and its parents; fine if it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates an empty file, replacing one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for writing at its end; creates it when absent.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading at any offset.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>>;
    /// Renames over an existing name, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes an unprivileged writer could still write below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = usize::try_from(file.size()?)
            .map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Gives a file that is never changed again a second name; where that cannot be, copies it
    /// durably. The new name is durable once its directory is synced.
    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        const PIECE_BYTES: u64 = 1 << 20;
        let source = self.open(from)?;
        let mut target = self.create(to)?;
        let (mut at, end) = (0, source.size()?);
        let mut piece = Vec::new();
        while at < end {
            let bytes = PIECE_BYTES.min(end - at);
            piece.resize(usize::try_from(bytes).unwrap_or_default(), 0);
            source.read_exact_at(&mut piece, at)?;
            target.write_all(&piece)?;
            at += bytes;
        }
        target.sync_data()
    }

    /// Writes a file whole and durably: a temporary file, synced, renamed, the directory synced.
    /// After a crash the name holds the old bytes or the new ones.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let tmp = path.with_file_name(name);
        let mut file = self.create(&tmp)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        drop(file);
        self.rename(&tmp, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// A file open for writing at its end. One writer at a time.
pub trait DiskFile: Send + fmt::Debug {
    /// Writes all bytes at the end.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all bytes written so far, and the length, durable (fdatasync).
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes; the next write goes there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// The length, written bytes included.
    fn size(&self) -> io::Result<u64>;
}

/// A file open for reading.
pub trait DiskRead: Send + Sync + fmt::Debug {
    /// Fills `buf` from `offset`; an error of kind `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// The length.
    fn size(&self) -> io::Result<u64>;
}

/// Creates a directory and makes its name durable, and the names of the parents it had to create.
/// [`Disk::create_dir_all`] alone leaves them to be lost in a power cut, with all that is in them.
pub fn create_dir_durable(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut created = Vec::new();
    for ancestor in dir.ancestors() {
        if ancestor.as_os_str().is_empty() || disk.exists(ancestor)? {
            break;
        }
        created.push(ancestor);
    }
    disk.create_dir_all(dir)?;
    let synced = created.iter().try_for_each(|dir| disk.sync_dir(parent_of(dir)));
    if let (Err(error), Some(top)) = (synced, created.last()) {
        // A second sync would pass and need not bring the names back; creating them again does.
        drop(disk.remove_dir_all(top));
        return Err(error);
    }
    if !created.is_empty() {
        return Ok(());
    }
    // It may have been created by a process that died before it came to sync the parent. A parent
    // that may not be read was not created by us.
    match disk.sync_dir(parent_of(dir)) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// The directory a name lies in. The empty path names the current one only to us.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(fs::File);

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(fs::File::create(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>> {
        Ok(Box::new(RealFile(fs::File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        if fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        // Another file system, or one without links.
        fs::copy(from, to)?;
        fs::File::open(to)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl DiskFile for RealFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.seek(io::SeekFrom::Start(len))?;
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl DiskRead for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

//! What was damaged: kept under `quarantine/`, for a person to look at, within bounds.
//!
//! Each entry is a file (bytes of a log, a chunk) or a directory (a block, a checkpoint), under a
//! name that begins with a number: they count up, so that the oldest is the least. Entries of before
//! have none and are the oldest. Beyond [`Options::quarantine_bytes_max`](crate::Options) or
//! [`ENTRIES_MAX`] the oldest go, all but the newest, and are counted. Nothing reads an entry.

use std::io;
use std::path::{Path, PathBuf};

use stoa_wal::Disk;

/// More entries than anybody looks through.
const ENTRIES_MAX: usize = 2000;
/// Digits of an entry's number.
const DIGITS: usize = 8;

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Removed by this call.
    pub(crate) removed: u64,
}

fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

fn number_of(name: &str) -> u64 {
    let digits = name.split_once('-').map(|(digits, _)| digits);
    let number = digits.filter(|digits| digits.len() == DIGITS).and_then(|d| d.parse().ok());
    number.unwrap_or(0)
}

/// Makes the directory if need be, and has something put to a place in it that is not taken; says
/// where.
fn keep(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let quarantine = quarantine_dir(dir);
    disk.create_dir_all(&quarantine)?;
    let names = disk.list(&quarantine)?;
    let number = names.iter().map(|name| number_of(name)).max().unwrap_or(0) + 1;
    let to = quarantine.join(format!("{number:0DIGITS$}-{name}"));
    put(&to)?;
    Ok(to)
}

/// Moves something there; says where to.
pub(crate) fn set_aside(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    name: &str,
) -> io::Result<PathBuf> {
    keep(disk, dir, name, |to| disk.rename(path, to))
}

/// Writes bytes there; says where to.
pub(crate) fn keep_bytes(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<PathBuf> {
    keep(disk, dir, name, |to| disk.replace(to, bytes))
}

/// Keeps a file there that is about to be written anew; says where.
pub(crate) fn keep_file(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    name: &str,
) -> io::Result<PathBuf> {
    keep(disk, dir, name, |to| disk.link_or_copy(path, to))
}

/// Removes the oldest entries beyond the bounds.
pub(crate) fn bound(disk: &dyn Disk, dir: &Path, bytes_max: u64) -> io::Result<Figures> {
    let quarantine = quarantine_dir(dir);
    if !disk.exists(&quarantine)? {
        return Ok(Figures::default());
    }
    let mut entries: Vec<(u64, PathBuf, u64)> = Vec::new();
    for name in disk.list(&quarantine)? {
        let path = quarantine.join(&name);
        entries.push((number_of(&name), path.clone(), bytes_of(disk, &path)));
    }
    entries.sort_unstable();
    let bytes = entries.iter().map(|(.., bytes)| bytes).sum();
    let mut figures = Figures { bytes, entries: entries.len() as u64, removed: 0 };
    entries.pop();
    for (_, path, bytes) in entries {
        if figures.bytes <= bytes_max && figures.entries <= ENTRIES_MAX as u64 {
            break;
        }
        disk.remove_dir_all(&path).or_else(|_not_a_directory| disk.remove_file(&path))?;
        figures.bytes = figures.bytes.saturating_sub(bytes);
        figures.entries -= 1;
        figures.removed += 1;
    }
    Ok(figures)
}

/// Bytes of a file, or of the files in a directory; what cannot be read counts as none.
fn bytes_of(disk: &dyn Disk, path: &Path) -> u64 {
    let size = |path: &Path| disk.open(path).and_then(|file| file.size()).unwrap_or(0);
    match disk.list(path) {
        Ok(names) => names.iter().map(|name| size(&path.join(name))).sum(),
        Err(_not_a_directory) => size(path),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoa_wal::Disk as _;
    use stoa_wal::disk::SimDisk;

    use super::{ENTRIES_MAX, bound, keep_bytes, set_aside};

    #[test]
    fn the_oldest_go_and_the_newest_stays() {
        let (disk, dir) = (SimDisk::new(1), Path::new("/db"));
        let quarantine = dir.join("quarantine");
        disk.create_dir_all(&quarantine).unwrap();
        // As it was named before.
        disk.replace(&quarantine.join("log-0000000000000001-32"), &[0; 100]).unwrap();
        let block = dir.join("blocks/b");
        disk.create_dir_all(&block).unwrap();
        disk.replace(&block.join("chunks"), &[0; 1000]).unwrap();
        let block = set_aside(&disk, dir, &block, "block-b").unwrap();
        for n in 0..12 {
            keep_bytes(&disk, dir, &format!("log-{n}"), &[0; 10]).unwrap();
        }
        let figures = bound(&disk, dir, 2000).unwrap();
        assert_eq!((figures.bytes, figures.entries, figures.removed), (1220, 14, 0));
        let figures = bound(&disk, dir, 1150).unwrap();
        assert_eq!((figures.bytes, figures.entries, figures.removed), (1120, 13, 1));
        assert!(disk.exists(&block).unwrap());
        let figures = bound(&disk, dir, 100).unwrap();
        assert_eq!((figures.bytes, figures.entries, figures.removed), (100, 10, 3));
        let figures = bound(&disk, dir, 0).unwrap();
        assert_eq!((figures.bytes, figures.entries, figures.removed), (10, 1, 9));
        assert_eq!(disk.list(&quarantine).unwrap(), ["00000013-log-11"]);
        for n in 0..ENTRIES_MAX {
            keep_bytes(&disk, dir, "log", &n.to_le_bytes()).unwrap();
        }
        assert_eq!(bound(&disk, dir, u64::MAX).unwrap().removed, 1);
    }
}

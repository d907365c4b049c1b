//! A consistent copy of a running database.
//!
//! Blocks, checkpoint, ended files of the head and closed log segments are never changed once they are written, so the copy
//! holds the same files by a second name where the file system can, else their bytes. It is written
//! under a temporary name and opens as any database does.

use std::io;
use std::path::{Path, PathBuf};

use stoa_wal::Disk;
use stoa_wal::disk::create_dir_durable;

use crate::Tier;
use crate::checkpoint::{checkpoint_dir, segment_of_name};

/// Copies what makes up the database in `dir`: blocks, newest checkpoint, and the log's segments
/// before `segment`. Durable when this returns.
pub(crate) fn copy(disk: &dyn Disk, dir: &Path, to: &Path, segment: u64) -> io::Result<()> {
    if disk.exists(to)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let tmp = tmp_of(to);
    if disk.exists(&tmp)? {
        disk.remove_dir_all(&tmp)?;
    }
    let copied = copy_into(disk, dir, &tmp, segment).and_then(|()| {
        disk.rename(&tmp, to)?;
        disk.sync_dir(to.parent().unwrap_or(to))
    });
    if copied.is_err() {
        // What is left of it is removed by the next attempt.
        drop(disk.remove_dir_all(&tmp));
    }
    copied
}

fn tmp_of(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    to.with_file_name(name)
}

fn copy_into(disk: &dyn Disk, dir: &Path, to: &Path, segment: u64) -> io::Result<()> {
    create_dir_durable(disk, to)?;
    copy_blocks(disk, &dir.join("blocks"), &to.join("blocks"))?;
    for tier in Tier::ALL {
        copy_blocks(disk, &tier.dir(dir), &tier.dir(to))?;
    }
    if disk.exists(&to.join("tiers"))? {
        disk.sync_dir(&to.join("tiers"))?;
    }
    let checkpoint = disk.list(dir)?.iter().filter_map(|name| segment_of_name(name)).max();
    if let Some(checkpoint) = checkpoint {
        let (from, to) = (checkpoint_dir(dir, checkpoint), checkpoint_dir(to, checkpoint));
        copy_files(disk, &from, &to, |_| true)?;
    }
    let head = dir.join("head");
    if disk.exists(&head)? {
        copy_files(disk, &head, &to.join("head"), |name| name.ends_with(".chunks"))?;
    }
    let first = format!("{:016x}.wal", checkpoint.unwrap_or(0));
    let end = format!("{segment:016x}.wal");
    copy_files(disk, &dir.join("wal"), &to.join("wal"), |name| {
        first.as_str() <= name && name < end.as_str()
    })?;
    disk.sync_dir(to)
}

fn copy_blocks(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    if !disk.exists(from)? {
        return Ok(());
    }
    disk.create_dir_all(to)?;
    for name in disk.list(from)?.iter().filter(|name| !name.ends_with(".tmp")) {
        copy_files(disk, &from.join(name), &to.join(name), |name| !name.ends_with(".tmp"))?;
    }
    disk.sync_dir(to)
}

fn copy_files(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> io::Result<()> {
    disk.create_dir_all(to)?;
    for name in disk.list(from)?.iter().filter(|name| is_wanted(name)) {
        disk.link_or_copy(&from.join(name), &to.join(name))?;
    }
    disk.sync_dir(to)
}

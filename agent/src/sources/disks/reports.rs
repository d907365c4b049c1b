//! Answers of programs that need root, left in a directory by a job that has it.
//!
//! The agent itself has no rights (systemd/stoa-agent.service); systemd/stoa-disks.service runs the
//! programs instead and leaves what they print, one file each, put in place whole. A file's time is
//! when its answer was given, or when the job last saw that it holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::sources::{Now, Problem, Reading};

/// Where the job leaves them, unless configured otherwise.
pub(super) const DIRECTORY: &str = "/run/stoa-disks";
/// What is said of one that the job should have left anew since.
pub(super) const OLD: &str = "its answer was left over an hour ago; does stoa-disks.timer run?";
/// Files read of one kind at most.
const FILES_MAX: usize = 256;
/// The longest file read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file.
#[derive(Debug)]
pub(super) struct Left {
    /// Its name, without prefix and suffix.
    pub(super) name: String,
    pub(super) text: Vec<u8>,
    pub(super) at: Now,
}

/// The files `PREFIXname.json` in order of their names.
pub(super) fn read(directory: &Path, prefix: &str, reading: &mut Reading) -> Vec<Left> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| {
            let name = name.strip_prefix(prefix)?.strip_suffix(".json")?;
            Some(name.to_owned())
        })
        .take(FILES_MAX)
        .collect();
    names.sort_unstable();
    let mut files = Vec::new();
    for name in names {
        match read_file(&directory.join(format!("{prefix}{name}.json"))) {
            Ok((text, at)) => files.push(Left { name, text, at }),
            Err(problem) => reading.note(problem),
        }
    }
    files
}

fn read_file(path: &Path) -> Result<(Vec<u8>, Now), Problem> {
    let (text, at) = read_dated(path).map_err(|source| Problem::read(path, source))?;
    if u64::try_from(text.len()).is_ok_and(|n| n > FILE_BYTES_MAX) {
        return Err(Problem::parse(path, "over 1 MiB"));
    }
    Ok((text, at))
}

fn read_dated(path: &Path) -> io::Result<(Vec<u8>, Now)> {
    let mut file = File::open(path)?;
    let since = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_micros = i64::try_from(since.as_micros()).unwrap_or_default();
    let mut text = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok((text, Now { unix_micros }))
}

//! Answers of programs that need root, left in a directory by a job that has it.
//!
//! The agent itself has no rights (systemd/stoa-agent.service); systemd/stoa-disks.service runs the
//! programs instead and leaves what they print, one file each, put in place whole.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::sources::{Problem, Reading};

/// Where the job leaves them, unless configured otherwise.
pub(super) const DIRECTORY: &str = "/run/stoa-disks";
/// Files read of one kind at most.
const FILES_MAX: usize = 256;
/// The longest file read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files `PREFIXname.json` in order of their names, without prefix and suffix.
pub(super) fn read(
    directory: &Path,
    prefix: &str,
    reading: &mut Reading,
) -> Vec<(String, Vec<u8>)> {
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
            Ok(text) => files.push((name, text)),
            Err(problem) => reading.note(problem),
        }
    }
    files
}

fn read_file(path: &Path) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    let file =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
    match file {
        Err(source) => Err(Problem::read(path, source)),
        Ok(_) if u64::try_from(text.len()).is_ok_and(|n| n > FILE_BYTES_MAX) => {
            Err(Problem::parse(path, "over 1 MiB"))
        }
        Ok(_) => Ok(text),
    }
}

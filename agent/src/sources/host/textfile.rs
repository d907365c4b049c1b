//! Files a person or a job leaves for the agent: `*.prom` in a directory, told as they are.
//!
//! A file that is not in the exposition format, is too large or carries timestamps is left out whole,
//! and `node_textfile_scrape_error` says so. What there is no room for – files beyond a number, bytes
//! beyond so many a file and so many in all – is counted besides. A family that two files give different help or type is
//! taken from the first. Directories are those of the configuration, in its order, which may be patterns,
//! and that of the command line.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use stoa_exchange::exposition;
use stoa_model::{Family, Labels, Metric};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, SLOW, Source, label};

mod glob;

/// The largest file read; a textfile is a few KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Of all files of a reading; a file that does not fit any more is left out.
const BYTES_MAX: u64 = 8 << 20;
/// Files of what may be a network's mount are read by then.
const DEADLINE: Duration = Duration::from_secs(10);
/// Files read at most; with more, the last by name are left out, as an error.
const FILES_MAX: usize = 256;

const ERROR: Desc = Desc::gauge(
    "node_textfile_scrape_error",
    "1 if there was an error opening or reading a file, 0 otherwise",
);
const MODIFIED: Desc =
    Desc::gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
const LEFT_OUT: Desc = Desc::gauge(
    "stoa_textfile_files_left_out",
    "Textfiles left out because they or all together are too large, or because there are too many.",
);

/// `[sources.textfile]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where files are looked for: one directory or several, or patterns of such.
    directory: OneOrMore,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a directory or a list of directories")]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

/// The source `textfile`.
#[derive(Debug)]
pub(crate) struct Textfile {
    directories: Vec<PathBuf>,
    labels: Kept<Labels>,
}

/// A family as told so far.
#[derive(Debug)]
struct Told {
    family: Family,
    /// The files it came from, if they give no help.
    files: Vec<String>,
}

impl Configured for Textfile {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let directories = match settings.directory {
            OneOrMore::One(directory) => vec![directory],
            OneOrMore::More(directories) => directories,
        };
        Self { directories, labels: Kept::new() }
    }
}

impl Textfile {
    /// Adds a file's family to those told; what is wrong with it, if something is. Of a series that stands
    /// twice the first counts.
    fn merge(
        &mut self,
        family: Family,
        file: &str,
        told: &mut BTreeMap<String, Told>,
    ) -> Result<(), Wrong> {
        let name = family.name.clone();
        let Family { metrics, help, kind, .. } = family;
        let before = told
            .entry(name.clone())
            .or_insert_with(|| Told { family: Family::new(&name, &help, kind), files: Vec::new() });
        if before.family.help != help || before.family.kind != kind {
            return Err(Wrong::Differs);
        }
        before.files.push(file.to_owned());
        let mut seen: HashSet<Labels> =
            before.family.metrics.iter().map(|metric| metric.labels.clone()).collect();
        let count = before.family.metrics.len() + metrics.len();
        before.family.metrics.extend(metrics.into_iter().filter_map(|Metric { labels, value }| {
            let labels = self.labels.get(&labels.to_string(), |_| labels);
            seen.insert(labels.clone()).then_some(Metric { labels, value })
        }));
        if before.family.metrics.len() < count { Err(Wrong::Twice) } else { Ok(()) }
    }
}

/// What is wrong with a family in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It has other help or type than in a file before.
    Differs,
    /// It has a series that stands before, there or in a file before.
    Twice,
}

impl Source for Textfile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn tells_foreign_families(&self) -> bool {
        true
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut has_error = false;
        let mut problem = |problem: Problem, reading: &mut Reading| {
            has_error = true;
            reading.note_named(problem);
        };
        let mut modified = MODIFIED.family();
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        let mut files: Vec<PathBuf> = Vec::new();
        let mut left_out = 0;
        for pattern in self.directories.iter().chain(&roots.textfile) {
            for dir in glob::expand(pattern) {
                let (found, mut more) = match list(&dir) {
                    Ok(found) => found,
                    Err(error) => {
                        problem(Problem::read(dir, error), reading);
                        continue;
                    }
                };
                for file in found {
                    // Two patterns may come to the same directory.
                    match files.contains(&file) {
                        true => {}
                        false if files.len() < FILES_MAX => files.push(file),
                        false => more += 1,
                    }
                }
                if more > 0 {
                    left_out += more;
                    problem(Problem::parse(dir, "there are over 256 files"), reading);
                }
            }
        }
        let mut room = BYTES_MAX;
        for path in &files {
            let file = path.to_string_lossy();
            let (parsed, modified_at) = match read_file(path, &mut room) {
                Ok(read) => read,
                Err(error) => {
                    left_out += usize::from(error.kind() == ErrorKind::FileTooLarge);
                    problem(Problem::read(path, error), reading);
                    continue;
                }
            };
            if parsed.has_timestamps {
                problem(Problem::parse(path, "it carries timestamps"), reading);
                continue;
            }
            for family in parsed.families {
                match self.merge(family, &file, &mut told) {
                    Ok(()) => {}
                    Err(Wrong::Differs) => {
                        let wrong = "a family has other help or type than in a file before";
                        problem(Problem::parse(path, wrong), reading);
                    }
                    // The file counts as read, as with node_exporter.
                    Err(Wrong::Twice) => {
                        let wrong = "a series stands twice, here or in a file before";
                        reading.note_named(Problem::parse(path, wrong));
                    }
                }
            }
            let labels = self.labels.get(&format!("file {file}"), |_| label("file", &file));
            modified.push(labels, modified_at);
        }
        self.labels.end_round();
        reading.single(&ERROR, f64::from(u8::from(has_error)));
        reading.family(modified);
        if left_out > 0 {
            reading.single(&LEFT_OUT, left_out as f64);
        }
        for Told { mut family, files } in told.into_values() {
            if family.help.is_empty() {
                family.help = format!("Metric read from {}", files.join(", "));
            }
            reading.family(family);
        }
    }
}

/// The `*.prom` files of a directory, by name, and how many more there are than are read.
fn list(dir: &Path) -> io::Result<(BTreeSet<PathBuf>, usize)> {
    let (mut files, mut more) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "prom") {
            files.insert(path);
            if files.len() > FILES_MAX {
                files.pop_last();
                more += 1;
            }
        }
    }
    Ok((files, more))
}

/// What a file says, and when it was last changed in seconds since the epoch. Takes what it is long from
/// `room`.
fn read_file(path: &Path, room: &mut u64) -> io::Result<(exposition::Parsed, f64)> {
    // A pipe of that name would keep whoever opens it waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    let mut file = File::open(path)?;
    let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut text, bytes_max) = (String::new(), FILE_BYTES_MAX.min(*room));
    let too_large = || {
        let wrong = "over 4 MiB, or over 8 MiB with the files before it";
        io::Error::new(ErrorKind::FileTooLarge, wrong)
    };
    // A file may grow while it is read; one that is too large by now need not be read.
    if file.metadata()?.len() > bytes_max {
        return Err(too_large());
    }
    let bytes = file.by_ref().take(bytes_max + 1).read_to_string(&mut text)? as u64;
    *room = room.checked_sub(bytes).filter(|_| bytes <= bytes_max).ok_or_else(too_large)?;
    let parsed =
        exposition::parse(&text).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok((parsed, modified.as_secs_f64()))
}

//! What exporters say about their metrics: type, help, unit, one entry per metric name.
//!
//! Constraints: at most [`METRICS_MAX`] names of bounded text, so a label bomb cannot fill memory
//! here either; agents say it again at every connect, so a crash loses nothing for long. Format: one
//! JSON file, `metadata.json`, replaced as a whole:
//! `{"version":1,"metrics":{"node_load1":{"type":"gauge","help":"1m load average.","unit":""}}}`.
//! A file that cannot be read is set aside as `metadata.json.damaged`, never fatal, never deleted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use stoa_model::MetricKind;
use stoa_wal::Disk;

/// Most metric names described; the metrics of some hundred exporters. More are counted, not kept.
pub const METRICS_MAX: usize = 20_000;

/// The longest name, help or unit kept, in bytes; longer help is cut, a longer name is not kept.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The version this program writes and reads.
const VERSION: u32 = 1;

const FILE: &str = "metadata.json";

/// What is said about one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it measures.
    pub kind: MetricKind,
    /// What it means, one sentence.
    pub help: Arc<str>,
    /// Its unit, mostly empty.
    pub unit: Arc<str>,
}

/// All descriptions, shared by everyone who describes and everyone who asks.
#[derive(Debug)]
pub struct Metadata {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Guards the map and its two figures; held for look-ups and copies only, never over I/O.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    metrics: BTreeMap<Arc<str>, Description>,
    /// Differs from the file.
    dirty: bool,
    /// Descriptions not kept for want of room.
    refused: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    metrics: BTreeMap<String, Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    help: String,
    unit: String,
}

impl Metadata {
    /// Reads the file in `dir`; begins empty when there is none or it is damaged.
    #[must_use]
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let path = dir.join(FILE);
        let mut known = Known::default();
        match load(disk.as_ref(), &path) {
            Ok(metrics) => known.metrics = metrics,
            Err(error) => {
                let aside = path.with_extension("json.damaged");
                tracing::warn!(path = %path.display(), %error, "metric descriptions set aside");
                if let Err(error) = disk.rename(&path, &aside) {
                    tracing::warn!(path = %path.display(), %error, "cannot rename it either");
                }
            }
        }
        Self { disk, path, known: Mutex::new(known) }
    }

    /// Takes what is said about a metric; what is said last stands.
    pub fn describe(&self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        let mut known = self.lock();
        let full = known.metrics.len() >= METRICS_MAX;
        let (help, unit) = (cut(help), cut(unit));
        if let Some(old) = known.metrics.get(name)
            && old.kind == kind
            && *old.help == *help
            && *old.unit == *unit
        {
            return;
        }
        let description = Description { kind, help: help.into(), unit: unit.into() };
        match known.metrics.entry(Arc::from(name)) {
            Entry::Occupied(mut entry) => {
                entry.insert(description);
            }
            Entry::Vacant(entry) if !full && name.len() <= TEXT_BYTES_MAX => {
                entry.insert(description);
            }
            Entry::Vacant(_) => {
                known.refused += 1;
                return;
            }
        }
        known.dirty = true;
    }

    /// What is said about one metric.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Description> {
        self.lock().metrics.get(name).cloned()
    }

    /// Everything said, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Description)> {
        self.lock().metrics.iter().map(|(name, d)| (Arc::clone(name), d.clone())).collect()
    }

    /// Descriptions not kept for want of room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Writes the file if it is behind; tried again next time when the disk refuses.
    pub fn save(&self) {
        let metrics = {
            let mut known = self.lock();
            if !std::mem::take(&mut known.dirty) {
                return;
            }
            known.metrics.clone()
        };
        let line = |(name, d): (Arc<str>, Description)| {
            let line = Line {
                kind: d.kind.as_str().to_owned(),
                help: d.help.to_string(),
                unit: d.unit.to_string(),
            };
            (name.to_string(), line)
        };
        let file = File { version: VERSION, metrics: metrics.into_iter().map(line).collect() };
        let written = serde_json::to_vec(&file)
            .map_err(std::io::Error::other)
            .and_then(|bytes| self.disk.replace(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot save metric descriptions");
            self.lock().dirty = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // every change under the lock is whole: what a panicking holder left is good
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(disk: &dyn Disk, path: &Path) -> std::io::Result<BTreeMap<Arc<str>, Description>> {
    if !disk.exists(path)? {
        return Ok(BTreeMap::new());
    }
    let file: File = serde_json::from_slice(&disk.read(path)?).map_err(std::io::Error::other)?;
    if file.version != VERSION {
        let text = format!("version {} is not {VERSION}", file.version);
        return Err(std::io::Error::other(text));
    }
    let describe = |(name, line): (String, Line)| {
        let description =
            Description { kind: kind(&line.kind), help: line.help.into(), unit: line.unit.into() };
        (Arc::from(name), description)
    };
    Ok(file.metrics.into_iter().take(METRICS_MAX).map(describe).collect())
}

fn kind(word: &str) -> MetricKind {
    let kinds =
        [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram, MetricKind::Summary];
    kinds.into_iter().find(|kind| kind.as_str() == word).unwrap_or_default()
}

/// The longest start of a text within [`TEXT_BYTES_MAX`].
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_wal::disk::SimDisk;

    fn open(disk: &SimDisk) -> Metadata {
        Metadata::open(Arc::new(disk.clone()), Path::new("/data"))
    }

    fn disk() -> SimDisk {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk
    }

    #[test]
    fn descriptions_survive_a_crash_after_saving() {
        let disk = disk();
        let metadata = open(&disk);
        metadata.describe("node_load1", MetricKind::Gauge, "1m load average.", "");
        metadata.describe("x_seconds", MetricKind::Counter, "old", "");
        metadata.describe("x_seconds", MetricKind::Counter, &"ä".repeat(1000), "seconds");
        metadata.save();
        disk.crash();
        let again = open(&disk);
        assert_eq!(again.all(), metadata.all());
        assert_eq!(again.get("x_seconds").unwrap().help.len(), TEXT_BYTES_MAX);
        assert_eq!(again.get("absent"), None);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let disk = disk();
        disk.replace(Path::new("/data/metadata.json"), b"{\"version\":2,\"metrics\":{}}").unwrap();
        assert_eq!(open(&disk).all(), []);
        assert_eq!(disk.list(Path::new("/data")).unwrap(), ["metadata.json.damaged"]);
    }

    #[test]
    fn names_beyond_the_bound_are_counted() {
        let metadata = open(&disk());
        for i in 0..METRICS_MAX {
            metadata.describe(&format!("m{i}"), MetricKind::Gauge, "", "");
        }
        metadata.describe("one_more", MetricKind::Gauge, "", "");
        metadata.describe("m0", MetricKind::Counter, "said again", "");
        assert_eq!((metadata.get("one_more"), metadata.refused()), (None, 1));
        assert_eq!(metadata.get("m0").unwrap().kind, MetricKind::Counter);
    }
}

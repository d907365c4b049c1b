//! `/sys/devices/system/node`: memory by NUMA node. Off by default.

use std::time::Duration;

use stoa_model::{Family, Labels, MetricKind};

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Kept, Now, Problem, Reading, Roots, Source, Tree, label, number};

const INTERVAL: Duration = Duration::from_secs(5);
/// Linux knows at most 1024 nodes.
const NODES_MAX: usize = 1024;
/// A node's file has a few dozen fields, and all nodes have the same.
const FIELDS_MAX: usize = 256;
/// Longer files are not read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The fields of a node's `meminfo`, in bytes where they have a unit.
pub(super) fn parse_memory(text: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().take(FIELDS_MAX).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let key = words.next()?.strip_suffix(':')?;
        let value = number(words.next()?)?;
        let factor = match words.next() {
            None => 1.0,
            Some("kB") => 1024.0,
            Some(_) => return None,
        };
        Some((key.replace('(', "_").replace(')', ""), value * factor))
    })
}

/// The fields of a node's `numastat`.
pub(super) fn parse_counters(text: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().take(FIELDS_MAX).filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((format!("{key}_total"), number(value.trim())?))
    })
}

/// Families by field, in the order the fields are met.
#[derive(Default)]
struct Families(Vec<Family>);

impl Families {
    fn push(&mut self, field: &str, kind: MetricKind, labels: Labels, value: f64) {
        let is_it = |family: &Family| family.name.strip_prefix("node_memory_numa_") == Some(field);
        if let Some(family) = self.0.iter_mut().find(|family| is_it(family)) {
            return family.push(labels, value);
        }
        if self.0.len() >= FIELDS_MAX {
            return;
        }
        let help = format!("Memory information field {field}.");
        let mut family = Family::new(format!("node_memory_numa_{field}"), help, kind);
        family.push(labels, value);
        self.0.push(family);
    }
}

/// The source `meminfo_numa`.
#[derive(Debug)]
pub(crate) struct Numa {
    labels: Kept<Labels>,
}

impl Configured for Numa {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for Numa {
    fn name(&self) -> &'static str {
        "meminfo_numa"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "devices/system/node");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        let mut families = Families::default();
        for entry in entries.flatten().take(NODES_MAX) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_number =
                |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let Some(node) = name.strip_prefix("node").filter(is_number) else { continue };
            let labels = self.labels.get(node, |node| label("node", node));
            let mut read = |file: &str, take: &mut dyn FnMut(&str)| match read_whole(
                &entry.path().join(file),
                FILE_BYTES_MAX,
            ) {
                Ok(text) => take(&text),
                Err(error) => reading.note(Problem::read(entry.path().join(file), error)),
            };
            read("meminfo", &mut |text| {
                for (field, value) in parse_memory(text) {
                    families.push(&field, MetricKind::Gauge, labels.clone(), value);
                }
            });
            read("numastat", &mut |text| {
                for (field, value) in parse_counters(text) {
                    families.push(&field, MetricKind::Counter, labels.clone(), value);
                }
            });
        }
        self.labels.end_round();
        for family in families.0 {
            reading.family(family);
        }
    }
}

//! `/proc/net/stat`: the network stack's caches by CPU, every field of every file. Off by default.

use std::time::Duration;

use stoa_model::{Family, Labels, MetricKind};

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{CPUS_MAX, Kept, Now, Problem, Reading, Roots, Source, Tree};

const HELP: &str = "linux network cache stats";
const INTERVAL: Duration = Duration::from_secs(5);
/// The kernel has half a dozen of these files.
const FILES_MAX: usize = 64;
/// The longest of these lines has some 20 fields.
const FIELDS_MAX: usize = 64;
/// Longer files are not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// CPU (the line's place), field and value.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (usize, &str, f64)> {
    let mut lines = text.lines();
    let fields = lines.next().unwrap_or_default().split_ascii_whitespace();
    let fields: Vec<&str> = fields.take(FIELDS_MAX).collect();
    lines.take(CPUS_MAX).enumerate().flat_map(move |(cpu, line)| {
        let words = line.split_ascii_whitespace();
        let values = fields.clone().into_iter().zip(words);
        values.filter_map(move |(field, word)| {
            let is_name = field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let value = u64::from_str_radix(word, 16).ok()?;
            is_name.then_some((cpu, field, value as f64))
        })
    })
}

/// The source `lnstat`.
#[derive(Debug)]
pub(crate) struct NetworkCaches {
    labels: Kept<Labels>,
}

impl Configured for NetworkCaches {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for NetworkCaches {
    fn name(&self) -> &'static str {
        "lnstat"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Proc, "net/stat");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        let mut families: Vec<Family> = Vec::new();
        for entry in entries.flatten().take(FILES_MAX) {
            let Ok(subsystem) = entry.file_name().into_string() else { continue };
            let text = match read_whole(&entry.path(), FILE_BYTES_MAX) {
                Ok(text) => text,
                Err(error) => {
                    reading.note(Problem::read(entry.path(), error));
                    continue;
                }
            };
            for (cpu, field, value) in parse(&text) {
                let cpu = cpu.to_string();
                let labels = self.labels.get(&format!("{cpu} {subsystem}"), |_| {
                    Labels::from_pairs_last_wins([("cpu", cpu.as_str()), ("subsystem", &subsystem)])
                });
                let name = format!("node_lnstat_{field}_total");
                match families.iter_mut().find(|family| family.name == name) {
                    Some(family) => family.push(labels, value),
                    None => {
                        let mut family = Family::new(name, HELP, MetricKind::Counter);
                        family.push(labels, value);
                        families.push(family);
                    }
                }
            }
        }
        self.labels.end_round();
        for family in families {
            reading.family(family);
        }
    }
}

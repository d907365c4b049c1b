//! `/proc/meminfo`: what memory is used for. Every field the kernel tells is told.

use std::sync::Arc;

use stoa_model::MetricKind;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Kept, KeptFile, Now, Problem, Reading, Roots, Source, no_labels, number};

/// Fields and their values, in bytes where the field has a unit; in the file's order.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, f64, bool)> {
    text.lines().filter_map(|line| {
        let (key, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value = number(words.next()?)?;
        match words.next() {
            None => Some((key, value, false)),
            Some("kB") => Some((key, value * 1024.0, true)),
            Some(_) => None,
        }
    })
}

/// `Active(anon)` becomes `Active_anon`; bytes say so.
fn field_name(key: &str, is_bytes: bool) -> String {
    let mut name = key.replace('(', "_").replace(')', "");
    if is_bytes {
        name.push_str("_bytes");
    }
    name
}

/// The source `meminfo`.
#[derive(Debug)]
pub(crate) struct Memory {
    file: KeptFile,
    names: Kept<Arc<(String, String)>>,
}

impl Configured for Memory {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("meminfo"), names: Kept::new() }
    }
}

impl Source for Memory {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        for (key, value, is_bytes) in parse(text) {
            let names = self.names.get(key, |key| {
                let field = field_name(key, is_bytes);
                Arc::new((
                    format!("node_memory_{field}"),
                    format!("Memory information field {field}."),
                ))
            });
            let (name, help) = &*names;
            reading.named(name, help, MetricKind::Gauge).push(no_labels(), value);
        }
        self.names.end_round();
        if reading.is_empty() {
            reading.fail(Problem::parse(self.file.path(roots), "no field is understood"));
        }
    }
}

//! `/sys/devices/system/cpu/vulnerabilities`: which the CPUs have. Off by default.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, read_small};

const INFO: Desc = Desc::gauge(
    "node_cpu_vulnerabilities_info",
    "Details of each CPU vulnerability reported by sysfs. The value of the series is an int encoded \
     state of the vulnerability. The same state is stored as a string in the label",
);

/// State and mitigation.
pub(super) fn parse(text: &str) -> (&'static str, &str) {
    if let Some(mitigation) = text.strip_prefix("Mitigation: ") {
        ("mitigation", mitigation)
    } else if text.starts_with("Not affected") {
        ("not affected", "")
    } else if text.starts_with("Vulnerable") {
        ("vulnerable", "")
    } else {
        ("unknown", "")
    }
}

/// The source `cpu_vulnerabilities`.
#[derive(Debug)]
pub(crate) struct Vulnerabilities {
    labels: Kept<Labels>,
}

impl Configured for Vulnerabilities {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for Vulnerabilities {
    fn name(&self) -> &'static str {
        "cpu_vulnerabilities"
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "devices/system/cpu/vulnerabilities");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        let mut family = INFO.family();
        for entry in entries.flatten() {
            let path = entry.path();
            let text = match read_small(&path) {
                Ok(text) => text,
                Err(error) => {
                    reading.note(Problem::read(path, error));
                    continue;
                }
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let labels = self.labels.get(&format!("{name} {text}"), |_| {
                let (state, mitigation) = parse(&text);
                Labels::from_pairs_last_wins([
                    ("codename", name.as_str()),
                    ("state", state),
                    ("mitigation", mitigation),
                ])
            });
            family.push(labels, 1.0);
        }
        self.labels.end_round();
        reading.family(family);
    }
}

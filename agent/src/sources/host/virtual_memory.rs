//! `/proc/vmstat`: paging, faults, kills for want of memory.

use regex::Regex;
use stoa_model::{Family, Metric, MetricKind};

use crate::sources::settings::{HostSettings, PatternError, pattern};
use crate::sources::{Kept, KeptFile, Now, Reading, Roots, Source, no_labels, number};

pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(' '))
}

/// The source `vmstat`.
#[derive(Debug)]
pub(super) struct VirtualMemory {
    file: KeptFile,
    wanted: Regex,
    /// Name and help of a field; `None` when it is not wanted.
    fields: Kept<Option<(String, String)>>,
}

impl VirtualMemory {
    pub(super) fn new(settings: &HostSettings) -> Result<Self, PatternError> {
        Ok(Self {
            file: KeptFile::proc("vmstat"),
            wanted: pattern(&settings.vmstat_fields)?,
            fields: Kept::new(),
        })
    }
}

impl Source for VirtualMemory {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        for (key, value) in parse(text) {
            let names = self.fields.get(key, |key| {
                self.wanted.is_match(key).then(|| {
                    let help = format!("/proc/vmstat information field {key}.");
                    (format!("node_vmstat_{key}"), help)
                })
            });
            if let (Some((name, help)), Some(value)) = (names, number(value)) {
                let metrics = vec![Metric { labels: no_labels(), value }];
                reading.family(Family { name, help, kind: MetricKind::Untyped, metrics });
            }
        }
        self.fields.end_round();
    }
}

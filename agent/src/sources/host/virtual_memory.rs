//! `/proc/vmstat`: paging, faults, kills for want of memory.

use std::sync::Arc;

use serde::Deserialize;
use stoa_model::MetricKind;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::Pattern;
use crate::sources::{Kept, KeptFile, Now, Reading, Roots, Source, no_labels, number};

pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(' '))
}

const FIELDS: &str = "^(oom_kill|pgpg|pswp|pg.*fault).*";

/// `[sources.vmstat]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which fields to tell.
    fields: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { fields: Pattern::fixed(FIELDS) }
    }
}

/// The source `vmstat`.
#[derive(Debug)]
pub(crate) struct VirtualMemory {
    file: KeptFile,
    wanted: Pattern,
    /// Name and help of a field; `None` when it is not wanted.
    fields: Kept<Option<Arc<(String, String)>>>,
}

impl Configured for VirtualMemory {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("vmstat"), wanted: settings.fields, fields: Kept::new() }
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
                self.wanted.matches(key).then(|| {
                    let help = format!("/proc/vmstat information field {key}.");
                    Arc::new((format!("node_vmstat_{key}"), help))
                })
            });
            if let (Some(names), Some(value)) = (names, number(value)) {
                let (name, help) = &*names;
                reading.named(name, help, MetricKind::Untyped).push(no_labels(), value);
            }
        }
        self.fields.end_round();
    }
}

//! `/proc/cgroups`: how many control groups each controller has.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, label, number};

const CGROUPS: Desc =
    Desc::gauge("node_cgroups_cgroups", "Current cgroup number of the subsystem.");
const ENABLED: Desc =
    Desc::gauge("node_cgroups_enabled", "Current cgroup number of the subsystem.");
const INTERVAL: Duration = Duration::from_secs(10);

/// Controller, number of groups, and whether it is enabled.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, _hierarchy) = (words.next()?, words.next()?);
        Some((name, number(words.next()?)?, number(words.next()?)?))
    })
}

/// The source `cgroups`.
#[derive(Debug)]
pub(crate) struct ControlGroups {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for ControlGroups {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("cgroups"), labels: Kept::new() }
    }
}

impl Source for ControlGroups {
    fn name(&self) -> &'static str {
        "cgroups"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let (mut cgroups, mut enabled) = (CGROUPS.family(), ENABLED.family());
        for (name, count, is_enabled) in parse(text) {
            let labels = self.labels.get(name, |name| label("subsys_name", name));
            cgroups.push(labels.clone(), count);
            enabled.push(labels, is_enabled);
        }
        self.labels.end_round();
        reading.family(cgroups);
        reading.family(enabled);
    }
}

//! `/sys/class/powercap`: energy used by processor packages, cores and memory (RAPL).
//!
//! The kernel tells it to root only; without the right, nothing is told.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::MetricKind;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries_with, text, value};
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
const JOULES_PER_MICRO: f64 = 1e6;

const JOULES: Desc = Desc::counter("node_rapl_joules_total", "Current RAPL value in joules");

/// A zone's name without the index after it, if it has one: `package-0`.
pub(super) fn parse(name: &str) -> (&str, Option<u32>) {
    let split = name.rsplit_once('-').and_then(|(kind, index)| Some((kind, index.parse().ok()?)));
    split.map_or((name, None), |(kind, index)| (kind, Some(index)))
}

/// How to tell the zones.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whether zones are told apart by a label instead of by the family's name.
    pub(super) enable_zone_label: bool,
}

/// The source `rapl`.
#[derive(Debug)]
pub(crate) struct Energy {
    settings: Settings,
    sheet: Sheet,
}

impl Configured for Energy {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings, sheet: Sheet::default() }
    }
}

impl Energy {
    fn push_zone(&mut self, zone: &str, index: &str, path: &str, joules: f64) {
        if self.settings.enable_zone_label {
            let labels =
                self.sheet.labels.of(&[("index", index), ("path", path), ("rapl_zone", zone)]);
            return self.sheet.push(&JOULES, labels, joules);
        }
        let labels = self.sheet.labels.of(&[("index", index), ("path", path)]);
        let make = || (format!("Current RAPL {zone} value in joules"), MetricKind::Counter);
        self.sheet.push_named(&["node_rapl_", zone, "_joules_total"], make, labels, joules);
    }
}

impl Source for Energy {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/powercap");
        if let Err(error) = std::fs::metadata(&dir) {
            return reading.fail(Problem::read(dir, error));
        }
        let mut told: Vec<(String, u32)> = Vec::new();
        for (number, _) in entries_with(&dir, "intel-rapl", DEVICES_MAX) {
            let path: PathBuf = dir.join(format!("intel-rapl{number}"));
            // The directories that zones stand in have no name.
            let Some(name) = text(path.join("name")).filter(|name| !name.is_empty()) else {
                continue;
            };
            let (zone, index) = parse(&name);
            // Zones of the same name are counted, unless they say which they are.
            let index = index.unwrap_or_else(|| count(&mut told, zone));
            if let Some(micro) = value(path.join("energy_uj")) {
                let path = path.to_string_lossy();
                let joules = micro / JOULES_PER_MICRO;
                self.push_zone(zone, &index.to_string(), &path, joules);
            }
        }
        self.sheet.tell(reading);
    }
}

/// How many zones of this name there were before this one.
fn count(told: &mut Vec<(String, u32)>, zone: &str) -> u32 {
    if let Some((_, count)) = told.iter_mut().find(|(known, _)| known == zone) {
        *count += 1;
        return *count;
    }
    told.push((zone.to_owned(), 0));
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(settings: Settings) -> Energy {
        Energy { settings, sheet: Sheet::default() }
    }

    fn read(settings: Settings, zones: &[(&str, &str)]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        for (directory, name) in zones {
            let zone = dir.path().join("class/powercap").join(directory);
            std::fs::create_dir_all(&zone).unwrap();
            std::fs::write(zone.join("name"), name).unwrap();
            std::fs::write(zone.join("energy_uj"), "1500000\n").unwrap();
        }
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let mut reading = Reading::default();
        source(settings).read(&roots, Now { unix_micros: 0 }, &mut reading);
        let mut told = Vec::new();
        for family in reading.families() {
            for metric in &family.metrics {
                assert_eq!(metric.value, 1.5);
                let index = metric.labels.get("index").unwrap().to_owned();
                let zone = metric.labels.get("rapl_zone").unwrap_or_default();
                told.push((format!("{}{zone}", family.name), index));
            }
        }
        told
    }

    #[test]
    fn zones_of_one_name_are_counted() {
        let zones = [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:1:0", "core"),
        ];
        let told = |name: &str, index: &str| (name.to_owned(), index.to_owned());
        assert_eq!(
            read(Settings::default(), &zones),
            [
                told("node_rapl_core_joules_total", "0"),
                told("node_rapl_core_joules_total", "1"),
                told("node_rapl_package_joules_total", "0"),
                told("node_rapl_package_joules_total", "1"),
            ]
        );
        assert_eq!(
            read(Settings { enable_zone_label: true }, &zones[..1]),
            [told("node_rapl_joules_totalpackage", "0")]
        );
    }

    proptest! {
        #[test]
        fn any_name_is_taken_apart(name in any::<String>()) {
            prop_assert!(name.starts_with(parse(&name).0));
        }
    }
}

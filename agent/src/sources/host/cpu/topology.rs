//! `/sys/devices/system/cpu`: throttling, isolation, and which CPUs are on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Tree, label, number, read_small};

/// How often the CPUs are looked up anew.
const DISCOVERY: Duration = Duration::from_secs(60);
/// The highest CPU number believed; the kernel's own limit is 8192.
const CPU_MAX: u32 = 65_535;

const CORE_THROTTLES: Desc = Desc::counter(
    "node_cpu_core_throttles_total",
    "Number of times this CPU core has been throttled.",
);
const PACKAGE_THROTTLES: Desc = Desc::counter(
    "node_cpu_package_throttles_total",
    "Number of times this CPU package has been throttled.",
);
const ISOLATED: Desc = Desc::gauge(
    "node_cpu_isolated",
    "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
);
const ONLINE: Desc = Desc::gauge("node_cpu_online", "CPUs that are online and being scheduled.");

/// The part of the source `cpu` that comes from `/sys`.
#[derive(Debug)]
pub(super) struct Topology {
    found_at: Option<Now>,
    found: Found,
    labels: Kept<Labels>,
}

/// What there is to read.
#[derive(Debug, Default)]
struct Found {
    core_throttles: Vec<(Labels, PathBuf)>,
    package_throttles: Vec<(Labels, PathBuf)>,
    isolated: Vec<Labels>,
    /// Empty where the first CPU cannot be turned off: then none is told.
    online: Vec<(Labels, PathBuf)>,
}

impl Topology {
    pub(super) fn new() -> Self {
        Self { found_at: None, found: Found::default(), labels: Kept::new() }
    }

    pub(super) fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        if self.found_at.is_none_or(|at| now.is_past(at, DISCOVERY)) {
            self.found = discover(roots, &mut self.labels, reading);
            self.labels.end_round();
            self.found_at = Some(now);
        }
        for (desc, files) in [
            (&CORE_THROTTLES, &self.found.core_throttles),
            (&PACKAGE_THROTTLES, &self.found.package_throttles),
            (&ONLINE, &self.found.online),
        ] {
            let mut family = desc.family();
            for (labels, path) in files {
                match read_small(path) {
                    Ok(text) => {
                        if let Some(value) = number(&text) {
                            family.push(labels.clone(), value);
                        }
                    }
                    Err(error) => reading.note(Problem::read(path, error)),
                }
            }
            reading.family(family);
        }
        let mut isolated = ISOLATED.family();
        for labels in &self.found.isolated {
            isolated.push(labels.clone(), 1.0);
        }
        reading.family(isolated);
    }
}

fn discover(roots: &Roots, labels: &mut Kept<Labels>, reading: &mut Reading) -> Found {
    let mut found = Found::default();
    let dir = roots.path(Tree::Sys, "devices/system/cpu");
    for cpu in parse_list(&read_small(&dir.join("isolated")).unwrap_or_default()) {
        let cpu = cpu.to_string();
        found.isolated.push(labels.get(&format!("cpu {cpu}"), |_| label("cpu", &cpu)));
    }
    let cpus = match numbered_cpus(&dir) {
        Ok(cpus) => cpus,
        Err(error) => {
            reading.note(Problem::read(dir, error));
            return found;
        }
    };
    let (mut cores, mut packages) = (BTreeSet::new(), BTreeSet::new());
    for (cpu, path) in &cpus {
        let id = |file: &str| read_small(&path.join("topology").join(file)).ok();
        if let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) {
            let counter = path.join("thermal_throttle/core_throttle_count");
            if counter.exists() && cores.insert((package.clone(), core.clone())) {
                let set = labels.get(&format!("core {package} {core}"), |_| {
                    Labels::from_pairs_last_wins([("package", &*package), ("core", &*core)])
                });
                found.core_throttles.push((set, counter));
            }
            let counter = path.join("thermal_throttle/package_throttle_count");
            if counter.exists() && packages.insert(package.clone()) {
                let set = labels.get(&format!("package {package}"), |_| label("package", &package));
                found.package_throttles.push((set, counter));
            }
        }
        let online = path.join("online");
        let first_can_be_off = *cpu == 0 || !found.online.is_empty();
        if first_can_be_off && online.exists() {
            let name = cpu.to_string();
            let set = labels.get(&format!("cpu {name}"), |_| label("cpu", &name));
            found.online.push((set, online));
        }
    }
    found
}

/// The directories `cpu0`, `cpu1` and so on, by number.
fn numbered_cpus(dir: &std::path::Path) -> std::io::Result<BTreeMap<u32, PathBuf>> {
    let mut cpus = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        if let Some(Ok(number)) = number.map(str::parse) {
            cpus.insert(number, entry.path());
        }
    }
    Ok(cpus)
}

/// A list of CPUs as the kernel writes it: `1,3-5,9`; what is not understood is left out.
fn parse_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        let room = usize::try_from(CPU_MAX).unwrap_or(usize::MAX).saturating_sub(cpus.len());
        cpus.extend((first..=last.min(CPU_MAX)).take(room));
    }
    cpus
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (text, expected) in [
            ("", vec![]),
            ("0", vec![0]),
            ("1,3-5,9\n", vec![1, 3, 4, 5, 9]),
            ("5-3", vec![]),
            ("x,2", vec![2]),
        ] {
            assert_eq!(parse_list(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read(text in "[0-9,-]{0,20}") {
            prop_assert!(parse_list(&text).len() <= CPU_MAX as usize);
        }
    }
}

//! `/sys/class/nvme`: controllers of NVM Express and their namespaces.

use std::path::Path;
use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often: newer kernels ask the controller how much of a namespace is used.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a reading may take. Newer kernels ask the controller.
const DEADLINE: Duration = Duration::from_secs(5);

const INFO: Desc = Desc::gauge(
    "node_nvme_info",
    "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
);
const NAMESPACE_INFO: Desc =
    Desc::gauge("node_nvme_namespace_info", "Information about NVMe namespaces. Value is always 1");
const CAPACITY: Desc = Desc::gauge(
    "node_nvme_namespace_capacity_bytes",
    "Capacity of the NVMe namespace in bytes. Computed as namespace_size * \
     namespace_logical_block_size",
);
const SIZE: Desc = Desc::gauge(
    "node_nvme_namespace_size_bytes",
    "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
);
const USED: Desc = Desc::gauge(
    "node_nvme_namespace_used_bytes",
    "Used space of the NVMe namespace in bytes. Available in \
     /sys/class/nvme/<device>/<namespace>/nuse",
);
const BLOCK_SIZE: Desc = Desc::gauge(
    "node_nvme_namespace_logical_block_size_bytes",
    "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in \
     /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
);

/// The number of the namespace in a name like `nvme0n1`, or `nvme0c1n1` where it has several paths.
pub(super) fn parse(name: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (controller, namespace) = name.strip_prefix("nvme")?.rsplit_once('n')?;
    let is_known = match controller.split_once('c') {
        Some((subsystem, path)) => is_number(subsystem) && is_number(path),
        None => is_number(controller),
    };
    (is_known && is_number(namespace)).then_some(namespace)
}

/// The source `nvme`.
#[derive(Debug)]
pub(crate) struct Nvme {
    sheet: Sheet,
}

impl Configured for Nvme {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Nvme {
    fn read_controller(&mut self, device: &str, dir: &Path) {
        let said = |file| text(dir.join(file)).unwrap_or_default();
        let info = self.sheet.labels.of(&[
            ("cntlid", said("cntlid").as_str()),
            ("device", device),
            ("firmware_revision", &said("firmware_rev")),
            ("model", &said("model")),
            ("serial", &said("serial")),
            ("state", &said("state")),
        ]);
        self.sheet.push(&INFO, info, 1.0);
        let files = entries(dir, usize::MAX).unwrap_or_default();
        let namespaces = files.iter().filter_map(|(name, dir)| Some((parse(name)?, dir)));
        for (namespace, dir) in namespaces.take(DEVICES_MAX) {
            // A namespace with one path has no such state.
            let state = text(dir.join("ana_state")).unwrap_or_else(|| "unknown".to_owned());
            let info = self.sheet.labels.of(&[
                ("ana_state", state.as_str()),
                ("device", device),
                ("nsid", namespace),
            ]);
            self.sheet.push(&NAMESPACE_INFO, info, 1.0);
            let Some(block) = value(dir.join("queue/logical_block_size")) else { continue };
            let labels = self.sheet.labels.of(&[("device", device), ("nsid", namespace)]);
            self.sheet.push(&BLOCK_SIZE, labels.clone(), block);
            // node_exporter takes both numbers for logical blocks.
            if let Some(blocks) = value(dir.join("size")) {
                self.sheet.push(&CAPACITY, labels.clone(), blocks * block);
                self.sheet.push(&SIZE, labels.clone(), blocks * block);
            }
            if let Some(blocks) = value(dir.join("nuse")) {
                self.sheet.push(&USED, labels, blocks * block);
            }
        }
    }
}

impl Source for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/nvme");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (device, dir) in found {
            self.read_controller(&device, &dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn namespaces_are_known_by_their_names() {
        for (name, expected) in [
            ("nvme0n1", Some("1")),
            ("nvme0c12n3", Some("3")),
            ("nvme0", None),
            ("nvme0n1p1", None),
            ("ng0n1", None),
            ("nvmen1", None),
            ("nvme0n", None),
        ] {
            assert_eq!(parse(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken_apart(name in "nvme[0-9cn]{0,8}|.*") {
            prop_assert!(parse(&name).is_none_or(|namespace| namespace.parse::<u128>().is_ok() || namespace.len() > 30));
        }
    }
}

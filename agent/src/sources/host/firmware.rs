//! `/sys/class/dmi/id`: what the firmware says of the machine.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::attributes::text;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, Tree};

/// How often: it changes with the next boot.
const INTERVAL: Duration = Duration::from_secs(600);

const INFO: Desc = Desc::gauge(
    "node_dmi_info",
    "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, \
     bios_version, board_asset_tag, board_name, board_serial, board_vendor, board_version, \
     chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, product_family, \
     product_name, product_serial, product_sku, product_uuid, product_version, system_vendor if \
     provided by DMI.",
);
/// Files, and the labels they are where those are called otherwise. Serial numbers are for root.
const PROPERTIES: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

/// The source `dmi`.
#[derive(Debug)]
pub(crate) struct Firmware {
    labels: Kept<Labels>,
}

impl Configured for Firmware {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for Firmware {
    fn name(&self) -> &'static str {
        "dmi"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/dmi/id");
        if let Err(error) = std::fs::metadata(&dir) {
            return reading.fail(Problem::read(dir, error));
        }
        let pairs: Vec<(&str, String)> = PROPERTIES
            .iter()
            .filter_map(|(file, label)| Some((*label, text(dir.join(file))?)))
            .collect();
        let labels = self.labels.of(&pairs);
        self.labels.end_round();
        let mut info = INFO.family();
        info.push(labels, 1.0);
        reading.family(info);
    }
}

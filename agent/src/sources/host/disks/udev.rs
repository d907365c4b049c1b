//! What udev wrote down of a block device: model, serial number, file system, device mapper names.

use std::collections::BTreeMap;

use stoa_model::Labels;

use crate::sources::{Desc, number};

/// Families made of udev's properties; others name them by their place.
pub(super) const FACTS: [Desc; 6] = [
    Desc::gauge("node_disk_info", "Info of /sys/block/<block_device>."),
    Desc::gauge("node_disk_filesystem_info", "Info about disk filesystem."),
    Desc::gauge("node_disk_device_mapper_info", "Info about disk device mapper."),
    Desc::gauge("node_disk_ata_write_cache", "ATA disk has a write cache."),
    Desc::gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
    Desc::gauge("node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
];

const INFO: usize = 0;
const FILESYSTEM: usize = 1;
const DEVICE_MAPPER: usize = 2;
/// ATA properties and their place in [`FACTS`].
const ATA: [(usize, &str); 3] =
    [(3, "ID_ATA_WRITE_CACHE"), (4, "ID_ATA_WRITE_CACHE_ENABLED"), (5, "ID_ATA_ROTATION_RATE_RPM")];

/// Property names and values: the lines that begin with `E:`.
pub(super) fn parse(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('=')).collect()
}

/// What the properties say, as places in [`FACTS`] with labels and value.
pub(super) fn facts(
    properties: &BTreeMap<&str, &str>,
    device: &str,
    major: &str,
    minor: &str,
    rotational: &str,
) -> Vec<(usize, Labels, f64)> {
    let get = |key| properties.get(key).copied().unwrap_or_default();
    // The serial number on the disk's own label, else the ones further from it.
    let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(get);
    let serial = serial.into_iter().find(|serial| !serial.is_empty()).unwrap_or_default();
    let mut facts = vec![(
        INFO,
        Labels::from_pairs_last_wins([
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("path", get("ID_PATH")),
            ("wwn", get("ID_WWN")),
            ("model", get("ID_MODEL")),
            ("serial", serial),
            ("revision", get("ID_REVISION")),
            ("rotational", rotational),
        ]),
        1.0,
    )];
    if !get("ID_FS_TYPE").is_empty() {
        let labels = Labels::from_pairs_last_wins([
            ("device", device),
            ("type", get("ID_FS_TYPE")),
            ("usage", get("ID_FS_USAGE")),
            ("uuid", get("ID_FS_UUID")),
            ("version", get("ID_FS_VERSION")),
        ]);
        facts.push((FILESYSTEM, labels, 1.0));
    }
    if !get("DM_NAME").is_empty() {
        let labels = Labels::from_pairs_last_wins([
            ("device", device),
            ("name", get("DM_NAME")),
            ("uuid", get("DM_UUID")),
            ("vg_name", get("DM_VG_NAME")),
            ("lv_name", get("DM_LV_NAME")),
            ("lv_layer", get("DM_LV_LAYER")),
        ]);
        facts.push((DEVICE_MAPPER, labels, 1.0));
    }
    if !get("ID_ATA").is_empty() {
        for (fact, property) in ATA {
            if let Some(value) = properties.get(property).copied().and_then(number) {
                facts.push((fact, Labels::from_pairs_last_wins([("device", device)]), value));
            }
        }
    }
    facts
}

//! The `_info` series that come of a document.

use stoa_model::inventory::Value;
use stoa_model::{Family, Inventory, Labels, Metric};

use super::text;
use crate::sources::Desc;

/// Series of one `_info` family, at most.
const SERIES_MAX: usize = 64;

const HOST: Desc = Desc::gauge("stoa_host_info", "Always 1; the labels say what the host is.");
const ADDRESS: Desc = Desc::gauge(
    "stoa_network_address_info",
    "Always 1; the labels say which address a network device has.",
);
const DISK: Desc = Desc::gauge(
    "stoa_filesystem_disk_info",
    "Always 1; the labels say on which disk a file system is.",
);

/// The series to join with; node_exporter's own tell the rest (`node_uname_info`, `node_os_info`,
/// `node_dmi_info`, `node_disk_info`).
pub(super) fn families(document: &Inventory) -> Vec<Family> {
    let mut host = HOST.family();
    let field = |section, name| text(document, section, "", name).unwrap_or_default();
    host.metrics.push(info(&[
        ("virtualization", field("machine", "virtualization")),
        ("container", field("machine", "container")),
        ("architecture", field("system", "architecture")),
        ("cpu_model", field("processor", "model")),
        ("os", field("system", "os")),
        ("kernel", field("system", "kernel")),
    ]));
    let mut addresses = ADDRESS.family();
    for (device, fields) in document.items("interfaces") {
        let Some(Value::List(texts)) = fields.get("addresses") else { continue };
        for text in texts {
            let Some((address, prefix)) = text.split_once('/') else { continue };
            let family = if address.contains(':') { "ipv6" } else { "ipv4" };
            addresses.metrics.push(info(&[
                ("device", device),
                ("address", address),
                ("prefix_length", prefix),
                ("family", family),
            ]));
        }
    }
    let mut disks = DISK.family();
    for (mount_point, fields) in document.items("mounts") {
        let Some(Value::List(texts)) = fields.get("disks") else { continue };
        let device = text(document, "mounts", mount_point, "device").unwrap_or_default();
        for disk in texts {
            disks.metrics.push(info(&[
                ("mountpoint", mount_point),
                ("device", device),
                ("disk", disk),
            ]));
        }
    }
    let mut families = vec![host, addresses, disks];
    families.iter_mut().for_each(|family| family.metrics.truncate(SERIES_MAX));
    families
}

fn info(labels: &[(&str, &str)]) -> Metric {
    Metric { labels: Labels::from_pairs_last_wins(labels.iter().copied()), value: 1.0 }
}

//! `/sys/bus/pci/devices`: PCI devices, their links, their power. Off by default.
//!
//! A device that sleeps is not asked for its link, which would wake it.

use std::path::Path;
use std::time::Duration;

use crate::sources::attributes::{Attribute, Sheet, entries, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number};

/// How often: little of it ever changes.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a reading may take. The link is asked of the device.
const DEADLINE: Duration = Duration::from_secs(5);
/// Devices told.
const DEVICES_MAX: usize = 4096;
const TRANSFERS_PER_GIGATRANSFER: f64 = 1e9;

const INFO: Desc = Desc::gauge(
    "node_pcidevice_info",
    "Non-numeric data from /sys/bus/pci/devices/<location>, value is always 1.",
);
const POWER_STATE: Desc = Desc::gauge(
    "node_pcidevice_power_state",
    "PCIe device power state, one of: D0, D1, D2, D3hot, D3cold, unknown or error.",
);
const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];
const NUMA_NODE: Desc = Desc::gauge(
    "node_pcidevice_numa_node",
    "NUMA node number for the PCI device. -1 indicates unknown or not available.",
);
/// Files with a speed like `8.0 GT/s PCIe`.
const SPEEDS: [(&str, Desc); 2] = [
    (
        "max_link_speed",
        Desc::gauge(
            "node_pcidevice_max_link_transfers_per_second",
            "Value of maximum link's transfers per second (T/s)",
        ),
    ),
    (
        "current_link_speed",
        Desc::gauge(
            "node_pcidevice_current_link_transfers_per_second",
            "Value of current link's transfers per second (T/s)",
        ),
    ),
];
const WIDTHS: [Attribute; 2] = [
    Attribute::gauge(
        "max_link_width",
        "node_pcidevice_max_link_width",
        "Value of maximum link's width (number of lanes)",
    ),
    Attribute::gauge(
        "current_link_width",
        "node_pcidevice_current_link_width",
        "Value of current link's width (number of lanes)",
    ),
];
const NUMBERS: [Attribute; 5] = [
    Attribute::gauge(
        "d3cold_allowed",
        "node_pcidevice_d3cold_allowed",
        "Whether the PCIe device supports D3cold power state (0/1).",
    ),
    Attribute::gauge(
        "sriov_drivers_autoprobe",
        "node_pcidevice_sriov_drivers_autoprobe",
        "Whether SR-IOV drivers autoprobe is enabled for the device (0/1).",
    ),
    Attribute::gauge(
        "sriov_numvfs",
        "node_pcidevice_sriov_numvfs",
        "Number of Virtual Functions (VFs) currently enabled for SR-IOV.",
    ),
    Attribute::gauge(
        "sriov_totalvfs",
        "node_pcidevice_sriov_totalvfs",
        "Total number of Virtual Functions (VFs) supported by the device.",
    ),
    Attribute::gauge(
        "sriov_vf_total_msix",
        "node_pcidevice_sriov_vf_total_msix",
        "Total number of MSI-X vectors for Virtual Functions.",
    ),
];
/// Labels of the info and the files they are read from.
const PROPERTIES: [(&str, &str); 6] = [
    ("class_id", "class"),
    ("vendor_id", "vendor"),
    ("device_id", "device"),
    ("subsystem_vendor_id", "subsystem_vendor"),
    ("subsystem_device_id", "subsystem_device"),
    ("revision", "revision"),
];

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Location<'a> {
    segment: &'a str,
    bus: &'a str,
    device: &'a str,
    function: &'a str,
}

/// What stands for the parts of a location that is none, such as the root's.
const NOWHERE: Location<'_> = Location { segment: "*", bus: "*", device: "*", function: "*" };

impl<'a> Location<'a> {
    /// Of a name like `0000:00:02.1`.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (segment, rest) = name.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
        [segment, bus, device, function].into_iter().all(is_hex).then_some(Self {
            segment,
            bus,
            device,
            function,
        })
    }
}

/// Transfers per second of a speed like `8.0 GT/s PCIe`.
pub(super) fn parse_speed(text: &str) -> Option<f64> {
    let (giga, rest) = text.split_once(' ')?;
    rest.starts_with("GT/s").then(|| number(giga)).flatten().map(|n| n * TRANSFERS_PER_GIGATRANSFER)
}

/// The source `pcidevice`.
#[derive(Debug)]
pub(crate) struct PciDevices {
    sheet: Sheet,
}

impl Configured for PciDevices {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl PciDevices {
    fn read_device(&mut self, name: &str, dir: &Path) {
        let Some(at) = Location::parse(name) else { return };
        let pairs = [
            ("segment", at.segment),
            ("bus", at.bus),
            ("device", at.device),
            ("function", at.function),
        ];
        // The devices are links into a tree in which each stands below its bridge.
        let target = std::fs::read_link(dir).unwrap_or_default();
        let parent_name = target.parent().and_then(Path::file_name).unwrap_or_default();
        let parent_name = parent_name.to_string_lossy();
        let parent = Location::parse(&parent_name).unwrap_or(NOWHERE);
        let properties =
            PROPERTIES.map(|(label, file)| (label, text(dir.join(file)).unwrap_or_default()));
        let parents = [
            ("parent_segment", parent.segment),
            ("parent_bus", parent.bus),
            ("parent_device", parent.device),
            ("parent_function", parent.function),
        ];
        let texts = properties.iter().map(|(label, text)| (*label, text.as_str()));
        let all: Vec<(&str, &str)> = pairs.into_iter().chain(parents).chain(texts).collect();
        let info = self.sheet.labels.of(&all);
        self.sheet.push(&INFO, info, 1.0);

        let whole = self.sheet.labels.of(&pairs);
        self.sheet.push_attributes(&NUMBERS, dir, &whole);
        if let Some(node) = value(dir.join("numa_node")).filter(|node| *node >= 0.0) {
            self.sheet.push(&NUMA_NODE, whole.clone(), node);
        }
        let state = text(dir.join("power_state"));
        if !matches!(state.as_deref(), Some("D3hot" | "D3cold")) {
            self.sheet.push_attributes(&WIDTHS, dir, &whole);
            for (file, desc) in &SPEEDS {
                if let Some(speed) = text(dir.join(file)).as_deref().and_then(parse_speed) {
                    self.sheet.push(desc, whole.clone(), speed);
                }
            }
        }
        for known in state.iter().flat_map(|_| POWER_STATES) {
            let [segment, bus, device, function] = pairs;
            let labels = self.sheet.labels.of(&[segment, bus, device, function, ("state", known)]);
            self.sheet.push(
                &POWER_STATE,
                labels,
                f64::from(u8::from(state.as_deref() == Some(known))),
            );
        }
    }
}

impl Source for PciDevices {
    fn name(&self) -> &'static str {
        "pcidevice"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "bus/pci/devices");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (name, dir) in found {
            self.read_device(&name, &dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn locations_and_speeds_are_read() {
        let at = Location { segment: "0000", bus: "4f", device: "02", function: "1" };
        assert_eq!(Location::parse("0000:4f:02.1"), Some(at));
        for name in ["pci0000:00", "0000:00:02", "0000:00:.1", ""] {
            assert_eq!(Location::parse(name), None, "{name}");
        }
        assert_eq!(parse_speed("8.0 GT/s PCIe"), Some(8e9));
        assert_eq!(parse_speed("Unknown"), None);
    }

    #[test]
    fn a_sleeping_device_is_not_asked_for_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(&device).unwrap();
        for (file, text) in [
            ("power_state", "D3cold\n"),
            ("current_link_width", "4\n"),
            ("current_link_speed", "8.0 GT/s PCIe\n"),
            ("d3cold_allowed", "1\n"),
            ("numa_node", "-1\n"),
        ] {
            std::fs::write(device.join(file), text).unwrap();
        }
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let mut reading = Reading::default();
        crate::sources::registry::made::<PciDevices>().read(
            &roots,
            Now { unix_micros: 0 },
            &mut reading,
        );
        let names: Vec<&str> = reading.families().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["node_pcidevice_d3cold_allowed", "node_pcidevice_info", "node_pcidevice_power_state"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9a-f:.]{0,14}|[0-9.]{0,5} GT/s.*|.*") {
            prop_assert!(Location::parse(&text).is_none_or(|at| !at.bus.is_empty()));
            prop_assert!(parse_speed(&text).is_none_or(|speed| !speed.is_nan()));
        }
    }
}

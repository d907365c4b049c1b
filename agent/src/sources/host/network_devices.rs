//! `/sys/class/net`: state and properties of each network device.
//!
//! Some properties ask the driver, under a lock of the whole network stack, so they are read less
//! often than the counters.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels, MetricKind};

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{
    Desc, Kept, Now, Problem, Reading, Roots, SLOW, Source, Tree, label, read_small,
};

const UP: Desc = Desc::gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
const INFO: Desc = Desc::gauge(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
);
/// Files with a number, and the family's name and kind.
const PROPERTIES: [(&str, &str, MetricKind); 17] = [
    ("addr_assign_type", "address_assign_type", MetricKind::Gauge),
    ("carrier", "carrier", MetricKind::Gauge),
    ("carrier_changes", "carrier_changes_total", MetricKind::Counter),
    ("carrier_up_count", "carrier_up_changes_total", MetricKind::Counter),
    ("carrier_down_count", "carrier_down_changes_total", MetricKind::Counter),
    ("dev_id", "device_id", MetricKind::Gauge),
    ("dormant", "dormant", MetricKind::Gauge),
    ("flags", "flags", MetricKind::Gauge),
    ("ifindex", "iface_id", MetricKind::Gauge),
    ("iflink", "iface_link", MetricKind::Gauge),
    ("link_mode", "iface_link_mode", MetricKind::Gauge),
    ("mtu", "mtu_bytes", MetricKind::Gauge),
    ("netdev_group", "net_dev_group", MetricKind::Gauge),
    ("name_assign_type", "name_assign_type", MetricKind::Gauge),
    ("speed", "speed_bytes", MetricKind::Gauge),
    ("tx_queue_len", "transmit_queue_length", MetricKind::Gauge),
    ("type", "protocol_type", MetricKind::Gauge),
];
/// `speed` is in Mbit/s.
const BYTES_PER_MEGABIT: i64 = 1_000_000 / 8;
/// The driver is asked for the speed under a lock of the whole network stack.
const DEADLINE: Duration = Duration::from_secs(5);
/// `IFF_UP`.
const FLAG_UP: i64 = 1;

/// A number as `/sys` writes it: decimal, or hexadecimal after `0x`.
pub(super) fn parse(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `[sources.netclass]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which devices not to tell.
    ignored_devices: Pattern,
    /// Whether a speed the device does not know is left out rather than told as -125000 B/s.
    ignore_invalid_speed: bool,
}

/// The source `netclass`.
#[derive(Debug)]
pub(crate) struct NetworkDevices {
    filter: Filter,
    ignore_invalid_speed: bool,
    labels: Kept<Labels>,
}

impl Configured for NetworkDevices {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            filter: Filter::new(Pattern::default(), settings.ignored_devices),
            ignore_invalid_speed: settings.ignore_invalid_speed,
            labels: Kept::new(),
        }
    }
}

impl Source for NetworkDevices {
    fn name(&self) -> &'static str {
        "netclass"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/net");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        let (mut up, mut info) = (UP.family(), INFO.family());
        let mut families: Vec<Family> = PROPERTIES
            .iter()
            .map(|(_, name, kind)| {
                let help = format!("Network device property: {name}");
                Family::new(format!("node_network_{name}"), help, *kind)
            })
            .collect();
        // `bonding_masters` is a file among the devices.
        let is_device = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|t| !t.is_file());
        for entry in entries.flatten().filter(is_device) {
            let Ok(device) = entry.file_name().into_string() else { continue };
            if !self.filter.keeps(&device) {
                continue;
            }
            let path = entry.path();
            let labels = self.labels.get(&device, |device| label("device", device));
            let mut flags = None;
            for ((file, _, _), family) in PROPERTIES.iter().zip(&mut families) {
                // What the device does not have, or cannot say while it is down, is absent.
                let Some(mut value) = read_small(&path.join(file)).ok().as_deref().and_then(parse)
                else {
                    continue;
                };
                if *file == "flags" {
                    flags = Some(value);
                }
                if *file == "speed" {
                    if value < 0 && self.ignore_invalid_speed {
                        continue;
                    }
                    value = value.saturating_mul(BYTES_PER_MEGABIT);
                }
                family.push(labels.clone(), value as f64);
            }
            let state = read_small(&path.join("operstate")).unwrap_or_default();
            up.push(labels, f64::from(u8::from(state == "up")));
            info.push(self.info_labels(&device, &path, &state, flags), 1.0);
        }
        self.labels.end_round();
        for family in families.into_iter().chain([up, info]) {
            reading.family(family);
        }
    }
}

impl NetworkDevices {
    fn info_labels(&mut self, device: &str, dir: &Path, state: &str, flags: Option<i64>) -> Labels {
        let text = |file| read_small(&dir.join(file)).unwrap_or_default();
        let admin_state = match flags {
            None => "unknown",
            Some(flags) if flags & FLAG_UP != 0 => "up",
            Some(_) => "down",
        };
        let pairs = BTreeMap::from([
            ("device", device.to_owned()),
            ("address", text("address")),
            ("broadcast", text("broadcast")),
            ("duplex", text("duplex")),
            ("operstate", state.to_owned()),
            ("adminstate", admin_state.to_owned()),
            ("ifalias", text("ifalias")),
        ]);
        self.labels.get(&format!("info {pairs:?}"), |_| Labels::from_pairs_last_wins(pairs.clone()))
    }
}

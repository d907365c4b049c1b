//! What drivers of network devices say: their own counters, what they are, and what the link can do.
//! Off by default.
//!
//! Counters have the names their drivers give them, brought into the form of metric names.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels, MetricKind};

use crate::sources::kernel::Ethtool as Driver;
use crate::sources::netlink::{text, u64_at};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, label};

mod link;

/// Drivers answer while they hold the lock of the whole network stack, some after asking the device.
const DEADLINE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(10);
/// Devices that are asked; more are left out.
const DEVICES_MAX: usize = 1024;
/// Counters of a device that are told.
const COUNTERS_MAX: usize = 4096;
/// Named in problems.
const WHERE: &str = "SIOCETHTOOL";
const NAME_BYTES: usize = 32;

const INFO: Desc = Desc::gauge(
    "node_ethtool_info",
    "A metric with a constant '1' value labeled by bus_info, device, driver, \
     expansion_rom_version, firmware_version, version.",
);

/// Counters that many drivers have, and what these are called.
const WELL_KNOWN: [(&str, &str, &str); 7] = [
    ("rx_bytes", "node_ethtool_received_bytes_total", "Network interface bytes received"),
    ("rx_dropped", "node_ethtool_received_dropped_total", "Number of received frames dropped"),
    ("rx_errors", "node_ethtool_received_errors_total", "Number of received frames with errors"),
    ("rx_packets", "node_ethtool_received_packets_total", "Network interface packets received"),
    ("tx_bytes", "node_ethtool_transmitted_bytes_total", "Network interface bytes sent"),
    ("tx_errors", "node_ethtool_transmitted_errors_total", "Number of sent frames with errors"),
    ("tx_packets", "node_ethtool_transmitted_packets_total", "Network interface packets sent"),
];

/// `[sources.ethtool]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Devices to ask, all if empty.
    device_include: Pattern,
    /// Devices not to ask.
    device_exclude: Pattern,
    /// Counters to tell, by the driver's names; all if empty.
    metrics_include: Pattern,
}

/// What a driver says it is.
#[derive(Debug, PartialEq)]
pub(super) struct DriverInfo<'a> {
    driver: &'a str,
    version: &'a str,
    firmware_version: &'a str,
    bus_info: &'a str,
    expansion_rom_version: &'a str,
}

/// Reads a `struct ethtool_drvinfo`.
pub(super) fn parse_driver(bytes: &[u8]) -> Option<DriverInfo<'_>> {
    let mut fields = bytes.get(4..)?.chunks_exact(NAME_BYTES).map(text);
    Some(DriverInfo {
        driver: fields.next()??,
        version: fields.next()??,
        firmware_version: fields.next()??,
        bus_info: fields.next()??,
        expansion_rom_version: fields.next()??,
    })
}

/// The names of counters, and their values.
pub(super) fn parse_statistics<'a>(
    names: &'a [u8],
    values: &'a [u8],
) -> impl Iterator<Item = (&'a str, u64)> {
    let values = values.chunks_exact(8).map(|value| u64_at(value, 0));
    let pairs = names.chunks_exact(NAME_BYTES).map(text).zip(values).take(COUNTERS_MAX);
    pairs.filter_map(|(name, value)| Some((name?.trim(), value?)))
}

/// Tells any bytes as a link's settings, and says whether they are: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_link(bytes: &[u8], reading: &mut Reading) -> bool {
    let Some(link) = link::parse(bytes) else { return false };
    let mut families = link::Families::new();
    families.push("any", &Labels::empty(), &link, &mut Kept::new());
    families.into_families().for_each(|family| reading.family(family));
    true
}

/// Tells any bytes as a driver's counters, each of another name once; says how many there were.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_statistics(names: &[u8], values: &[u8], reading: &mut Reading) -> usize {
    let (mut count, mut told) = (0, std::collections::BTreeMap::new());
    for (counter, value) in parse_statistics(names, values) {
        count += 1;
        let (name, help) = family_of(counter);
        told.insert(name, (help, value));
    }
    for (name, (help, value)) in told {
        reading.named(&name, &help, MetricKind::Untyped).push(Labels::empty(), value as f64);
    }
    count
}

/// A counter's family: name and help.
fn family_of(counter: &str) -> (String, String) {
    if let Some((_, name, help)) = WELL_KNOWN.iter().find(|(known, _, _)| *known == counter) {
        return ((*name).to_owned(), (*help).to_owned());
    }
    let mut words = String::new();
    for c in counter.chars() {
        match c {
            _ if c.is_ascii_alphanumeric() || c == '_' => words.push(c.to_ascii_lowercase()),
            _ if words.ends_with('_') => {}
            _ => words.push('_'),
        }
    }
    let mut told = Vec::new();
    let mut replaced = None;
    for word in words.trim_start_matches('_').split('_') {
        let direction = match word {
            "rx" => Some("received"),
            "tx" => Some("transmitted"),
            _ => None,
        };
        // As node_exporter's own patterns do, of two in a row only the first is replaced.
        replaced = direction.filter(|direction| replaced != Some(*direction));
        told.push(replaced.unwrap_or(word));
    }
    (format!("node_ethtool_{}", told.join("_")), format!("Network interface {counter}"))
}

/// The source `ethtool`.
#[derive(Debug)]
pub(crate) struct Ethtool {
    devices: Filter,
    counters: Filter,
    labels: Kept<Labels>,
    /// By the driver's names; `None` for a counter that is not told.
    names: Kept<Option<Arc<(String, String)>>>,
}

impl Configured for Ethtool {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            devices: Filter::new(settings.device_include, settings.device_exclude),
            counters: Filter::new(settings.metrics_include, Pattern::default()),
            labels: Kept::new(),
            names: Kept::new(),
        }
    }
}

impl Ethtool {
    fn tell_counters(&mut self, device: &Labels, names: &[u8], values: &[u8], told: &mut Told) {
        let mut seen = HashSet::new();
        for (counter, value) in parse_statistics(names, values) {
            let filter = &self.counters;
            let family = self.names.get(counter, |counter| {
                filter.keeps(counter).then(|| Arc::new(family_of(counter)))
            });
            let Some(family) = family else { continue };
            // Drivers have names that differ only in what metric names cannot.
            if seen.insert(family.0.clone()) {
                told.push(&family, device.clone(), value as f64);
            }
        }
    }

    fn info(&mut self, device: &str, info: &DriverInfo<'_>) -> Labels {
        let labels = Labels::from_pairs_last_wins([
            ("device", device),
            ("driver", info.driver),
            ("version", info.version),
            ("firmware_version", info.firmware_version),
            ("bus_info", info.bus_info),
            ("expansion_rom_version", info.expansion_rom_version),
        ]);
        self.labels.get(&labels.to_string(), |_| labels.clone())
    }
}

/// Families by name.
#[derive(Default)]
struct Told {
    families: Vec<Family>,
    places: std::collections::HashMap<String, usize>,
}

impl Told {
    fn push(&mut self, (name, help): &(String, String), labels: Labels, value: f64) {
        if let Some(family) = self.places.get(name).and_then(|at| self.families.get_mut(*at)) {
            return family.push(labels, value);
        }
        let mut family = Family::new(name.as_str(), help.as_str(), MetricKind::Untyped);
        family.push(labels, value);
        self.places.insert(name.clone(), self.families.len());
        self.families.push(family);
    }
}

impl Source for Ethtool {
    fn name(&self) -> &'static str {
        "ethtool"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
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
        let mut driver = match Driver::open() {
            Ok(driver) => driver,
            Err(error) => return reading.fail(Problem::read(WHERE, error)),
        };
        let (mut told, mut links) = (Told::default(), link::Families::new());
        let mut infos = INFO.family();
        for entry in entries.flatten().take(DEVICES_MAX) {
            let Ok(device) = entry.file_name().into_string() else { continue };
            if !self.devices.keeps(&device) {
                continue;
            }
            let labels = self.labels.get(&device, |device| label("device", device));
            // What a driver has nothing to say about it refuses to be asked.
            if let Ok(bytes) = driver.link(&device)
                && let Some(link) = link::parse(bytes)
            {
                links.push(&device, &labels, &link, &mut self.labels);
            }
            if let Ok(bytes) = driver.driver(&device)
                && let Some(info) = parse_driver(bytes)
            {
                infos.push(self.info(&device, &info), 1.0);
            }
            if let Ok((names, values)) = driver.statistics(&device) {
                self.tell_counters(&labels, &names, &values, &mut told);
            }
        }
        self.labels.end_round();
        self.names.end_round();
        reading.family(infos);
        for family in told.families.into_iter().chain(links.into_families()) {
            reading.family(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(counter: &str, expected: &str) {
        assert_eq!(family_of(counter).0, expected);
    }

    #[test]
    fn counters_become_metric_names() {
        check("rx_bytes", "node_ethtool_received_bytes_total");
        check("rx_queue_0_bytes", "node_ethtool_received_queue_0_bytes");
        check("tx_tx_timeouts", "node_ethtool_transmitted_tx_timeouts");
        check("rx0_xdp_tx", "node_ethtool_rx0_xdp_transmitted");
        check("[0]: TX Bytes", "node_ethtool_0_transmitted_bytes");
        check("port.rx_size_64", "node_ethtool_port_received_size_64");
        assert_eq!(family_of("tx kicks").1, "Network interface tx kicks");
    }

    #[test]
    fn of_two_counters_that_come_to_one_name_the_first_is_told() {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (name, value) in [("rx-0.drops", 0), ("rx_0_drops", 1), ("rx-0.drops", 2)] {
            let mut field = [0; NAME_BYTES];
            field[..name.len()].copy_from_slice(name.as_bytes());
            names.extend(field);
            values.extend([value; 8]);
        }
        let mut told = Told::default();
        let device = label("device", "eth0");
        let mut source: Ethtool = crate::sources::registry::made();
        source.tell_counters(&device, &names, &values, &mut told);
        let [family] = told.families.as_slice() else { panic!("{:?}", told.families) };
        assert_eq!(family.name, "node_ethtool_received_0_drops");
        let values: Vec<f64> = family.metrics.iter().map(|metric| metric.value).collect();
        assert_eq!(values, [0.0]);
    }

    #[test]
    fn a_driver_says_what_it_is() {
        let mut bytes = vec![0; 196];
        for (at, word) in [(4, "virtio_net"), (36, "1.0.0"), (100, "0000:00:03.0")] {
            bytes[at..at + word.len()].copy_from_slice(word.as_bytes());
        }
        let info = parse_driver(&bytes).unwrap();
        assert_eq!((info.driver, info.version), ("virtio_net", "1.0.0"));
        assert_eq!((info.firmware_version, info.bus_info), ("", "0000:00:03.0"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            names in proptest::collection::vec(any::<u8>(), 0..200),
            values in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            prop_assert!(parse_statistics(&names, &values).count() <= names.len() / NAME_BYTES);
            prop_assert_eq!(parse_driver(&values), None);
            let _ = parse_driver(&names);
        }

        #[test]
        fn a_family_is_always_named_as_metrics_are(counter in ".{0,32}") {
            let (name, _) = family_of(&counter);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{}", name);
        }
    }
}

//! `/proc/net/dev`: bytes, packets and errors of each network device.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{
    Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, Tree, label, number, read_number,
};

/// Families in the order of the file's columns.
const COLUMNS: [Desc; 16] = [
    counter("node_network_receive_bytes_total", "Network device statistic receive_bytes."),
    counter("node_network_receive_packets_total", "Network device statistic receive_packets."),
    counter("node_network_receive_errs_total", "Network device statistic receive_errs."),
    counter("node_network_receive_drop_total", "Network device statistic receive_drop."),
    counter("node_network_receive_fifo_total", "Network device statistic receive_fifo."),
    counter("node_network_receive_frame_total", "Network device statistic receive_frame."),
    counter(
        "node_network_receive_compressed_total",
        "Network device statistic receive_compressed.",
    ),
    counter("node_network_receive_multicast_total", "Network device statistic receive_multicast."),
    counter("node_network_transmit_bytes_total", "Network device statistic transmit_bytes."),
    counter("node_network_transmit_packets_total", "Network device statistic transmit_packets."),
    counter("node_network_transmit_errs_total", "Network device statistic transmit_errs."),
    counter("node_network_transmit_drop_total", "Network device statistic transmit_drop."),
    counter("node_network_transmit_fifo_total", "Network device statistic transmit_fifo."),
    counter("node_network_transmit_colls_total", "Network device statistic transmit_colls."),
    counter("node_network_transmit_carrier_total", "Network device statistic transmit_carrier."),
    counter(
        "node_network_transmit_compressed_total",
        "Network device statistic transmit_compressed.",
    ),
];
/// The one counter that is not in the file but under `/sys`.
const NO_HANDLER: Desc =
    counter("node_network_receive_nohandler_total", "Network device statistic receive_nohandler.");

const fn counter(name: &'static str, help: &'static str) -> Desc {
    Desc::counter(name, help)
}

/// Device and columns; a line without all columns is left out.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = (&str, [f64; COLUMNS.len()])> {
    text.lines().skip(2).filter_map(|line| {
        // A device's name may itself have colons (an alias).
        let (device, rest) = line.rsplit_once(':')?;
        let mut columns = [0.0; COLUMNS.len()];
        let mut words = rest.split_ascii_whitespace();
        for column in &mut columns {
            *column = number(words.next()?)?;
        }
        Some((device.trim(), columns))
    })
}

/// What is kept of a device.
#[derive(Debug)]
struct Device {
    labels: Labels,
    no_handler: PathBuf,
}

/// `[sources.netdev]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which devices to tell.
    device_include: Pattern,
    /// Which devices not to tell.
    device_exclude: Pattern,
}

/// The source `netdev`.
#[derive(Debug)]
pub(crate) struct NetworkCounters {
    file: KeptFile,
    filter: Filter,
    /// `None` for a device that is left out.
    devices: Kept<Option<Arc<Device>>>,
}

impl Configured for NetworkCounters {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            file: KeptFile::proc("net/dev"),
            filter: Filter::new(settings.device_include, settings.device_exclude),
            devices: Kept::new(),
        }
    }
}

impl Source for NetworkCounters {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut wrong = None;
        let families = reading.group(COLUMNS.iter().chain([&NO_HANDLER]));
        let Some((no_handler, families)) = families.split_last_mut() else { return };
        for (device, columns) in parse(text) {
            let filter = &self.filter;
            let kept = self.devices.get(device, |device| {
                filter.keeps(device).then(|| {
                    let file = format!("class/net/{device}/statistics/rx_nohandler");
                    let no_handler = roots.path(Tree::Sys, file);
                    Arc::new(Device { labels: label("device", device), no_handler })
                })
            });
            let Some(kept) = kept else { continue };
            for (family, value) in families.iter_mut().zip(columns) {
                family.push(kept.labels.clone(), value);
            }
            match read_number(&kept.no_handler) {
                Ok(Some(value)) => no_handler.push(kept.labels.clone(), value),
                Ok(None) => wrong = Some(Problem::parse(&kept.no_handler, "no number")),
                Err(_) => {} // A device that has just gone, or a host without /sys.
            }
        }
        self.devices.end_round();
        if let Some(wrong) = wrong {
            reading.note(wrong);
        }
        if reading.is_empty() {
            reading.fail(Problem::parse(self.file.path(roots), "no device"));
        }
    }
}

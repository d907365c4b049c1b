//! `/sys/class/infiniband`: InfiniBand, RoCE and Omni-Path adapters, and what their ports count.

use std::path::Path;
use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, text};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, number};

mod counters;

/// How often: each counter asks the adapter.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a reading may take. Adapters are asked by messages.
const DEADLINE: Duration = Duration::from_secs(5);
/// Ports told of one adapter; switches have some dozens.
const PORTS_MAX: usize = 128;

const INFO: Desc = Desc::gauge(
    "node_infiniband_info",
    "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
);
const STATE: Desc = Desc::gauge(
    "node_infiniband_state_id",
    "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act \
     defer)",
);
const PHYSICAL_STATE: Desc = Desc::gauge(
    "node_infiniband_physical_state_id",
    "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: \
     shift, 5: link up, 6: link error recover, 7: phytest)",
);
const RATE: Desc =
    Desc::gauge("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate");
const BYTES_PER_GIGABIT: f64 = 1e9 / 8.0;

/// The number of a state, written as `4: ACTIVE`.
pub(super) fn parse_state(text: &str) -> Option<f64> {
    number(text.split(':').next()?.trim())
}

/// Bytes per second of a rate, written as `40 Gb/sec (4X QDR)`.
pub(super) fn parse_rate(text: &str) -> Option<f64> {
    let (gigabits, rest) = text.split_once(' ')?;
    rest.starts_with("Gb/sec").then(|| number(gigabits)).flatten().map(|n| n * BYTES_PER_GIGABIT)
}

/// The source `infiniband`.
#[derive(Debug)]
pub(crate) struct Infiniband {
    sheet: Sheet,
}

impl Configured for Infiniband {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Infiniband {
    fn read_device(&mut self, device: &str, dir: &Path) {
        let said = |file| text(dir.join(file)).unwrap_or_default();
        let (board, firmware, kind) = (said("board_id"), said("fw_ver"), said("hca_type"));
        let info = self.sheet.labels.of(&[
            ("board_id", board.as_str()),
            ("device", device),
            ("firmware_version", &firmware),
            ("hca_type", &kind),
        ]);
        self.sheet.push(&INFO, info, 1.0);
        for (port, dir) in entries(&dir.join("ports"), PORTS_MAX).unwrap_or_default() {
            let labels = self.sheet.labels.of(&[("device", device), ("port", port.as_str())]);
            for (file, desc, parse) in [
                ("state", &STATE, parse_state as fn(&str) -> Option<f64>),
                ("phys_state", &PHYSICAL_STATE, parse_state),
                ("rate", &RATE, parse_rate),
            ] {
                if let Some(value) = text(dir.join(file)).as_deref().and_then(parse) {
                    self.sheet.push(desc, labels.clone(), value);
                }
            }
            self.sheet.push_attributes(&counters::COUNTERS, &dir.join("counters"), &labels);
            // Most adapters do not have these directories.
            for (name, attributes) in [
                ("counters_ext", counters::EXTENDED.as_slice()),
                ("hw_counters", counters::HARDWARE.as_slice()),
            ] {
                let dir = dir.join(name);
                if dir.is_dir() {
                    self.sheet.push_attributes(attributes, &dir, &labels);
                }
            }
        }
    }
}

impl Source for Infiniband {
    fn name(&self) -> &'static str {
        "infiniband"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/infiniband");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (device, dir) in found {
            self.read_device(&device, &dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_and_rates_have_their_numbers() {
        assert_eq!(parse_state("4: ACTIVE"), Some(4.0));
        assert_eq!(parse_state("ACTIVE"), None);
        assert_eq!(parse_rate("40 Gb/sec (4X QDR)"), Some(5e9));
        assert_eq!(parse_rate("2.5 Gb/sec (1X)"), Some(312_500_000.0));
        assert_eq!(parse_rate("40 Mb/sec"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            for value in [parse_state(&text), parse_rate(&text)].into_iter().flatten() {
                prop_assert!(!value.is_nan());
            }
        }
    }
}

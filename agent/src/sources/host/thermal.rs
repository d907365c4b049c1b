//! `/sys/class/thermal`: what grows hot, and what the kernel does against it.

use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries_with, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source, Tree};

/// How often: some firmware takes long to answer.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a reading may take. Some zones run code of the firmware.
const DEADLINE: Duration = Duration::from_secs(5);
const DEGREES_PER_MILLI: f64 = 1000.0;

const TEMPERATURE: Desc = Desc::gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
const COOLING: [(&str, Desc); 2] = [
    (
        "cur_state",
        Desc::gauge(
            "node_cooling_device_cur_state",
            "Current throttle state of the cooling device",
        ),
    ),
    (
        "max_state",
        Desc::gauge(
            "node_cooling_device_max_state",
            "Maximum throttle state of the cooling device",
        ),
    ),
];

/// The source `thermal_zone`.
#[derive(Debug)]
pub(crate) struct Thermal {
    sheet: Sheet,
}

impl Configured for Thermal {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl Source for Thermal {
    fn name(&self) -> &'static str {
        "thermal_zone"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/thermal");
        for (number, dir) in entries_with(&dir, "thermal_zone", DEVICES_MAX) {
            let kind = text(dir.join("type")).unwrap_or_default();
            let labels = self.sheet.labels.of(&[("type", kind), ("zone", number)]);
            if let Some(milli) = value(dir.join("temp")) {
                self.sheet.push(&TEMPERATURE, labels, milli / DEGREES_PER_MILLI);
            }
        }
        for (number, dir) in entries_with(&dir, "cooling_device", DEVICES_MAX) {
            let kind = text(dir.join("type")).unwrap_or_default();
            let labels = self.sheet.labels.of(&[("name", number), ("type", kind)]);
            for (file, desc) in &COOLING {
                if let Some(state) = value(dir.join(file)) {
                    self.sheet.push(desc, labels.clone(), state);
                }
            }
        }
        self.sheet.tell(reading);
    }
}

//! `/sys/class/power_supply`: batteries, mains and what else feeds the host.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::MetricKind;

use crate::sources::attributes::{DEVICES_MAX, Sheet, Unit, entries, text, value};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often: some firmware takes long to answer.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a reading may take. Batteries are asked over slow buses, by the firmware.
const DEADLINE: Duration = Duration::from_secs(5);

const ONE: Unit = Unit::One;
/// The kernel counts in µA, µV, µW, µAh and µWh.
const MICRO: Unit = Unit::Per(1e6);
/// The kernel counts temperatures in tenths of a degree.
const TENTH: Unit = Unit::Per(10.0);

const INFO: Desc =
    Desc::gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");
/// Files that are labels of the info; one that is not there is none.
const PROPERTIES: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];
/// Files, what ends the family's name, and the unit.
const NUMBERS: [(&str, &str, Unit); 49] = [
    ("authentic", "authentic", ONE),
    ("calibrate", "calibrate", ONE),
    ("capacity", "capacity", ONE),
    ("capacity_alert_max", "capacity_alert_max", ONE),
    ("capacity_alert_min", "capacity_alert_min", ONE),
    ("cycle_count", "cyclecount", ONE),
    ("online", "online", ONE),
    ("present", "present", ONE),
    ("time_to_empty_now", "time_to_empty_seconds", ONE),
    ("time_to_full_now", "time_to_full_seconds", ONE),
    ("current_boot", "current_boot", MICRO),
    ("current_max", "current_max", MICRO),
    ("current_now", "current_ampere", MICRO),
    ("energy_empty", "energy_empty", MICRO),
    ("energy_empty_design", "energy_empty_design", MICRO),
    ("energy_full", "energy_full", MICRO),
    ("energy_full_design", "energy_full_design", MICRO),
    ("energy_now", "energy_watthour", MICRO),
    ("voltage_boot", "voltage_boot", MICRO),
    ("voltage_max", "voltage_max", MICRO),
    ("voltage_max_design", "voltage_max_design", MICRO),
    ("voltage_min", "voltage_min", MICRO),
    ("voltage_min_design", "voltage_min_design", MICRO),
    ("voltage_now", "voltage_volt", MICRO),
    ("voltage_ocv", "voltage_ocv", MICRO),
    ("charge_control_limit", "charge_control_limit", MICRO),
    ("charge_control_limit_max", "charge_control_limit_max", MICRO),
    ("charge_counter", "charge_counter", MICRO),
    ("charge_empty", "charge_empty", MICRO),
    ("charge_empty_design", "charge_empty_design", MICRO),
    ("charge_full", "charge_full", MICRO),
    ("charge_full_design", "charge_full_design", MICRO),
    ("charge_now", "charge_ampere", MICRO),
    ("charge_term_current", "charge_term_current", MICRO),
    ("constant_charge_current", "constant_charge_current", MICRO),
    ("constant_charge_current_max", "constant_charge_current_max", MICRO),
    ("constant_charge_voltage", "constant_charge_voltage", MICRO),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
    ("precharge_current", "precharge_current", MICRO),
    ("input_current_limit", "input_current_limit", MICRO),
    ("power_now", "power_watt", MICRO),
    ("temp", "temp_celsius", TENTH),
    ("temp_alert_max", "temp_alert_max_celsius", TENTH),
    ("temp_alert_min", "temp_alert_min_celsius", TENTH),
    ("temp_ambient", "temp_ambient_celsius", TENTH),
    ("temp_ambient_alert_max", "temp_ambient_max_celsius", TENTH),
    ("temp_ambient_alert_min", "temp_ambient_min_celsius", TENTH),
    ("temp_max", "temp_max_celsius", TENTH),
    ("temp_min", "temp_min_celsius", TENTH),
];

/// Which power supplies to tell.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// A pattern of names; what it matches is left out.
    ignored_supplies: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ignored_supplies: Pattern::fixed("^$") }
    }
}

/// The source `powersupplyclass`.
#[derive(Debug)]
pub(crate) struct PowerSupplies {
    filter: Filter,
    sheet: Sheet,
}

impl Configured for PowerSupplies {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let filter = Filter::new(Pattern::default(), settings.ignored_supplies);
        Self { filter, sheet: Sheet::default() }
    }
}

impl PowerSupplies {
    fn read_supply(&mut self, supply: &str, dir: &Path) {
        let labels = self.sheet.labels.of(&[("power_supply", supply)]);
        // Most supplies have a handful of the files.
        let files = entries(dir, usize::MAX).unwrap_or_default();
        for (file, path) in &files {
            let Some((_, name, unit)) = NUMBERS.iter().find(|(known, ..)| known == file) else {
                continue;
            };
            if let Some(raw) = value(path) {
                let make = || {
                    let help = format!("{name} value of /sys/class/power_supply/<power_supply>.");
                    (help, MetricKind::Gauge)
                };
                self.sheet.push_named(
                    &["node_power_supply_", name],
                    make,
                    labels.clone(),
                    unit.of(raw),
                );
            }
        }
        let mut pairs = vec![("power_supply", supply.to_owned())];
        for property in PROPERTIES {
            let said = text(dir.join(property)).filter(|said| !said.is_empty());
            pairs.extend(said.map(|said| (property, said)));
        }
        let info = self.sheet.labels.of(&pairs);
        self.sheet.push(&INFO, info, 1.0);
    }
}

impl Source for PowerSupplies {
    fn name(&self) -> &'static str {
        "powersupplyclass"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/power_supply");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (supply, dir) in found {
            if self.filter.keeps(&supply) {
                self.read_supply(&supply, &dir);
            }
        }
        self.sheet.tell(reading);
    }
}

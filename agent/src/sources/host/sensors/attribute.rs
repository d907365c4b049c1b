//! What a file of a sensor chip is called, and what that means.

use stoa_model::MetricKind;

/// The types of sensors that are told; files of other types are passed over.
const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// A file's name taken apart: `temp1_crit_alarm` is type, number and property.
#[derive(Debug, PartialEq)]
pub(super) struct FileName<'a> {
    pub(super) kind: &'a str,
    pub(super) number: u32,
    /// Empty when the name ends with the number.
    pub(super) property: &'a str,
}

impl<'a> FileName<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let Some(digits_at) = name.find(|c: char| c.is_ascii_digit()) else {
            return (!name.is_empty()).then_some(Self { kind: name, number: 0, property: "" });
        };
        let (kind, rest) = name.split_at(digits_at);
        let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(digits_end);
        let property = match rest.strip_prefix('_') {
            Some(property) if !property.is_empty() => property,
            None if rest.is_empty() => "",
            _ => return None,
        };
        let number = digits.parse().ok()?;
        (!kind.is_empty()).then_some(Self { kind, number, property })
    }

    pub(super) fn is_sensor(&self) -> bool {
        TYPES.contains(&self.kind)
    }

    /// The sensor's name: `temp1`.
    pub(super) fn sensor(&self) -> String {
        format!("{}{}", self.kind, self.number)
    }
}

/// Lower case letters, digits, `:` and `_`, with no `_` at the ends.
pub(super) fn clean(name: &str) -> String {
    let keep = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | ':' | '_') => c,
        _ => '_',
    };
    name.trim().chars().map(keep).collect::<String>().trim_matches('_').to_owned()
}

/// What a file's number is told as.
#[derive(Debug, PartialEq)]
pub(super) struct Meaning {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: MetricKind,
    unit: Unit,
    /// Whether the sensor is called by its label instead of its number.
    pub(super) named_by_label: bool,
}

/// How the kernel's number becomes the told one.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Unit {
    One,
    Milli,
    Micro,
    /// 1 is 1, anything else is 0.
    Flag,
}

impl Meaning {
    /// `None` for a file that is not told. `has_bare`: the sensor has a file without property;
    /// `has_label`: it has a label.
    pub(super) fn of(kind: &str, property: &str, has_bare: bool, has_label: bool) -> Option<Self> {
        let gauge = |name: String, help: String, unit| Self {
            name,
            help,
            kind: MetricKind::Gauge,
            unit,
            named_by_label: false,
        };
        let fixed = |name: &str, help: &str, unit| {
            (property.is_empty()).then(|| gauge(name.to_owned(), help.to_owned(), unit))
        };
        match kind {
            "beep_enable" => {
                return fixed("node_hwmon_beep_enabled", "Hardware beep enabled", Unit::Flag);
            }
            "vrm" => {
                let name = "node_hwmon_voltage_regulator_version";
                return fixed(name, "Hardware voltage regulator", Unit::One);
            }
            "update_interval" => {
                let name = "node_hwmon_update_interval_seconds";
                return fixed(name, "Hardware monitor update interval", Unit::Milli);
            }
            _ if property == "label" => return None,
            _ => {}
        }
        let name = match property {
            "" => format!("node_hwmon_{kind}"),
            "input" if !has_bare => format!("node_hwmon_{kind}"),
            _ => format!("node_hwmon_{kind}_{}", clean(property)),
        };
        let with_unit = |suffix: &str, what: &str, unit| {
            gauge(format!("{name}_{suffix}"), format!("Hardware monitor {what} ({property})"), unit)
        };
        Some(match (kind, property) {
            (_, "fault" | "alarm") => {
                let help = format!("Hardware sensor {property} status ({kind})");
                gauge(name, help, Unit::One)
            }
            (_, "beep") => gauge(
                format!("{name}_enabled"),
                "Hardware monitor sensor has beeping enabled".to_owned(),
                Unit::One,
            ),
            ("in" | "cpu", _) => with_unit("volts", "for voltage", Unit::Milli),
            ("temp", "") => gauge(
                format!("{name}_celsius"),
                "Hardware monitor for temperature (input)".to_owned(),
                Unit::Milli,
            ),
            ("temp", property) if property != "type" => {
                with_unit("celsius", "for temperature", Unit::Milli)
            }
            ("curr", _) => with_unit("amps", "for current", Unit::Milli),
            ("energy", _) => Self {
                kind: MetricKind::Counter,
                ..with_unit("joule_total", "for joules used so far", Unit::Micro)
            },
            ("power", "accuracy") => {
                let help = "Hardware monitor power meter accuracy, as a ratio".to_owned();
                gauge(name, help, Unit::Micro)
            }
            ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
                with_unit("seconds", "power usage update interval", Unit::Milli)
            }
            ("power", _) => with_unit("watt", "for power usage in watts", Unit::Micro),
            ("humidity", _) => {
                let help = format!(
                    "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the \
                     humidity as a percentage) ({property})"
                );
                gauge(name, help, Unit::Micro)
            }
            ("fan", "input" | "min" | "max" | "target") => {
                with_unit("rpm", "for fan revolutions per minute", Unit::One)
            }
            ("freq", "input") if has_label => Self {
                named_by_label: true,
                ..gauge(
                    format!("{name}_freq_mhz"),
                    "Hardware monitor for GPU frequency in MHz".to_owned(),
                    Unit::Micro,
                )
            },
            ("freq", "input") => return None,
            _ => gauge(name, format!("Hardware monitor {kind} element {property}"), Unit::One),
        })
    }

    /// The value to tell for the kernel's number.
    pub(super) fn value(&self, raw: f64) -> f64 {
        match self.unit {
            Unit::One => raw,
            Unit::Milli => raw * 0.001,
            Unit::Micro => raw / 1_000_000.0,
            Unit::Flag => f64::from(u8::from(raw == 1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn file_names_are_taken_apart() {
        let name = |kind, number, property| Some(FileName { kind, number, property });
        for (file, expected) in [
            ("temp1_crit_alarm", name("temp", 1, "crit_alarm")),
            ("pwm12", name("pwm", 12, "")),
            ("pwm1_auto_point1_pwm", name("pwm", 1, "auto_point1_pwm")),
            ("beep_enable", name("beep_enable", 0, "")),
            ("temp1x", None),
            ("temp1_", None),
            ("1_input", None),
            ("", None),
        ] {
            assert_eq!(FileName::parse(file), expected, "{file}");
        }
    }

    #[test]
    fn properties_have_their_units() {
        for (kind, property, raw, name, value) in [
            ("temp", "input", 55_000.0, "node_hwmon_temp_celsius", 55.0),
            ("temp", "crit_alarm", 0.0, "node_hwmon_temp_crit_alarm_celsius", 0.0),
            ("temp", "type", 4.0, "node_hwmon_temp_type", 4.0),
            ("in", "max", 1744.0, "node_hwmon_in_max_volts", 1.744),
            ("curr", "input", 1500.0, "node_hwmon_curr_amps", 1.5),
            ("power", "average", 25_000_000.0, "node_hwmon_power_average_watt", 25.0),
            ("power", "average_interval", 300.0, "node_hwmon_power_average_interval_seconds", 0.3),
            ("energy", "input", 2_000_000.0, "node_hwmon_energy_joule_total", 2.0),
            ("humidity", "input", 500_000.0, "node_hwmon_humidity", 0.5),
            ("fan", "input", 1098.0, "node_hwmon_fan_rpm", 1098.0),
            ("fan", "pulses", 2.0, "node_hwmon_fan_pulses", 2.0),
            ("intrusion", "beep", 0.0, "node_hwmon_intrusion_beep_enabled", 0.0),
            ("beep_enable", "", 1.0, "node_hwmon_beep_enabled", 1.0),
        ] {
            let meaning = Meaning::of(kind, property, false, false).unwrap();
            assert_eq!((meaning.name.as_str(), meaning.value(raw)), (name, value));
        }
        assert_eq!(Meaning::of("temp", "label", false, true), None);
        assert_eq!(Meaning::of("freq", "input", false, false), None);
        let bare = Meaning::of("pwm", "input", true, false).unwrap();
        assert_eq!(bare.name, "node_hwmon_pwm_input");
    }

    proptest! {
        #[test]
        fn any_name_is_taken_apart(name in any::<String>()) {
            if let Some(file) = FileName::parse(&name) {
                prop_assert!(name.starts_with(file.kind) && name.ends_with(file.property));
            }
            prop_assert!(!clean(&name).starts_with('_'));
        }
    }
}

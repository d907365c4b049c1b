//! What systemd says of itself: version, state, how it booted, the hardware's watchdog.

use stoa_model::Labels;

use super::bus::{BusError, Systemd, Told};
use super::{Settings, names};
use crate::sources::{Desc, Reading, label};

/// What systemd says of itself.
#[derive(Debug, Default)]
pub(super) struct Init {
    is_running: bool,
    pub(super) version: Option<(Labels, f64)>,
    virtualization: Option<Labels>,
    /// By stage: when it was reached, by the clock that nobody sets and by the wall's.
    boot: Vec<(Labels, [f64; 2])>,
    watchdog: Option<Labels>,
    watchdog_times: [Option<f64>; names::SD_WATCHDOG_TIMES.len()],
}

impl Init {
    /// `in_full`: what `systemd_exporter` tells too.
    pub(super) async fn ask(&mut self, systemd: &Systemd, in_full: bool) -> Result<(), BusError> {
        if self.version.is_none() {
            if let Told::Text(version) = systemd.manager("Version").await? {
                self.version = Some((label("version", &version), version_number(&version)));
            }
            let kind = match systemd.manager("Virtualization").await? {
                Told::Text(kind) if kind.is_empty() => "none".into(),
                Told::Text(kind) => kind,
                Told::Number(_) | Told::Nothing => "unknown".into(),
            };
            self.virtualization = Some(label("virtualization_type", &kind));
        }
        let state = systemd.manager("SystemState").await?;
        self.is_running = matches!(state, Told::Text(state) if &*state == "running");
        if in_full {
            self.ask_boot(systemd).await?;
            let device = match systemd.manager("WatchdogDevice").await? {
                Told::Text(device) if !device.is_empty() => Some(device),
                _ => None,
            };
            self.watchdog = device.map(|device| label("device", &device));
            for (value, (property, _)) in
                self.watchdog_times.iter_mut().zip(&names::SD_WATCHDOG_TIMES)
            {
                *value = match systemd.manager(property).await? {
                    Told::Number(micros) => Some(micros / 1e6),
                    Told::Text(_) | Told::Nothing => None,
                };
            }
        }
        Ok(())
    }

    /// Asks until the boot is over; then nothing of it changes.
    async fn ask_boot(&mut self, systemd: &Systemd) -> Result<(), BusError> {
        if self.boot.first().is_some_and(|(_, [_, finished])| *finished > 0.0) {
            return Ok(());
        }
        self.boot.clear();
        for stage in names::SD_BOOT_STAGES {
            let monotonic = systemd.manager(&format!("{stage}TimestampMonotonic")).await?;
            let time = systemd.manager(&format!("{stage}Timestamp")).await?;
            // An older systemd does not know them all.
            if let (Told::Number(monotonic), Told::Number(time)) = (monotonic, time) {
                self.boot.push((label("stage", stage), [monotonic / 1e6, time / 1e6]));
            }
        }
        Ok(())
    }

    pub(super) fn tell(&self, settings: &Settings, reading: &mut Reading) {
        if settings.is_node() {
            reading.single(&names::RUNNING, f64::from(u8::from(self.is_running)));
            let version = self.version.as_ref();
            let version = version.map(|(labels, number)| (labels.clone(), *number));
            let virtualization = self.virtualization.clone().map(|labels| (labels, 1.0));
            for (desc, value) in
                [(&names::VERSION, version), (&names::VIRTUALIZATION, virtualization)]
            {
                told_once(desc, value, reading);
            }
        }
        if settings.is_systemd() {
            for (at, desc) in
                [&names::SD_BOOT_MONOTONIC, &names::SD_BOOT_TIME].into_iter().enumerate()
            {
                let family = reading.open(desc);
                for (labels, times) in &self.boot {
                    family.push(labels.clone(), times.get(at).copied().unwrap_or_default());
                }
            }
            reading.single(&names::SD_WATCHDOG, f64::from(u8::from(self.watchdog.is_some())));
            for (value, (_, desc)) in self.watchdog_times.iter().zip(&names::SD_WATCHDOG_TIMES) {
                told_once(desc, self.watchdog.clone().zip(*value), reading);
            }
        }
    }
}

fn told_once(desc: &Desc, value: Option<(Labels, f64)>, reading: &mut Reading) {
    if let Some((labels, value)) = value {
        reading.one(desc, labels, value);
    }
}

/// The first number of three or more digits in a version, with its fraction: 252.39 of
/// `252.39-1~deb12u2`. 0 when there is none.
pub(super) fn version_number(version: &str) -> f64 {
    for piece in version.split(|c: char| !c.is_ascii_digit() && c != '.') {
        let mut groups = piece.split('.');
        while let Some(whole) = groups.next() {
            if whole.len() >= 3 {
                let fraction = groups.next().unwrap_or_default();
                return format!("{whole}.{fraction}").parse().unwrap_or(0.0);
            }
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_a_boot_are_told_by_both_clocks() {
        let boot = [("Finish", [18.5, 1_762_251_809.0]), ("Kernel", [0.0, 1_762_251_790.0])];
        let boot = boot.map(|(stage, times)| (label("stage", stage), times)).into();
        let init = Init { boot, ..Init::default() };
        let told = |table: &str| {
            let mut reading = Reading::default();
            init.tell(&toml::from_str(table).unwrap(), &mut reading);
            let families = reading.families().filter(|family| family.name.contains("_boot_"));
            let metrics = families.flat_map(|family| {
                let metrics = family.metrics.iter();
                metrics.map(|metric| format!("{}{} {}", family.name, metric.labels, metric.value))
            });
            metrics.collect::<Vec<_>>()
        };
        assert_eq!(
            told("names = ['systemd_exporter']"),
            [
                r#"systemd_boot_monotonic_seconds{stage="Finish"} 18.5"#,
                r#"systemd_boot_monotonic_seconds{stage="Kernel"} 0"#,
                r#"systemd_boot_time_seconds{stage="Finish"} 1762251809"#,
                r#"systemd_boot_time_seconds{stage="Kernel"} 1762251790"#,
            ]
        );
        assert_eq!(told(""), [""; 0]);
    }
}

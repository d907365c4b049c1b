//! `/sys/devices/system/edac`: errors that memory controllers corrected, or could not.

use std::path::Path;
use std::time::Duration;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries_with, text, value};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source, Tree};

/// How often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Corrected and not corrected errors, of a controller, a row of chips, and a channel of a row.
const WHOLE: [(&str, Desc); 2] = [
    (
        "ce_count",
        Desc::counter("node_edac_correctable_errors_total", "Total correctable memory errors."),
    ),
    (
        "ue_count",
        Desc::counter("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors."),
    ),
];
const CSROW: [(&str, &str, Desc); 2] = [
    (
        "ce_count",
        "ce_noinfo_count",
        Desc::counter(
            "node_edac_csrow_correctable_errors_total",
            "Total correctable memory errors for this csrow.",
        ),
    ),
    (
        "ue_count",
        "ue_noinfo_count",
        Desc::counter(
            "node_edac_csrow_uncorrectable_errors_total",
            "Total uncorrectable memory errors for this csrow.",
        ),
    ),
];
const CHANNEL: [(&str, Desc); 2] = [
    (
        "_ce_count",
        Desc::counter(
            "node_edac_channel_correctable_errors_total",
            "Total correctable memory errors for this channel.",
        ),
    ),
    (
        "_ue_count",
        Desc::counter(
            "node_edac_channel_uncorrectable_errors_total",
            "Total uncorrectable memory errors for this channel.",
        ),
    ),
];

/// A memory module's label as node_exporter writes it.
pub(super) fn dimm_label(text: &str) -> String {
    text.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}

/// The source `edac`.
#[derive(Debug)]
pub(crate) struct MemoryControllers {
    sheet: Sheet,
}

impl Configured for MemoryControllers {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl MemoryControllers {
    fn read_controller(&mut self, controller: &str, dir: &Path) {
        for (file, desc) in &WHOLE {
            if let Some(count) = value(dir.join(file)) {
                let labels = self.sheet.labels.of(&[("controller", controller)]);
                self.sheet.push(desc, labels, count);
            }
        }
        for (_, noinfo, desc) in &CSROW {
            if let Some(count) = value(dir.join(noinfo)) {
                let labels =
                    self.sheet.labels.of(&[("controller", controller), ("csrow", "unknown")]);
                self.sheet.push(desc, labels, count);
            }
        }
        for (csrow, dir) in entries_with(dir, "csrow", DEVICES_MAX) {
            for (file, _, desc) in &CSROW {
                if let Some(count) = value(dir.join(file)) {
                    let labels =
                        self.sheet.labels.of(&[("controller", controller), ("csrow", &csrow)]);
                    self.sheet.push(desc, labels, count);
                }
            }
            self.read_channels(controller, &csrow, &dir);
        }
    }

    fn read_channels(&mut self, controller: &str, csrow: &str, dir: &Path) {
        for (file, path) in entries_with(dir, "ch", DEVICES_MAX) {
            for (suffix, desc) in &CHANNEL {
                let Some(channel) = file.strip_suffix(suffix) else { continue };
                let Some(count) = value(&path) else { continue };
                let dimm = text(dir.join(format!("ch{channel}_dimm_label")));
                let dimm = dimm.map_or_else(|| "unknown".to_owned(), |text| dimm_label(&text));
                let labels = self.sheet.labels.of(&[
                    ("channel", channel),
                    ("controller", controller),
                    ("csrow", csrow),
                    ("dimm_label", &dimm),
                ]);
                self.sheet.push(desc, labels, count);
            }
        }
    }
}

impl Source for MemoryControllers {
    fn name(&self) -> &'static str {
        "edac"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "devices/system/edac/mc");
        // node_exporter's collector succeeds without any controller.
        for (controller, dir) in entries_with(&dir, "mc", DEVICES_MAX) {
            self.read_controller(&controller, &dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_apart() {
        assert_eq!(dimm_label("mc#0csrow#1channel#2"), "mc0_csrow1_channel2");
        assert_eq!(dimm_label("DIMM_A1"), "DIMM_A1");
    }
}

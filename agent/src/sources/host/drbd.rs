//! `/proc/drbd`: replicated block devices (DRBD 8). Off by default.

use std::time::Duration;

use crate::sources::attributes::Sheet;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Reading, Roots, Source, number};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
/// Devices told; DRBD has at most 255 minors by default.
const DEVICES_MAX: usize = 1024;
const KIB: f64 = 1024.0;

/// Words of the second line, `key:number`; DRBD counts data in KiB.
const NUMBERS: [(&str, Desc, f64); 12] = [
    (
        "ns",
        Desc::counter(
            "node_drbd_network_sent_bytes_total",
            "Total number of bytes sent via the network.",
        ),
        KIB,
    ),
    // node_exporter does not multiply this one.
    (
        "nr",
        Desc::counter(
            "node_drbd_network_received_bytes_total",
            "Total number of bytes received via the network.",
        ),
        1.0,
    ),
    (
        "dw",
        Desc::counter(
            "node_drbd_disk_written_bytes_total",
            "Net data written on local hard disk; in bytes.",
        ),
        KIB,
    ),
    (
        "dr",
        Desc::counter(
            "node_drbd_disk_read_bytes_total",
            "Net data read from local hard disk; in bytes.",
        ),
        KIB,
    ),
    (
        "al",
        Desc::counter(
            "node_drbd_activitylog_writes_total",
            "Number of updates of the activity log area of the meta data.",
        ),
        1.0,
    ),
    (
        "bm",
        Desc::counter(
            "node_drbd_bitmap_writes_total",
            "Number of updates of the bitmap area of the meta data.",
        ),
        1.0,
    ),
    (
        "lo",
        Desc::gauge(
            "node_drbd_local_pending",
            "Number of open requests to the local I/O sub-system.",
        ),
        1.0,
    ),
    (
        "pe",
        Desc::gauge(
            "node_drbd_remote_pending",
            "Number of requests sent to the peer, but that have not yet been answered by the \
             latter.",
        ),
        1.0,
    ),
    (
        "ua",
        Desc::gauge(
            "node_drbd_remote_unacknowledged",
            "Number of requests received by the peer via the network connection, but that have \
             not yet been answered.",
        ),
        1.0,
    ),
    (
        "ap",
        Desc::gauge(
            "node_drbd_application_pending",
            "Number of block I/O requests forwarded to DRBD, but not yet answered by DRBD.",
        ),
        1.0,
    ),
    ("ep", Desc::gauge("node_drbd_epochs", "Number of Epochs currently on the fly."), 1.0),
    (
        "oos",
        Desc::gauge(
            "node_drbd_out_of_sync_bytes",
            "Amount of data known to be out of sync; in bytes.",
        ),
        KIB,
    ),
];
const CONNECTED: Desc =
    Desc::gauge("node_drbd_connected", "Whether DRBD is connected to the peer.");
const ROLE: Desc = Desc::gauge(
    "node_drbd_node_role_is_primary",
    "Whether the role of the node is in the primary state.",
);
const DISK: Desc = Desc::gauge(
    "node_drbd_disk_state_is_up_to_date",
    "Whether the disk of the node is up to date.",
);

/// A word of what is said of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Word<'a> {
    /// The device's minor number.
    pub(super) minor: &'a str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// All words `key:value` of the devices, whose first words are `minor:`.
pub(super) fn parse(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut minor = None;
    let mut devices = 0;
    text.lines()
        .filter(|line| line.starts_with(' '))
        .flat_map(str::split_ascii_whitespace)
        .filter_map(move |word| {
            let (key, value) = word.split_once(':')?;
            if value.is_empty() && key.bytes().all(|b| b.is_ascii_digit()) {
                minor = Some(key);
                devices += 1;
                return None;
            }
            let minor = minor.filter(|_| devices <= DEVICES_MAX)?;
            Some(Word { minor, key, value })
        })
}

/// The source `drbd`.
#[derive(Debug)]
pub(crate) struct Drbd {
    file: KeptFile,
    sheet: Sheet,
}

impl Configured for Drbd {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("drbd"), sheet: Sheet::default() }
    }
}

impl Source for Drbd {
    fn name(&self) -> &'static str {
        "drbd"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        for Word { minor, key, value } in parse(text) {
            let device = format!("drbd{minor}");
            let whole = self.sheet.labels.of(&[("device", device.as_str())]);
            match key {
                "cs" => self.sheet.push(&CONNECTED, whole, flag(value == "Connected")),
                "ro" | "ds" => {
                    let (desc, good) =
                        if key == "ro" { (&ROLE, "Primary") } else { (&DISK, "UpToDate") };
                    let Some((local, remote)) = value.split_once('/') else { continue };
                    for (node, state) in [("local", local), ("remote", remote)] {
                        let labels =
                            self.sheet.labels.of(&[("device", device.as_str()), ("node", node)]);
                        self.sheet.push(desc, labels, flag(state == good));
                    }
                }
                _ => {
                    let known = NUMBERS.iter().find(|(known, _, _)| *known == key);
                    if let (Some((_, desc, factor)), Some(raw)) = (known, number(value)) {
                        self.sheet.push(desc, whole, raw * factor);
                    }
                }
            }
        }
        self.sheet.tell(reading);
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_belong_to_the_device_before_them() {
        let text = "version: 8.4.3 (api:1/proto:86-101)\n\n 1: cs:Connected ds:UpToDate/Diskless C\n    \
            ns:17 oos:3\n 12: cs:WFConnection\n";
        let word = |minor, key, value| Word { minor, key, value };
        assert_eq!(
            parse(text).collect::<Vec<_>>(),
            [
                word("1", "cs", "Connected"),
                word("1", "ds", "UpToDate/Diskless"),
                word("1", "ns", "17"),
                word("1", "oos", "3"),
                word("12", "cs", "WFConnection"),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_bounded(text in any::<String>(), devices in 0_usize..3000) {
            let long = format!("{text}\n{}", " 1: ns:1\n".repeat(devices));
            let count = parse(&long).filter(|word| *word == Word { minor: "1", key: "ns", value: "1" });
            prop_assert!(count.count() <= DEVICES_MAX);
        }
    }
}

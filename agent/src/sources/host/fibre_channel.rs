//! `/sys/class/fc_host`: Fibre Channel adapters.

use std::path::Path;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::attributes::{DEVICES_MAX, Sheet, entries, text};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree};

/// How often: the statistics ask the adapter.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a reading may take. Adapters are asked by messages.
const DEADLINE: Duration = Duration::from_secs(5);

const INFO: Desc = Desc::gauge(
    "node_fibrechannel_info",
    "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
);
/// Files that are labels of the same name.
const PROPERTIES: [&str; 10] = [
    "dev_loss_tmo",
    "fabric_name",
    "port_id",
    "port_name",
    "port_state",
    "port_type",
    "speed",
    "supported_classes",
    "supported_speeds",
    "symbolic_name",
];
const STATISTICS: [(&str, Desc); 14] = [
    (
        "dumped_frames",
        Desc::counter("node_fibrechannel_dumped_frames_total", "Number of dumped frames"),
    ),
    (
        "error_frames",
        Desc::counter("node_fibrechannel_error_frames_total", "Number of errors in frames"),
    ),
    (
        "fcp_packet_aborts",
        Desc::counter("node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets"),
    ),
    (
        "invalid_crc_count",
        Desc::counter(
            "node_fibrechannel_invalid_crc_total",
            "Invalid Cyclic Redundancy Check count",
        ),
    ),
    (
        "invalid_tx_word_count",
        Desc::counter(
            "node_fibrechannel_invalid_tx_words_total",
            "Number of invalid words transmitted by host port",
        ),
    ),
    (
        "link_failure_count",
        Desc::counter(
            "node_fibrechannel_link_failure_total",
            "Number of times the host port link has failed",
        ),
    ),
    (
        "loss_of_signal_count",
        Desc::counter(
            "node_fibrechannel_loss_of_signal_total",
            "Number of times signal has been lost",
        ),
    ),
    (
        "loss_of_sync_count",
        Desc::counter(
            "node_fibrechannel_loss_of_sync_total",
            "Number of failures on either bit or transmission word boundaries",
        ),
    ),
    (
        "nos_count",
        Desc::counter(
            "node_fibrechannel_nos_total",
            "Number Not_Operational Primitive Sequence received by host port",
        ),
    ),
    ("rx_frames", Desc::counter("node_fibrechannel_rx_frames_total", "Number of frames received")),
    (
        "rx_words",
        Desc::counter("node_fibrechannel_rx_words_total", "Number of words received by host port"),
    ),
    (
        "seconds_since_last_reset",
        Desc::counter(
            "node_fibrechannel_seconds_since_last_reset_total",
            "Number of seconds since last host port reset",
        ),
    ),
    (
        "tx_frames",
        Desc::counter(
            "node_fibrechannel_tx_frames_total",
            "Number of frames transmitted by host port",
        ),
    ),
    (
        "tx_words",
        Desc::counter(
            "node_fibrechannel_tx_words_total",
            "Number of words transmitted by host port",
        ),
    ),
];

/// A number as the driver writes it, hexadecimal after `0x`; `None` for all ones, which says that
/// the adapter does not count this.
pub(super) fn parse(text: &str) -> Option<f64> {
    let number = u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()?;
    (number != u64::MAX).then_some(number as f64)
}

/// The source `fibrechannel`.
#[derive(Debug)]
pub(crate) struct FibreChannel {
    sheet: Sheet,
}

impl Configured for FibreChannel {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { sheet: Sheet::default() }
    }
}

impl FibreChannel {
    fn read_host(&mut self, host: &str, dir: &Path) {
        let mut pairs = vec![("fc_host", host.to_owned())];
        for property in PROPERTIES {
            let said = text(dir.join(property)).unwrap_or_default();
            pairs.push((property, said.strip_prefix("0x").unwrap_or(&said).to_owned()));
        }
        let info = self
            .sheet
            .labels
            .get(&format!("info {pairs:?}"), |_| Labels::from_pairs_last_wins(pairs.clone()));
        self.sheet.push(&INFO, info, 1.0);
        let labels = self.sheet.labels.of(&[("fc_host", host)]);
        for (file, desc) in &STATISTICS {
            let path = dir.join("statistics").join(file);
            if let Some(count) = text(path).as_deref().and_then(parse) {
                self.sheet.push(desc, labels.clone(), count);
            }
        }
    }
}

impl Source for FibreChannel {
    fn name(&self) -> &'static str {
        "fibrechannel"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let dir = roots.path(Tree::Sys, "class/fc_host");
        let found = match entries(&dir, DEVICES_MAX) {
            Ok(found) => found,
            Err(error) => return reading.fail(Problem::read(dir, error)),
        };
        for (host, dir) in found {
            self.read_host(&host, &dir);
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_adapter_does_not_count_is_absent() {
        assert_eq!(parse("0x13"), Some(19.0));
        assert_eq!(parse("0xffffffffffffffff"), None);
        assert_eq!(parse("13"), None);
        assert_eq!(parse("0x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(0x)?[0-9a-fA-F+-]{0,20}|.*") {
            prop_assert!(parse(&text).is_none_or(|number| number >= 0.0));
        }
    }
}

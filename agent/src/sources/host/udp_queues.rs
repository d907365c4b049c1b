//! `/proc/net/udp` and `udp6`: how much waits in the queues of UDP sockets.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source};

const QUEUES: Desc = Desc::gauge(
    "node_udp_queues",
    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
);
const INTERVAL: Duration = Duration::from_secs(5);
/// `tx_queue:rx_queue` stands behind number, addresses and state.
const QUEUES_COLUMN: usize = 4;

/// The sums over all sockets, in bytes: to be sent, and received.
pub(super) fn parse(text: &str) -> (f64, f64) {
    let queues = text.lines().skip(1).filter_map(|line| {
        let (sent, received) = line.split_ascii_whitespace().nth(QUEUES_COLUMN)?.split_once(':')?;
        let bytes = |text| u32::from_str_radix(text, 16).ok().map(f64::from);
        Some((bytes(sent)?, bytes(received)?))
    });
    queues.fold((0.0, 0.0), |(sent, received), (more_sent, more_received)| {
        (sent + more_sent, received + more_received)
    })
}

/// The source `udp_queues`.
#[derive(Debug)]
pub(crate) struct UdpQueues {
    files: [(&'static str, KeptFile); 2],
    labels: Kept<Labels>,
}

impl Configured for UdpQueues {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        let files = [("v4", KeptFile::proc("net/udp")), ("v6", KeptFile::proc("net/udp6"))];
        Self { files, labels: Kept::new() }
    }
}

impl Source for UdpQueues {
    fn name(&self) -> &'static str {
        "udp_queues"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut family = QUEUES.family();
        let mut missing = None;
        for (ip, file) in &mut self.files {
            match file.read(roots).map(parse) {
                Ok((sent, received)) => {
                    for (queue, bytes) in [("tx", sent), ("rx", received)] {
                        let labels = self.labels.get(&format!("{ip} {queue}"), |_| {
                            Labels::from_pairs_last_wins([("ip", *ip), ("queue", queue)])
                        });
                        family.push(labels, bytes);
                    }
                }
                Err(problem) => missing = Some(problem),
            }
        }
        match missing {
            Some(problem) if family.metrics.is_empty() => reading.fail(problem),
            Some(problem) => reading.note(problem),
            None => {}
        }
        reading.family(family);
    }
}

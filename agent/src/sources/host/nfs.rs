//! `/proc/net/rpc/nfs` and `nfsd`: what this host asks of NFS servers, and what it serves.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, label, number};

mod methods;

use methods::Methods;

const INTERVAL: Duration = Duration::from_secs(5);
/// Numbers in a line that are read; the longest the kernel writes has some 80.
const NUMBERS_MAX: usize = 256;

const CLIENT_PACKETS: Desc = Desc::counter(
    "node_nfs_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const CLIENT_CONNECTIONS: Desc =
    Desc::counter("node_nfs_connections_total", "Total number of NFSd TCP connections.");
const CLIENT_RPC: [Desc; 3] = [
    Desc::counter("node_nfs_rpcs_total", "Total number of RPCs performed."),
    Desc::counter("node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed."),
    Desc::counter(
        "node_nfs_rpc_authentication_refreshes_total",
        "Number of RPC authentication refreshes performed.",
    ),
];
const CLIENT_REQUESTS: Desc =
    Desc::counter("node_nfs_requests_total", "Number of NFS procedures invoked.");

const SERVER_PACKETS: Desc = Desc::counter(
    "node_nfsd_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const SERVER_RPC_ERRORS: Desc =
    Desc::counter("node_nfsd_rpc_errors_total", "Total number of NFSd RPC errors by error type.");
const SERVER_REQUESTS: Desc =
    Desc::counter("node_nfsd_requests_total", "Total number NFSd Requests by method and protocol.");

/// Families of the server: the line, the number's place in it, and the family.
const SERVER_NUMBERS: [(&str, usize, Desc); 11] = [
    (
        "rc",
        0,
        Desc::counter(
            "node_nfsd_reply_cache_hits_total",
            "Total number of NFSd Reply Cache hits (client lost server response).",
        ),
    ),
    (
        "rc",
        1,
        Desc::counter(
            "node_nfsd_reply_cache_misses_total",
            "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        ),
    ),
    (
        "rc",
        2,
        Desc::counter(
            "node_nfsd_reply_cache_nocache_total",
            "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        ),
    ),
    (
        "fh",
        0,
        Desc::counter(
            "node_nfsd_file_handles_stale_total",
            "Total number of NFSd stale file handles",
        ),
    ),
    ("io", 0, Desc::counter("node_nfsd_disk_bytes_read_total", "Total NFSd bytes read.")),
    ("io", 1, Desc::counter("node_nfsd_disk_bytes_written_total", "Total NFSd bytes written.")),
    (
        "th",
        0,
        Desc::gauge(
            "node_nfsd_server_threads",
            "Total number of NFSd kernel threads that are running.",
        ),
    ),
    (
        "ra",
        0,
        Desc::gauge(
            "node_nfsd_read_ahead_cache_size_blocks",
            "How large the read ahead cache is in blocks.",
        ),
    ),
    (
        "ra",
        11,
        Desc::counter(
            "node_nfsd_read_ahead_cache_not_found_total",
            "Total number of NFSd read ahead cache not found.",
        ),
    ),
    (
        "net",
        3,
        Desc::counter("node_nfsd_connections_total", "Total number of NFSd TCP connections."),
    ),
    ("rpc", 0, Desc::counter("node_nfsd_server_rpcs_total", "Total number of NFSd RPCs.")),
];

/// The lines by their first word.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, Vec<f64>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let key = words.next()?;
        Some((key, words.take(NUMBERS_MAX).map_while(number).collect()))
    })
}

/// Appends a family by one label.
fn tell_by(
    reading: &mut Reading,
    kept: &mut Kept<Labels>,
    desc: &Desc,
    name: &'static str,
    values: &[(&str, Option<&f64>)],
) {
    let mut family = desc.family();
    for (by, value) in values {
        if let Some(value) = value {
            let labels = kept.get(&format!("{} {by}", desc.name), |_| label(name, by));
            family.push(labels, **value);
        }
    }
    reading.family(family);
}

/// The labels of a method, in a version of the protocol.
fn method_labels(kept: &mut Kept<Labels>, method: &str, proto: &str) -> Labels {
    kept.get(&format!("{proto} {method}"), |_| {
        Labels::from_pairs_last_wins([("method", method), ("proto", proto)])
    })
}

/// The source `nfs`.
#[derive(Debug)]
pub(crate) struct NfsClient {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for NfsClient {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("net/rpc/nfs"), labels: Kept::new() }
    }
}

impl Source for NfsClient {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut requests = CLIENT_REQUESTS.family();
        for (key, numbers) in parse(text) {
            match key {
                "net" => {
                    let by = [("udp", numbers.get(1)), ("tcp", numbers.get(2))];
                    tell_by(reading, &mut self.labels, &CLIENT_PACKETS, "protocol", &by);
                    if let Some(connections) = numbers.get(3) {
                        reading.single(&CLIENT_CONNECTIONS, *connections);
                    }
                }
                "rpc" => {
                    for (desc, value) in CLIENT_RPC.iter().zip(&numbers) {
                        reading.single(desc, *value);
                    }
                }
                _ => {
                    let Some(Methods { proto, names }) = methods::of_client(key) else { continue };
                    // The first number says how many follow; what an older kernel does not know
                    // was never called.
                    let values = numbers.iter().skip(1).copied().chain(std::iter::repeat(0.0));
                    for (method, value) in names.iter().zip(values) {
                        let labels = method_labels(&mut self.labels, method, proto);
                        requests.push(labels, value);
                    }
                }
            }
        }
        self.labels.end_round();
        reading.family(requests);
    }
}

/// The source `nfsd`.
#[derive(Debug)]
pub(crate) struct NfsServer {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for NfsServer {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("net/rpc/nfsd"), labels: Kept::new() }
    }
}

impl Source for NfsServer {
    fn name(&self) -> &'static str {
        "nfsd"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut requests = SERVER_REQUESTS.family();
        for (key, numbers) in parse(text) {
            for (line, place, desc) in &SERVER_NUMBERS {
                if *line == key
                    && let Some(value) = numbers.get(*place)
                {
                    reading.single(desc, *value);
                }
            }
            match key {
                "net" => {
                    let by = [("udp", numbers.get(1)), ("tcp", numbers.get(2))];
                    tell_by(reading, &mut self.labels, &SERVER_PACKETS, "proto", &by);
                }
                "rpc" => {
                    let by = [
                        ("fmt", numbers.get(2)),
                        ("auth", numbers.get(3)),
                        ("cInt", numbers.get(4)),
                    ];
                    tell_by(reading, &mut self.labels, &SERVER_RPC_ERRORS, "error", &by);
                }
                "wdeleg_getattr" => {
                    if let Some(value) = numbers.first() {
                        let labels = method_labels(&mut self.labels, "WdelegGetattr", "4");
                        requests.push(labels, *value);
                    }
                }
                _ => {
                    let Some(Methods { proto, names }) = methods::of_server(key) else { continue };
                    for (method, value) in names.iter().zip(numbers.iter().skip(1)) {
                        if !method.is_empty() {
                            let labels = method_labels(&mut self.labels, method, proto);
                            requests.push(labels, *value);
                        }
                    }
                }
            }
        }
        self.labels.end_round();
        reading.family(requests);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_read_up_to_what_is_no_number() {
        let lines: Vec<_> = parse("th 8 0 0.5\nrc 1 x 2\n\nproc4").collect();
        let expected = [("th", vec![8.0, 0.0, 0.5]), ("rc", vec![1.0]), ("proc4", vec![])];
        assert_eq!(lines, expected);
    }

    proptest! {
        #[test]
        fn no_line_has_more_numbers_than_are_read(text in "([a-z0-9 ]{0,20}|( 1){300}|\n){0,9}") {
            prop_assert!(parse(&text).all(|(_, numbers)| numbers.len() <= NUMBERS_MAX));
        }
    }
}

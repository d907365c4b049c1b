//! `/proc/net/ip_vs` and `ip_vs_stats`: the kernel's load balancer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, number};

const INTERVAL: Duration = Duration::from_secs(5);
/// Backends that are told; more are left out.
const BACKENDS_MAX: usize = 65_536;

/// In the order of the columns of `ip_vs_stats`.
const TOTALS: [Desc; 5] = [
    Desc::counter("node_ipvs_connections_total", "The total number of connections made."),
    Desc::counter("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    Desc::counter("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    Desc::counter("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    Desc::counter("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];
/// In the order of the columns of `ip_vs`.
const BACKEND: [Desc; 3] = [
    Desc::gauge(
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
    ),
    Desc::gauge(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
    ),
    Desc::gauge(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
    ),
];

/// `[sources.ipvs]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// What backends are told apart by; those that differ in nothing else are told as their sum.
    backend_labels: Vec<Part>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { backend_labels: Part::ALL.to_vec() }
    }
}

/// What a backend is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    LocalAddress,
    LocalPort,
    RemoteAddress,
    RemotePort,
    Proto,
    LocalMark,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::LocalAddress,
        Self::LocalPort,
        Self::RemoteAddress,
        Self::RemotePort,
        Self::Proto,
        Self::LocalMark,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::LocalAddress => "local_address",
            Self::LocalPort => "local_port",
            Self::RemoteAddress => "remote_address",
            Self::RemotePort => "remote_port",
            Self::Proto => "proto",
            Self::LocalMark => "local_mark",
        }
    }
}

/// One server behind a service.
#[derive(Debug, PartialEq)]
pub(super) struct Backend {
    proto: String,
    /// Empty for a service that is known by a mark.
    local: (String, u16),
    mark: String,
    remote: (String, u16),
    /// Weight, active and inactive connections.
    columns: [f64; BACKEND.len()],
}

impl Backend {
    fn part(&self, part: Part) -> String {
        match part {
            Part::LocalAddress => self.local.0.clone(),
            Part::LocalPort => self.local.1.to_string(),
            Part::RemoteAddress => self.remote.0.clone(),
            Part::RemotePort => self.remote.1.to_string(),
            Part::Proto => self.proto.clone(),
            Part::LocalMark => self.mark.clone(),
        }
    }
}

/// The totals in the order of [`TOTALS`].
pub(super) fn parse_totals(text: &str) -> Option<[f64; TOTALS.len()]> {
    let mut words = text.lines().nth(2)?.split_ascii_whitespace();
    let mut totals = [0.0; TOTALS.len()];
    for total in &mut totals {
        *total = u64::from_str_radix(words.next()?, 16).ok()? as f64;
    }
    Some(totals)
}

/// The servers behind all services.
pub(super) fn parse_backends(text: &str) -> Vec<Backend> {
    let mut backends = Vec::new();
    let mut service: Option<(&str, (String, u16), &str)> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(proto @ ("TCP" | "UDP" | "SCTP")) => {
                service = words.next().and_then(address).map(|local| (proto, local, ""));
            }
            Some(proto @ "FWM") => {
                service = words.next().map(|mark| (proto, (String::new(), 0), mark));
            }
            Some("->") if backends.len() < BACKENDS_MAX => {
                let Some((proto, local, mark)) = &service else { continue };
                let Some(remote) = words.next().and_then(address) else { continue };
                // How packets are forwarded.
                let columns: Vec<f64> = words.skip(1).map_while(number).collect();
                if let Ok(columns) = columns.try_into() {
                    backends.push(Backend {
                        proto: (*proto).to_owned(),
                        local: local.clone(),
                        mark: (*mark).to_owned(),
                        remote,
                        columns,
                    });
                }
            }
            _ => {}
        }
    }
    backends
}

/// `C0A80016:0CEA`, or `[2620:0000:…:0001]:0CEA`.
fn address(text: &str) -> Option<(String, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
        None if address.len() == 8 => {
            Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?).to_string()
        }
        None => return None,
    };
    Some((address, port))
}

/// The source `ipvs`.
#[derive(Debug)]
pub(crate) struct Ipvs {
    totals: KeptFile,
    backends: KeptFile,
    parts: Vec<Part>,
    labels: Kept<Labels>,
}

impl Configured for Ipvs {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            totals: KeptFile::proc("net/ip_vs_stats"),
            backends: KeptFile::proc("net/ip_vs"),
            parts: settings.backend_labels,
            labels: Kept::new(),
        }
    }
}

impl Source for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        match self.totals.read(roots).map(parse_totals) {
            Ok(Some(totals)) => {
                for (desc, total) in TOTALS.iter().zip(totals) {
                    reading.single(desc, total);
                }
            }
            Ok(None) => {
                let path = self.totals.path(roots);
                return reading.fail(Problem::parse(path, "the totals are not where they were"));
            }
            Err(problem) => return reading.fail(problem),
        }
        let backends = match self.backends.read(roots) {
            Ok(text) => parse_backends(text),
            Err(problem) => return reading.fail(problem),
        };
        let mut sums: BTreeMap<Vec<String>, [f64; BACKEND.len()]> = BTreeMap::new();
        for backend in &backends {
            let key = self.parts.iter().map(|part| backend.part(*part)).collect();
            let columns: &mut [f64; BACKEND.len()] = sums.entry(key).or_default();
            for (sum, value) in columns.iter_mut().zip(backend.columns) {
                *sum += value;
            }
        }
        let mut families: Vec<Family> = BACKEND.iter().map(Desc::family).collect();
        for (parts, columns) in sums {
            let labels = self.labels.get(&parts.join(" "), |_| {
                let names = self.parts.iter().map(|part| part.label());
                Labels::from_pairs_last_wins(names.zip(parts.iter().map(String::as_str)))
            });
            for (family, value) in families.iter_mut().zip(columns) {
                family.push(labels.clone(), value);
            }
        }
        self.labels.end_round();
        for family in families {
            reading.family(family);
        }
    }
}

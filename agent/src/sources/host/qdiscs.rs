//! Queueing disciplines: what waits, passes and is dropped at each device's root. Off by default.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels};

use crate::sources::attributes::read_whole;
use crate::sources::netlink::{self, Netlink, attributes, u32_at, u64_at};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source};

/// The answer waits for the lock of the whole network stack.
const DEADLINE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(5);
/// Named in problems.
const WHERE: &str = "netlink route";
/// A longer file of fixtures is not read.
const FIXTURES_BYTES_MAX: u64 = 1 << 20;
/// Queueing disciplines that are told; more are left out.
const QDISCS_MAX: usize = 65_536;

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const GET_QDISC: u16 = 38;
const NEW_QDISC: u16 = 36;
const LINK_BYTES: usize = 16;
const LINK_NAME: u16 = 3;
const QDISC_BYTES: usize = 20;
const PARENT_ROOT: u32 = u32::MAX;
const KIND: u16 = 1;
const OLD_STATISTICS: u16 = 3;
const STATISTICS: u16 = 7;
const STATISTICS_BASIC: u16 = 1;
const STATISTICS_QUEUE: u16 = 3;

/// In the order of [`Qdisc::values`].
const FAMILIES: [Desc; 7] = [
    Desc::counter("node_qdisc_bytes_total", "Number of bytes sent."),
    Desc::counter("node_qdisc_packets_total", "Number of packets sent."),
    Desc::counter("node_qdisc_drops_total", "Number of packets dropped."),
    Desc::counter(
        "node_qdisc_requeues_total",
        "Number of packets dequeued, not transmitted, and requeued.",
    ),
    Desc::counter("node_qdisc_overlimits_total", "Number of overlimit packets."),
    Desc::gauge(
        "node_qdisc_current_queue_length",
        "Number of packets currently in queue to be sent.",
    ),
    Desc::gauge("node_qdisc_backlog", "Number of bytes currently in queue to be sent."),
];

/// `[sources.qdisc]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Devices to tell, all if empty.
    device_include: Pattern,
    /// Devices to leave out.
    device_exclude: Pattern,
    /// Read `results.json` in this directory instead of asking the kernel; for tests.
    fixtures: Option<PathBuf>,
}

/// One queueing discipline. As JSON it has the names node_exporter's fixtures have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Qdisc {
    iface_name: String,
    parent: u32,
    kind: String,
    bytes: u64,
    packets: u32,
    drops: u32,
    requeues: u32,
    overlimits: u32,
    qlen: u32,
    backlog: u32,
}

impl Qdisc {
    fn values(&self) -> [f64; FAMILIES.len()] {
        let counts =
            [self.packets, self.drops, self.requeues, self.overlimits, self.qlen, self.backlog];
        let [packets, drops, requeues, overlimits, qlen, backlog] = counts.map(f64::from);
        [self.bytes as f64, packets, drops, requeues, overlimits, qlen, backlog]
    }

    fn is_root(&self) -> bool {
        matches!(self.parent, 0 | PARENT_ROOT)
    }
}

/// The device's number, and its queueing discipline without the device's name.
pub(super) fn parse(body: &[u8]) -> Option<(u32, Qdisc)> {
    let mut qdisc = Qdisc { parent: u32_at(body, 12)?, ..Qdisc::default() };
    let mut has_statistics = false;
    for (kind, value) in attributes(body.get(QDISC_BYTES..)?) {
        match kind {
            KIND => qdisc.kind = netlink::text(value)?.to_owned(),
            STATISTICS => {
                has_statistics = true;
                for (kind, value) in attributes(value) {
                    match kind {
                        STATISTICS_BASIC => {
                            qdisc.bytes = u64_at(value, 0)?;
                            qdisc.packets = u32_at(value, 8)?;
                        }
                        STATISTICS_QUEUE => {
                            qdisc.qlen = u32_at(value, 0)?;
                            qdisc.backlog = u32_at(value, 4)?;
                            qdisc.drops = u32_at(value, 8)?;
                            qdisc.requeues = u32_at(value, 12)?;
                            qdisc.overlimits = u32_at(value, 16)?;
                        }
                        _ => {}
                    }
                }
            }
            OLD_STATISTICS if !has_statistics => {
                qdisc.bytes = u64_at(value, 0)?;
                qdisc.packets = u32_at(value, 8)?;
                qdisc.drops = u32_at(value, 12)?;
                qdisc.overlimits = u32_at(value, 16)?;
                qdisc.qlen = u32_at(value, 28)?;
                qdisc.backlog = u32_at(value, 32)?;
            }
            _ => {}
        }
    }
    Some((u32_at(body, 4)?, qdisc))
}

/// A device's number and name.
pub(super) fn parse_link(body: &[u8]) -> Option<(u32, &str)> {
    let mut attributes = attributes(body.get(LINK_BYTES..)?);
    let name = attributes.find_map(|(kind, value)| (kind == LINK_NAME).then_some(value))?;
    Some((u32_at(body, 4)?, netlink::text(name)?))
}

/// The names of all devices by their numbers.
pub(super) fn device_names(netlink: &mut Netlink) -> std::io::Result<HashMap<u32, String>> {
    let mut names = HashMap::new();
    netlink.dump(GET_LINK, &[0; LINK_BYTES], |message| {
        if message.kind == NEW_LINK
            && let Some((index, name)) = parse_link(message.body)
        {
            names.insert(index, name.to_owned());
        }
    })?;
    Ok(names)
}

/// The source `qdisc`.
#[derive(Debug)]
pub(crate) struct Qdiscs {
    filter: Filter,
    fixtures: Option<PathBuf>,
    labels: Kept<Labels>,
}

impl Configured for Qdiscs {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let fixtures = settings.fixtures;
        Self {
            filter: Filter::new(settings.device_include, settings.device_exclude),
            fixtures,
            labels: Kept::new(),
        }
    }
}

impl Qdiscs {
    fn qdiscs(&self) -> Result<Vec<Qdisc>, Problem> {
        match &self.fixtures {
            Some(dir) => fixtures(dir.join("results.json")),
            None => ask().map_err(|error| Problem::read(WHERE, error)),
        }
    }
}

fn ask() -> std::io::Result<Vec<Qdisc>> {
    let mut netlink = Netlink::open(netlink::Family::Route)?;
    let names = device_names(&mut netlink)?;
    let mut qdiscs = Vec::new();
    netlink.dump(GET_QDISC, &[0; QDISC_BYTES], |message| {
        if message.kind == NEW_QDISC
            && qdiscs.len() < QDISCS_MAX
            && let Some((index, qdisc)) = parse(message.body)
            && let Some(name) = names.get(&index)
        {
            qdiscs.push(Qdisc { iface_name: name.clone(), ..qdisc });
        }
    })?;
    Ok(qdiscs)
}

fn fixtures(path: PathBuf) -> Result<Vec<Qdisc>, Problem> {
    match read_whole(&path, FIXTURES_BYTES_MAX) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| Problem::read(path, error.into())),
        Err(error) => Err(Problem::read(path, error)),
    }
}

impl Source for Qdiscs {
    fn name(&self) -> &'static str {
        "qdisc"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        let qdiscs = match self.qdiscs() {
            Ok(qdiscs) => qdiscs,
            Err(problem) => return reading.fail(problem),
        };
        let mut families: Vec<Family> = FAMILIES.iter().map(Desc::family).collect();
        for qdisc in qdiscs.iter().filter(|qdisc| qdisc.is_root()) {
            let (device, kind) = (qdisc.iface_name.as_str(), qdisc.kind.as_str());
            if !self.filter.keeps(device) {
                continue;
            }
            let labels = self.labels.get(&format!("{device} {kind}"), |_| {
                Labels::from_pairs_last_wins([("device", device), ("kind", kind)])
            });
            for (family, value) in families.iter_mut().zip(qdisc.values()) {
                family.push(labels.clone(), value);
            }
        }
        self.labels.end_round();
        for family in families {
            reading.family(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_has_both_kinds_of_statistics_and_the_newer_count() {
        let number = |n: u8| [n, 0, 0, 0];
        let mut body = vec![0; 4];
        for field in [2, 0, 0, 0] {
            body.extend(number(field));
        }
        body[12..16].fill(0xff);
        body.extend(netlink::attribute(KIND, b"fq\0"));
        let mut queue = Vec::new();
        for field in 1..=5 {
            queue.extend(number(field));
        }
        body.extend(netlink::attribute(STATISTICS, &netlink::attribute(STATISTICS_QUEUE, &queue)));
        body.extend(netlink::attribute(OLD_STATISTICS, &[9; 36]));
        let (index, qdisc) = parse(&body).unwrap();
        assert_eq!(index, 2);
        assert!(qdisc.is_root());
        assert_eq!(qdisc.values(), [0.0, 0.0, 3.0, 4.0, 5.0, 1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            bytes in proptest::collection::vec(prop_oneof![0_u8..20, any::<u8>()], 0..200),
        ) {
            prop_assert!(parse(&bytes).is_none_or(|(_, qdisc)| qdisc.kind.len() <= bytes.len()));
            prop_assert!(parse_link(&bytes).is_none_or(|(_, name)| name.len() <= bytes.len()));
        }
    }
}

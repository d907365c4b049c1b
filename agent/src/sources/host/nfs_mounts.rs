//! `/proc/self/mountstats`: what each mounted NFS export does, by event, transport and operation.
//!
//! The server's address stands in `/proc/self/mountinfo` only. Of several mounts of one export over
//! one protocol the kernel tells the same numbers; they are told once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use stoa_model::{Family, Labels};

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, number};

mod names;

use names::{AGE, BYTES, EVENTS, INFO, OPERATION, TRANSPORT};

const INTERVAL: Duration = Duration::from_secs(10);
/// NFS mounts that are told; more are left out.
const MOUNTS_MAX: usize = 1024;
/// Transports of a mount (`nconnect=` allows 16).
const TRANSPORTS_MAX: usize = 64;
/// Operations of a mount; the kernel knows some 70.
const OPERATIONS_MAX: usize = 256;
/// Numbers of a line that are read.
const NUMBERS_MAX: usize = 64;
/// The numbers of an operation from which on they are milliseconds.
const OPERATION_TIMES: usize = 5;
/// The kernel's times may have gone below zero; as node_exporter, told is what a double can hold.
const TIMES_END: u64 = 1 << 53;

/// One mount.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mount<'a> {
    export: &'a str,
    mount_point: &'a str,
    age_s: Option<f64>,
    bytes: Vec<f64>,
    events: Vec<f64>,
    transports: Vec<Transport<'a>>,
    /// Name and numbers.
    operations: Vec<(&'a str, Vec<f64>)>,
}

/// One connection to the server.
#[derive(Debug, PartialEq)]
pub(super) struct Transport<'a> {
    protocol: &'a str,
    /// Binds, connects, seconds idle, sends, receives, bad transaction ids, backlog, slots, queues
    /// of sending and pending; as far as the protocol knows them.
    numbers: Vec<f64>,
}

impl<'a> Transport<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (protocol, rest) = line.split_once(' ')?;
        let all = numbers(rest);
        let mut all = all.into_iter();
        let _port = all.next()?;
        let binds = all.next()?;
        // A protocol without connections counts none, and is never idle.
        let (connects, idle) = if protocol == "udp" {
            (0.0, 0.0)
        } else {
            let connects = all.next()?;
            let _connect_time = all.next()?;
            (connects, all.next()?)
        };
        let mut told = vec![binds, connects, idle];
        told.extend(all.by_ref().take(3));
        let _in_flight = all.next();
        // What stands behind the backlog is another thing with RDMA.
        told.extend(all.take(if protocol == "rdma" { 1 } else { 4 }));
        Some(Self { protocol, numbers: told })
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_ascii_whitespace().take(NUMBERS_MAX).map_while(number).collect()
}

/// The NFS mounts.
pub(super) fn parse(text: &str) -> Vec<Mount<'_>> {
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    let mut in_nfs = false;
    let mut in_operations = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("device ") {
            in_operations = false;
            let mount = nfs_mount(rest).filter(|_| mounts.len() < MOUNTS_MAX);
            in_nfs = mount.is_some();
            mounts.extend(mount);
            continue;
        }
        let Some(mount) = mounts.last_mut().filter(|_| in_nfs) else { continue };
        let line = line.trim_start();
        let Some((key, rest)) = line.split_once(':') else {
            in_operations |= line == "per-op statistics";
            continue;
        };
        let rest = rest.trim_start();
        match key {
            _ if in_operations && mount.operations.len() < OPERATIONS_MAX => {
                mount.operations.push((key, operation(rest)));
            }
            "age" => mount.age_s = number(rest),
            "bytes" => mount.bytes = numbers(rest),
            "events" => mount.events = numbers(rest),
            "xprt" if mount.transports.len() < TRANSPORTS_MAX => {
                mount.transports.extend(Transport::parse(rest));
            }
            _ => {}
        }
    }
    mounts
}

/// `EXPORT mounted on DIR with fstype nfs4 statvers=1.1`
fn nfs_mount(line: &str) -> Option<Mount<'_>> {
    let (export, rest) = line.split_once(" mounted on ")?;
    let (mount_point, rest) = rest.split_once(" with fstype ")?;
    let (fs_type, version) = rest.split_once(' ')?;
    let is_nfs = matches!(fs_type, "nfs" | "nfs4") && version.starts_with("statvers=");
    is_nfs.then(|| Mount { export, mount_point, ..Mount::default() })
}

fn operation(text: &str) -> Vec<f64> {
    let words = text.split_ascii_whitespace().take(OPERATION.len()).enumerate();
    let told = words.map_while(|(place, word)| {
        if place < OPERATION_TIMES {
            return number(word);
        }
        let millis: u64 = word.parse().ok()?;
        Some((millis % TIMES_END) as f64 / 1000.0)
    });
    told.collect()
}

/// The servers' addresses by mount point, from `mountinfo`; a mount point's first mount counts.
pub(super) fn parse_addresses(text: &str) -> HashMap<&str, &str> {
    let mut addresses = HashMap::new();
    for line in text.lines() {
        let mount_point = line.split(' ').nth(4);
        let options = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(2));
        let (Some(mount_point), Some(options)) = (mount_point, options) else { continue };
        let address = options.split(',').find_map(|option| option.strip_prefix("addr="));
        if let Some(address) = address
            && addresses.len() < MOUNTS_MAX
        {
            addresses.entry(mount_point).or_insert(address);
        }
    }
    addresses
}

/// The source `mountstats`.
#[derive(Debug)]
pub(crate) struct NfsMounts {
    statistics: KeptFile,
    mounts: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for NfsMounts {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self {
            statistics: KeptFile::proc("self/mountstats"),
            mounts: KeptFile::proc("self/mountinfo"),
            labels: Kept::new(),
        }
    }
}

impl Source for NfsMounts {
    fn name(&self) -> &'static str {
        "mountstats"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mounts = match self.statistics.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        if mounts.is_empty() {
            return;
        }
        let addresses = match self.mounts.read(roots) {
            Ok(text) => parse_addresses(text),
            Err(problem) => {
                reading.note(problem);
                HashMap::new()
            }
        };
        let mut families = Families::new();
        let mut told = BTreeSet::new();
        let mut mount_points = BTreeSet::new();
        for mount in &mounts {
            let address = addresses.get(mount.mount_point).copied().unwrap_or_default();
            let Some(protocol) = mount.transports.first().map(|transport| transport.protocol)
            else {
                continue;
            };
            let common = [("export", mount.export), ("protocol", protocol), ("mountaddr", address)];
            if mount_points.insert((mount.export, protocol, address, mount.mount_point)) {
                let point = Some(("mountpoint", mount.mount_point));
                families.info.push(keep(&mut self.labels, &common, point), 1.0);
            }
            if told.insert((mount.export, protocol, address)) {
                families.push(mount, &common, &mut self.labels);
            }
        }
        self.labels.end_round();
        families.tell(reading);
    }
}

type Common<'a> = [(&'static str, &'a str); 3];

fn keep(kept: &mut Kept<Labels>, common: &Common<'_>, own: Option<(&'static str, &str)>) -> Labels {
    let mut key = String::new();
    for (name, value) in common.iter().copied().chain(own) {
        key.extend([name, " ", value, " "]);
    }
    kept.get(&key, |_| Labels::from_pairs_last_wins(common.iter().copied().chain(own)))
}

struct Families {
    info: Family,
    age: Family,
    bytes: Vec<Family>,
    events: Vec<Option<Family>>,
    transport: Vec<Family>,
    operation: Vec<Family>,
}

impl Families {
    fn new() -> Self {
        let of = |descs: &[Desc]| descs.iter().map(Desc::family).collect();
        Self {
            info: INFO.family(),
            age: AGE.family(),
            bytes: of(&BYTES),
            events: EVENTS.iter().map(|desc| desc.as_ref().map(Desc::family)).collect(),
            transport: of(&TRANSPORT),
            operation: of(&OPERATION),
        }
    }

    fn push(&mut self, mount: &Mount<'_>, common: &Common<'_>, kept: &mut Kept<Labels>) {
        let labels = keep(kept, common, None);
        if let Some(age) = mount.age_s {
            self.age.push(labels.clone(), age);
        }
        for (family, value) in self.bytes.iter_mut().zip(&mount.bytes) {
            family.push(labels.clone(), *value);
        }
        for (family, value) in self.events.iter_mut().zip(&mount.events) {
            if let Some(family) = family {
                family.push(labels.clone(), *value);
            }
        }
        for (index, transport) in mount.transports.iter().enumerate() {
            let index = index.to_string();
            let labels = keep(kept, common, Some(("transport", &index)));
            for (family, value) in self.transport.iter_mut().zip(&transport.numbers) {
                family.push(labels.clone(), *value);
            }
        }
        for (name, numbers) in &mount.operations {
            let labels = keep(kept, common, Some(("operation", name)));
            for (family, value) in self.operation.iter_mut().zip(numbers) {
                family.push(labels.clone(), *value);
            }
        }
    }

    fn tell(self, reading: &mut Reading) {
        let events = self.events.into_iter().flatten();
        let singles = [self.info, self.age].into_iter();
        let others = self.bytes.into_iter().chain(events).chain(self.transport);
        for family in singles.chain(others).chain(self.operation) {
            reading.family(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNT: &str = "device a:/b mounted on /c with fstype nfs4 statvers=1.1\n\
        \tage:\t7\n\tbytes:\t1 2\n\tevents:\t3 4\n\txprt:\trdma 0 1 2 3 4 5 6 7 8 9 10 11\n\
        \tper-op statistics\n\t        READ: 1 2 3 4 5 18446744073709551615 7 8 9\n";

    #[test]
    fn a_mount_has_what_its_lines_say() {
        let mounts = parse(MOUNT);
        let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((mount.export, mount.mount_point, mount.age_s), ("a:/b", "/c", Some(7.0)));
        assert_eq!(mount.transports[0].numbers, [1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 9.0]);
        let times = [9_007_199_254_740.99, 0.007, 0.008];
        assert_eq!(mount.operations[0].1[OPERATION_TIMES..], times);
    }

    proptest! {
        #[test]
        fn any_text_is_read(cut in 0..MOUNT.len(), noise in "[a-z0-9:\n\t -]{0,60}") {
            let text = format!("{}{noise}{MOUNT}", MOUNT.get(..cut).unwrap());
            let mounts = parse(&text);
            prop_assert!(mounts.len() <= 3);
            prop_assert!(mounts.iter().all(|mount| mount.operations.len() <= OPERATIONS_MAX));
            prop_assert!(parse_addresses(&text).len() <= MOUNTS_MAX);
        }
    }
}

//! What a container reads and writes, by block device: `io.stat`, or v1's `blkio.throttle.*`.

use std::collections::BTreeMap;

use super::file::{CgroupFile, whole};
use super::hierarchy::Controller;

/// Devices told; the kernel names more only on hosts with as many disks.
const DEVICES_MAX: usize = 1024;

/// The counts of one device; `None`: not counted for cgroups.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct DiskIo {
    pub(crate) reads: Option<f64>,
    pub(crate) read_bytes: Option<f64>,
    pub(crate) writes: Option<f64>,
    pub(crate) written_bytes: Option<f64>,
    pub(crate) discards: Option<f64>,
    pub(crate) discarded_bytes: Option<f64>,
}

/// Counts by `major:minor`.
pub(crate) type Devices = BTreeMap<String, DiskIo>;

/// `major:minor key=value …`
fn parse_two(text: &str, devices: &mut Devices) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(io) = words.next().and_then(|device| entry(devices, device)) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let slot = match key {
                "rios" => &mut io.reads,
                "rbytes" => &mut io.read_bytes,
                "wios" => &mut io.writes,
                "wbytes" => &mut io.written_bytes,
                "dios" => &mut io.discards,
                "dbytes" => &mut io.discarded_bytes,
                _ => continue,
            };
            *slot = whole(value);
        }
    }
}

/// `major:minor Read value`; the last line is the sum of all.
fn parse_one(text: &str, is_bytes: bool, devices: &mut Devices) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(device), Some(kind), Some(value)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some(io) = entry(devices, device) else { continue };
        let slot = match (kind, is_bytes) {
            ("Read", false) => &mut io.reads,
            ("Read", true) => &mut io.read_bytes,
            ("Write", false) => &mut io.writes,
            ("Write", true) => &mut io.written_bytes,
            ("Discard", false) => &mut io.discards,
            ("Discard", true) => &mut io.discarded_bytes,
            _ => continue,
        };
        *slot = whole(value);
    }
}

/// The place of a device that is named by two numbers.
fn entry<'a>(devices: &'a mut Devices, device: &str) -> Option<&'a mut DiskIo> {
    let (major, minor) = device.split_once(':')?;
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    if !is_number(major) || !is_number(minor) {
        return None;
    }
    if !devices.contains_key(device) {
        if devices.len() >= DEVICES_MAX {
            return None;
        }
        devices.insert(device.to_owned(), DiskIo::default());
    }
    devices.get_mut(device)
}

/// The files of the I/O controller.
#[derive(Debug)]
pub(crate) enum DiskFiles {
    One { operations: CgroupFile, bytes: CgroupFile },
    Two(CgroupFile),
}

impl DiskFiles {
    pub(crate) fn new(controller: &Controller) -> Option<Self> {
        Some(match controller {
            Controller::One(chain) => {
                let file = |name| Some(CgroupFile::new(chain.first()?, name));
                Self::One {
                    operations: file("blkio.throttle.io_serviced_recursive")?,
                    bytes: file("blkio.throttle.io_service_bytes_recursive")?,
                }
            }
            Controller::Two(chain) => Self::Two(CgroupFile::new(chain.first()?, "io.stat")),
        })
    }

    /// The devices the container has used; `None`: not told.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> Option<Devices> {
        let mut devices = Devices::new();
        match self {
            Self::One { operations, bytes } => {
                parse_one(operations.read(buffer)?, false, &mut devices);
                parse_one(bytes.read(buffer)?, true, &mut devices);
            }
            Self::Two(stat) => parse_two(stat.read(buffer)?, &mut devices),
        }
        Some(devices)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn v2() {
        let mut devices = Devices::new();
        let text = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:0\n\
                    7:0 rbytes=x cost.usage=7\nNaN:1 rios=1\n(unknown) rios=2\n";
        parse_two(text, &mut devices);
        let all = DiskIo {
            reads: Some(1.0),
            read_bytes: Some(4096.0),
            writes: Some(2.0),
            written_bytes: Some(8192.0),
            discards: Some(0.0),
            discarded_bytes: Some(0.0),
        };
        let none = DiskIo::default();
        let expected = [("254:0", all), ("7:0", none), ("8:0", none)];
        assert_eq!(devices, expected.map(|(device, io)| (device.to_owned(), io)).into());
    }

    #[test]
    fn v1() {
        let mut devices = Devices::new();
        parse_one("254:0 Read 5\n254:0 Write 6\n254:0 Sync 9\nTotal 11\n", false, &mut devices);
        parse_one("254:0 Read 4096\n254:0 Discard 3\n", true, &mut devices);
        let io = DiskIo {
            reads: Some(5.0),
            writes: Some(6.0),
            read_bytes: Some(4096.0),
            discarded_bytes: Some(3.0),
            ..DiskIo::default()
        };
        assert_eq!(devices, [("254:0".to_owned(), io)].into());
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_not_too_much_of_it(
            lines in prop::collection::vec(("[0-9:x]{0,9}", any::<String>()), 0..50), many in 0..3000_u32,
        ) {
            let mut text: String = lines.iter().map(|(a, b)| format!("{a} {b}\n")).collect();
            text.extend((0..many).map(|minor| format!("8:{minor} rios=1\n")));
            let mut devices = Devices::new();
            parse_two(&text, &mut devices);
            parse_one(&text, true, &mut devices);
            prop_assert!(devices.len() <= DEVICES_MAX);
        }
    }
}

//! The text of `zpool status -ps`: a pool's scan, its devices with their states and errors.

use super::pool_list::state;
use super::scan::{self, Scan, State};
use super::{DEVICES_MAX, POOLS_MAX};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, number};

/// Levels of devices within devices; ZFS has five.
const DEPTH_MAX: usize = 16;
/// Characters read of a name at most.
const NAME_CHARS_MAX: usize = 256;

const DATA_ERRORS: Desc = Desc::gauge(
    "stoa_zfs_pool_data_errors",
    "Files and metadata of the pool that are known to be damaged beyond repair.",
);
const MESSAGE: Desc = Desc::gauge(
    "stoa_zfs_pool_message",
    "Always 1; the number of the message with which ZFS asks for attention to the pool.",
);
const DEVICE_STATE: Desc = Desc::gauge(
    "stoa_zfs_device_state",
    "State code of the device [0: ONLINE, 1: DEGRADED, 2: FAULTED, 3: OFFLINE, 4: UNAVAIL, \
     5: REMOVED, 6: SUSPENDED, 7: AVAIL, 8: INUSE].",
);
const DEVICE_ERRORS: Desc = Desc::counter(
    "stoa_zfs_device_errors_total",
    "Errors of the device since they were cleared, by kind (read, write, checksum).",
);
const DEVICE_SLOW: Desc = Desc::counter(
    "stoa_zfs_device_slow_ios_total",
    "I/Os of the device that took longer than zio_slow_io_ms.",
);

/// A pool as its status tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PoolStatus {
    pub(super) name: String,
    pub(super) scan: Scan,
    /// `None` when ZFS cannot tell.
    pub(super) data_errors: Option<f64>,
    /// Such as `ZFS-8000-4J`; empty when all is well.
    pub(super) message: String,
    pub(super) devices: Vec<Device>,
}

/// A disk, or several that make up one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Device {
    pub(super) name: String,
    /// What it is part of; empty for the pool itself and what is directly in it.
    pub(super) parent: String,
    /// `pool`, `data`, `log`, `cache`, `spare`, `special`, `dedup`.
    pub(super) class: &'static str,
    pub(super) state: Option<f64>,
    /// Reading, writing, checksums.
    pub(super) errors: [Option<f64>; 3],
    pub(super) slow_ios: Option<f64>,
}

pub(super) fn parse(text: &str) -> Vec<PoolStatus> {
    let mut pools: Vec<PoolStatus> = Vec::new();
    let mut devices = 0;
    let mut part = Part::Other;
    for line in text.lines() {
        if let Some((key, value)) = heading(line) {
            part = Part::Other;
            if key == "pool" {
                if pools.len() == POOLS_MAX {
                    break;
                }
                let name = value.chars().take(NAME_CHARS_MAX).collect();
                pools.push(PoolStatus { name, ..PoolStatus::default() });
            }
            let Some(pool) = pools.last_mut() else { continue };
            match key {
                "see" => pool.message = message(value),
                "scan" => {
                    pool.scan = begin_scan(value);
                    part = Part::Scan;
                }
                "config" => part = Part::Config(Table::default()),
                "errors" => pool.data_errors = data_errors(value),
                _ => {}
            }
            continue;
        }
        let Some(pool) = pools.last_mut() else { continue };
        match &mut part {
            Part::Other => {}
            Part::Scan => go_on_with_scan(&mut pool.scan, line),
            Part::Config(table) => {
                if let Some(device) = table.row(line).filter(|_| devices < DEVICES_MAX) {
                    devices += 1;
                    pool.devices.push(device);
                }
            }
        }
    }
    for pool in &mut pools {
        pool.scan = pool.scan.completed_by_sums();
    }
    pools
}

/// What the lines after a heading are about.
enum Part {
    Other,
    Scan,
    Config(Table),
}

/// A line such as ` state: ONLINE`: its word, which stands within the first eight columns, and the rest.
fn heading(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('\t') {
        return None;
    }
    let (key, value) = line.split_once(':')?;
    let key = key.trim_start();
    let known = ["pool", "state", "status", "action", "see", "scan", "config", "errors", "comment"];
    let is_known = known.contains(&key)
        || ["remove", "checkpoint", "dedup", "expand", "upgrade"].contains(&key);
    is_known.then_some((key, value.trim()))
}

/// `ZFS-8000-4J` of an address that ends with it.
fn message(address: &str) -> String {
    let last = address.rsplit('/').next().unwrap_or("");
    if last.starts_with("ZFS-") { last.chars().take(32).collect() } else { String::new() }
}

fn data_errors(text: &str) -> Option<f64> {
    if text.starts_with("No known data errors") {
        return Some(0.0);
    }
    number(text.split_ascii_whitespace().next()?)
}

fn begin_scan(text: &str) -> Scan {
    let words: Vec<&str> = text.split_ascii_whitespace().take(32).collect();
    let after = |word: &str| {
        let at = words.iter().position(|w| *w == word)?;
        words.get(at + 1).copied()
    };
    let date = || scan::date(text.rsplit_once(" on ")?.1);
    let (state, repaired) = match words.as_slice() {
        ["scrub", "in", "progress", ..] => (State::Scrubbing, None),
        ["scrub", "paused", ..] => (State::Paused, None),
        ["scrub" | "resilver", "canceled", ..] => (State::Canceled, None),
        ["scrub", "repaired", repaired, ..] => (State::Scrubbed, scan::bytes(repaired)),
        ["resilver", "in", "progress", ..] => (State::Resilvering, None),
        ["resilvered", "(draid", _, repaired, ..] | ["resilvered", repaired, ..] => {
            (State::Resilvered, scan::bytes(repaired))
        }
        _ => (State::None, None),
    };
    let is_over = matches!(state, State::Scrubbed | State::Resilvered);
    Scan {
        state,
        repaired_bytes: repaired,
        errors: after("with").and_then(number).filter(|_| is_over),
        completed: is_over.then(date).flatten(),
        ..Scan::default()
    }
}

/// The lines below: `1.20T / 3.60T scanned at 812M/s, 640G / 3.60T issued at 433M/s` (before 2.2:
/// `3.81T scanned at 29.6M/s, 3.18T issued at 12.2M/s, 5.50T total`) and
/// `213G resilvered, 17.36% done, 1 days 02:01:33 to go`.
fn go_on_with_scan(scan: &mut Scan, line: &str) {
    for clause in line.trim().split(", ") {
        let words: Vec<&str> = clause.split_ascii_whitespace().take(8).collect();
        match words.as_slice() {
            [done, "/", total, what, rest @ ..] => {
                scan.total_bytes = scan::bytes(total);
                set(scan, what, done, rest);
            }
            [total, "total"] => scan.total_bytes = scan::bytes(total),
            [repaired, "repaired" | "resilvered"] => scan.repaired_bytes = scan::bytes(repaired),
            [percent, "done"] => {
                scan.done = number(percent.trim_end_matches('%')).map(|percent| percent / 100.0);
            }
            [days, "days", time, "to", "go"] => {
                scan.seconds_left =
                    number(days).zip(seconds(time)).map(|(days, s)| days * 86_400.0 + s);
            }
            [time, "to", "go"] => scan.seconds_left = seconds(time),
            [done, what, rest @ ..] => set(scan, what, done, rest),
            _ => {}
        }
    }
}

fn set(scan: &mut Scan, what: &str, done: &str, rest: &[&str]) {
    let rate = match rest {
        ["at", rate] => scan::bytes(rate),
        _ => None,
    };
    match what {
        "scanned" => {
            scan.scanned_bytes = scan::bytes(done);
            scan.bytes_per_second = scan.bytes_per_second.or(rate);
        }
        "issued" => {
            scan.issued_bytes = scan::bytes(done);
            // What is left is left to be issued: this rate foretells the end.
            scan.bytes_per_second = rate.or(scan.bytes_per_second);
        }
        _ => {}
    }
}

/// `02:01:33`; before 2.0 `14h25m`.
fn seconds(time: &str) -> Option<f64> {
    if let Some((hours, minutes)) = time.trim_end_matches('m').split_once('h') {
        return Some(number(hours)? * 3600.0 + number(minutes)? * 60.0);
    }
    time.split(':').take(3).try_fold(0.0, |sum, part| Some(sum * 60.0 + number(part)?))
}

/// The table under `config:`.
struct Table {
    /// Where the column STATE begins; names may have spaces.
    state_at: Option<usize>,
    class: &'static str,
    /// Names of the devices that the next may be in, by depth.
    within: Vec<String>,
}

impl Default for Table {
    fn default() -> Self {
        Self { state_at: None, class: "data", within: Vec::new() }
    }
}

impl Table {
    fn row(&mut self, line: &str) -> Option<Device> {
        let line = line.strip_prefix('\t')?;
        let Some(state_at) = self.state_at else {
            self.state_at = line.starts_with("NAME").then(|| line.find("STATE")).flatten();
            return None;
        };
        let name = line.get(..state_at).unwrap_or(line);
        let depth = (name.len() - name.trim_start().len()) / 2;
        let name: String = name.trim().chars().take(NAME_CHARS_MAX).collect();
        let mut columns = line.get(state_at..).unwrap_or("").split_ascii_whitespace();
        let Some(word) = columns.next() else {
            self.class = section(&name).unwrap_or(self.class);
            // The sections' devices stand as deep as those of the pool.
            self.within = vec![String::new()];
            return None;
        };
        // A spare in use tells why instead of its errors.
        let mut column = || columns.next().and_then(number);
        let errors = [column(), column(), column()];
        let slow_ios = column();
        let is_pool = depth == 0;
        self.within.truncate(depth.min(DEPTH_MAX));
        let parent =
            if depth > 1 { self.within.last().cloned().unwrap_or_default() } else { String::new() };
        self.within.push(name.clone());
        let class = if is_pool { "pool" } else { self.class };
        let is_named = !name.is_empty();
        let device = Device { name, parent, class, state: state(word), errors, slow_ios };
        is_named.then_some(device)
    }
}

/// What the devices below a line without a state are for.
fn section(name: &str) -> Option<&'static str> {
    match name {
        "logs" => Some("log"),
        "cache" => Some("cache"),
        "spares" => Some("spare"),
        "special" => Some("special"),
        "dedup" => Some("dedup"),
        _ => None,
    }
}

pub(super) fn tell(status: &PoolStatus, completed: Option<f64>, sheet: &mut Sheet) {
    let pool = status.name.as_str();
    scan::tell(pool, &status.scan, completed, sheet);
    sheet.push_some(&DATA_ERRORS, &[("pool", pool)], status.data_errors);
    if !status.message.is_empty() {
        sheet.push(&MESSAGE, &[("pool", pool), ("message", &status.message)], 1.0);
    }
    for device in &status.devices {
        let [a, b, c, d] = [
            ("pool", pool),
            ("device", device.name.as_str()),
            ("parent", device.parent.as_str()),
            ("class", device.class),
        ];
        sheet.push_some(&DEVICE_STATE, &[a, b, c, d], device.state);
        for (kind, count) in ["read", "write", "checksum"].into_iter().zip(device.errors) {
            sheet.push_some(&DEVICE_ERRORS, &[a, b, c, d, ("kind", kind)], count);
        }
        sheet.push_some(&DEVICE_SLOW, &[a, b, c, d], device.slow_ios);
    }
}

#[cfg(test)]
mod tests;

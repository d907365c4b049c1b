//! Processes: what they use, by name, user, unit, and by groups a person names.
//!
//! No series per process: processes come and go, and there may be any number of them. What is told is
//! added up over all processes that share a name, user and unit (`stoa_process_*`, those that use most),
//! a user (`stoa_user_*`), a unit (`stoa_unit_*`), or a rule of `[[sources.process.group]]`
//! (`namedprocess_namegroup_*`, `process_exporter`'s names). Each is bounded by a setting; what found no
//! room is counted in `stoa_process_left_out_total`.
//!
//! [`SharedScan`] is the table of processes, [`ledger`] adds up, [`ranking`] says who is told.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use stoa_daemon::Span;
use stoa_model::{Family, Labels};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source, label};

pub(crate) mod scan;
pub(crate) mod stat;

mod details;
mod named;
mod units;
mod usage;
mod users;

mod ranking;
mod roster;

mod ledger;

mod grouped;

pub(crate) use scan::SharedScan;

use ledger::Ledger;
use named::NamedGroup;
use units::Devices;

/// How often, unless configured otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// Many processes take long to read the first time.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest list; beyond, a list is no summary.
const TOP_MAX: usize = 50;
/// The most groups of a kind that may be asked for.
const GROUPS_MAX: usize = 1000;
/// The longest a group that uses little again may be told.
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);

const CPU: Desc = Desc::counter(
    "stoa_process_cpu_seconds_total",
    "CPU time of the processes of a name, user and unit, of those that use most.",
);
const RESIDENT: Desc = Desc::gauge(
    "stoa_process_resident_memory_bytes",
    "Resident memory of the processes of a name, user and unit; shared pages count for each.",
);
const READ: Desc = Desc::counter(
    "stoa_process_read_bytes_total",
    "Bytes the processes of a name, user and unit had fetched from storage.",
);
const WRITTEN: Desc = Desc::counter(
    "stoa_process_written_bytes_total",
    "Bytes the processes of a name, user and unit had written to storage.",
);
const COUNT: Desc =
    Desc::gauge("stoa_process_count", "Processes of a name, user and unit that run now.");
const USER_CPU: Desc =
    Desc::counter("stoa_user_cpu_seconds_total", "CPU time of a user's processes.");
const USER_RESIDENT: Desc = Desc::gauge(
    "stoa_user_resident_memory_bytes",
    "Resident memory of a user's processes; shared pages count for each.",
);
const USER_PROCESSES: Desc = Desc::gauge("stoa_user_processes", "Processes of a user.");
const UNIT_CPU: Desc = Desc::counter(
    "stoa_unit_cpu_seconds_total",
    "CPU time of a unit, by its control group or else by its processes.",
);
const UNIT_MEMORY: Desc = Desc::gauge(
    "stoa_unit_memory_bytes",
    "Memory charged to a unit's control group, page cache included.",
);
const UNIT_RESIDENT: Desc = Desc::gauge(
    "stoa_unit_resident_memory_bytes",
    "Resident memory of a unit's processes; shared pages count for each.",
);
const UNIT_READ: Desc = Desc::counter(
    "stoa_unit_read_bytes_total",
    "Bytes a unit read from storage, by its control group or else by its processes.",
);
const UNIT_WRITTEN: Desc = Desc::counter(
    "stoa_unit_written_bytes_total",
    "Bytes a unit wrote to storage, by its control group or else by its processes.",
);
const UNIT_PROCESSES: Desc = Desc::gauge("stoa_unit_processes", "Processes of a unit.");
const LEFT_OUT: Desc = Desc::counter(
    "stoa_process_left_out_total",
    "Processes or groups left out of readings, by what there was no room or permission for.",
);

/// `[sources.process]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// How many groups that use most are told of CPU time, memory and I/O each; 0: none.
    #[serde(deserialize_with = "up_to::<TOP_MAX, _>")]
    top: usize,
    /// How long a group is told after it was last among those.
    #[serde(deserialize_with = "hold")]
    hold: Duration,
    /// Whether to read what processes read and write.
    io: bool,
    /// Users told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    users_max: usize,
    /// Units told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    units_max: usize,
    /// Named groups told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    groups_max: usize,
    /// Whether a process that matches no group belongs to its nearest ancestor's.
    children: bool,
    /// Named groups; a process belongs to the first that matches.
    group: Vec<NamedGroup>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            top: 10,
            hold: Duration::from_secs(600),
            io: true,
            users_max: 50,
            units_max: 100,
            groups_max: 100,
            children: true,
            group: Vec::new(),
        }
    }
}

fn up_to<'de, const MAX: usize, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(from)?;
    if number <= MAX {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!("expected a number up to {MAX}")))
}

fn hold<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let Span(span) = Span::deserialize(from)?;
    if span <= HOLD_MAX {
        return Ok(span);
    }
    Err(serde::de::Error::custom("expected a duration up to 24h"))
}

/// The source `process`.
#[derive(Debug)]
pub(crate) struct Processes {
    scan: SharedScan,
    ledger: Ledger,
    grouped: grouped::Grouped,
    devices: Devices,
    text: String,
    units: Machine,
    /// By the order of [`LEFT_OUT_BY`].
    left_out: [Labels; LEFT_OUT_BY.len()],
}

/// What the kernel counts in.
#[derive(Clone, Copy, Debug)]
struct Machine {
    ticks_per_second: f64,
    page_bytes: f64,
}

/// What there was no room for: processes in the table, names (with their users and units), users,
/// units, named groups, and names among those told; and processes that `hidepid` hides.
const LEFT_OUT_BY: [&str; 7] = ["process", "name", "user", "unit", "group", "told", "hidden"];

impl Configured for Processes {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        Self::with_scan(settings, shared.processes.clone())
    }
}

impl Processes {
    fn with_scan(settings: Settings, scan: SharedScan) -> Self {
        Self {
            scan,
            grouped: grouped::Grouped::new(!settings.group.is_empty()),
            ledger: Ledger::new(settings),
            devices: Devices::default(),
            text: String::new(),
            units: Machine {
                ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
                page_bytes: rustix::param::page_size() as f64,
            },
            left_out: LEFT_OUT_BY.map(|by| label("by", by)),
        }
    }

    fn tell_programs(&self, reading: &mut Reading) {
        let families = reading.group([&CPU, &RESIDENT, &READ, &WRITTEN, &COUNT]);
        let [cpu, resident, read, written, count] = families else { return };
        let told = |group: &&ledger::ProgramGroup| group.extra.standing.is_told();
        for group in self.ledger.programs.groups().filter(told) {
            let labels = &group.extra.labels;
            cpu.push(labels.clone(), self.units.seconds(group.total.ticks()));
            resident.push(labels.clone(), self.units.bytes(group.living.resident_pages));
            if group.has_io {
                read.push(labels.clone(), group.total.read_bytes as f64);
                written.push(labels.clone(), group.total.written_bytes as f64);
            }
            count.push(labels.clone(), group.living.processes as f64);
        }
    }

    fn tell_users(&self, reading: &mut Reading) {
        let families = reading.group([&USER_CPU, &USER_RESIDENT, &USER_PROCESSES]);
        let [cpu, resident, processes] = families else { return };
        for group in self.ledger.users.groups() {
            let labels = &group.extra;
            cpu.push(labels.clone(), self.units.seconds(group.total.ticks()));
            resident.push(labels.clone(), self.units.bytes(group.living.resident_pages));
            processes.push(labels.clone(), group.living.processes as f64);
        }
    }

    fn tell_units(&mut self, roots: &Roots, reading: &mut Reading) {
        let families = reading.group([
            &UNIT_CPU,
            &UNIT_MEMORY,
            &UNIT_RESIDENT,
            &UNIT_READ,
            &UNIT_WRITTEN,
            &UNIT_PROCESSES,
        ]);
        let [cpu, memory, resident, read, written, processes] = families else { return };
        let machine = self.units;
        for group in self.ledger.units.groups_mut() {
            let ledger::Unit { labels, counts } = &mut group.extra;
            let mut counted = counts.read(roots, &mut self.devices, &mut self.text);
            if !counts.has_processor() {
                counted.cpu_seconds = Some(machine.seconds(group.total.ticks()));
            }
            if !counts.has_block() && group.has_io {
                counted.read_bytes = Some(group.total.read_bytes as f64);
                counted.written_bytes = Some(group.total.written_bytes as f64);
            }
            let push = |family: &mut Family, value: Option<f64>| {
                if let Some(value) = value {
                    family.push(labels.clone(), value);
                }
            };
            push(cpu, counted.cpu_seconds);
            push(memory, counted.memory_bytes);
            push(resident, Some(machine.bytes(group.living.resident_pages)));
            push(read, counted.read_bytes);
            push(written, counted.written_bytes);
            push(processes, Some(group.living.processes as f64));
        }
    }

    fn tell_left_out(&self, reading: &mut Reading) {
        let ledger = &self.ledger;
        let counts = [
            ledger.left_out.crowded,
            ledger.programs.refused,
            ledger.users.refused,
            ledger.units.refused,
            ledger.named.refused,
            ledger.ranking.waiting,
            ledger.left_out.hidden,
        ];
        let family = reading.open(&LEFT_OUT);
        for (labels, count) in self.left_out.iter().zip(counts) {
            family.push(labels.clone(), count as f64);
        }
    }
}

impl Source for Processes {
    fn name(&self) -> &'static str {
        "process"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        match self.scan.scan(roots, now) {
            Ok(scan) => self.ledger.account(&scan, roots, now),
            Err(problem) => return reading.fail(problem),
        }
        self.tell_programs(reading);
        self.tell_users(reading);
        self.tell_units(roots, reading);
        self.grouped.tell(&self.ledger, self.units, roots, reading);
        self.tell_left_out(reading);
    }
}

impl Machine {
    fn seconds(self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second
    }

    fn bytes(self, pages: u64) -> f64 {
        pages as f64 * self.page_bytes
    }
}

#[cfg(test)]
mod tests;

//! What processes used, added up over those that come and go.

use super::details::{Io, Status};
use super::stat::Stat;

/// Counters of a process, or of all processes of a group since the agent began to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
}

impl Counters {
    pub(super) fn take_stat(&mut self, stat: &Stat) {
        self.user_ticks = stat.user_ticks;
        self.system_ticks = stat.system_ticks;
        self.minor_faults = stat.minor_faults;
        self.major_faults = stat.major_faults;
    }

    pub(super) fn take_io(&mut self, io: Io) {
        self.read_bytes = io.read_bytes;
        self.written_bytes = io.written_bytes;
    }

    pub(super) fn take_status(&mut self, status: &Status) {
        self.voluntary_switches = status.voluntary_switches;
        self.involuntary_switches = status.involuntary_switches;
    }

    pub(super) fn ticks(&self) -> u64 {
        self.user_ticks.saturating_add(self.system_ticks)
    }

    pub(super) fn io_bytes(&self) -> u64 {
        self.read_bytes.saturating_add(self.written_bytes)
    }

    /// How much was used since; nothing for what the kernel corrected downwards.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    pub(super) fn add(&mut self, more: &Self) {
        *self = self.zip(more, u64::saturating_add);
    }

    /// The higher of each: a counter the kernel corrected downwards does not count again.
    pub(super) fn highest(&self, other: &Self) -> Self {
        self.zip(other, u64::max)
    }

    fn zip(&self, other: &Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            user_ticks: combine(self.user_ticks, other.user_ticks),
            system_ticks: combine(self.system_ticks, other.system_ticks),
            minor_faults: combine(self.minor_faults, other.minor_faults),
            major_faults: combine(self.major_faults, other.major_faults),
            read_bytes: combine(self.read_bytes, other.read_bytes),
            written_bytes: combine(self.written_bytes, other.written_bytes),
            voluntary_switches: combine(self.voluntary_switches, other.voluntary_switches),
            involuntary_switches: combine(self.involuntary_switches, other.involuntary_switches),
        }
    }
}

/// What the processes of a group that live now come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Living {
    pub(super) processes: u64,
    pub(super) threads: u64,
    pub(super) resident_pages: u64,
    pub(super) virtual_bytes: u64,
}

impl Living {
    pub(super) fn add(&mut self, stat: &Stat) {
        self.processes += 1;
        self.threads += u64::from(stat.threads);
        self.resident_pages = self.resident_pages.saturating_add(stat.resident_pages);
        self.virtual_bytes = self.virtual_bytes.saturating_add(stat.virtual_bytes);
    }
}

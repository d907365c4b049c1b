//! The state of the house: what a person has to see to before it breaks.
//!
//! Packages and their updates, whether a reboot is due, time, certificates, the UPS, boots. None of it
//! changes within seconds; each source says how seldom it is asked, and those that read disks, run
//! programs or talk to sockets have a deadline and a thread of their own.

pub(crate) mod dpkg;
mod version;

mod apt;
mod boots;
mod certificates;
mod ntp;
mod nut;
mod oom;
pub(crate) mod packages;
mod reboot;
mod time_sync;

pub(crate) use apt::Apt;
pub(crate) use boots::Boots;
pub(crate) use certificates::Certificates;
pub(crate) use ntp::Ntp;
pub(crate) use nut::Nut;
pub(crate) use oom::Oom;
pub(crate) use packages::Packages;
pub(crate) use reboot::Reboot;
pub(crate) use time_sync::TimeSync;

#[cfg(test)]
mod tests;

/// What programs, servers and people say of the house: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const TELLERS: [super::fuzzing::Teller; 9] = [
    time_sync::tell_chrony,
    time_sync::tell_others,
    nut::tell_variables,
    nut::tell_conversation,
    apt::tell_any,
    ntp::tell_any,
    certificates::tell_any,
    boots::tell_any,
    dpkg::tell_any,
];

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

/// Tells any text as one of the programs' and servers' answers: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(which: u8, text: &str, reading: &mut super::Reading) {
    match which % 4 {
        0 => time_sync::tell_any(text, reading),
        1 => nut::tell_any(text, reading),
        2 => {
            let plan = apt::parse(text);
            assert!(plan.upgrades.len() <= text.lines().count());
            assert!(plan.autoremovable <= text.len());
        }
        _ => {
            let cookie = text.as_bytes().get(24..).and_then(|rest| rest.first_chunk());
            let cookie = cookie.map_or(0, |cookie| u64::from_be_bytes(*cookie));
            assert!(ntp::parse(text.as_bytes(), cookie).is_none() || text.len() >= 48);
        }
    }
}

//! The state of the house: what a person has to see to before it breaks.
//!
//! Packages and their updates, whether a reboot is due, time, certificates, the UPS, boots. None of it
//! changes within seconds; each source says how seldom it is asked, and those that run a program or
//! talk to a socket have a deadline and a thread of their own.

mod dpkg;
mod version;

mod packages;
mod reboot;

pub(crate) use packages::Packages;
pub(crate) use reboot::Reboot;

#[cfg(test)]
mod tests;

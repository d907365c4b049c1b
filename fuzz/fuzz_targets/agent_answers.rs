//! Any bytes as what zpool, zfs, lvs, smartctl, chronyc, ntpq, apt-get, a UPS's or an NTP server and systemd
//! answer, as certificates, wtmp and dpkg's list. Property: read without panic, soon, with little memory; what
//! is told is finite, named as metrics are, and bounded by the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::answer;
use stoa_fuzz::{Counting, bounded};

#[global_allocator]
static COUNTING: Counting = Counting;

fuzz_target!(|input: (u8, &[u8])| bounded(input.1.len(), || answer(input.0, input.1)));

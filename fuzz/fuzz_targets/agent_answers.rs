//! Any bytes as what zpool, zfs, chronyc, apt-get, a UPS's or an NTP server answers. Property: read
//! without panic; what is told is finite, named as metrics are, and bounded by the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::answer;

fuzz_target!(|input: (u8, &[u8])| answer(input.0, input.1));

//! Any bytes as the kernel's answers by netlink (routes, queueing disciplines, sockets, nl80211) and of
//! drivers by ethtool. Property: read without panic; nothing comes of bytes that are not there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::kernel_answer;

fuzz_target!(|bytes: &[u8]| kernel_answer(bytes));

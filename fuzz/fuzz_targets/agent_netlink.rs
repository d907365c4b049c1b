//! Any bytes as the kernel's answers by netlink (routes, addresses, queueing disciplines, sockets, nl80211)
//! and of drivers by ethtool. Property: read without panic, soon, with little memory; nothing comes of bytes
//! that are not there; what is told is finite and named as metrics are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::kernel_answer;
use stoa_fuzz::{Counting, bounded};

#[global_allocator]
static COUNTING: Counting = Counting;

fuzz_target!(|bytes: &[u8]| bounded(bytes.len(), || kernel_answer(bytes)));

//! Any bytes as files that one of the agent's sources reads: the kernel's, of the host, of a process, of a
//! container; a program's. Property: the source ends without panic, soon, with little memory; what it tells
//! is finite, named as metrics are, and bounded by the bytes.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::{HOSTS, Host};
use stoa_fuzz::{Counting, bounded};

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALL: RefCell<Vec<Host>> = RefCell::new(HOSTS.iter().enumerate().map(|(at, places)| {
        let dir = std::env::temp_dir().join(format!("stoa-fuzz-{}-{at}", std::process::id()));
        Host::new(dir, places).unwrap()
    }).collect());
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (host, which, bytes) = input;
    ALL.with_borrow_mut(|hosts| {
        let at = usize::from(host) % hosts.len();
        bounded(bytes.len(), || hosts[at].read(which, bytes).unwrap());
    });
});

//! Any bytes as a file that one of the agent's sources reads, the kernel's or a program's. Property: the
//! source ends without panic; what it tells is finite, named as metrics are, and bounded by the bytes.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use stoa_agent::sources::fuzzing::{Host, OF_PROGRAMS, OF_THE_KERNEL};

fn host(name: &str, places: &'static [(&str, &str, &str)]) -> RefCell<Host> {
    let dir = std::env::temp_dir().join(format!("stoa-fuzz-{}-{name}", std::process::id()));
    RefCell::new(Host::new(dir, places).unwrap())
}

thread_local! {
    static KERNEL: RefCell<Host> = host("kernel", OF_THE_KERNEL);
    static PROGRAMS: RefCell<Host> = host("programs", OF_PROGRAMS);
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_of_a_program, which, bytes) = input;
    let host = if is_of_a_program { &PROGRAMS } else { &KERNEL };
    host.with_borrow_mut(|host| host.read(which, bytes).unwrap());
});

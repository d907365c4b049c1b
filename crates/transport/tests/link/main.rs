//! Real sockets on loopback: what the two ends promise each other.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on stops there, and says what it measured"
)]

mod basic;
mod echo;
mod ending;
mod fallback;
mod log;
mod noise;
mod priority;
mod refusal;
mod site;

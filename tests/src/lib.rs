//! The whole of Stoa in a process: a collector as it is shipped, on ports of its own in a directory
//! of its own, and whoever talks to it – real agents, uplinks fed by a test, or raw calls.
//!
//! Nothing is short-cut: hosts join over the real port, everything travels over real QUIC, answers
//! are asked for over real HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "for tests alone: what cannot go on stops there, and says so"
)]

pub mod sandbox;

pub mod procfs;

pub mod feed;

pub mod raw;

pub mod small_disk;

pub use feed::Feed;
pub use raw::RawSession;
pub use sandbox::{Sandbox, until};
pub use small_disk::SmallDisk;

//! How a Stoa program starts and ends, the same in the agent, the collector and the command line.
//!
//! A **configuration file** is read as written and refused with its file, line and a suggestion; a
//! **log** goes to standard error, fit for journald, and as traces to OTLP when configured; an
//! **exit** prints one error, once, with its causes, and has one of three codes. This crate knows
//! neither what is configured nor what is logged.

pub mod clock;
pub mod config_file;
pub mod data_dir;
pub mod exit;
pub mod files;
pub mod log;
pub mod quantity;
pub mod signal;

pub use clock::unix_ms;
pub use config_file::{ConfigError, did_you_mean, read, read_or_default, read_str, without_value};
pub use data_dir::{DataDir, DataDirError};
pub use exit::{Exit, Misuse, error_chain};
pub use files::open_as_many_as_allowed;
pub use quantity::{Bytes, Span};

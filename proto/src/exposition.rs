//! The text exposition format 0.0.4, as exporters serve it: written and read.
//!
//! A family is a `# HELP` and a `# TYPE` line and one line per reading. A histogram's or summary's
//! `_bucket`, `_sum` and `_count` belong to its family and keep their full name as `__name__`. Knows
//! no file and no HTTP.

mod read;
mod write;

pub use read::{Parsed, SyntaxError, parse};
pub use write::{value_text, write};

/// The `Content-Type` of what [`write()`] produces.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

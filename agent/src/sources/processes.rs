//! Processes: what they use, by name, user, unit and group.
#![expect(dead_code, reason = "the sources that ask the table come after it")]

mod scan;
mod stat;

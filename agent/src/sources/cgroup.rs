//! Control groups, v1, v2 or both: where the directories of one are, and their small files.
//!
//! * [`mounts`] says which hierarchies are mounted where, [`hierarchy`] which directories in them are
//!   those of a path, with all above them in sight.
//! * [`mod@file`] reads a number, `max`, or lines of a key and its numbers; [`disk_io`] the counts by block
//!   device.
//!
//! Knows neither whose a control group is nor what its numbers are told as.

pub(crate) mod disk_io;
pub(crate) mod file;
pub(crate) mod hierarchy;
pub(crate) mod mounts;

pub(crate) use file::{CgroupFile, Limit};
pub(crate) use hierarchy::{Controller, Hierarchies, Version};

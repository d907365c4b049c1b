//! Disks, and what is built of them: their health, wear and end, pools, volumes, arrays.
//!
//! [`smart`], [`zfs`] and [`lvm`] ask programs; [`arrays`] reads what node_exporter leaves out of
//! `/sys`. Parsers are pure and bounded; a [`sheet::Sheet`] gives their numbers names. What was asked
//! for earlier, or by a job, is [`dated`], and told no longer than it holds.

mod arrays;
mod backoff;
mod dated;
mod emmc;
mod loose;
mod lvm;
mod lvm_report;
mod reports;
mod risk;
mod sheet;
mod smart;
mod wear;
mod zfs;

pub(crate) use arrays::Arrays;
pub(crate) use lvm::Lvm;
pub(crate) use smart::Smart;
pub(crate) use zfs::{Datasets, Pools};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use zfs::tell_any;

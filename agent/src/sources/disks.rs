//! Disks, and what is built of them: their health, wear and end, pools, volumes, arrays.
//!
//! [`smart`], [`zfs`] and [`lvm`] ask programs; [`arrays`] reads what node_exporter leaves out of
//! `/sys`. Parsers are pure and bounded; a [`Sheet`](super::sheet::Sheet) gives their numbers names. What was asked
//! for earlier, or by a job, is [`dated`], and told no longer than it holds.

mod arrays;
mod backoff;
mod dated;
mod emmc;
mod lvm;
mod lvm_report;
mod reports;
mod risk;
mod smart;
mod wear;
mod zfs;

pub(crate) use arrays::Arrays;
pub(crate) use lvm::Lvm;
pub(crate) use smart::Smart;
pub(crate) use zfs::{Datasets, Pools};

/// What programs say of disks: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const TELLERS: [super::fuzzing::Teller; 9] = [
    zfs::tell_pool_list,
    zfs::tell_dataset_list,
    zfs::tell_pool_status,
    zfs::tell_pool_status_json,
    lvm::tell_report::<0>,
    lvm::tell_report::<1>,
    lvm::tell_report::<2>,
    smart::tell_report,
    smart::tell_scan,
];

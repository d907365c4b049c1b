//! How much of its life a disk has used up, whoever tells it.

use crate::sources::Desc;

pub(super) const RATIO: Desc = Desc::gauge(
    "stoa_disk_wear_ratio",
    "Part of the disk's rated endurance that is used up; it may be over 1.",
);

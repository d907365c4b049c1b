//! The rules, by kind of disk. Why each is as it is stands in docs/operating/disks.md.

use super::Level::{Replace, Watch};
use super::When::{AtLeast, Below, Grew};
use super::{Level, Rule, When};

/// A kind of disk that has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources::disks) enum Kind {
    /// ATA, with platters.
    Hdd,
    /// ATA, flash.
    Ssd,
    Nvme,
    /// SCSI, with platters.
    SasHdd,
    /// SCSI, flash.
    SasSsd,
}

/// What rules look at. Truths are 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources::disks) enum Sign {
    /// The disk's own verdict is that it fails.
    Failing,
    /// Self-tests that failed and were not passed since.
    FailedTests,
    /// A prefail attribute is at or below its maker's threshold now.
    BelowThreshold,
    /// One was once.
    WasBelowThreshold,
    /// Sectors or blocks that were replaced by spare ones.
    Reallocated,
    /// Reads that gave the host an error instead of its data.
    Uncorrectable,
    /// Sectors that could not be read and wait for being written.
    Pending,
    /// Sectors that the disk could not read when it looked by itself.
    OfflineUncorrectable,
    /// Kinds of bad sectors of which there are many.
    BadKinds,
    Timeouts,
    /// Damaged transfers.
    Crc,
    /// Part of the rated endurance that is used up; may be over 1.
    Wear,
    /// Percent of spare blocks left, over what the maker says must be.
    Spare,
    Temperature,
    Unreliable,
    ReadOnly,
    BackupFailed,
    MemoryRegion,
    /// A warning whose meaning is not known.
    OtherWarning,
}

impl Sign {
    pub(super) const COUNT: usize = Self::OtherWarning as usize + 1;
}

impl Kind {
    /// What `kind` says.
    pub(in crate::sources::disks) fn name(self) -> &'static str {
        match self {
            Self::Hdd => "hdd",
            Self::Ssd => "ssd",
            Self::Nvme => "nvme",
            Self::SasHdd => "sas_hdd",
            Self::SasSsd => "sas_ssd",
        }
    }
}

/// The rules about a kind of disk.
pub(super) fn of(kind: Kind) -> impl Iterator<Item = &'static Rule> {
    let parts: &'static [&'static [Rule]] = match kind {
        Kind::Hdd => &[ALL, ATA, HDD],
        Kind::Ssd => &[ALL, ATA, FLASH, SSD],
        Kind::Nvme => &[ALL, WARNINGS, FLASH, NVME],
        Kind::SasHdd => &[ALL, WARNINGS, SAS_HDD],
        Kind::SasSsd => &[ALL, WARNINGS, FLASH, SAS_SSD],
    };
    parts.iter().flat_map(|part| part.iter())
}

const fn rule(
    sign: Sign,
    when: When,
    level: Level,
    reason: &'static str,
    meaning: &'static str,
) -> Rule {
    Rule { sign, when, level, reason, meaning }
}

const ALL: &[Rule] = &[
    rule(
        Sign::Failing,
        AtLeast(1.0),
        Replace,
        "smart_status_failed",
        "the disk itself says that it is failing",
    ),
    rule(
        Sign::FailedTests,
        AtLeast(1.0),
        Replace,
        "self_test_failed",
        "the disk failed a self-test and has passed none of the kind since",
    ),
];

const ATA: &[Rule] = &[
    rule(
        Sign::BelowThreshold,
        AtLeast(1.0),
        Replace,
        "attribute_below_threshold",
        "an attribute is at the limit at which its maker expects the disk to fail",
    ),
    rule(
        Sign::WasBelowThreshold,
        AtLeast(1.0),
        Watch,
        "attribute_was_below_threshold",
        "an attribute was once at the limit at which its maker expects the disk to fail",
    ),
    rule(
        Sign::Crc,
        Grew(10.0, 7),
        Watch,
        "interface_errors_growing",
        "data are damaged on the way to the disk: look at the cable and the backplane",
    ),
];

const HDD: &[Rule] = &[
    rule(
        Sign::Reallocated,
        Grew(10.0, 60),
        Replace,
        "reallocated_sectors_growing",
        "the disk goes on losing sectors",
    ),
    rule(
        Sign::Reallocated,
        AtLeast(1.0),
        Watch,
        "reallocated_sectors",
        "the disk has lost sectors and replaced them by spare ones",
    ),
    rule(
        Sign::Uncorrectable,
        Grew(1.0, 60),
        Replace,
        "uncorrectable_errors_growing",
        "the disk lately gave errors instead of data",
    ),
    rule(
        Sign::Uncorrectable,
        AtLeast(1.0),
        Watch,
        "uncorrectable_errors",
        "the disk once gave errors instead of data",
    ),
    rule(
        Sign::Pending,
        AtLeast(1.0),
        Watch,
        "pending_sectors",
        "sectors of the disk cannot be read until they are written again",
    ),
    rule(
        Sign::OfflineUncorrectable,
        Grew(10.0, 60),
        Replace,
        "offline_uncorrectable_sectors_growing",
        "the disk finds ever more sectors that it cannot read",
    ),
    rule(
        Sign::OfflineUncorrectable,
        AtLeast(1.0),
        Watch,
        "offline_uncorrectable_sectors",
        "the disk found sectors that it cannot read",
    ),
    rule(
        Sign::BadKinds,
        AtLeast(2.0),
        Replace,
        "several_kinds_of_bad_sectors",
        "the disk has many bad sectors of more than one kind",
    ),
    rule(
        Sign::Timeouts,
        Grew(5.0, 7),
        Watch,
        "command_timeouts_growing",
        "the disk leaves commands unanswered: look at its power and cable",
    ),
];

const FLASH: &[Rule] = &[
    rule(
        Sign::Spare,
        Below(0.0),
        Replace,
        "spare_below_threshold",
        "the disk has fewer spare blocks left than its maker says it must have",
    ),
    rule(
        Sign::Spare,
        Below(10.0),
        Watch,
        "spare_near_threshold",
        "the disk's spare blocks come to their end",
    ),
    rule(
        Sign::Wear,
        AtLeast(1.0),
        Watch,
        "endurance_used_up",
        "as much was written as the disk is rated for: have a new one at hand",
    ),
    rule(
        Sign::Wear,
        AtLeast(0.9),
        Watch,
        "endurance_nearly_used_up",
        "nearly as much was written as the disk is rated for",
    ),
];

const SSD: &[Rule] = &[
    rule(
        Sign::Reallocated,
        Grew(100.0, 60),
        Watch,
        "reallocated_blocks_growing_fast",
        "the disk loses blocks at a rate as when a chip fails",
    ),
    rule(
        Sign::Uncorrectable,
        Grew(10.0, 60),
        Replace,
        "uncorrectable_errors_growing",
        "the disk lately gave errors instead of data",
    ),
    rule(
        Sign::Uncorrectable,
        AtLeast(1.0),
        Watch,
        "uncorrectable_errors",
        "the disk once gave errors instead of data",
    ),
];

const NVME: &[Rule] = &[
    rule(
        Sign::Unreliable,
        AtLeast(1.0),
        Replace,
        "reliability_degraded",
        "the disk says that it is no longer reliable",
    ),
    rule(Sign::ReadOnly, AtLeast(1.0), Replace, "read_only", "the disk takes no writes any more"),
    rule(
        Sign::BackupFailed,
        AtLeast(1.0),
        Replace,
        "volatile_memory_backup_failed",
        "a loss of power would lose data: what should save them has failed",
    ),
    rule(
        Sign::MemoryRegion,
        AtLeast(1.0),
        Watch,
        "persistent_memory_unreliable",
        "the disk's persistent memory region is read-only or unreliable",
    ),
    rule(
        Sign::Uncorrectable,
        Grew(10.0, 60),
        Replace,
        "media_errors_growing",
        "the disk goes on giving errors instead of data",
    ),
    rule(
        Sign::Uncorrectable,
        AtLeast(1.0),
        Watch,
        "media_errors",
        "the disk once gave errors instead of data",
    ),
];

/// What a disk warns of itself.
const WARNINGS: &[Rule] = &[
    rule(
        Sign::Temperature,
        AtLeast(1.0),
        Watch,
        "temperature",
        "the disk is, or within a day was, too hot or too cold",
    ),
    rule(
        Sign::OtherWarning,
        AtLeast(1.0),
        Watch,
        "other_warning",
        "the disk gives a warning that is not known here",
    ),
];

const SAS_HDD: &[Rule] = &[
    rule(
        Sign::Reallocated,
        Grew(10.0, 60),
        Replace,
        "grown_defects_growing",
        "the disk goes on losing sectors",
    ),
    rule(
        Sign::Reallocated,
        AtLeast(1.0),
        Watch,
        "grown_defects",
        "the disk has lost sectors and replaced them by spare ones",
    ),
    rule(
        Sign::Uncorrectable,
        Grew(1.0, 60),
        Replace,
        "uncorrected_errors_growing",
        "the disk lately gave errors instead of data",
    ),
    rule(
        Sign::Uncorrectable,
        AtLeast(1.0),
        Watch,
        "uncorrected_errors",
        "the disk once gave errors instead of data",
    ),
];

const SAS_SSD: &[Rule] = &[
    rule(
        Sign::Reallocated,
        Grew(100.0, 60),
        Watch,
        "grown_defects_growing_fast",
        "the disk loses blocks at a rate as when a chip fails",
    ),
    rule(
        Sign::Uncorrectable,
        Grew(10.0, 60),
        Replace,
        "uncorrected_errors_growing",
        "the disk lately gave errors instead of data",
    ),
    rule(
        Sign::Uncorrectable,
        AtLeast(1.0),
        Watch,
        "uncorrected_errors",
        "the disk once gave errors instead of data",
    ),
];

//! Tiers: what is left of samples when they are too old to be kept one by one.
//!
//! A **tier** has a window, a minute or an hour. Its **blocks** are blocks like any other, in a directory
//! of the tier's own, whose entries are **rollups**: per series and window `end - window < t ≤ end` the
//! numbers of [`stoa_model::Rollup`]; the timestamps are the ends of the windows. The windows are those
//! of PromQL's ranges, so that a range that ends on a window and is a multiple of it long is answered
//! from rollups as from samples.
//!
//! Minutes are made of samples, hours of minutes. A block is made once its span is over; it is
//! **stale** when something was added to or deleted from its span since, and is made again. It is **sealed**
//! over the time of which something it was made of is gone: there it is what is left of that, is read with
//! what is still there or came since, and is made again of both. Both are files beside the block's own, so
//! that they are durable before what causes them.
//!
//! Native histograms have no rollups.
//!
//! Memory while a block is made: the indexes of what it is made of and its own, and the samples of one
//! series.

mod build;
mod gone;
mod held;
mod open;
mod plan;
mod unite;
mod unread;
mod window;

use std::path::{Path, PathBuf};

pub(crate) use self::build::{Old, build};
pub(crate) use self::gone::Gone;
pub(crate) use self::held::{Marks, TierBlock, Tiers, seal, set_stale};
pub(crate) use self::open::{OpenedTiers, Unopened, open_tiers};
pub(crate) use self::plan::{Job, Samples, Source, World, due, is_rolled_up, remake, source};
pub(crate) use self::unite::Found;
pub(crate) use self::unread::{ALWAYS, Unread, span_of};
pub(crate) use self::window::{ceil, floor, roll};
use crate::Options;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// A tier, by the length of its windows. The finest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Windows of a minute.
    Minute,
    /// Windows of an hour.
    Hour,
}

impl Tier {
    /// All tiers, the finest first.
    pub const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// The length of a window, milliseconds.
    #[must_use]
    pub const fn window_ms(self) -> i64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
        }
    }

    /// Its name: of its directory, and as a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// Its directory within the database's.
    pub(crate) fn dir(self, db: &Path) -> PathBuf {
        db.join("tiers").join(self.name())
    }

    /// How long its blocks are kept; `None` when there is to be no such tier.
    pub(crate) fn retention_ms(self, options: &Options) -> Option<i64> {
        let kept = match self {
            Self::Minute => options.minute_retention_ms,
            Self::Hour => options.hour_retention_ms,
        };
        (kept > 0).then_some(kept)
    }
}

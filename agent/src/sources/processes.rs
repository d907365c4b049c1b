//! Processes: what they use, by name, user, unit, and by groups a person names.
//!
//! No series per process: processes come and go, and there may be any number of them. What is told is
//! added up over all processes that share a name, user and unit (`stoa_process_*`, those that use most),
//! a user (`stoa_user_*`), a unit (`stoa_unit_*`), or a rule of `[[sources.process.group]]`
//! (`namedprocess_namegroup_*`, `process_exporter`'s names). Each is bounded by a setting; what found no
//! room is counted in `stoa_process_left_out_total`.
//!
//! [`SharedScan`] is the table of processes, [`ledger`] adds up, [`ranking`] says who is told.

#![expect(dead_code, reason = "the sources that ask the table come after it")]
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use stoa_daemon::Span;

mod scan;
mod stat;

mod details;
mod named;
mod units;
mod usage;
mod users;

mod ranking;
mod roster;

mod ledger;

#[expect(unused_imports, reason = "as above")]
pub(crate) use scan::SharedScan;

use named::NamedGroup;

/// How often, unless configured otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// Many processes take long to read the first time.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest list; beyond, a list is no summary.
const TOP_MAX: usize = 50;
/// The most groups of a kind that may be asked for.
const GROUPS_MAX: usize = 1000;
/// The longest a group that uses little again may be told.
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);

/// `[sources.process]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// How many groups that use most are told of CPU time, memory and I/O each; 0: none.
    #[serde(deserialize_with = "up_to::<TOP_MAX, _>")]
    top: usize,
    /// How long a group is told after it was last among those.
    #[serde(deserialize_with = "hold")]
    hold: Duration,
    /// Whether to read what processes read and write.
    io: bool,
    /// Users told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    users_max: usize,
    /// Units told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    units_max: usize,
    /// Named groups told at most.
    #[serde(deserialize_with = "up_to::<GROUPS_MAX, _>")]
    groups_max: usize,
    /// Whether a process that matches no group belongs to its nearest ancestor's.
    children: bool,
    /// Named groups; a process belongs to the first that matches.
    group: Vec<NamedGroup>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            top: 10,
            hold: Duration::from_secs(600),
            io: true,
            users_max: 50,
            units_max: 100,
            groups_max: 100,
            children: true,
            group: Vec::new(),
        }
    }
}

fn up_to<'de, const MAX: usize, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(from)?;
    if number <= MAX {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!("expected a number up to {MAX}")))
}

fn hold<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let Span(span) = Span::deserialize(from)?;
    if span <= HOLD_MAX {
        return Ok(span);
    }
    Err(serde::de::Error::custom("expected a duration up to 24h"))
}

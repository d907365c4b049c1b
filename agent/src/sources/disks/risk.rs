//! How worn a disk is, and whether it is about to fail: rules over what the disk says of itself.
//!
//! Pure: [`Signs`] and what is remembered of the disk in, [`Finding`]s out. Disks with platters, flash
//! and each protocol have their own [`rules`], which are data; the studies they come from stand in
//! docs/operating/disks.md, and a test holds the two together. A verdict does not flap: counts are
//! held against the most they ever were, and what was found once stands for [`STANDS`] after it was
//! seen last. Knows nothing of smartctl.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sources::Now;

mod rules;

pub(super) use rules::{Kind, Sign};

/// How long a finding stands after it was seen last.
const STANDS: Duration = Duration::from_secs(24 * 3600);
/// The span within which the largest study found disks to fail many times as often after a first bad
/// sector (Pinheiro, Weber, Barroso: FAST '07); no growth is remembered for longer.
const GROWTH_DAYS: i64 = 60;
const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
/// Wear this small says nothing about its speed: it is told in steps of 1 %.
const WEAR_KNOWN: f64 = 0.02;
/// A disk that ran for less has no steady wear yet.
const HOURS_KNOWN: f64 = 30.0 * 24.0;
const HOURS_PER_YEAR: f64 = 24.0 * 365.25;
/// Life left is told up to here; beyond, other things end a disk.
const YEARS_MAX: f64 = 50.0;

/// What a disk says of itself, as far as it bears on its end; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signs([Option<f64>; Sign::COUNT]);

/// What to do about a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Look at it, have a backup.
    Watch,
    /// Replace it.
    Replace,
}

/// When a rule applies to a sign.
#[derive(Clone, Copy, Debug)]
enum When {
    AtLeast(f64),
    Below(f64),
    /// It grew by so much within so many days.
    Grew(f64, i64),
}

/// What speaks against a disk. Of the rules about a sign the first that applies counts.
#[derive(Debug)]
pub(super) struct Rule {
    sign: Sign,
    when: When,
    pub(super) level: Level,
    /// A word for rules and dashboards.
    pub(super) reason: &'static str,
    /// The same for people.
    pub(super) meaning: &'static str,
}

/// A rule that applied, and when last.
type Finding = (&'static Rule, Now);

/// What is remembered of a disk from reading to reading.
#[derive(Debug, Default)]
pub(super) struct Memory {
    trails: [Trail; Sign::COUNT],
    findings: Vec<Finding>,
}

/// How a sign came to what it is.
#[derive(Debug, Default)]
struct Trail {
    most: Option<f64>,
    /// By day.
    growth: VecDeque<(i64, f64)>,
}

impl Signs {
    pub(super) fn set(&mut self, sign: Sign, value: Option<f64>) {
        if let Some(slot) = self.0.get_mut(sign as usize) {
            *slot = value;
        }
    }

    pub(super) fn get(&self, sign: Sign) -> Option<f64> {
        self.0.get(sign as usize).copied().flatten()
    }

    /// Whether the disk says anything that a rule could be about.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Level {
    /// 0, 1 or 2, as it is told.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Watch => 1.0,
            Self::Replace => 2.0,
        }
    }
}

impl Trail {
    fn take(&mut self, value: f64, day: i64) {
        // A count that falls and rises again has not grown.
        let most = *self.most.get_or_insert(value);
        if value > most {
            self.most = Some(value);
            match self.growth.back_mut().filter(|(last, _)| *last == day) {
                Some((_, by)) => *by += value - most,
                None => self.growth.push_back((day, value - most)),
            }
        }
        self.growth.retain(|(at, _)| day.abs_diff(*at) <= GROWTH_DAYS.unsigned_abs());
    }

    fn grew_within(&self, days: i64, day: i64) -> f64 {
        let within = self.growth.iter().filter(|(at, _)| day - at <= days);
        within.map(|(_, by)| by).sum()
    }
}

impl Rule {
    fn applies(&self, signs: &Signs, memory: &Memory, day: i64) -> bool {
        match (signs.get(self.sign), self.when) {
            (None, _) => false,
            (Some(value), When::AtLeast(bound)) => value >= bound,
            (Some(value), When::Below(bound)) => value < bound,
            (Some(_), When::Grew(by, days)) => {
                let trail = memory.trails.get(self.sign as usize);
                trail.is_some_and(|trail| trail.grew_within(days, day) >= by)
            }
        }
    }
}

impl Memory {
    /// Takes in a reading: what grew since the one before, and what speaks against the disk now.
    pub(super) fn take(&mut self, kind: Kind, signs: &Signs, now: Now) {
        let day = now.unix_micros.div_euclid(DAY_MICROS);
        for (trail, value) in self.trails.iter_mut().zip(signs.0) {
            if let Some(value) = value {
                trail.take(value, day);
            }
        }
        let mut found: Vec<Finding> = Vec::new();
        for rule in rules::of(kind) {
            let is_first = found.iter().all(|(other, _)| other.sign != rule.sign);
            if is_first && rule.applies(signs, self, day) {
                found.push((rule, now));
            }
        }
        for (rule, at) in self.findings.drain(..).filter(|(_, at)| !now.is_past(*at, STANDS)) {
            match found.iter_mut().find(|(other, _)| other.sign == rule.sign) {
                None => found.push((rule, at)),
                Some(newer) if newer.0.level < rule.level => *newer = (rule, at),
                Some(_) => {}
            }
        }
        self.findings = found;
    }

    /// All that speaks against the disk.
    pub(super) fn findings(&self) -> impl Iterator<Item = &'static Rule> {
        self.findings.iter().map(|(rule, _)| *rule)
    }

    pub(super) fn level(&self) -> Level {
        self.findings().map(|rule| rule.level).max().unwrap_or_default()
    }
}

/// Years until the rated endurance is used up, if the disk goes on as it did while it was powered on.
pub(super) fn years_left(wear: Option<f64>, power_on_hours: Option<f64>) -> Option<f64> {
    let hours = power_on_hours.filter(|hours| *hours >= HOURS_KNOWN)?;
    let wear = wear.filter(|wear| *wear >= WEAR_KNOWN)?;
    let years = (1.0 - wear).max(0.0) / wear * hours / HOURS_PER_YEAR;
    Some(years.min(YEARS_MAX))
}

#[cfg(test)]
mod tests;

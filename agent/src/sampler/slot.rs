//! A source's place: when it was asked, what it said last, what was counted of it.

use std::time::Duration;

use stoa_model::{Family, Labels};

use super::{Done, Job, RETELLINGS_MAX};
use crate::sources::registry::Planned;
use crate::sources::{Now, Problem, Reading, Source, label};

/// A source's place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: &'static str,
    /// Always the same allocation.
    pub(super) labels: Labels,
    /// `None`: asked at every tick.
    interval: Option<Duration>,
    /// `None`: read within the tick.
    pub(super) deadline: Option<Duration>,
    /// Half a tick: ticks come a little early or late, and a whole tick would be lost over that.
    slack: Duration,
    /// Whether other sources may have families of the same names.
    pub(super) is_foreign: bool,
    /// `None` while the source is out: with a thread of its own, or one that was left behind.
    pub(super) source: Option<Box<dyn Source>>,
    /// When it was last asked; the answer may have been thrown away.
    pub(super) asked: Option<Now>,
    /// The last reading; told again by sources with an interval.
    pub(super) told: Option<Told>,
    /// Room for the next reading.
    spare: Reading,
    /// What of it is out too late.
    overdue_since: Option<Now>,
    /// Whether it could not do its work when it last came back, or did not come back in time.
    fails: bool,
    pub(super) overdue: u64,
    pub(super) skipped: u64,
    pub(super) problems: u64,
}

/// A reading that may be told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) reading: Reading,
    pub(super) success: bool,
    pub(super) duration: Duration,
}

impl Slot {
    pub(super) fn new(planned: Planned, sampling: Duration) -> Self {
        let Planned { source, interval, deadline } = planned;
        let own_deadline = source.deadline();
        Self {
            name: source.name(),
            labels: label("collector", source.name()),
            interval: interval.or(source.interval()).filter(|interval| *interval > sampling),
            // One that waits for others never becomes one that a tick waits for, and the reverse.
            deadline: own_deadline.map(|own| deadline.unwrap_or(own)),
            slack: sampling / 2,
            is_foreign: source.tells_foreign_families(),
            source: Some(source),
            asked: None,
            told: None,
            spare: Reading::default(),
            overdue_since: None,
            fails: false,
            overdue: 0,
            skipped: 0,
            problems: 0,
        }
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        let Some(asked) = self.asked else { return true };
        if self.source.is_none() && self.deadline.is_some() && !self.is_overdue() {
            return false;
        }
        match self.interval {
            Some(interval) => now.is_past(asked, interval.saturating_sub(self.slack)),
            None => true,
        }
    }

    /// Whether it is read beside the ticks and has not come back.
    pub(super) fn is_beside_and_out(&self) -> bool {
        self.deadline.is_some() && self.source.is_none()
    }

    /// Whether it is out for the first time and in time: nothing is known of it.
    pub(super) fn is_first_out(&self) -> bool {
        self.is_beside_and_out() && self.told.is_none() && !self.fails
    }

    /// Whether it is read beside the ticks and is out for longer than its deadline.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue_since.is_some() && self.deadline.is_some()
    }

    /// What it has to tell.
    pub(super) fn families(&self) -> impl Iterator<Item = &Family> {
        self.told.iter().flat_map(|told| told.reading.families())
    }

    /// Room for a reading. One that is read within the tick is written over what it told last.
    pub(super) fn room(&mut self) -> Reading {
        match self.told.take_if(|_| self.deadline.is_none()) {
            Some(told) => told.reading,
            None => std::mem::take(&mut self.spare),
        }
    }

    /// Its reading was not begun.
    pub(super) fn give_back(&mut self, job: Job) {
        self.source = Some(job.source);
        self.spare = job.reading;
        self.told = None;
        // It is tried again at the next tick, however rarely it is asked.
        self.asked = None;
        self.skipped += 1;
    }

    /// The wall clock leapt: for how long it has been out is told by no clock of before.
    pub(super) fn leap(&mut self, micros: i64) {
        if self.source.is_some() {
            return;
        }
        for at in [&mut self.asked, &mut self.overdue_since].into_iter().flatten() {
            at.unix_micros = at.unix_micros.saturating_add(micros);
        }
    }

    /// Notices that it is out for too long.
    pub(super) fn look_at_time(&mut self, now: Now) {
        let Some(asked) = self.asked.filter(|_| self.source.is_none()) else { return };
        if self.overdue_since == Some(asked) {
            return;
        }
        let is_late = match self.deadline {
            Some(deadline) => now.is_past(asked, deadline),
            None => asked == now,
        };
        if is_late {
            self.overdue_since = Some(asked);
            self.overdue += 1;
            self.told = None;
            if !std::mem::replace(&mut self.fails, true) {
                let waited = self.deadline;
                tracing::warn!(
                    source = self.name,
                    ?waited,
                    "source does not return, going on without it"
                );
            }
        }
    }

    pub(super) fn take_in(&mut self, done: Done, now: Now) {
        self.source = Some(done.source);
        let is_late = match self.deadline {
            Some(_) => self.overdue_since.take().is_some(),
            None => done.asked != now,
        };
        self.note(&done.reading, is_late);
        // What comes too late was told as failed, and is too old to be told as of now.
        if is_late {
            self.spare = done.reading;
            tracing::info!(source = self.name, "source has returned");
            return;
        }
        let told =
            Told { success: !done.reading.failed, duration: done.duration, reading: done.reading };
        if let Some(before) = self.told.replace(told) {
            self.spare = before.reading;
        }
    }

    /// Counts and logs what could not be read: one line when it begins, one when it ends.
    fn note(&mut self, reading: &Reading, is_late: bool) {
        for problem in &reading.problems {
            self.problems += 1;
            tracing::debug!(source = self.name, problem = %problem, cause = cause(problem), "cannot read a part");
        }
        if is_late {
            return;
        }
        // What a host does not have is no fault.
        let fault = reading.problems.first().filter(|_| reading.failed);
        match (self.fails, fault) {
            (false, Some(problem)) => {
                tracing::warn!(source = self.name, problem = %problem, cause = cause(problem), "source fails");
            }
            (true, None) => tracing::info!(source = self.name, "source is well again"),
            _ => {}
        }
        self.fails = fault.is_some();
    }

    pub(super) fn forget_if_old(&mut self, now: Now) {
        let too_old = match (self.interval, self.asked) {
            (Some(interval), Some(asked)) => now.is_past(asked, interval * RETELLINGS_MAX),
            (None, Some(asked)) if self.deadline.is_none() => asked != now,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if too_old && let Some(told) = self.told.take() {
            self.spare = told.reading;
        }
    }
}

fn cause(problem: &Problem) -> Option<String> {
    std::error::Error::source(problem).map(ToString::to_string)
}

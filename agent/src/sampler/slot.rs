//! A source's place: when it was asked, what it said last, what was counted of it.
//!
//! All it notes of time is by the wall clock and moves along when that is set ([`Slot::leap`]).

use std::time::Duration;

use stoa_daemon::error_chain;
use stoa_model::{Family, Labels};

use super::clock::Leap;
use super::fault::{Fault, Unsaid};
use super::{Done, Job, RETELLINGS_MAX};
use crate::rare_count::RareCount;
use crate::sources::registry::Planned;
use crate::sources::{Now, Problem, Reading, Source, label};

/// Problems that one line of the log names.
const SAID_MAX: usize = 3;

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
    /// How old a reading may be that is told.
    told_for: Duration,
    /// Whether other sources may have families of the same names.
    pub(super) is_foreign: bool,
    /// `None` while the source is out: with a thread of its own, or one that was left behind.
    source: Option<Box<dyn Source>>,
    /// When it was last asked; the answer may have been thrown away.
    asked: Option<Now>,
    /// How long the host has slept while the source was out: no reading was done meanwhile.
    slept: Duration,
    /// Whether it is out for too long.
    is_late: bool,
    /// When it was last counted as skipped, since it was last read.
    passed_over: Option<Now>,
    /// The last reading; told again by sources with an interval.
    pub(super) told: Option<Told>,
    /// Room for the next reading.
    spare: Reading,
    /// Whether it could not do its work when it last came back, or did not come back in time.
    fault: Fault,
    /// Whether it could do a part of its work only when it last came back.
    part: Fault,
    /// How many parts it could not do.
    parts: usize,
    pub(super) overdue: RareCount,
    pub(super) skipped: RareCount,
    pub(super) problems: RareCount,
}

/// A reading that may be told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) reading: Reading,
    pub(super) success: bool,
    pub(super) duration: Duration,
    /// When it came; earlier if the host slept since it was begun.
    read: Now,
}

impl Slot {
    pub(super) fn new(planned: Planned, sampling: Duration) -> Self {
        let Planned { source, interval, deadline } = planned;
        let interval = interval.or(source.interval()).filter(|interval| *interval > sampling);
        // One that waits for others never becomes one that a tick waits for, and the reverse.
        let deadline = source.deadline().map(|own| deadline.unwrap_or(own));
        Self {
            name: source.name(),
            labels: label("collector", source.name()),
            interval,
            deadline,
            slack: sampling / 2,
            told_for: match interval {
                Some(interval) => interval * RETELLINGS_MAX,
                // It is asked as soon as it is back, and may take until its deadline.
                None => (sampling * RETELLINGS_MAX).max(deadline.unwrap_or_default()),
            },
            is_foreign: source.tells_foreign_families(),
            source: Some(source),
            asked: None,
            slept: Duration::ZERO,
            is_late: false,
            passed_over: None,
            told: None,
            spare: Reading::default(),
            fault: Fault::default(),
            part: Fault::default(),
            parts: 0,
            overdue: RareCount::default(),
            skipped: RareCount::default(),
            problems: RareCount::default(),
        }
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        let Some(asked) = self.asked else { return true };
        if self.is_beside_and_out() && !self.is_late {
            return false;
        }
        self.is_turn(asked, now)
    }

    /// Whether it is to be asked again, having been asked then.
    fn is_turn(&self, asked: Now, now: Now) -> bool {
        let wait = self.interval.map(|interval| interval.saturating_sub(self.slack));
        wait.is_none_or(|wait| now.is_past(asked, wait))
    }

    /// Whether it is read beside the ticks and has not come back.
    pub(super) fn is_beside_and_out(&self) -> bool {
        self.deadline.is_some() && self.source.is_none()
    }

    /// Whether it is out for the first time and in time: nothing is known of it.
    pub(super) fn is_first_out(&self) -> bool {
        self.is_beside_and_out() && self.told.is_none() && !self.fault.is_on()
    }

    /// Whether it is read beside the ticks and is out for longer than its deadline.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_late && self.is_beside_and_out()
    }

    /// What it has to tell.
    pub(super) fn families(&self) -> impl Iterator<Item = &Family> {
        self.told.iter().flat_map(|told| told.reading.families())
    }

    /// Takes it out to be read, with room for the reading; `None` while it is out.
    pub(super) fn take_out(&mut self, now: Now) -> Option<(Box<dyn Source>, Reading)> {
        let Some(source) = self.source.take() else {
            self.pass_over(now);
            return None;
        };
        self.asked = Some(now);
        self.slept = Duration::ZERO;
        Some((source, self.room()))
    }

    /// Room for a reading. One that is read within the tick is written over what it told last.
    fn room(&mut self) -> Reading {
        match self.told.take_if(|_| self.deadline.is_none()) {
            Some(told) => told.reading,
            None => std::mem::take(&mut self.spare),
        }
    }

    /// Its reading was not begun. What it told last stays, but where that was the room for this one.
    pub(super) fn give_back(&mut self, job: Job, now: Now) {
        self.source = Some(job.source);
        self.spare = job.reading;
        // It is tried again at the next tick, however rarely it is asked.
        self.asked = None;
        self.pass_over(now);
    }

    /// Whether its turn came and went without a reading: it is asked before others.
    pub(super) fn is_waiting(&self) -> bool {
        self.passed_over.is_some()
    }

    /// It is due and cannot be read: one reading is lost, however many ticks find it so.
    fn pass_over(&mut self, now: Now) {
        if self.passed_over.is_none_or(|at| self.is_turn(at, now)) {
            self.passed_over = Some(now);
            self.skipped.add_one();
        }
    }

    /// The wall clock leapt. One that was set moves all that was noted by it. A sleep makes readings
    /// older, but who was out meanwhile is no later for it.
    pub(super) fn leap(&mut self, leap: Leap) {
        let told = self.told.as_mut().map(|told| &mut told.read);
        let noted = [self.asked.as_mut(), self.passed_over.as_mut(), told];
        for at in noted.into_iter().flatten() {
            *at = at.moved(leap.set_micros);
        }
        self.fault.set_clock(leap.set_micros);
        self.part.set_clock(leap.set_micros);
        if self.source.is_none() {
            self.slept += leap.slept;
        }
    }

    /// Notices that it is out for too long, and says what has waited to be said.
    pub(super) fn look_at_time(&mut self, now: Now) {
        if self.source.is_none() && !self.is_late && self.is_time_up(now) {
            self.is_late = true;
            self.overdue.add_one();
            self.told = None;
            let waited = self.deadline;
            if self.fault.is(now, || "does not return".to_owned()) {
                tracing::warn!(
                    source = self.name,
                    ?waited,
                    "source does not return, going on without it"
                );
            }
        }
        for (fault, what) in [(&mut self.fault, "source"), (&mut self.part, "part of a source")] {
            let Some(Unsaid { times, why, is_on }) = fault.unsaid(now) else { continue };
            let turn = if is_on { "fails again" } else { "failed again, is well now" };
            tracing::warn!(source = self.name, times, problem = why, "{what} {turn}");
        }
    }

    /// Whether it should be back; who is read within the tick should be at its end.
    fn is_time_up(&self, now: Now) -> bool {
        let (Some(asked), Some(deadline)) = (self.asked, self.deadline) else { return true };
        now.is_past(asked, deadline.saturating_add(self.slept))
    }

    pub(super) fn take_in(&mut self, done: Done, now: Now) {
        let Done { source, reading, duration } = done;
        self.source = Some(source);
        self.passed_over = None;
        let is_late = std::mem::take(&mut self.is_late);
        self.count_problems(&reading);
        // What comes too late was told as failed, and is too old to be told as of now.
        if is_late {
            self.spare = reading;
            tracing::debug!(source = self.name, "source has returned");
            return;
        }
        self.note(&reading, now);
        let slept = i64::try_from(self.slept.as_micros()).unwrap_or(i64::MAX);
        let read = now.moved(slept.saturating_neg());
        let told = Told { success: !reading.failed, duration, reading, read };
        if let Some(before) = self.told.replace(told) {
            self.spare = before.reading;
        }
    }

    fn count_problems(&mut self, reading: &Reading) {
        for problem in &reading.problems {
            self.problems.add_one();
            tracing::debug!(source = self.name, problem = error_chain(problem), "problem");
        }
    }

    /// Logs whether it does its work, where that is news.
    fn note(&mut self, reading: &Reading, now: Now) {
        // What a host does not have is no fault.
        let first = reading.problems.first();
        if let Some(problem) = first.filter(|_| reading.failed) {
            if self.fault.is(now, || error_chain(problem)) {
                tracing::warn!(source = self.name, problem = error_chain(problem), "source fails");
            }
            return;
        }
        if self.fault.is_not(now) {
            tracing::info!(source = self.name, "source is well again");
        }
        let parts = std::mem::replace(&mut self.parts, reading.problems.len());
        if first.is_none() {
            if self.part.is_not(now) {
                tracing::info!(source = self.name, "all of the source is read again");
            }
            return;
        }
        let is_news = match self.parts > parts {
            true => self.part.grows(now, || in_words(&reading.problems)),
            false => self.part.is(now, || in_words(&reading.problems)),
        };
        if is_news {
            let problem = in_words(&reading.problems);
            tracing::warn!(source = self.name, problem, "part of a source fails");
        }
    }

    pub(super) fn forget_if_old(&mut self, now: Now) {
        if let Some(told) = self.told.take_if(|told| now.is_past(told.read, self.told_for)) {
            self.spare = told.reading;
        }
    }
}

/// The first few, and how many more there are.
fn in_words(problems: &[Problem]) -> String {
    let first: Vec<String> = problems.iter().take(SAID_MAX).map(|p| error_chain(p)).collect();
    match problems.len().saturating_sub(SAID_MAX) {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}

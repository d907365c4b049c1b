//! The sampler: asks every source, once per tick, and puts a time to what they say.
//!
//! Ticks stand on the wall clock's grid (whole multiples of the interval), so that hosts are sampled
//! at the same moments. Sources run in order on one thread beside the sampler; one that outlasts
//! [`PATIENCE`] is left behind with its thread and asked again when it has come back, so a reading
//! stuck in the kernel costs its own series and nothing else. A source with an interval of its own
//! is asked less often; between, its last reading is told again, as an exporter's page does, so that
//! every tick carries every series.
//!
//! Bounded: at most eight threads for sources, [`TICKS_MAX`] ticks waiting to be taken. Whatever is
//! lost is counted, and the counts are series of the next tick.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoa_model::{Family, Labels, TimestampMs};

use crate::sources::{Desc, Lanes, Now, Problem, Reading, Roots, Source, label, no_labels};

mod clock;

pub use clock::{Clock, SamplerHandle, channel, spawn};

/// How often cheap sources are asked, unless configured otherwise.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long a source may take; beyond, the tick goes without it.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// Ticks that may wait to be taken; more are dropped, and counted.
pub const TICKS_MAX: usize = 8;
/// Threads for sources: one, and room for stuck ones.
const THREADS_MAX: usize = 8;
/// A reading is told again at most until it is this many intervals old.
const RETELLINGS_MAX: u32 = 3;

/// What the names of the agent's own counts begin with.
const OWN_PREFIX: &str = "stoa_";

const SUCCESS: Desc =
    Desc::gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");
const DURATION: Desc = Desc::gauge(
    "node_scrape_collector_duration_seconds",
    "node_exporter: Duration of a collector scrape.",
);
const TICKS: Desc = Desc::counter("stoa_agent_ticks_total", "Ticks sampled.");
const MISSED: Desc = Desc::counter(
    "stoa_agent_ticks_missed_total",
    "Ticks not sampled because the one before took too long or the host slept.",
);
const DROPPED: Desc = Desc::counter(
    "stoa_agent_ticks_dropped_total",
    "Ticks sampled but dropped because nothing took them in time.",
);
const OVERDUE: Desc = Desc::counter(
    "stoa_agent_source_overdue_total",
    "Readings that took longer than the sampler waits.",
);
const SKIPPED: Desc = Desc::counter(
    "stoa_agent_source_skipped_total",
    "Readings not begun because the one before has not returned.",
);
const PROBLEMS: Desc =
    Desc::counter("stoa_agent_source_problems_total", "Parts of readings that failed.");

const STUCK: Desc = Desc::gauge(
    "stoa_agent_source_threads_stuck",
    "Threads left behind in a source that does not return.",
);

/// All that was read at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The moment, a whole multiple of the interval.
    pub t_ms: TimestampMs,
    /// What was read; each family stands once.
    pub families: Vec<Family>,
}

/// Asks sources.
#[derive(Debug)]
pub struct Sampler {
    roots: Arc<Roots>,
    interval: Duration,
    patience: Duration,
    slots: Vec<Slot>,
    lanes: Lanes<Job, Done>,
    counts: Counts,
}

/// What the sampler counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ticks sampled.
    pub ticks: u64,
    /// Grid points passed over.
    pub missed: u64,
    /// Ticks nothing took.
    pub dropped: u64,
}

/// A source's place.
#[derive(Debug)]
struct Slot {
    name: &'static str,
    /// Always the same allocation.
    labels: Labels,
    /// `None`: asked at every tick.
    interval: Option<Duration>,
    /// Half a tick: ticks come a little early or late, and a whole tick would be lost over that.
    slack: Duration,
    /// Whether other sources may have families of the same names.
    is_foreign: bool,
    /// `None` while the source is with a thread that was left behind.
    source: Option<Box<dyn Source>>,
    /// When it was last asked; the answer may have been thrown away.
    asked: Option<Now>,
    /// The last reading, kept to be told again by sources with an interval.
    last: Option<Told>,
    overdue: u64,
    skipped: u64,
    problems: u64,
}

#[derive(Debug)]
struct Told {
    families: Vec<Family>,
    success: bool,
    duration: Duration,
}

#[derive(Debug)]
struct Job {
    source: Box<dyn Source>,
    roots: Arc<Roots>,
    now: Now,
}

#[derive(Debug)]
struct Done {
    source: Box<dyn Source>,
    asked: Now,
    reading: Reading,
    duration: Duration,
}

impl Sampler {
    /// A sampler of `sources`, asked every `interval` or at their own.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn Source>>, roots: Roots, interval: Duration) -> Self {
        let slots = sources.into_iter().map(|source| Slot::new(source, interval)).collect();
        Self {
            roots: Arc::new(roots),
            interval,
            patience: PATIENCE.min(interval),
            slots,
            lanes: Lanes::new("stoa-source", THREADS_MAX, ask),
            counts: Counts::default(),
        }
    }

    /// Waits this long for a source instead of [`PATIENCE`].
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The time between two ticks.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds to the counts of grid points passed over and ticks nothing took.
    pub(crate) fn count_lost(&mut self, missed: u64, dropped: u64) {
        self.counts.missed += missed;
        self.counts.dropped += dropped;
    }

    /// Asks the sources that are due and returns everything there is to tell, the sampler's own
    /// counts included. Blocks until they have answered or outlasted the patience.
    pub fn tick(&mut self, t_ms: TimestampMs, now: Now) -> Tick {
        self.counts.ticks += 1;
        self.ask_sources(now);
        let mut families = self.readings(now);
        families.extend(self.own_families());
        Tick { t_ms, families }
    }

    /// Like [`Self::tick`], without the sampler's own counts.
    pub fn read_once(&mut self, now: Now) -> Vec<Family> {
        self.ask_sources(now);
        self.readings(now)
    }

    fn ask_sources(&mut self, now: Now) {
        let mut jobs = Vec::with_capacity(self.slots.len());
        for (key, slot) in self.slots.iter_mut().enumerate() {
            if !slot.is_due(now) {
                continue;
            }
            match slot.source.take() {
                Some(source) => {
                    slot.asked = Some(now);
                    jobs.push((key, Job { source, roots: Arc::clone(&self.roots), now }));
                }
                None => slot.skipped += 1,
            }
        }
        let round = self.lanes.run(jobs, self.patience);
        for (key, done) in round.done {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.take_in(done, now);
            }
        }
        for (key, job) in round.undone {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.source = Some(job.source);
                slot.last = None;
                slot.skipped += 1;
            }
        }
        for slot in &mut self.slots {
            if slot.source.is_none() && slot.asked == Some(now) {
                tracing::warn!(source = slot.name, "source does not return, going on without it");
                slot.overdue += 1;
                slot.last = None;
            }
        }
    }

    fn readings(&mut self, now: Now) -> Vec<Family> {
        let mut families = Vec::new();
        let (mut success, mut duration) = (SUCCESS.family(), DURATION.family());
        for slot in &mut self.slots {
            slot.forget_if_old(now);
            let succeeded = slot.last.as_ref().is_some_and(|told| told.success);
            success.push(slot.labels.clone(), f64::from(u8::from(succeeded)));
            if let Some(told) = &mut slot.last {
                // Whole microseconds: more digits are noise, and cost bytes on wire and disk.
                let micros = told.duration.as_micros() as f64;
                duration.push(slot.labels.clone(), micros / 1e6);
                if slot.is_foreign {
                    slot.problems += tell_new(&told.families, &mut families);
                } else if slot.interval.is_some() {
                    families.extend_from_slice(&told.families);
                } else {
                    families.append(&mut told.families);
                }
            }
        }
        families.push(duration);
        families.push(success);
        families
    }

    fn own_families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for (desc, count) in [
            (&TICKS, self.counts.ticks as f64),
            (&MISSED, self.counts.missed as f64),
            (&DROPPED, self.counts.dropped as f64),
            (&STUCK, self.lanes.behind() as f64),
        ] {
            let mut family = desc.family();
            family.push(no_labels(), count);
            families.push(family);
        }
        let (mut overdue, mut skipped, mut problems) =
            (OVERDUE.family(), SKIPPED.family(), PROBLEMS.family());
        for slot in &self.slots {
            overdue.push(slot.labels.clone(), slot.overdue as f64);
            skipped.push(slot.labels.clone(), slot.skipped as f64);
            problems.push(slot.labels.clone(), slot.problems as f64);
        }
        families.extend([overdue, skipped, problems]);
        families
    }
}

impl Slot {
    fn new(source: Box<dyn Source>, sampling: Duration) -> Self {
        Self {
            name: source.name(),
            labels: label("collector", source.name()),
            interval: source.interval().filter(|interval| *interval > sampling),
            slack: sampling / 2,
            is_foreign: source.tells_foreign_families(),
            source: Some(source),
            asked: None,
            last: None,
            overdue: 0,
            skipped: 0,
            problems: 0,
        }
    }

    fn is_due(&self, now: Now) -> bool {
        match (self.interval, self.asked) {
            (Some(interval), Some(asked)) => {
                now.is_past(asked, interval.saturating_sub(self.slack))
            }
            _ => true,
        }
    }

    fn take_in(&mut self, done: Done, now: Now) {
        self.source = Some(done.source);
        for problem in &done.reading.problems {
            self.problems += 1;
            let cause = std::error::Error::source(problem).map(ToString::to_string);
            tracing::debug!(source = self.name, problem = %problem, cause, "cannot read a part");
        }
        // An answer to an earlier tick's question is too old to be told as of now.
        if done.asked == now {
            self.last = Some(Told {
                families: done.reading.families,
                success: !done.reading.failed,
                duration: done.duration,
            });
        } else {
            tracing::info!(source = self.name, "source has returned");
        }
    }

    fn forget_if_old(&mut self, now: Now) {
        let too_old = match (self.interval, self.asked) {
            (Some(interval), Some(asked)) => now.is_past(asked, interval * RETELLINGS_MAX),
            _ => self.asked != Some(now),
        };
        if too_old {
            self.last = None;
        }
    }
}

/// Adds the families whose names are not taken; returns how many are.
fn tell_new(told: &[Family], families: &mut Vec<Family>) -> u64 {
    let mut new: Vec<Family> = Vec::new();
    let taken: HashSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    for family in told {
        let name = family.name.as_str();
        let is_own = [SUCCESS.name, DURATION.name].contains(&name) || name.starts_with(OWN_PREFIX);
        if !is_own && !taken.contains(name) {
            new.push(family.clone());
        }
    }
    let left_out = told.len() - new.len();
    families.append(&mut new);
    left_out as u64
}

/// Reads a source; runs on a thread that may be left behind.
fn ask(mut job: Job) -> Done {
    let began = instant();
    let mut reading = Reading::default();
    let read = || job.source.read(&job.roots, job.now, &mut reading);
    if catch_unwind(AssertUnwindSafe(read)).is_err() {
        reading = Reading::default();
        reading.fail(Problem::Panicked(job.source.name()));
    }
    Done { source: job.source, asked: job.now, reading, duration: began.elapsed() }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a source takes")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;

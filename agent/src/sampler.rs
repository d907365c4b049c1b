//! The sampler: asks every source, once per tick, and puts a time to what they say.
//!
//! Ticks stand on the wall clock's grid (whole multiples of the interval), so that hosts are sampled
//! at the same moments. Cheap sources run in order on one thread beside the sampler, and the tick waits
//! for them; one that outlasts [`PATIENCE`] is left behind with its thread and asked again when it has
//! come back, so a reading stuck in the kernel costs its own series and nothing else. Where all are slow,
//! those that no time is left for are passed over and come first in the next tick. A source with a
//! deadline (it asks a program, a socket, a device) is read on a thread of its own that no tick waits
//! for; what it says goes into the next tick after it. A source with an interval of its own is asked
//! less often; between, its last reading is told again, as an exporter's page does, so that every tick
//! carries every series. None is told that is older than [`RETELLINGS_MAX`] intervals: what a host read
//! before it slept is not told as of now.
//!
//! Of each source two series are told at every tick: whether it succeeded and what it took, which
//! dashboards of node_exporter ask for. That it was late, was passed over or had problems is counted, and
//! told of those sources only that were or had, see [`crate::rare_count`].
//!
//! A source that begins to fail is logged once, and once when it is well again; one that comes and goes
//! is counted and logged seldom.
//!
//! Bounded: at most [`THREADS_MAX`] threads for cheap sources and one for each source with a deadline,
//! [`TICKS_MAX`] ticks waiting to be taken. Whatever is lost is counted, and the counts are series of
//! the next tick. What a source read stays in its place and is told from there: a steady tick
//! allocates nothing per reading.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoa_model::Family;

use crate::sources::registry::Planned;
use crate::sources::{Desc, Lanes, Now, Problem, Reading, Roots, Source};

mod beside;
mod clock;
mod fault;
mod seen;
mod slot;

pub use clock::{Clock, SamplerHandle, Taken, spawn};
pub use seen::{Seen, State};

use beside::Beside;
use clock::Leap;
use slot::Slot;

/// How often cheap sources are asked, unless configured otherwise.
pub const INTERVAL: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);
/// How often it is looked whether a source has been waited for long enough.
const LOOK: Duration = Duration::from_millis(100);
/// How long a source may take; beyond, the tick goes without it.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// The share of a tick within which readings are begun, but for two that hang; the rest is for ending and
/// sending them.
const ROUND_SHARE: f32 = 0.7;
/// Ticks that may wait to be taken; more are dropped, and counted.
pub const TICKS_MAX: usize = 8;
/// Threads for sources: one, and room for stuck ones: what hangs `/proc` (a lxcfs that does not answer)
/// hangs a dozen sources at once, and the others go on.
const THREADS_MAX: usize = 32;
/// Families of one reading that are said to be taken.
const CLASHES_MAX: usize = 16;
/// A reading is told again at most until it is this many intervals old.
const RETELLINGS_MAX: u32 = 3;

/// What the names of the agent's own figures begin with, those that come after the sampler too.
const OWN_PREFIXES: [&str; 4] = ["stoa_", "scrape_", "process_", "node_exporter_build_info"];
/// Whether the host is heard: the agent's to tell.
const UP: &str = "up";

const SUCCESS: Desc =
    Desc::gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");
const DURATION: Desc = Desc::gauge(
    "node_scrape_collector_duration_seconds",
    "node_exporter: Duration of a collector scrape.",
);
const TICKS: Desc = Desc::counter("stoa_agent_ticks_total", "Ticks sampled.");
const MISSED: Desc = Desc::counter(
    "stoa_agent_ticks_missed_total",
    "Ticks not sampled because the one before took too long, the host slept or its clock was set.",
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
    "Readings that were due and not begun because the one before has not returned.",
);
const PROBLEMS: Desc =
    Desc::counter("stoa_agent_source_problems_total", "Parts of readings that failed.");

const STUCK: Desc = Desc::gauge(
    "stoa_agent_source_threads_stuck",
    "Threads left behind in a source that does not return.",
);

/// Asks sources.
#[derive(Debug)]
pub struct Sampler {
    roots: Arc<Roots>,
    interval: Duration,
    patience: Duration,
    slots: Vec<Slot>,
    lanes: Lanes<Job, Done>,
    beside: Beside,
    counts: Counts,
    /// How long the last tick waited for sources.
    took: Duration,
    /// What is told of the sources themselves, and of the sampler.
    own: Reading,
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

/// A source to be read, with room for what it says.
#[derive(Debug)]
struct Job {
    source: Box<dyn Source>,
    roots: Arc<Roots>,
    now: Now,
    reading: Reading,
}

#[derive(Debug)]
struct Done {
    source: Box<dyn Source>,
    reading: Reading,
    duration: Duration,
}

impl Sampler {
    /// A sampler of `sources`, asked every `interval` or at their own.
    #[must_use]
    pub fn new(sources: Vec<Planned>, roots: Roots, interval: Duration) -> Self {
        let slots: Vec<Slot> = sources.into_iter().map(|it| Slot::new(it, interval)).collect();
        Self {
            roots: Arc::new(roots),
            interval,
            patience: PATIENCE.min(interval),
            beside: Beside::new(slots.len()),
            slots,
            lanes: Lanes::new("stoa-source", THREADS_MAX, ask),
            counts: Counts::default(),
            took: Duration::ZERO,
            own: Reading::default(),
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

    /// How long the last tick waited for sources; those that are read beside it took none of it.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Adds to the counts of grid points passed over and ticks nothing took.
    pub(crate) fn count_lost(&mut self, missed: u64, dropped: u64) {
        self.counts.missed += missed;
        self.counts.dropped += dropped;
    }

    /// The wall clock was set or the host slept.
    fn leap(&mut self, leap: Leap) {
        self.slots.iter_mut().for_each(|slot| slot.leap(leap));
    }

    /// Asks the sources that are due and takes in what they say, the sampler's own counts included;
    /// [`Self::told`] has it. Blocks until they have answered or outlasted the patience.
    pub fn tick(&mut self, now: Now) {
        self.counts.ticks += 1;
        let began = instant();
        self.ask_sources(now);
        self.took = began.elapsed();
        self.own.begin();
        self.tell_sources(now);
        self.tell_counts(now);
        self.own.end();
    }

    /// Like [`Self::tick`], without the sampler's own counts; waits for the sources that are read
    /// beside the ticks too, each no longer than its deadline. `waiting` hears each second who is out.
    pub fn read_once(&mut self, now: Now, mut waiting: impl FnMut(&[&'static str])) {
        self.ask_sources(now);
        let began = instant();
        let mut look = SECOND;
        loop {
            let since = began.elapsed();
            let out = self.out(since);
            if out.is_empty() {
                break;
            }
            if since >= look {
                waiting(&out);
                look = since + SECOND;
            }
            if let Some((key, done)) = self.beside.wait(began + since + LOOK) {
                self.take_in(key, done, now);
            }
        }
        self.own.begin();
        self.tell_sources(now);
        self.own.end();
    }

    /// All there is to tell since the last tick; each family stands once.
    #[must_use]
    pub fn told(&self) -> Vec<&Family> {
        let mut families = Vec::with_capacity(self.slots.len() * 16);
        for slot in self.slots.iter().filter(|slot| !slot.is_foreign) {
            families.extend(slot.families());
        }
        families.extend(self.own.families());
        for slot in self.slots.iter().filter(|slot| slot.is_foreign) {
            tell_new(slot.families(), &mut families);
        }
        families
    }

    fn ask_sources(&mut self, now: Now) {
        for (key, done) in self.beside.done() {
            self.take_in(key, done, now);
        }
        // Whose turn a round passed over come first.
        let (mut jobs, mut others) = (Vec::new(), Vec::with_capacity(self.slots.len()));
        for (key, slot) in self.slots.iter_mut().enumerate() {
            if !slot.is_due(now) {
                continue;
            }
            let Some((source, reading)) = slot.take_out(now) else { continue };
            let job = Job { source, roots: Arc::clone(&self.roots), now, reading };
            if slot.deadline.is_none() {
                if slot.is_waiting() { &mut jobs } else { &mut others }.push((key, job));
            } else if let Err(job) = self.beside.begin(key, slot.name, job) {
                slot.give_back(job, now);
            }
        }
        jobs.append(&mut others);
        let round = self.interval.mul_f32(ROUND_SHARE).max(self.patience * 2);
        let round = self.lanes.run(jobs, self.patience, round);
        for (key, done) in round.done {
            self.take_in(key, done, now);
        }
        for (key, job) in round.undone {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.give_back(job, now);
            }
        }
        for slot in &mut self.slots {
            slot.look_at_time(now);
        }
    }

    fn take_in(&mut self, key: usize, mut done: Done, now: Now) {
        if self.slots.get(key).is_some_and(|slot| slot.is_foreign) {
            self.note_taken(&mut done.reading);
        }
        if let Some(slot) = self.slots.get_mut(key) {
            slot.take_in(done, now);
        }
    }

    /// Says which of the families will be left out, because another source or the agent tells them.
    fn note_taken(&self, reading: &mut Reading) {
        if reading.is_empty() {
            return;
        }
        let others = self.slots.iter().filter(|slot| !slot.is_foreign);
        let taken: HashSet<&str> =
            others.flat_map(Slot::families).map(|family| family.name.as_str()).collect();
        let names = reading.families().map(|family| family.name.as_str());
        let clashes = names.filter(|name| is_own(name) || taken.contains(name));
        let problems: Vec<Problem> = clashes
            .take(CLASHES_MAX)
            .map(|name| Problem::Family {
                name: name.to_owned(),
                wrong: "the agent tells it itself",
            })
            .collect();
        reading.problems.extend(problems);
    }

    fn tell_sources(&mut self, now: Now) {
        for slot in &mut self.slots {
            slot.forget_if_old(now);
        }
        let [duration, success] = self.own.group([&DURATION, &SUCCESS]) else { return };
        for slot in self.slots.iter().filter(|slot| !slot.is_first_out()) {
            let told = slot.told.as_ref();
            success.push(slot.labels.clone(), f64::from(u8::from(told.is_some_and(|t| t.success))));
            if let Some(told) = told {
                // Whole microseconds: more digits are noise, and cost bytes on wire and disk.
                let micros = told.duration.as_micros() as f64;
                duration.push(slot.labels.clone(), micros / 1e6);
            }
        }
    }

    fn tell_counts(&mut self, now: Now) {
        let stuck =
            self.lanes.behind() + self.slots.iter().filter(|slot| slot.is_overdue()).count();
        for (desc, count) in [
            (&TICKS, self.counts.ticks as f64),
            (&MISSED, self.counts.missed as f64),
            (&DROPPED, self.counts.dropped as f64),
            (&STUCK, stuck as f64),
        ] {
            self.own.single(desc, count);
        }
        let families = self.own.group([&OVERDUE, &SKIPPED, &PROBLEMS]);
        let [overdue, skipped, problems] = families else { return };
        for slot in &mut self.slots {
            for (family, count) in [
                (&mut *overdue, &mut slot.overdue),
                (&mut *skipped, &mut slot.skipped),
                (&mut *problems, &mut slot.problems),
            ] {
                if let Some(count) = count.told(now) {
                    family.push(slot.labels.clone(), count as f64);
                }
            }
        }
    }
}

/// Adds the families whose names are not taken: neither by another source nor by the agent.
fn tell_new<'a>(told: impl Iterator<Item = &'a Family>, families: &mut Vec<&'a Family>) {
    let mut told = told.peekable();
    if told.peek().is_none() {
        return;
    }
    let taken: HashSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    let new: Vec<&Family> = told
        .filter(|family| !is_own(&family.name))
        .filter(|family| !taken.contains(family.name.as_str()))
        .collect();
    families.extend(new);
}

/// Whether a family is for the agent to tell of itself.
fn is_own(name: &str) -> bool {
    name == UP || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads a source; runs on a thread that may be left behind.
fn ask(job: Job) -> Done {
    let Job { mut source, roots, now, mut reading } = job;
    let began = instant();
    reading.begin();
    let read = || source.read(&roots, now, &mut reading);
    if catch_unwind(AssertUnwindSafe(read)).is_err() {
        reading = Reading::default();
        reading.fail(Problem::Panicked(source.name()));
    }
    reading.end();
    Done { source, reading, duration: began.elapsed() }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a source takes")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;

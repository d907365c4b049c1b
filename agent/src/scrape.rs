//! Scraping: what other programs tell at an address, as Prometheus would ask them.
//!
//! `settings → found → schedule → fetch → book → gather → ticks`, a producer of ticks beside the sampler and
//! not a source: a target has its own interval and tells of itself, not of the host. What is to be asked is
//! looked up again when its files change ([`found`]); each target is asked in its turn ([`schedule`]) and
//! its page becomes samples of known series ([`book`]); scrapes of one second travel in one tick ([`gather`]).
//! The series carry their `job` and `instance` as targets do ([`crate::target`]). Decision 0013 says why it is so.
//!
//! Beside what a target exposes the agent tells `up`, `scrape_duration_seconds`, `scrape_samples_scraped`,
//! `scrape_samples_post_metric_relabeling` and `scrape_series_added` of it, with its labels. A scrape that
//! fails, for whatever reason, is `up 0`, ends the target's series, and is one line of the log when it begins
//! and one when it ends; the other targets never notice.
//!
//! Bounded: [`found::TARGETS_MAX`] targets, one scrape of each at a time; series by `scrape.series_max`;
//! pages in memory by [`fetch`]; [`PARSED_AT_ONCE`] pages being read; ticks that the uplink does not take
//! within [`PATIENCE`] are dropped and counted. What it does of its own is in [`ScrapeFigures`].

pub mod settings;

pub mod job;

pub mod yaml;

pub mod target;

pub mod found;

pub mod schedule;

pub mod fetch;

pub mod book;

pub mod gather;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use stoa_model::TimestampMs;
use stoa_proto::tick::Tick;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::numbers::Numbers;
use crate::uplink::Clock;
use book::{Book, Counts, Room, Rules, Samples};
use fetch::{Asker, LARGE_AT_ONCE};
use found::{Finder, Found};
use gather::Gather;
use schedule::{Due, Schedule, TargetId};
use settings::Settings;
use target::Target;

/// Pages that are read at once, each on a thread.
const PARSED_AT_ONCE: usize = 2;

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// How long a tick waits for the uplink.
const PATIENCE: Duration = Duration::from_secs(1);

/// Places that are left to the sampler's ticks.
const PLACES_LEFT: usize = 3;

/// After so many failed scrapes a target's series are forgotten.
const FAILURES_MAX: u32 = 60;

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeFigures {
    /// Targets there are.
    pub targets: u64,
    /// Those whose last scrape failed.
    pub down: u64,
    /// Series alive.
    pub series: u64,
    /// Whether the configuration could be read whole.
    pub is_whole: bool,
    /// Scrapes done.
    pub scrapes: u64,
    /// Those that failed.
    pub failed: u64,
    /// Moments at which a target was not asked.
    pub missed: u64,
    /// Samples that the uplink did not take.
    pub dropped: u64,
    /// Samples left out for their labels.
    pub refused: u64,
    /// Exemplars and native histograms, which are not sent.
    pub skipped: u64,
}

/// What scrapes go through.
#[derive(Debug)]
pub struct Out {
    /// Where ticks go.
    pub ticks: mpsc::Sender<Arc<Tick>>,
    /// Numbers for series.
    pub numbers: Arc<Numbers>,
    /// Where the figures go.
    pub figures: watch::Sender<ScrapeFigures>,
}

/// What is known of a target.
#[derive(Debug)]
struct State {
    asker: Arc<Asker>,
    rules: Arc<Rules>,
    /// `None` while it is asked.
    book: Option<Book>,
    is_large: bool,
    failures: u32,
}

/// A scrape that is done.
#[derive(Debug)]
struct Back {
    id: TargetId,
    t: TimestampMs,
    book: Book,
    rules: Arc<Rules>,
    is_large: bool,
    took: Duration,
    counts: Counts,
    samples: Samples,
    wrong: Option<String>,
}

/// Scrapes until `stop`.
///
/// # Errors
/// As [`Settings::jobs`]; nothing is done then.
pub async fn run(
    settings: Settings,
    out: Out,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), (String, String)> {
    let room = Room::new(Arc::clone(&out.numbers), settings.series_max);
    let mut scraper = Scraper {
        finder: Some(Finder::new(settings)?),
        notes: Vec::new(),
        targets: HashMap::new(),
        schedule: Schedule::default(),
        gather: Gather::default(),
        scrapes: JoinSet::new(),
        room: Arc::new(room),
        large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        parsing: Arc::new(Semaphore::new(PARSED_AT_ONCE)),
        figures: ScrapeFigures::default(),
        out,
        clock,
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = (scraper.clock)();
        let deadline = scraper.schedule.deadline(now);
        let deadline = scraper.gather.deadline().map_or(deadline, |gather| gather.min(deadline));
        let nap = u64::try_from(deadline - now).unwrap_or(0);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = look.tick() => scraper.look().await,
            Some(back) = scraper.scrapes.join_next() => match back {
                Ok(back) => scraper.back(back),
                Err(error) => tracing::error!(%error, "a scrape broke"),
            },
            () = tokio::time::sleep(Duration::from_millis(nap)) => {}
        }
        scraper.turn().await;
    }
}

struct Scraper {
    /// `None` only if it broke.
    finder: Option<Finder>,
    notes: Vec<String>,
    targets: HashMap<TargetId, State>,
    schedule: Schedule,
    gather: Gather,
    scrapes: JoinSet<Back>,
    room: Arc<Room>,
    large: Arc<Semaphore>,
    parsing: Arc<Semaphore>,
    figures: ScrapeFigures,
    out: Out,
    clock: Clock,
}

impl Scraper {
    /// Looks which targets there are.
    async fn look(&mut self) {
        let Some(mut finder) = self.finder.take() else { return };
        let known: HashSet<TargetId> = self.targets.keys().copied().collect();
        let looked = tokio::task::spawn_blocking(move || {
            let found = finder.look();
            // The files of certificates are read here, too.
            let fresh = found.iter().flat_map(|found| found.targets.iter());
            let fresh = fresh.filter(|(id, _)| !known.contains(id));
            let askers: Vec<Asker> =
                fresh.map(|(_, target)| Asker::new(Arc::clone(target))).collect();
            (finder, found, askers)
        });
        let (finder, found, askers) = match looked.await {
            Ok(looked) => looked,
            Err(error) => return tracing::error!(%error, "looking for targets broke"),
        };
        self.finder = Some(finder);
        let Some(found) = found else { return };
        self.take(found, askers);
    }

    fn take(&mut self, found: Found, askers: Vec<Asker>) {
        let now = (self.clock)();
        for note in found.notes.iter().filter(|note| !self.notes.contains(note)) {
            tracing::warn!("scrape: {note}");
        }
        self.figures.is_whole = found.is_whole;
        let mut ended = Samples::new();
        self.targets.retain(|id, state| {
            let stays = found.targets.contains_key(id);
            if let (false, Some(book)) = (stays, &mut state.book) {
                book.end(&mut ended, &self.room);
            }
            stays
        });
        self.gather.adds(now, ended);
        for asker in askers {
            let target = asker.target();
            let rules = Rules {
                target: target.labels.clone(),
                honor_labels: target.job.honor_labels,
                metric_relabel: target.job.metric_relabel.clone(),
                limits: target.job.limits,
            };
            let (id, rules) = (target.id, Arc::new(rules));
            let (asker, book) = (Arc::new(asker), Some(Book::default()));
            let state = State { asker, rules, book, is_large: false, failures: 0 };
            self.targets.insert(id, state);
        }
        let interval =
            |target: &Target| i64::try_from(target.interval.as_millis()).unwrap_or(i64::MAX);
        let planned: Vec<(TargetId, i64)> =
            found.targets.iter().map(|(id, target)| (*id, interval(target))).collect();
        self.schedule.set(&planned, now);
        tracing::info!(targets = planned.len(), "targets to be scraped");
        self.notes = found.notes;
    }

    /// Asks whose turn it is, and sends what is there.
    async fn turn(&mut self) {
        let now = (self.clock)();
        for Due { id, t } in self.schedule.due(now) {
            let Some(state) = self.targets.get_mut(&id) else { continue };
            let Some(book) = state.book.take() else { continue };
            self.gather.begins(t);
            self.scrapes.spawn(scrape(
                Due { id, t },
                Arc::clone(&state.asker),
                (book, Arc::clone(&state.rules), Arc::clone(&self.room)),
                (Arc::clone(&self.large), state.is_large),
                Arc::clone(&self.parsing),
            ));
        }
        for tick in self.gather.ready(now) {
            let samples = tick.samples.len() as u64;
            if !self.send(tick).await {
                self.figures.dropped += samples;
            }
        }
        self.figures.missed = self.schedule.missed();
        self.figures.series = self.room.alive() as u64;
        self.figures.targets = self.targets.len() as u64;
        let down = self.targets.values().filter(|state| state.failures > 0).count();
        self.figures.down = down as u64;
        self.out.figures.send_replace(self.figures);
    }

    /// Hands a tick on, unless the uplink has no room for it in time; the sampler's come first.
    async fn send(&self, tick: Tick) -> bool {
        let began = Instant::now();
        while self.out.ticks.capacity() <= PLACES_LEFT {
            if began.elapsed() > PATIENCE || self.out.ticks.is_closed() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.out.ticks.try_send(Arc::new(tick)).is_ok()
    }

    fn back(&mut self, back: Back) {
        let Back { id, t, mut book, rules, is_large, took, counts, mut samples, wrong } = back;
        self.figures.scrapes += 1;
        self.figures.failed += u64::from(wrong.is_some());
        self.figures.refused += counts.refused;
        self.figures.skipped += counts.skipped;
        let state = self.targets.get_mut(&id);
        // It went while it was asked, and may have come again.
        let Some(state) = state.filter(|state| Arc::ptr_eq(&state.rules, &rules)) else {
            samples.clear();
            book.end(&mut samples, &self.room);
            return self.gather.ends(t, samples);
        };
        self.schedule.is_back(id);
        let own = [
            ("up", "Whether the target could be scraped.", f64::from(u8::from(wrong.is_none()))),
            ("scrape_duration_seconds", "How long the scrape took.", took.as_secs_f64()),
            ("scrape_samples_scraped", "Samples the target exposed.", counts.scraped as f64),
            (
                "scrape_samples_post_metric_relabeling",
                "Samples left after relabelling.",
                counts.kept as f64,
            ),
            ("scrape_series_added", "Series that were not known.", counts.added as f64),
        ];
        for (name, help, value) in own {
            samples.extend(book.own(name, help, value, &rules, &self.room));
        }
        let target = state.asker.target();
        match &wrong {
            Some(wrong) if state.failures == 0 => {
                tracing::warn!(target = %target.labels, wrong, "a target cannot be scraped");
            }
            None if state.failures > 0 => {
                let failed = state.failures;
                tracing::info!(target = %target.labels, failed, "a target is scraped again");
            }
            _ => {}
        }
        state.failures = if wrong.is_some() { state.failures.saturating_add(1) } else { 0 };
        if state.failures == FAILURES_MAX {
            book.clear(&self.room);
        }
        state.is_large = is_large;
        state.book = Some(book);
        self.gather.ends(t, samples);
    }
}

/// One scrape, from the question to the samples.
async fn scrape(
    due: Due,
    asker: Arc<Asker>,
    (mut book, rules, room): (Book, Arc<Rules>, Arc<Room>),
    (large, mut is_large): (Arc<Semaphore>, bool),
    parsing: Arc<Semaphore>,
) -> Back {
    let began = Instant::now();
    let page = asker.ask(&large, &mut is_large).await;
    let (mut counts, mut samples, mut wrong) = (Counts::default(), Samples::new(), None);
    match page {
        Ok(page) => {
            // Closed never; without a turn the page is read all the same.
            let _turn = parsing.acquire().await;
            let (with, within) = (Arc::clone(&rules), Arc::clone(&room));
            let read = tokio::task::spawn_blocking(move || {
                let taken = book.take(&page.body, page.format, &with, &within);
                (book, taken)
            });
            match read.await {
                Ok((kept, Ok(taken))) => {
                    book = kept;
                    (counts, samples) = (taken.counts, taken.samples);
                }
                Ok((kept, Err((error, counted)))) => {
                    book = kept;
                    (counts, wrong) = (counted, Some(error.to_string()));
                }
                Err(broke) => {
                    book = Book::default();
                    wrong = Some(format!("reading the page broke: {broke}"));
                }
            }
        }
        Err(why) => wrong = Some(why),
    }
    if wrong.is_some() {
        book.fail(&mut samples, &room);
    }
    let took = began.elapsed();
    let Due { id, t } = due;
    Back { id, t, book, rules, is_large, took, counts, samples, wrong }
}

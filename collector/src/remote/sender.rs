//! One target: its log read on, its requests sent in order, its failures waited out.
//!
//! One request is under way at a time, so a series' samples arrive in their order; the next batch is
//! read and compressed meanwhile. What becomes of a request is the [protocol's](super::wire) to say.
//!
//! When the collector stops, what is prepared is sent on for [`STOP_WAIT`], as long as nothing fails.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Method;
use rand::RngExt as _;
use stoa_daemon::error_chain;
use stoa_exchange::remote_write::Version;
use stoa_model::TimestampMs;
use stoa_tsdb::{Cursor, Follower};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ClientError};
use super::figures::{Counters, TargetFigures, add};
use super::message::{Message, descriptions};
use super::points::{Read, Waiting};
use super::relabel::relabelled;
use super::wire::Attempt;
use crate::config::{RemoteWriteConfig, Wire};
use crate::store::Store;

/// Requests of one batch read from the log: what is held in memory beside the one that is sent.
const REQUESTS_PER_READ: usize = 4;

/// How often a cursor that has moved is saved: after a crash so much is sent twice.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often version 1 is told what is known about metrics, as Prometheus does.
const DESCRIBE_EVERY: Duration = Duration::from_secs(60);

/// How long requests may still take, all of them together, when the collector stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How often dropped requests are logged at most.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How long until it is tried again to begin when the store takes nothing.
const BEGIN_AGAIN: Duration = Duration::from_secs(5);

/// The wait after passing on broke the first time, and the longest; having run for so long counts as whole.
const BROKEN_WAIT_MIN: Duration = Duration::from_secs(1);
const BROKEN_WAIT_MAX: Duration = Duration::from_secs(60);

/// A target of remote write or OTLP; clones are the same.
#[derive(Clone, Debug)]
pub struct Target {
    config: Arc<RemoteWriteConfig>,
    client: Client,
    counters: Arc<Counters>,
}

impl Target {
    /// A target that is not sent anything yet.
    ///
    /// # Errors
    /// [`ClientError`] when the files of its TLS cannot be used.
    pub fn new(config: RemoteWriteConfig) -> Result<Self, ClientError> {
        let client = Client::speaking(&config.endpoint, config.wire == Wire::OtlpGrpc)?;
        Ok(Self { config: Arc::new(config), client, counters: Arc::default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What has been sent since the start. Looks into the store: for every few seconds.
    #[must_use]
    pub fn figures(&self, store: &Store, now_ms: TimestampMs) -> TargetFigures {
        self.counters.read(self.name(), store, now_ms)
    }

    /// Passes on what is appended to a store until told to stop. Where that breaks, which is a bug, it is
    /// begun again from what is delivered, after a wait; nothing else ends with it.
    pub async fn keep(self, store: Store, stop: CancellationToken) {
        let too_late = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                tokio::time::sleep(STOP_WAIT).await;
            }
        };
        let passing_on = || {
            let mut sending = Sending {
                target: self.clone(),
                store: store.clone(),
                stop: stop.clone(),
                wire: self.config.wire,
                wait: self.config.backoff_min,
                saved: Instant::now(),
                described: None,
                said: None,
                lost: 0,
            };
            async move { while sending.run().await == Ended::Again {} }
        };
        tokio::select! {
            () = again_when_broken(self.name(), &self.counters, &stop, passing_on) => {}
            () = too_late => {}
        }
    }
}

/// Runs what `make` makes to its end; where it panics, another after a wait that doubles while that goes
/// on. Dropped, it ends what runs.
async fn again_when_broken<F>(
    target: &str,
    counters: &Counters,
    stop: &CancellationToken,
    mut make: impl FnMut() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut wait = BROKEN_WAIT_MIN;
    loop {
        let begun = Instant::now();
        let mut task = JoinSet::new();
        task.spawn(make());
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {}
            _ => return,
        }
        add(&counters.restarts, 1);
        counters.failing.store(true, Relaxed);
        if begun.elapsed() >= BROKEN_WAIT_MAX {
            wait = BROKEN_WAIT_MIN;
        }
        let wait_s = wait.as_secs();
        tracing::error!(target, wait_s, "passing on samples broke and is begun again after a wait");
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(BROKEN_WAIT_MAX);
    }
}

/// Why passing on ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The collector stops.
    Stop,
    /// It is to go on from what is delivered.
    Again,
}

/// What became of a request in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Taken or dropped: nothing is left to do.
    Done,
    /// The target knows version 1 only.
    OtherVersion,
    /// More at once than the target takes.
    TooLarge,
    /// The collector stops.
    Stopped,
}

/// A batch of the log as requests.
struct Prepared {
    messages: Vec<Message>,
    /// Up to where all is delivered with these; `None` when it is not known to be more than before.
    cursor: Option<Cursor>,
    is_all: bool,
    newest_ms: Option<TimestampMs>,
}

type Reading = JoinHandle<(Reader, Prepared)>;

/// Where it is read on, and what of it waits.
struct Reader {
    follower: Follower,
    waiting: Waiting,
}

struct Sending {
    target: Target,
    store: Store,
    stop: CancellationToken,
    wire: Wire,
    /// Before the next attempt after a failure.
    wait: Duration,
    saved: Instant,
    described: Option<Instant>,
    /// When it was last logged that requests are dropped.
    said: Option<Instant>,
    /// How many lost samples were logged.
    lost: u64,
}

impl Sending {
    async fn run(&mut self) -> Ended {
        let Some(follower) = self.begin().await else { return Ended::Stop };
        let mut reading = self.read(Reader { follower, waiting: Waiting::default() });
        loop {
            let (reader, prepared) = match reading.await {
                Ok(read) => read,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_cancelled) => return Ended::Stop,
            };
            let (mut next, mut waiting) = (None, None);
            if prepared.is_all {
                waiting = Some(reader);
            } else {
                next = Some(self.read(reader));
            }
            let counters = Arc::clone(&self.target.counters);
            if !prepared.messages.is_empty() {
                counters.waits(prepared.newest_ms);
            }
            for message in &prepared.messages {
                match self.deliver(message).await {
                    Delivery::Done | Delivery::TooLarge => {}
                    Delivery::Stopped => return Ended::Stop,
                    Delivery::OtherVersion => {
                        let target = self.target.name();
                        tracing::warn!(
                            target,
                            "it does not take version 2 of remote write; it is sent version 1 from now on"
                        );
                        self.wire = Wire::RemoteWrite(Version::One);
                        return Ended::Again;
                    }
                }
            }
            if !prepared.messages.is_empty() {
                counters.delivered(prepared.newest_ms);
            }
            if let Some(cursor) = prepared.cursor {
                self.store.delivered(self.target.name(), cursor);
            }
            self.save_if_due().await;
            if self.describe_if_due().await == Delivery::Stopped {
                return Ended::Stop;
            }
            reading = match (next, waiting) {
                (Some(next), _) => next,
                (None, Some(reader)) => {
                    if !self.pause(self.target.config.deadline).await {
                        return Ended::Stop;
                    }
                    self.read(reader)
                }
                (None, None) => return Ended::Again,
            };
            if self.stop.is_cancelled() {
                return Ended::Stop;
            }
        }
    }

    /// The follower, once the store lets it begin.
    async fn begin(&self) -> Option<Follower> {
        loop {
            let (store, name) = (self.store.clone(), self.target.name().to_owned());
            match tokio::task::spawn_blocking(move || store.follow(&name)).await {
                Ok(Ok(follower)) => return Some(follower),
                Ok(Err(error)) => {
                    let (target, error) = (self.target.name(), error_chain(&error));
                    tracing::warn!(target, error, "cannot begin to pass on samples");
                }
                Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
                Err(_cancelled) => return None,
            }
            if !self.pause(BEGIN_AGAIN).await {
                return None;
            }
        }
    }

    /// Reads on and makes requests, on a thread that may wait for the disk.
    fn read(&self, mut reader: Reader) -> Reading {
        let (store, target, wire) = (self.store.clone(), self.target.clone(), self.wire);
        tokio::task::spawn_blocking(move || {
            let samples_max = target.config.samples_max;
            let most = samples_max.saturating_mul(REQUESTS_PER_READ);
            let followed = store.read_on(&mut reader.follower, most);
            let (series, left_out) = {
                let config = &target.config;
                relabelled(&config.external, &config.relabel, followed.series)
            };
            add(&target.counters.samples_filtered, left_out);
            let newest_t = followed.max_t.filter(|_| !followed.is_all);
            let read = Read { series: &series, end: followed.cursor, newest_t };
            let written = wire.written(&mut reader.waiting, &read, samples_max, store.metadata());
            add(&target.counters.samples_unfit, written.left_out);
            add(&target.counters.samples_apart, written.apart);
            let prepared = Prepared {
                messages: written.messages,
                cursor: written.cursor,
                is_all: followed.is_all,
                newest_ms: followed.max_t,
            };
            add(&target.counters.samples_orphaned, followed.orphaned);
            add(&target.counters.log_damaged, followed.damaged);
            (reader, prepared)
        })
    }

    /// Sends a message until it is taken or refused for good, in two halves when it is too large.
    async fn deliver(&mut self, message: &Message) -> Delivery {
        let may_split = message.samples > 1;
        let delivery = self.deliver_as_is(message, may_split).await;
        if delivery != Delivery::TooLarge {
            return delivery;
        }
        let (store, whole, wire) = (self.store.clone(), message.clone(), self.wire);
        let split =
            tokio::task::spawn_blocking(move || wire.halves(&whole, store.metadata())).await;
        let split = split.ok().flatten().unwrap_or_else(|| vec![message.clone()]);
        for half in &split {
            let delivery = self.deliver_as_is(half, false).await;
            if delivery != Delivery::Done {
                return delivery;
            }
        }
        Delivery::Done
    }

    async fn deliver_as_is(&mut self, message: &Message, may_split: bool) -> Delivery {
        let counters = Arc::clone(&self.target.counters);
        loop {
            let (why, after) = match self.attempt(message).await {
                Attempt::Taken(taken) => {
                    let taken = taken.unwrap_or(message.samples).min(message.samples);
                    add(&counters.requests_accepted, 1);
                    add(&counters.samples_sent, taken);
                    add(&counters.samples_rejected, message.samples - taken);
                    add(&counters.sent_bytes, message.body.len() as u64);
                    self.works();
                    return Delivery::Done;
                }
                Attempt::Unread { why } => {
                    add(&counters.requests_accepted, 1);
                    add(&counters.answers_unread, 1);
                    add(&counters.samples_sent, message.samples);
                    add(&counters.sent_bytes, message.body.len() as u64);
                    self.say_unread(&why);
                    self.works();
                    return Delivery::Done;
                }
                Attempt::Partly { why, taken } => {
                    let taken = taken.min(message.samples);
                    add(&counters.requests_accepted, 1);
                    add(&counters.samples_sent, taken);
                    add(&counters.samples_rejected, message.samples - taken);
                    add(&counters.sent_bytes, message.body.len() as u64);
                    self.say_refused(message.samples - taken, &why);
                    self.works();
                    return Delivery::Done;
                }
                Attempt::Refused { why, taken: 0, is_too_large: true } if may_split => {
                    add(&counters.requests_failed, 1);
                    add(&counters.samples_retried, message.samples);
                    let (target, samples) = (self.target.name(), message.samples);
                    tracing::debug!(target, samples, why, "a request is sent again in two halves");
                    return Delivery::TooLarge;
                }
                Attempt::Refused { why, taken, is_too_large: _ } => {
                    let taken = taken.min(message.samples);
                    add(&counters.requests_rejected, 1);
                    add(&counters.samples_sent, taken);
                    add(&counters.samples_rejected, message.samples - taken);
                    self.say_refused(message.samples - taken, &why);
                    self.works();
                    return Delivery::Done;
                }
                Attempt::OtherVersion => return Delivery::OtherVersion,
                Attempt::Later { why, after } => (why, after),
            };
            add(&counters.requests_failed, 1);
            add(&counters.samples_retried, message.samples);
            if !counters.failing.swap(true, Relaxed) {
                let target = self.target.name();
                tracing::warn!(target, why, "samples cannot be passed on, will try again");
            }
            // Spread by half, so that several collectors do not come back in one instant.
            let spread = rand::rng().random_range(0.5..=1.0);
            let wait = after.map_or(self.wait.mul_f64(spread), |after| after.max(self.wait));
            self.wait = (self.wait * 2).min(self.target.config.backoff_max);
            self.save_if_due().await;
            if !self.pause(wait).await {
                return Delivery::Stopped;
            }
        }
    }

    async fn attempt(&self, message: &Message) -> Attempt {
        let later = |why: String| Attempt::Later { why, after: None };
        let client = &self.target.client;
        let url = self.wire.url(client.url());
        let request = match client.request(Method::POST, url).await {
            Ok(request) => request,
            Err(error) => return later(error_chain(&error)),
        };
        let request = self.wire.request(request, message);
        match request.send().await {
            Ok(response) => self.wire.judge(response, message).await,
            // The address may hold a secret.
            Err(error) => later(error_chain(&error.without_url())),
        }
    }

    fn works(&mut self) {
        self.wait = self.target.config.backoff_min;
        if self.target.counters.failing.swap(false, Relaxed) {
            let target = self.target.name();
            tracing::info!(target, "samples are passed on again");
        }
    }

    fn say_refused(&mut self, samples: u64, why: &str) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            self.said = Some(now);
            let target = self.target.name();
            tracing::warn!(target, samples, why, "samples were refused for good and are dropped");
        }
    }

    fn say_unread(&mut self, why: &str) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            self.said = Some(now);
            let target = self.target.name();
            tracing::warn!(
                target,
                why,
                "samples were taken, but the answer that says which were refused cannot be read"
            );
        }
    }

    /// Tells a target of version 1 what is known about metrics. Not sent again when it fails: it will be
    /// told the next time.
    async fn describe_if_due(&mut self) -> Delivery {
        let now = Instant::now();
        let is_due = self.described.is_none_or(|at| now.duration_since(at) >= DESCRIBE_EVERY);
        if self.wire != Wire::RemoteWrite(Version::One) || !is_due {
            return Delivery::Done;
        }
        for message in descriptions(self.store.metadata()) {
            self.described = Some(now);
            let attempt = tokio::select! {
                attempt = self.attempt(&message) => attempt,
                () = self.stop.cancelled() => return Delivery::Stopped,
            };
            if let Attempt::Later { why, .. } | Attempt::Refused { why, .. } = attempt {
                let target = self.target.name();
                tracing::debug!(target, why, "descriptions of metrics were not taken");
                break;
            }
        }
        Delivery::Done
    }

    /// Saves the cursor, and says what was lost since it was last said.
    async fn save_if_due(&mut self) {
        if self.saved.elapsed() < SAVE_EVERY {
            return;
        }
        self.saved = Instant::now();
        let (store, name) = (self.store.clone(), self.target.name().to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let lost = store.follower(&name).map_or(0, |follower| follower.samples_lost);
            (store.save_cursors(), lost)
        });
        let Ok((saved, lost)) = looked.await else { return };
        if let Err(error) = saved {
            // The next call tries again; a restart before it sends some samples twice.
            tracing::debug!(error = error_chain(&error), "cannot save a cursor");
        }
        let samples = lost.saturating_sub(self.lost);
        if samples > 0 {
            self.lost = lost;
            let target = self.target.name();
            tracing::warn!(target, samples, "samples were dropped before they could be passed on");
        }
    }

    /// Waits; says whether to go on.
    async fn pause(&self, wait: Duration) -> bool {
        self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_breaks_is_begun_again_after_a_wait_and_counted() {
        let (counters, stop) = (Counters::default(), CancellationToken::new());
        let begun = Instant::now();
        let mut times = Vec::new();
        let make = || {
            times.push(begun.elapsed().as_secs());
            let number = times.len();
            async move {
                match number {
                    // One that ran for long before it broke is not waited for long.
                    9 => tokio::time::sleep(Duration::from_secs(100)).await,
                    11 => return,
                    _ => tokio::task::yield_now().await,
                }
                panic!("on purpose");
            }
        };
        again_when_broken("a", &counters, &stop, make).await;
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123, 183, 284, 286]);
        assert_eq!(counters.restarts.load(Relaxed), 10);
        assert!(counters.failing.load(Relaxed));
        // And not when the collector stops.
        let ends = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            stop.cancel();
        };
        let breaks = || async { panic!("on purpose") };
        tokio::join!(again_when_broken("a", &counters, &stop, breaks), ends);
        assert_eq!(counters.restarts.load(Relaxed), 11);
        // Nor does it outlive the one who waits for it.
        let (alive, gone) = tokio::sync::oneshot::channel::<()>();
        let mut alive = Some(alive);
        let never = || {
            let alive = alive.take();
            async move {
                std::future::pending::<()>().await;
                drop(alive);
            }
        };
        let stop = CancellationToken::new();
        let kept = again_when_broken("a", &counters, &stop, never);
        assert!(tokio::time::timeout(Duration::from_secs(1), kept).await.is_err());
        assert!(gone.await.is_err());
    }
}

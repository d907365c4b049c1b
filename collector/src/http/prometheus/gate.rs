//! How many queries run at once, how long, and who stops them.
//!
//! A query runs on a blocking thread and looks at its [`Stop`] now and then. It is told to stop when
//! its time is up or when the one who asked has gone away (the handler's future is dropped); the
//! answer does not wait for it, but its place is free only once it has really stopped.
//!
//! Most questions take one turn ([`Gate::run`]). One whose answer goes out as it is read takes several
//! ([`Turns`]): while what was read waits for its reader, others have the turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::active::{Active, Asked, Listed, Table};
use super::reply::{ApiError, ErrorKind};

/// Most queries that wait for their turn: a dashboard of a few hundred panels, opened twice. More
/// are refused at once.
const WAITING_MAX: usize = 1024;

/// The queue before the blocking threads.
#[derive(Debug)]
pub struct Gate {
    running: Arc<Semaphore>,
    running_max: usize,
    admitted: Arc<Semaphore>,
    timeout_max: Duration,
    /// Longer ones are logged.
    slow: Duration,
    counters: Arc<Counters>,
    active: Arc<Table>,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    abandoned: AtomicU64,
    running: AtomicU64,
    /// By [`Outgoing`].
    incomplete: [AtomicU64; 2],
}

/// What is handed out to other servers in forms that have no place for warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// `/federate`.
    Federation,
    /// `/api/v1/read`.
    Read,
}

impl Outgoing {
    /// The route.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Federation => "/federate",
            Self::Read => "/api/v1/read",
        }
    }
}

/// What the gate has seen since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateFigures {
    /// Queries begun.
    pub started: u64,
    /// Queries turned away because too many waited.
    pub refused: u64,
    /// Queries stopped for taking too long, the wait included.
    pub timed_out: u64,
    /// Queries whose sender went away before the answer.
    pub abandoned: u64,
    /// Queries running now.
    pub running: u64,
    /// Answers that may lack something because of damage and had no place to say so: federations, and
    /// answers to remote read.
    pub incomplete: [u64; 2],
}

/// Says whether to go on, and how long it was waited for.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    waited: Duration,
    /// When nobody wants the answer from here any more.
    deadline: Option<Instant>,
}

impl Stop {
    #[cfg(test)]
    pub(super) fn said(asked: bool) -> Self {
        Self { asked: Arc::new(AtomicBool::new(asked)), ..Self::default() }
    }

    /// Whether nobody wants the answer any more.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// When it is to stop by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is set then.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// From when the question came until it was its turn.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn say(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

/// Tells the query to stop when the one who waits for it goes away.
struct StopOnDrop {
    stop: Stop,
    counters: Arc<Counters>,
    answered: bool,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if !self.answered {
            self.stop.say();
            self.counters.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts a query as running for as long as it has its thread.
struct Running(Arc<Counters>);

impl Running {
    fn new(counters: &Arc<Counters>, is_first_turn: bool) -> Self {
        counters.started.fetch_add(u64::from(is_first_turn), Ordering::Relaxed);
        counters.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// A gate for `concurrency_max` queries at once, each of at most `timeout_max`.
    #[must_use]
    pub fn new(concurrency_max: usize, timeout_max: Duration) -> Self {
        let running = concurrency_max.clamp(1, Semaphore::MAX_PERMITS - WAITING_MAX);
        Self {
            running: Arc::new(Semaphore::new(running)),
            running_max: running,
            admitted: Arc::new(Semaphore::new(running + WAITING_MAX)),
            timeout_max,
            slow: Duration::MAX,
            counters: Arc::default(),
            active: Arc::default(),
        }
    }

    /// The same that logs what takes so long or longer.
    #[must_use]
    pub fn logging(self, slow: Duration) -> Self {
        Self { slow, ..self }
    }

    /// Counts a question that was answered without a turn.
    pub(super) fn answered_at_once(&self) {
        self.counters.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Says in the log why an answer may lack something, and counts it; for answers that cannot say it
    /// themselves.
    pub(super) fn incomplete(&self, outgoing: Outgoing, warnings: &[String]) {
        if warnings.is_empty() {
            return;
        }
        if let Some(count) = self.counters.incomplete.get(outgoing as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (path, warnings) = (outgoing.path(), warnings.join("; "));
        tracing::warn!(path, warnings, "an answer may be incomplete");
    }

    /// Lists a question that is answered elsewhere, until what is returned is dropped.
    pub(super) fn list(&self, asked: Asked) -> Listed {
        let listed = self.active.enter(asked, self.slow);
        listed.runs();
        listed
    }

    /// What is asked now, the oldest first.
    pub(super) fn active(&self) -> Vec<Active> {
        self.active.list()
    }

    /// How many queries may run at once.
    pub(super) fn running_max(&self) -> usize {
        self.running_max
    }

    /// The longest a query may take.
    #[must_use]
    pub fn timeout_max(&self) -> Duration {
        self.timeout_max
    }

    /// What has been seen so far.
    #[must_use]
    pub fn figures(&self) -> GateFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GateFigures {
            started: read(&self.counters.started),
            refused: read(&self.counters.refused),
            timed_out: read(&self.counters.timed_out),
            abandoned: read(&self.counters.abandoned),
            running: read(&self.counters.running),
            incomplete: self.counters.incomplete.each_ref().map(read),
        }
    }

    /// Runs short work on this thread if it can have a turn now; `None` when it cannot. It is told to stop
    /// after `most`, and counts as begun if it has an answer.
    pub(super) fn run_here<T>(
        &self,
        most: Duration,
        work: impl FnOnce(&Stop) -> Option<T>,
    ) -> Option<Option<T>> {
        // What takes that long is listed and logged, and may not take longer.
        if most >= self.slow.min(self.timeout_max) {
            return None;
        }
        let turn = self.running.try_acquire().ok()?;
        self.counters.running.fetch_add(1, Ordering::Relaxed);
        let stop = Stop { deadline: Some(Instant::now() + most), ..Stop::default() };
        let answer = work(&stop);
        self.counters.running.fetch_sub(1, Ordering::Relaxed);
        drop(turn);
        if answer.is_some() {
            self.answered_at_once();
        }
        Some(answer)
    }

    /// Runs work on a blocking thread once it is its turn.
    ///
    /// # Errors
    /// The work's own error; `timeout` when it and the wait for it took longer than `timeout`;
    /// `unavailable` when too many wait; `internal` when the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        asked: Asked,
        timeout: Duration,
        work: impl FnOnce(&Stop) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let mut turns = self.enter(asked, timeout)?;
        let outcome = turns.turn(work).await;
        turns.end(outcome.as_ref().err());
        outcome
    }

    /// Lets a question in that takes several turns; they and the waits for them take `timeout` at most,
    /// all together.
    ///
    /// # Errors
    /// `unavailable` when too many wait.
    pub(super) fn enter(&self, asked: Asked, timeout: Duration) -> Result<Turns, ApiError> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!("more than {WAITING_MAX} queries are waiting");
            return Err(ApiError::new(ErrorKind::Unavailable, message));
        };
        Ok(Turns {
            running: Arc::clone(&self.running),
            admitted: Arc::new(admitted),
            listed: Arc::new(self.active.enter(asked, self.slow)),
            guard: StopOnDrop {
                stop: Stop::default(),
                counters: Arc::clone(&self.counters),
                answered: false,
            },
            left: timeout.min(self.timeout_max),
            has_begun: false,
        })
    }
}

/// A question that was let in. One that is dropped before its end was abandoned.
pub(super) struct Turns {
    running: Arc<Semaphore>,
    admitted: Arc<OwnedSemaphorePermit>,
    listed: Arc<Listed>,
    guard: StopOnDrop,
    left: Duration,
    has_begun: bool,
}

impl Turns {
    /// Runs work on a blocking thread once it is its turn.
    ///
    /// # Errors
    /// As [`Gate::run`], but for `unavailable`.
    pub(super) async fn turn<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Stop) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let came = Instant::now();
        let deadline = came + self.left;
        let (stop, counters) = (self.guard.stop.clone(), Arc::clone(&self.guard.counters));
        let (listed, admitted) = (Arc::clone(&self.listed), Arc::clone(&self.admitted));
        let turn = Arc::clone(&self.running).acquire_owned();
        let (is_first, has_run) = (!self.has_begun, AtomicBool::new(false));
        let outcome = tokio::time::timeout_at(deadline, async {
            let turn = turn.await.map_err(|_closed| stopped())?;
            let running = Running::new(&counters, is_first);
            has_run.store(true, Ordering::Relaxed);
            listed.runs();
            let span = tracing::debug_span!("evaluate");
            let task = tokio::task::spawn_blocking(move || {
                let stop = Stop { waited: came.elapsed(), ..stop };
                let result = span.in_scope(|| work(&stop));
                drop((running, turn, admitted, listed));
                result
            });
            task.await.map_err(|_panicked| stopped())?
        })
        .await;
        let has_run = has_run.into_inner();
        self.has_begun |= has_run;
        self.left = deadline.saturating_duration_since(Instant::now());
        outcome.unwrap_or_else(|_elapsed| {
            self.guard.stop.say();
            self.guard.counters.timed_out.fetch_add(1, Ordering::Relaxed);
            let phase = if has_run { "expression evaluation" } else { "query queue" };
            Err(ApiError::new(ErrorKind::Timeout, format!("query timed out in {phase}")))
        })
    }

    /// The question was answered, or not because of an error.
    pub(super) fn end(mut self, error: Option<&ApiError>) {
        self.guard.answered = true;
        self.listed.end(error.map_or("answered", |error| error.kind().as_str()));
    }
}

/// The runtime is going down, or the work panicked (which the panic hook has logged).
fn stopped() -> ApiError {
    ApiError::new(ErrorKind::Internal, "the query ended without an answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Runs until told to stop, then says so.
    fn endless(
        stopped: std::sync::mpsc::SyncSender<()>,
    ) -> impl FnOnce(&Stop) -> Result<(), ApiError> + Send {
        move |stop| {
            while !stop.asked() {
                std::thread::yield_now();
            }
            stopped.send(()).map_err(|_gone| ApiError::bad_data("nobody listens"))
        }
    }

    #[tokio::test]
    async fn work_that_takes_too_long_is_stopped() {
        let gate = Gate::new(1, Duration::from_millis(20));
        let (tx, rx) = std::sync::mpsc::sync_channel(WAITING_MAX + 2);
        let error = gate.run(Asked::default(), LONG, endless(tx)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        rx.recv_timeout(LONG).unwrap();
        assert_eq!(gate.run(Asked::default(), LONG, |_| Ok(7)).await, Ok(7));
        let figures = gate.figures();
        assert_eq!((figures.started, figures.timed_out, figures.abandoned), (2, 1, 0));
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_stopped() {
        let gate = Arc::new(Gate::new(1, LONG));
        let (tx, rx) = std::sync::mpsc::sync_channel(WAITING_MAX + 2);
        let asking = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.run(Asked::default(), LONG, endless(tx)).await }
        });
        while gate.figures().running == 0 {
            tokio::task::yield_now().await;
        }
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        tokio::task::spawn_blocking(move || rx.recv_timeout(LONG)).await.unwrap().unwrap();
        assert_eq!(gate.figures().abandoned, 1);
    }

    #[tokio::test]
    async fn only_so_many_run_and_wait() {
        let gate = Arc::new(Gate::new(1, Duration::from_millis(50)));
        let (tx, _rx) = std::sync::mpsc::sync_channel(WAITING_MAX + 2);
        let mut asked = Vec::new();
        for _ in 0..=WAITING_MAX {
            let (gate, work) = (Arc::clone(&gate), endless(tx.clone()));
            asked.push(tokio::spawn(async move { gate.run(Asked::default(), LONG, work).await }));
        }
        while gate.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.figures().running, 1);
        let error = gate.run(Asked::default(), LONG, |_| Ok(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for waiting in asked {
            assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(gate.figures().refused, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_here_has_a_turn_or_is_not_tried() {
        let gate = Gate::new(1, LONG);
        let short = Duration::from_millis(1);
        let answer = gate.run_here(short, |stop| {
            assert_eq!(gate.figures().running, 1);
            assert!(gate.run_here(short, |_| Some(())).is_none(), "one turn, two have it");
            (!stop.asked()).then_some(7)
        });
        assert_eq!(answer, Some(Some(7)));
        let mut stop = Stop::default();
        let none = gate.run_here(short, |given| {
            stop = given.clone();
            None::<()>
        });
        assert_eq!(none, Some(None));
        assert!(!stop.asked());
        tokio::time::advance(short).await;
        assert!(stop.asked());
        let figures = gate.figures();
        assert_eq!((figures.started, figures.running), (1, 0));
        // What takes so long is logged: it takes its turn.
        assert!(gate.logging(short).run_here(short, |_| Some(())).is_none());
    }

    #[tokio::test]
    async fn between_turns_others_have_theirs() {
        let gate = Gate::new(1, LONG);
        let mut turns = gate.enter(Asked::default(), LONG).unwrap();
        assert_eq!(turns.turn(|_| Ok(1)).await, Ok(1));
        assert_eq!(gate.run(Asked::default(), LONG, |_| Ok(2)).await, Ok(2));
        assert_eq!(turns.turn(|_| Ok(3)).await, Ok(3));
        let (tx, _rx) = std::sync::mpsc::sync_channel(1);
        turns.left = Duration::from_millis(20);
        assert_eq!(turns.turn(endless(tx)).await.unwrap_err().kind(), ErrorKind::Timeout);
        turns.end(None);
        drop(gate.enter(Asked::default(), LONG).unwrap());
        let figures = gate.figures();
        assert_eq!((figures.started, figures.timed_out, figures.abandoned), (2, 1, 1));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let gate = Gate::new(1, LONG);
        let error =
            gate.run::<()>(Asked::default(), LONG, |_| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(gate.run(Asked::default(), LONG, |_| Ok(1)).await, Ok(1));
    }
}

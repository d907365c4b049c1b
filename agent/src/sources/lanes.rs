//! Calls that may never return, done on threads that can be left behind.
//!
//! One thread (a lane) does the jobs of a round in order. When a job outlasts the caller's patience,
//! its lane is left behind with it and a new lane does the rest. A lane that was left behind hands
//! its job's result to a later round and ends; so a call stuck in the kernel costs one parked thread
//! and nothing else. There are at most `threads_max` lanes; when all are left behind, jobs are handed
//! back undone. Where jobs are merely slow, one after another, none is begun when the round's time is up.
//!
//! The price is two thread switches a round. Knows nothing of what the jobs do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Enough for a statfs or a reading; pages untouched cost nothing.
const STACK_BYTES: usize = 512 << 10;

/// Threads that do jobs of type `J`, giving `R`.
#[derive(Debug)]
pub(crate) struct Lanes<J, R> {
    name: &'static str,
    work: fn(J) -> R,
    threads_max: usize,
    free: Option<Arc<Lane<J, R>>>,
    behind: Vec<Arc<Lane<J, R>>>,
}

/// What a round of jobs came to; what is in neither list is still being done.
#[derive(Debug)]
pub(crate) struct Round<J, R> {
    /// Jobs done, by key, of this round or of earlier ones.
    pub(crate) done: Vec<(usize, R)>,
    /// Jobs not begun, because all lanes are left behind.
    pub(crate) undone: Vec<(usize, J)>,
}

#[derive(Debug)]
struct Lane<J, R> {
    /// Held for moments only, never during a job.
    state: Mutex<LaneState<J, R>>,
    /// The lane has something to do, or should end.
    work: Condvar,
    /// The lane has done all it had.
    idle: Condvar,
}

#[derive(Debug)]
struct LaneState<J, R> {
    todo: VecDeque<(usize, J)>,
    /// Since when the lane has been in its current job.
    busy_since: Option<Instant>,
    done: Vec<(usize, R)>,
    /// The lane ends when its job returns.
    ending: bool,
}

impl<J: Send + 'static, R: Send + 'static> Lanes<J, R> {
    /// `work` must not panic; it may block for ever.
    pub(crate) fn new(name: &'static str, threads_max: usize, work: fn(J) -> R) -> Self {
        Self { name, work, threads_max, free: None, behind: Vec::new() }
    }

    /// Does `jobs` in order, waiting at most `patience` for each; the key comes back with the result.
    /// None is begun once `round` is over.
    pub(crate) fn run(
        &mut self,
        jobs: Vec<(usize, J)>,
        patience: Duration,
        round: Duration,
    ) -> Round<J, R> {
        let until = now() + round;
        let mut done = self.collect_behind();
        let mut todo = VecDeque::from(jobs);
        while !todo.is_empty() && now() < until {
            let Some(lane) = self.free_lane() else { break };
            todo = run_on(&lane, todo, patience, until, &mut done);
            if lane.lock().ending {
                self.free = None;
                self.behind.push(lane);
            }
        }
        Round { done, undone: todo.into() }
    }

    /// How many lanes are stuck in a job.
    pub(crate) fn behind(&self) -> usize {
        self.behind.len()
    }

    fn collect_behind(&mut self) -> Vec<(usize, R)> {
        let mut done = Vec::new();
        self.behind.retain(|lane| {
            let mut state = lane.lock();
            done.append(&mut state.done);
            state.busy_since.is_some()
        });
        done
    }

    fn free_lane(&mut self) -> Option<Arc<Lane<J, R>>> {
        if let Some(lane) = &self.free {
            return Some(Arc::clone(lane));
        }
        if self.behind.len() >= self.threads_max {
            return None;
        }
        let lane = Arc::new(Lane::new());
        let (worker, work) = (Arc::clone(&lane), self.work);
        let thread = std::thread::Builder::new().name(self.name.to_owned());
        // A host out of threads: the jobs come back undone and are tried again later.
        thread.stack_size(STACK_BYTES).spawn(move || worker.serve(work)).ok()?;
        self.free = Some(Arc::clone(&lane));
        Some(lane)
    }
}

/// Gives `todo` to the lane; returns what it did not begin because a job outlasted `patience`, or
/// because it was to begin none after `until`.
fn run_on<J, R>(
    lane: &Lane<J, R>,
    todo: VecDeque<(usize, J)>,
    patience: Duration,
    until: Instant,
    done: &mut Vec<(usize, R)>,
) -> VecDeque<(usize, J)> {
    let mut undone = VecDeque::new();
    let mut state = lane.lock();
    state.todo = todo;
    // Being woken and beginning counts as part of the first job.
    state.busy_since = Some(now());
    lane.work.notify_one();
    while let Some(since) = state.busy_since {
        let mut left = patience.saturating_sub(since.elapsed());
        if left.is_zero() {
            state.ending = true;
            break;
        }
        match until.saturating_duration_since(now()) {
            Duration::ZERO => undone.append(&mut state.todo),
            of_round => left = left.min(of_round),
        }
        state = lane.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    done.append(&mut state.done);
    undone.append(&mut state.todo);
    undone
}

impl<J, R> Lane<J, R> {
    fn new() -> Self {
        let state =
            LaneState { todo: VecDeque::new(), busy_since: None, done: Vec::new(), ending: false };
        Self { state: Mutex::new(state), work: Condvar::new(), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, LaneState<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, work: fn(J) -> R) {
        let mut state = self.lock();
        loop {
            if let Some((key, job)) = state.todo.pop_front() {
                state.busy_since = Some(now());
                drop(state);
                let result = work(job);
                state = self.lock();
                state.done.push((key, result));
            } else {
                state.busy_since = None;
                self.idle.notify_one();
                if state.ending {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl<J, R> Drop for Lanes<J, R> {
    fn drop(&mut self) {
        if let Some(lane) = &self.free {
            lane.lock().ending = true;
            lane.work.notify_one();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a thread has been in a call")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const ROUND: Duration = Duration::from_secs(600);

    type Job = Option<Receiver<()>>;

    /// Returns at once, or when the receiver's sender is gone.
    fn work(job: Job) -> &'static str {
        match job {
            None => "quick",
            Some(gate) => gate.recv().map_or("slow", |()| "told"),
        }
    }

    #[test]
    fn a_stuck_job_costs_itself_only_and_is_handed_in_later() {
        let mut lanes = Lanes::new("test", 2, work);
        // Long enough for a quick job on a busy machine.
        let patience = Duration::from_secs(1);
        let (hold, gate) = channel();
        let round = lanes.run(vec![(0, None), (1, Some(gate)), (2, None)], patience, ROUND);
        assert_eq!(round.done, [(0, "quick"), (2, "quick")]);
        assert!(round.undone.is_empty());
        assert_eq!(lanes.behind(), 1);

        let (hold_too, gate) = channel();
        let round = lanes.run(vec![(3, Some(gate)), (4, None)], patience, ROUND);
        assert_eq!(round.done, []);
        assert_eq!(round.undone.len(), 1, "all lanes are left behind");
        assert_eq!(lanes.behind(), 2);

        drop((hold, hold_too));
        let mut done = Vec::new();
        while lanes.behind() > 0 {
            done.extend(lanes.run(Vec::new(), patience, ROUND).done);
            std::thread::yield_now();
        }
        done.sort_unstable();
        assert_eq!(done, [(1, "slow"), (3, "slow")]);
        assert_eq!(lanes.run(vec![(5, None)], patience, ROUND).done, [(5, "quick")]);
    }
}

//! What waits for the thread that appends.
//!
//! Handing over wakes the thread only when it has nothing to wait for, or when much waits: between two
//! commits two hundred senders would otherwise wake it two hundred times for what it can do at once.
//!
//! Bounds: [`super::BATCHES_WAITING_MAX`] batches; one more is refused. An end finds a place behind them.
//! The samples in them are bounded by who hands over.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::writer::Job;
use super::{BATCHES_WAITING_MAX, COMMIT_GATHER};

/// What waits is taken at once, whatever the pace, from so many samples on.
const MANY_SAMPLES: usize = super::COMMIT_BYTES_MAX / 16;

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    samples: usize,
    /// Whether the thread waits for any job; else it comes by itself.
    is_idle: bool,
    /// To be looked at now, whatever the pace: there are many, or it is to end.
    is_urgent: bool,
    /// One end is gone.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when the thread is to look.
    look: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that hands over; when it is dropped the other takes what is left, then an end.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

/// The end of the thread that appends.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Shared>);

pub(super) fn queue() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Hands a job over; never waits. False when nobody takes it any more, or too many wait.
    pub(super) fn send(&self, job: Job) -> bool {
        let mut queue = self.0.lock();
        let max = BATCHES_WAITING_MAX + usize::from(matches!(job, Job::Close));
        if queue.is_closed || queue.jobs.len() >= max {
            return false;
        }
        match &job {
            Job::Append(append) => queue.samples += append.room.num_permits(),
            Job::Close => queue.is_urgent = true,
        }
        queue.is_urgent |= queue.samples >= MANY_SAMPLES;
        queue.jobs.push_back(job);
        let wakes = queue.is_idle || queue.is_urgent;
        drop(queue);
        if wakes {
            self.0.look.notify_one();
        }
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        queue.is_urgent = true;
        drop(queue);
        self.0.look.notify_one();
    }
}

impl Receiver {
    /// All that waits. Before `paced` only what is urgent; none when it is `until` and nothing is
    /// there. What comes while nothing waits is given [`COMMIT_GATHER`] to be followed by more. A closed
    /// queue ends with a [`Job::Close`].
    pub(super) fn take(
        &self,
        paced: Option<Instant>,
        until: Option<Instant>,
        now: fn() -> Instant,
    ) -> VecDeque<Job> {
        let mut queue = self.0.lock();
        let mut paced = paced;
        loop {
            let left = |at: Option<Instant>| {
                let left = at.map(|at| at.saturating_duration_since(now()));
                left.filter(|left| *left > Duration::ZERO)
            };
            let (pace_left, until_left) = (left(paced), left(until));
            let is_due = pace_left.is_none() && !queue.jobs.is_empty();
            if is_due || queue.is_urgent || (until.is_some() && until_left.is_none()) {
                let ends = queue.is_closed && queue.jobs.is_empty();
                queue.samples = 0;
                queue.is_urgent = queue.is_closed;
                let mut jobs = std::mem::take(&mut queue.jobs);
                jobs.extend(ends.then_some(Job::Close));
                return jobs;
            }
            let was_idle = pace_left.is_none();
            queue.is_idle = was_idle;
            let wait = [pace_left, until_left].into_iter().flatten().min();
            queue = match wait {
                Some(wait) => {
                    let waited = self.0.look.wait_timeout(queue, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.look.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.is_idle = false;
            if was_idle && !queue.jobs.is_empty() {
                paced = Some(now() + COMMIT_GATHER);
            }
        }
    }

    /// Refuses all that comes from now on; what waits still.
    pub(super) fn close(&self) -> VecDeque<Job> {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        std::mem::take(&mut queue.jobs)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use stoa_tsdb::{Batch, GroupId};
    use tokio::sync::{Semaphore, oneshot};

    use super::super::writer::Append;
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "what the queue is paced by")]
    fn now() -> Instant {
        Instant::now()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_waits_is_taken_at_its_time() {
        let (sender, receiver) = queue();
        let later = Some(now() + LONG);
        assert_eq!(receiver.take(None, Some(now()), now).len(), 0, "nothing is there");
        assert!(sender.send(Job::Close));
        assert_eq!(receiver.take(later, None, now).len(), 1, "an end is urgent");
        let taken = std::thread::scope(|scope| {
            let taken = scope.spawn(|| receiver.take(later, None, now).len());
            drop(sender);
            taken.join().unwrap()
        });
        assert_eq!(taken, 1, "nobody sends any more");
        assert_eq!(receiver.take(later, None, now).len(), 1, "and never will");
    }

    /// A clock that stands still.
    fn standing() -> Instant {
        static AT: OnceLock<Instant> = OnceLock::new();
        *AT.get_or_init(now)
    }

    fn append() -> Job {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let batch = Batch { group: GroupId(1), rows: Vec::new(), marks: Vec::new() };
        let reply = oneshot::channel().0;
        Job::Append(Append { batch, histograms: Vec::new(), came: standing(), reply, room })
    }

    #[test]
    fn what_comes_after_a_pause_waits_for_what_comes_with_it() {
        let (sender, receiver) = queue();
        let shared = Arc::clone(&sender.0);
        let taken = std::thread::scope(|scope| {
            let taken = scope.spawn(|| receiver.take(None, None, standing).len());
            while !shared.lock().is_idle {
                std::thread::yield_now();
            }
            assert!(sender.send(append()));
            // Until the thread has seen it, and taken it or waits on.
            while shared.lock().is_idle {
                std::thread::yield_now();
            }
            assert!(sender.send(append()));
            drop(sender);
            taken.join().unwrap()
        });
        assert_eq!(taken, 2);
    }

    #[test]
    fn the_queue_has_a_bound_and_an_end() {
        let (sender, receiver) = queue();
        let sent = (0..BATCHES_WAITING_MAX + 10).filter(|_| sender.send(append())).count();
        assert_eq!(sent, BATCHES_WAITING_MAX);
        assert!(sender.send(Job::Close), "an end is never too much");
        assert!(!sender.send(Job::Close));
        assert_eq!(receiver.close().len(), sent + 1);
        assert!(!sender.send(Job::Close));
    }
}

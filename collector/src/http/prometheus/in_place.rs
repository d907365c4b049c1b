//! Questions that may be short, tried where they came in before they take a turn.
//!
//! A turn on a blocking thread costs two changes of threads, and on a dashboard's questions these take
//! longer than the answers. So when a turn is free and nobody waits for one, a question is begun on the
//! thread of its connection, which gives all its other tasks to another thread first
//! ([`tokio::task::block_in_place`]): it may read files and wait for locks as on a blocking thread. Who
//! asked is not looked after meanwhile, so it is broken off after [`TIME_MAX`] and asked again in its
//! turn, where whoever goes away or has waited too long ends it.
//!
//! Bounds: a try holds a permit of the [`super::Gate`], takes [`TIME_MAX`] and what goes by until it looks
//! at the clock again, and is not made of texts whose work is not bounded by what they read
//! ([`super::at_once::is_small`]). What was broken off is not tried the next [`REST`] times it is asked:
//! [`Overran`] remembers 32 of them.

use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::params::Params;
use super::reply::Success;
use super::{Shared, Work, at_once};

/// How long a try may take.
const TIME_MAX: Duration = Duration::from_millis(2);

/// How often a question that was broken off takes its turn at once before it is tried again.
const REST: u64 = 15;

/// Questions that were broken off.
#[derive(Debug, Default)]
pub(super) struct Overran {
    hasher: RandomState,
    /// Of each a hash, the lowest bits of which count down how often it is not tried.
    seen: [AtomicU64; 32],
}

impl Overran {
    fn slot(&self, question: &[&str]) -> (Option<&AtomicU64>, u64) {
        let hash = self.hasher.hash_one(question);
        let at = usize::try_from(hash >> 32).unwrap_or(0) % self.seen.len();
        (self.seen.get(at), hash & !REST)
    }

    /// Whether it is to take its turn.
    fn rests(&self, question: &[&str]) -> bool {
        let (Some(slot), hash) = self.slot(question) else { return false };
        let known = slot.load(Relaxed);
        // Two at a time may count as one: it is tried a little later.
        let rests = known & !REST == hash && known & REST > 0;
        if rests {
            slot.store(known - 1, Relaxed);
        }
        rests
    }

    fn note(&self, question: &[&str]) {
        if let (Some(slot), hash) = self.slot(question) {
            slot.store(hash | REST, Relaxed);
        }
    }
}

/// The answer of `work` to a question, if it is had in place.
pub(super) fn answer(shared: &Arc<Shared>, params: &Params, work: Work) -> Option<Success> {
    let text = params.get("query")?;
    let is_plain = params.get("stats").is_none() && params.get("timeout").is_none();
    if !is_plain || !at_once::is_small(text) {
        return None;
    }
    // A runtime of one thread has nobody to give its tasks to.
    if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
        return None;
    }
    // The same panel asks for another stretch each time, and for another length with another step.
    let about = [text, params.get("step").unwrap_or("")];
    if shared.overran.rests(&about) {
        return None;
    }
    shared.gate.run_here(TIME_MAX, |stop| {
        // What panics or is refused is asked again in its turn, where that is an answer.
        let work = || catch_unwind(AssertUnwindSafe(|| work(stop))).ok()?.ok();
        let answer = block_in_place(work);
        if answer.is_none() && stop.asked() {
            shared.overran.note(&about);
        }
        answer
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overran_rests_for_a_while() {
        let overran = Overran::default();
        let (one, other) = (["a", "15"], ["a", "60"]);
        assert!(!overran.rests(&one));
        overran.note(&one);
        for _ in 0..REST {
            assert!(overran.rests(&one));
        }
        assert!(!overran.rests(&one) && !overran.rests(&other));
    }
}

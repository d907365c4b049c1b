//! What one pass over the sources came to, for a person: of each source what it read, or why it did not.

use std::time::Duration;

use serde::Serialize;
use stoa_daemon::{Span, error_chain};

use super::Sampler;
use super::slot::Slot;
use crate::sources::Problem;

/// Of each source at most so many problems are told; of the rest how many there are.
const WHY_MAX: usize = 5;

/// What a source read.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// The source's name.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// How many series it told.
    pub series: usize,
    /// What reading it took; `None` while it has not come back.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Option<Duration>,
    /// What this host does not have, or what is wrong; nothing where all was read.
    pub why: Vec<String>,
}

/// How reading went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All was read.
    Read,
    /// Some was.
    Part,
    /// The host does not have what it would tell.
    Absent,
    /// It could not do its work.
    Fails,
    /// It has not come back.
    Late,
}

impl State {
    /// Whether there is something to mend.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Part | Self::Fails | Self::Late)
    }
}

fn seconds<S: serde::Serializer>(took: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    took.map(|took| took.as_secs_f64()).serialize(to)
}

impl Sampler {
    /// What the sources read last, in their order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.slots.iter().map(seen).collect()
    }

    /// The sources that are read beside the ticks and are still out, having begun so long ago; not those
    /// that should be back.
    pub(super) fn out(&self, since: Duration) -> Vec<&'static str> {
        let is_out =
            |slot: &&Slot| slot.is_beside_and_out() && slot.deadline.is_some_and(|by| since < by);
        self.slots.iter().filter(is_out).map(|slot| slot.name).collect()
    }
}

fn seen(slot: &Slot) -> Seen {
    let Some(told) = &slot.told else {
        let why = match slot.deadline {
            _ if slot.is_waiting() => {
                "it was not asked: others took all the time, or the host has no thread to give"
                    .to_owned()
            }
            Some(deadline) => format!("it has not come back within {}", Span(deadline)),
            None => "it has not come back".to_owned(),
        };
        return Seen { name: slot.name, state: State::Late, series: 0, took: None, why: vec![why] };
    };
    let reading = &told.reading;
    let state = match (reading.failed, reading.problems.is_empty()) {
        (false, true) => State::Read,
        (false, false) => State::Part,
        (true, true) => State::Absent,
        (true, false) => State::Fails,
    };
    let mut why: Vec<String> =
        reading.problems.iter().take(WHY_MAX).map(|p| error_chain(p)).collect();
    let more = reading.problems.len().saturating_sub(WHY_MAX);
    if more > 0 {
        why.push(format!("and {more} more"));
    }
    let series = reading.families().map(|family| family.metrics.len()).sum();
    if series == 0 && why.is_empty() {
        why.push(reading.absent.as_deref().map_or("this host has none".to_owned(), missing));
    }
    Seen { name: slot.name, state, series, took: Some(told.duration), why }
}

/// What is not there, in fewer words than those of an error.
fn missing(absent: &Problem) -> String {
    match absent {
        Problem::Read { path, .. } => format!("there is no {}", path.display()),
        other => error_chain(other),
    }
}

//! Questions that are not asked at each reading, and what was answered last.
//!
//! What is wanted is said anew at each reading; what is no longer wanted (a guest that is gone, a node
//! that is off) is forgotten with its answer. Asks those that are due, few at first, many last, each
//! kind by how long it waited; a node that does not answer is asked nothing more in that reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::{Api, Fault, QUESTIONS_MAX};
use crate::sources::Now;

/// What was not answered is asked again so soon, if it would not be sooner by itself.
const RETRY: Duration = Duration::from_secs(120);
/// Less time than this is left for no question.
const LEAST: Duration = Duration::from_millis(500);

/// A question to the API.
pub(super) trait Question: Clone + Ord + fmt::Debug {
    type Answer: fmt::Debug;

    /// Behind `/api2/json/`.
    fn path(&self) -> String;

    /// How old its answer may become.
    fn every(&self) -> Duration;

    /// The node that has to answer it.
    fn node(&self) -> Option<&str> {
        None
    }

    /// Whether there are so many of it that others go first.
    fn is_bulk(&self) -> bool {
        false
    }

    /// Whether it is no fault when the API lacks it or the token's rights do not reach.
    fn is_optional(&self) -> bool {
        false
    }

    fn read(&self, body: &[u8]) -> serde_json::Result<Self::Answer>;
}

/// The questions of one server.
#[derive(Debug)]
pub(super) struct Notebook<Q: Question> {
    entries: BTreeMap<Q, Entry<Q::Answer>>,
    /// Nodes that did not answer when they were asked last.
    away: BTreeMap<String, Fault>,
}

#[derive(Debug)]
struct Entry<A> {
    asked: Option<Now>,
    outcome: Option<Result<A, Fault>>,
}

impl<Q: Question> Notebook<Q> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), away: BTreeMap::new() }
    }

    /// What is to be known from now on.
    pub(super) fn want(&mut self, wanted: BTreeSet<Q>) {
        self.entries.retain(|question, _| wanted.contains(question));
        for question in wanted {
            self.entries.entry(question).or_insert(Entry { asked: None, outcome: None });
        }
        let entries = &self.entries;
        let is_wanted = |node: &str| entries.keys().any(|question| question.node() == Some(node));
        self.away.retain(|node, _| is_wanted(node));
    }

    /// Asks what is due, until `until`.
    pub(super) async fn ask(&mut self, api: &Api, now: Now, until: Instant) {
        let is_due = |(question, entry): &(&Q, &Entry<Q::Answer>)| {
            let every = match &entry.outcome {
                Some(Ok(_)) => question.every(),
                Some(Err(fault)) if question.is_optional() && fault.is_lack() => question.every(),
                _ => question.every().min(RETRY),
            };
            entry.asked.is_none_or(|asked| now.is_past(asked, every))
        };
        let mut due: Vec<_> = self.entries.iter().filter(is_due).collect();
        due.sort_by_key(|(question, entry)| (question.is_bulk(), entry.asked));
        let due: Vec<Q> = due.into_iter().map(|(question, _)| question.clone()).collect();
        let mut asked = BTreeSet::new();
        for question in due.into_iter().take(QUESTIONS_MAX) {
            let left = until.saturating_duration_since(Instant::now());
            if left < LEAST {
                return;
            }
            let node = question.node().map(str::to_owned);
            let is_known_away = node
                .as_ref()
                .is_some_and(|node| asked.contains(node) && self.away.contains_key(node));
            let outcome = if is_known_away {
                None
            } else {
                let answer = api.get(&question.path(), left).await;
                Some(answer.and_then(|body| api.read(&body, |body| question.read(body))))
            };
            let outcome = match (node, outcome) {
                (Some(node), Some(Err(fault @ Fault::NodeAway(_)))) => {
                    asked.insert(node.clone());
                    self.away.insert(node, fault);
                    None
                }
                (Some(node), Some(outcome)) => {
                    asked.insert(node.clone());
                    self.away.remove(&node);
                    Some(outcome)
                }
                (_, outcome) => outcome,
            };
            self.entries.insert(question, Entry { asked: Some(now), outcome });
        }
    }

    /// What is known.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&Q, &Q::Answer)> {
        self.entries.iter().filter_map(|(question, entry)| match &entry.outcome {
            // What a node said that is away now is of no use.
            Some(Ok(answer)) if !self.is_away(question) => Some((question, answer)),
            _ => None,
        })
    }

    /// What was answered to one question.
    pub(super) fn answer(&self, question: &Q) -> Option<&Q::Answer> {
        self.entries.get(question)?.outcome.as_ref()?.as_ref().ok()
    }

    /// What has no answer for a reason that is worth telling, by path or node.
    pub(super) fn faults(&self) -> impl Iterator<Item = (String, &Fault)> {
        let away = self.away.iter().map(|(node, fault)| (format!("node {node}"), fault));
        let others = self.entries.iter().filter_map(|(question, entry)| match &entry.outcome {
            Some(Err(_)) if self.is_away(question) => None,
            Some(Err(fault)) if question.is_optional() && fault.is_lack() => None,
            Some(Err(fault)) => Some((question.path(), fault)),
            _ => None,
        });
        away.chain(others)
    }

    fn is_away(&self, question: &Q) -> bool {
        question.node().is_some_and(|node| self.away.contains_key(node))
    }
}

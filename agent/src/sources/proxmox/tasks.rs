//! What a server's list of tasks comes to, put together as it is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::told::Pairs;
use super::{Told, api};
use crate::sources::Desc;
use crate::sources::loose::{List, Number, Part, Text};

/// Tasks asked for: the newest.
pub(super) const TASKS: usize = 500;
/// Types of tasks told at most.
const TYPES_MAX: usize = 64;

/// Tasks by type.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// When the last of each type and result ended.
    ended: BTreeMap<(String, &'static str), f64>,
    /// When the first of those that run began.
    running: BTreeMap<String, f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Task {
    #[serde(rename = "type", alias = "worker_type")]
    kind: Text,
    starttime: Number,
    endtime: Number,
    status: Text,
}

/// What a finished task's status means; Proxmox writes `OK`, `WARNINGS: 2` or what went wrong.
pub(super) fn result(status: &str) -> &'static str {
    match status {
        "OK" => "ok",
        status if status.starts_with("WARNINGS") => "warnings",
        _ => "failed",
    }
}

impl Tasks {
    pub(super) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let tasks: List<Part<Task>> = api::data(body)?;
        let mut read = Self::default();
        let mut types = BTreeSet::new();
        for Part(task) in tasks.0 {
            let kind = task.kind.as_str();
            if types.len() >= TYPES_MAX && !types.contains(kind) {
                continue;
            }
            types.insert(kind.to_owned());
            match (task.endtime.0, task.starttime.0) {
                (Some(end), _) => {
                    let key = (kind.to_owned(), result(task.status.as_str()));
                    let last = read.ended.entry(key).or_insert(end);
                    *last = last.max(end);
                }
                (None, Some(start)) => {
                    let first = read.running.entry(kind.to_owned()).or_insert(start);
                    *first = first.min(start);
                }
                (None, None) => {}
            }
        }
        Ok(read)
    }

    pub(super) fn tell(&self, last: &Desc, running: &Desc, of: Pairs<'_>, told: &mut Told<'_>) {
        for ((kind, result), end) in &self.ended {
            let pairs = [of, &[("type", kind.as_str()), ("result", result)]].concat();
            told.push(last, &pairs, *end);
        }
        for (kind, start) in &self.running {
            let pairs = [of, &[("type", kind.as_str())]].concat();
            told.push(running, &pairs, *start);
        }
    }
}

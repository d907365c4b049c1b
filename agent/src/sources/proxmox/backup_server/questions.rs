//! What is asked seldom, how seldom, and what the answers look like.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::sources::loose::{List, Number, Part, Table, Text};
use crate::sources::proxmox::tasks::{TASKS, Tasks};
use crate::sources::proxmox::{Notebook, api, notebook};

use super::groups::Groups;

const MINUTE: Duration = Duration::from_secs(60);
/// Namespaces of a datastore that are read.
const NAMESPACES_MAX: usize = 64;

/// A question; the first are asked first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    Permissions,
    Tasks,
    Jobs(JobKind),
    Collections,
    Namespaces { store: String },
    Snapshots { store: String, namespace: String },
    Subscription,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum JobKind {
    Sync,
    Verify,
    Prune,
}

impl JobKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Verify => "verify",
            Self::Prune => "prune",
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    Permissions(Rights),
    Tasks(Tasks),
    Jobs(Vec<Job>),
    Collections(Vec<(Job, Collection)>),
    Namespaces(Vec<String>),
    Groups(Groups),
    Subscription(Subscription),
}

/// Whether datastores are shown to the token.
#[derive(Debug)]
pub(super) struct Rights {
    pub(super) can_audit: bool,
}

/// A job and its last run.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Job {
    pub(super) id: Text,
    pub(super) store: Text,
    pub(super) ns: Text,
    pub(super) last_run_endtime: Number,
    pub(super) last_run_state: Text,
    pub(super) next_run: Number,
    pub(super) duration: Number,
}

/// What the last garbage collection found.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Collection {
    pub(super) index_data_bytes: Number,
    pub(super) disk_bytes: Number,
    pub(super) removed_bytes: Number,
    pub(super) pending_bytes: Number,
    pub(super) still_bad: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscription {
    pub(super) status: Text,
    pub(super) productname: Text,
    pub(super) nextduedate: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    ns: Text,
}

/// What is to be known of these datastores.
pub(super) fn of(stores: &[&str], notebook: &Notebook<Question>) -> BTreeSet<Question> {
    let mut wanted = BTreeSet::from([
        Question::Permissions,
        Question::Tasks,
        Question::Jobs(JobKind::Sync),
        Question::Jobs(JobKind::Verify),
        Question::Jobs(JobKind::Prune),
        Question::Collections,
        Question::Subscription,
    ]);
    for store in stores {
        let store = (*store).to_owned();
        let namespaces = Question::Namespaces { store: store.clone() };
        if let Some(Answer::Namespaces(known)) = notebook.answer(&namespaces) {
            wanted.extend(known.iter().map(|namespace| {
                let (store, namespace) = (store.clone(), namespace.clone());
                Question::Snapshots { store, namespace }
            }));
        }
        wanted.insert(namespaces);
    }
    wanted
}

/// Whether a datastore's or a namespace's name can stand in an address.
pub(super) fn is_path(name: &str) -> bool {
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.split('/')
        .all(|part| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_sign))
}

fn list<T: DeserializeOwned + Default>(body: &[u8]) -> serde_json::Result<Vec<T>> {
    let List(parts): List<Part<T>> = api::data(body)?;
    Ok(parts.into_iter().map(|Part(part)| part).collect())
}

impl notebook::Question for Question {
    type Answer = Answer;

    fn path(&self) -> String {
        match self {
            Self::Permissions => "access/permissions".to_owned(),
            Self::Tasks => format!("nodes/localhost/tasks?limit={TASKS}"),
            Self::Jobs(kind) => format!("admin/{}", kind.name()),
            Self::Collections => "admin/gc".to_owned(),
            Self::Namespaces { store } => format!("admin/datastore/{store}/namespace"),
            Self::Snapshots { store, namespace } if namespace.is_empty() => {
                format!("admin/datastore/{store}/snapshots")
            }
            Self::Snapshots { store, namespace } => {
                format!("admin/datastore/{store}/snapshots?ns={namespace}")
            }
            Self::Subscription => "nodes/localhost/subscription".to_owned(),
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::Tasks => MINUTE,
            Self::Jobs(_) | Self::Collections => 2 * MINUTE,
            Self::Permissions => 5 * MINUTE,
            Self::Namespaces { .. } | Self::Snapshots { .. } => 10 * MINUTE,
            Self::Subscription => 60 * MINUTE,
        }
    }

    fn is_optional(&self) -> bool {
        // The subscription is for those who may audit the system, the others came with versions.
        matches!(self, Self::Permissions | Self::Collections | Self::Subscription)
    }

    fn read(&self, body: &[u8]) -> serde_json::Result<Answer> {
        Ok(match self {
            Self::Permissions => {
                let paths: Table<Table<Number>> = api::data(body)?;
                let can_audit = paths.0.iter().any(|(path, rights)| {
                    (path == "/" || path.starts_with("/datastore"))
                        && rights.0.contains_key("Datastore.Audit")
                });
                Answer::Permissions(Rights { can_audit })
            }
            Self::Tasks => Answer::Tasks(Tasks::read(body)?),
            Self::Jobs(_) => Answer::Jobs(list(body)?),
            Self::Collections => {
                let (jobs, found) = (list::<Job>(body)?, list::<Collection>(body)?);
                Answer::Collections(jobs.into_iter().zip(found).collect())
            }
            Self::Namespaces { .. } => {
                let names = list::<Namespace>(body)?.into_iter();
                let names = names.map(|namespace| namespace.ns.as_str().to_owned());
                let names = names.filter(|name| name.is_empty() || is_path(name));
                Answer::Namespaces(names.take(NAMESPACES_MAX).collect())
            }
            Self::Snapshots { .. } => Answer::Groups(Groups::read(body)?),
            Self::Subscription => Answer::Subscription(api::data::<Part<Subscription>>(body)?.0),
        })
    }
}

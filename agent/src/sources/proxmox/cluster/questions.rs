//! What is asked seldom, of whom, how seldom, and what the answers look like.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::sources::loose::{List, Number, Part, Table, Text};
use crate::sources::proxmox::backups::Backups;
use crate::sources::proxmox::tasks::{TASKS, Tasks};
use crate::sources::proxmox::{api, notebook};

use super::resources::{Kind, Overview};
use super::rights::{self, Permissions};

const MINUTE: Duration = Duration::from_secs(60);

/// A question; the first are asked first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    Permissions,
    NotBackedUp,
    QuorumDevice,
    Tasks { node: String },
    Replication { node: String },
    Backups { node: String, storage: String, is_shared: bool },
    Subscription { node: String },
    Updates { node: String },
    Disks { node: String },
    Config { node: String, guest: String },
    Snapshots { node: String, guest: String },
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    Permissions(Permissions),
    NotBackedUp(Vec<Unprotected>),
    QuorumDevice(QuorumDevice),
    Tasks(Tasks),
    Replication(Vec<Replication>),
    Backups(Backups),
    Subscription(Subscription),
    Updates(usize),
    Disks(Vec<Disk>),
    Config(Config),
    Snapshots(Vec<Snapshot>),
}

/// A guest of no backup job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unprotected {
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) vmid: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct QuorumDevice {
    #[serde(rename = "Model")]
    pub(super) model: Text,
    #[serde(rename = "Algorithm")]
    pub(super) algorithm: Text,
    #[serde(rename = "QNetd host")]
    pub(super) host: Text,
    #[serde(rename = "Tie-breaker")]
    pub(super) tie_breaker: Text,
    #[serde(rename = "State")]
    pub(super) state: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Replication {
    pub(super) id: Text,
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) source: Text,
    pub(super) target: Text,
    pub(super) vmtype: Text,
    pub(super) guest: Text,
    pub(super) duration: Number,
    pub(super) last_sync: Number,
    pub(super) last_try: Number,
    pub(super) next_sync: Number,
    pub(super) fail_count: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscription {
    pub(super) level: Text,
    pub(super) status: Text,
    pub(super) nextduedate: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) devpath: Text,
    pub(super) model: Text,
    pub(super) serial: Text,
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) health: Text,
    /// Percent that is left.
    pub(super) wearout: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) onboot: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    pub(super) name: Text,
    pub(super) snaptime: Number,
}

/// What is to be known of what the cluster consists of now.
pub(super) fn of(overview: &Overview, known: Option<&Answer>) -> BTreeSet<Question> {
    let mut wanted = BTreeSet::from([Question::Permissions, Question::NotBackedUp]);
    if overview.cluster().is_some() {
        wanted.insert(Question::QuorumDevice);
    }
    for node in overview.online_nodes().map(str::to_owned) {
        wanted.insert(Question::Tasks { node: node.clone() });
        wanted.insert(Question::Replication { node: node.clone() });
        wanted.insert(Question::Subscription { node: node.clone() });
        wanted.insert(Question::Updates { node: node.clone() });
        wanted.insert(Question::Disks { node });
    }
    for (node, storage, is_shared) in overview.backup_storages() {
        if rights::shows_backups(known, storage) {
            let (node, storage) = (node.to_owned(), storage.to_owned());
            wanted.insert(Question::Backups { node, storage, is_shared });
        }
    }
    for guest in overview.guests() {
        let node = guest.node.as_str().to_owned();
        if overview.is_online(&node) {
            let guest = guest.id.as_str().to_owned();
            wanted.insert(Question::Config { node: node.clone(), guest: guest.clone() });
            wanted.insert(Question::Snapshots { node, guest });
        }
    }
    wanted
}

fn list<T: DeserializeOwned + Default>(body: &[u8]) -> serde_json::Result<Vec<T>> {
    let List(parts): List<Part<T>> = api::data(body)?;
    Ok(parts.into_iter().map(|Part(part)| part).collect())
}

fn part<T: DeserializeOwned + Default>(body: &[u8]) -> serde_json::Result<T> {
    api::data::<Part<T>>(body).map(|Part(part)| part)
}

impl notebook::Question for Question {
    type Answer = Answer;

    fn path(&self) -> String {
        match self {
            Self::Permissions => "access/permissions".to_owned(),
            Self::NotBackedUp => "cluster/backup-info/not-backed-up".to_owned(),
            Self::QuorumDevice => "cluster/config/qdevice".to_owned(),
            Self::Tasks { node } => format!("nodes/{node}/tasks?source=all&limit={TASKS}"),
            Self::Replication { node } => format!("nodes/{node}/replication"),
            Self::Backups { node, storage, .. } => {
                format!("nodes/{node}/storage/{storage}/content?content=backup")
            }
            Self::Subscription { node } => format!("nodes/{node}/subscription"),
            Self::Updates { node } => format!("nodes/{node}/apt/update"),
            Self::Disks { node } => format!("nodes/{node}/disks/list"),
            Self::Config { node, guest } => format!("nodes/{node}/{guest}/config"),
            Self::Snapshots { node, guest } => format!("nodes/{node}/{guest}/snapshot"),
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::Tasks { .. } => MINUTE,
            Self::Replication { .. } => 2 * MINUTE,
            Self::Permissions | Self::NotBackedUp | Self::QuorumDevice => 5 * MINUTE,
            Self::Backups { .. } => 10 * MINUTE,
            Self::Config { .. } | Self::Snapshots { .. } => 30 * MINUTE,
            // The node asks each disk by smartctl.
            Self::Disks { .. } | Self::Updates { .. } | Self::Subscription { .. } => 60 * MINUTE,
        }
    }

    fn node(&self) -> Option<&str> {
        match self {
            Self::Permissions | Self::NotBackedUp | Self::QuorumDevice => None,
            Self::Tasks { node }
            | Self::Replication { node }
            | Self::Backups { node, .. }
            | Self::Subscription { node }
            | Self::Updates { node }
            | Self::Disks { node }
            | Self::Config { node, .. }
            | Self::Snapshots { node, .. } => Some(node),
        }
    }

    fn is_bulk(&self) -> bool {
        matches!(self, Self::Config { .. } | Self::Snapshots { .. })
    }

    fn is_optional(&self) -> bool {
        // Updates need more than auditors may (Sys.Modify); the others are missing in older versions.
        matches!(
            self,
            Self::Permissions | Self::NotBackedUp | Self::QuorumDevice | Self::Updates { .. }
        )
    }

    fn read(&self, body: &[u8]) -> serde_json::Result<Answer> {
        Ok(match self {
            Self::Permissions => {
                Answer::Permissions(api::data::<Table<Table<Number>>>(body)?.into())
            }
            Self::NotBackedUp => Answer::NotBackedUp(list(body)?),
            Self::QuorumDevice => Answer::QuorumDevice(part(body)?),
            Self::Tasks { .. } => Answer::Tasks(Tasks::read(body)?),
            Self::Replication { .. } => Answer::Replication(list(body)?),
            Self::Backups { .. } => Answer::Backups(Backups::read(body)?),
            Self::Subscription { .. } => Answer::Subscription(part(body)?),
            Self::Updates { .. } => Answer::Updates(list::<Config>(body)?.len()),
            Self::Disks { .. } => Answer::Disks(list(body)?),
            Self::Config { .. } => Answer::Config(part(body)?),
            Self::Snapshots { .. } => Answer::Snapshots(list(body)?),
        })
    }
}

/// Whether a guest's id can stand in a path.
pub(super) fn is_guest(kind: Kind, id: &str) -> bool {
    let digits = match kind {
        Kind::Qemu => id.strip_prefix("qemu/"),
        Kind::Lxc => id.strip_prefix("lxc/"),
        _ => None,
    };
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.len() < 12 && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

//! Proxmox VE and Proxmox Backup Server, by their APIs.
//!
//! [`Cluster`] (the source `proxmox`) asks one node of each cluster that is configured, and that node
//! answers for all of them; [`BackupServer`] asks each server. What is told is a target's: its `job`
//! is `pve` or `pbs`, its `instance` the host that is asked (decision 0012). Names are those of
//! prometheus-pve-exporter and pbs-exporter; what these have no name for is `stoa_*`.
//!
//! A reading first asks what changes by the second (three questions); all else is a question of a
//! [`Notebook`], asked again when its answer is old enough, those that waited longest first, so many in a
//! reading and no longer than its time. An answer is told until it is asked for again; where there was
//! none, its series are absent and the [`Fault`] is told once, however many questions met it.
//! Answers are read without trust ([`loose`](super::loose)): numbers come as texts, truths as numbers,
//! fields not at all.
//!
//! Knows no other source and nothing of this host: what a node's kernel says of its guests is read elsewhere.
//! Bounded: [`SERVERS_MAX`] of each kind, [`ANSWER_BYTES_MAX`] of an answer, [`GUESTS_MAX`] guests,
//! [`BACKUPS_MAX`] backups of one storage, [`QUESTIONS_MAX`] questions in a reading, [`BUDGET`] of time.

use std::time::Duration;

use serde::Deserialize;

use super::Reading;

mod api;
mod notebook;
mod round;
mod told;

mod backups;
mod tasks;

mod backup_server;
mod cluster;

pub(crate) use backup_server::BackupServer;
pub(crate) use cluster::Cluster;

use api::{Api, Fault, Product, Server};
use notebook::Notebook;
use round::{Round, Target};
use told::Told;

/// Clusters, and backup servers, asked at most.
const SERVERS_MAX: usize = 16;
/// The longest answer taken: 20,000 backups are some 10 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Guests of a cluster that are told.
const GUESTS_MAX: usize = 2000;
/// Backups of one storage that are read.
const BACKUPS_MAX: usize = 20_000;
/// Questions of notebooks asked in one reading, of each server.
const QUESTIONS_MAX: usize = 64;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long all servers of a source may take, shared out evenly among those still to be asked.
const BUDGET: Duration = Duration::from_secs(20);
/// What the API knows changes every ten seconds at most.
const INTERVAL: Duration = Duration::from_secs(30);
/// By then all have been asked; names that do not resolve take a resolver's patience besides.
const DEADLINE: Duration = Duration::from_secs(45);

/// What may be configured: one server by the table itself, more by a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Written")]
pub(crate) struct Settings {
    servers: Vec<Server>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "api::address")]
    url: Option<crate::web::Url>,
    instance: String,
    token: api::Token,
    token_file: std::path::PathBuf,
    #[serde(deserialize_with = "api::fingerprint")]
    fingerprint: Option<crate::web::Fingerprint>,
    ca: std::path::PathBuf,
    insecure: bool,
    /// More of them.
    servers: Vec<Server>,
}

impl From<Written> for Settings {
    fn from(written: Written) -> Self {
        let Written { url, instance, token, token_file, fingerprint, ca, insecure, servers } =
            written;
        let first = Server { url, instance, token, token_file, fingerprint, ca, insecure };
        let servers = std::iter::once(first).chain(servers);
        let is_named = |server: &Server| server.url.is_some();
        Self { servers: servers.filter(is_named).take(SERVERS_MAX).collect() }
    }
}

/// Notes what a server's questions met: each fault once, with how many questions met it.
fn note_faults<'f>(
    api: &Api,
    faults: impl Iterator<Item = (String, &'f Fault)>,
    reading: &mut Reading,
) {
    let mut met: Vec<(String, String, usize)> = Vec::new();
    for (path, fault) in faults {
        let fault = fault.to_string();
        match met.iter_mut().find(|(_, said, _)| *said == fault) {
            Some((.., more)) => *more += 1,
            None => met.push((path, fault, 0)),
        }
    }
    for (path, fault, more) in met {
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        reading.note(api.problem(&format!("{path}{more}: {fault}")));
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

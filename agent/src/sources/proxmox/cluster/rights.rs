//! What a token may see: the API leaves out of its lists what a token has no right to, so that an empty
//! list may be a missing right.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::loose::{Number, Table};

use super::questions::Answer;
use super::resources::Overview;

/// Storages named at most.
const NAMES_MAX: usize = 8;

/// Rights by path of the access control tree, as `access/permissions` says them.
#[derive(Debug)]
pub(super) struct Permissions(BTreeMap<String, BTreeMap<String, Number>>);

impl From<Table<Table<Number>>> for Permissions {
    fn from(table: Table<Table<Number>>) -> Self {
        Self(table.0.into_iter().map(|(path, rights)| (path, rights.0)).collect())
    }
}

impl Permissions {
    /// Whether there is the right anywhere at or below `path`, or at the root.
    fn has(&self, path: &str, right: &str) -> bool {
        self.0.iter().any(|(at, rights)| {
            let below = at.strip_prefix(path);
            let is_there =
                at == "/" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            is_there && rights.contains_key(right)
        })
    }

    /// Whether there is the right at `path` itself, or above it and handed down.
    fn holds(&self, path: &str, right: &str) -> bool {
        let at = |path: &str| self.0.get(path).and_then(|rights| rights.get(right));
        if at(path).is_some() {
            return true;
        }
        let above = path.match_indices('/').map(|(end, _)| path.get(..end.max(1)).unwrap_or("/"));
        above
            .into_iter()
            .any(|above| at(above).is_some_and(|is_handed_down| is_handed_down.is_true()))
    }
}

/// Whether backups on a storage are shown: those who may only audit see none.
pub(super) fn shows_backups(known: Option<&Answer>, storage: &str) -> bool {
    let Some(Answer::Permissions(rights)) = known else { return false };
    let storage = format!("/storage/{storage}");
    rights.holds(&storage, "Datastore.Allocate")
        || rights.holds(&storage, "Datastore.AllocateSpace") && rights.holds("/vms", "VM.Backup")
}

/// What the token lacks of what is told otherwise, each with what to do.
pub(super) fn lacking(overview: &Overview, known: Option<&Answer>) -> Vec<String> {
    let mut lacking = Vec::new();
    let Some(Answer::Permissions(rights)) = known else {
        if overview.storages().next().is_none() {
            lacking.push(
                "no storage is shown, and every node has one: the token lacks rights; give both the user \
                 and the token PVEAuditor on /"
                    .to_owned(),
            );
        }
        return lacking;
    };
    for (path, right, what) in [
        ("/nodes", "Sys.Audit", "nodes, their tasks and disks"),
        ("/vms", "VM.Audit", "guests"),
        ("/storage", "Datastore.Audit", "storages"),
    ] {
        if !rights.has(path, right) {
            lacking.push(format!(
                "{what} are not shown, as the token lacks {right} on {path}; give both the user and the \
                 token PVEAuditor on /"
            ));
        }
    }
    let hidden: BTreeSet<&str> = overview
        .all_backup_storages()
        .map(|(_, storage, _)| storage)
        .filter(|storage| !shows_backups(known, storage))
        .collect();
    if !hidden.is_empty() {
        let names: Vec<&str> = hidden.into_iter().take(NAMES_MAX).collect();
        lacking.push(format!(
            "backups on {} are not shown, as the token lacks Datastore.Allocate there; give both the user \
             and the token PVEDatastoreAdmin on /storage",
            names.join(", ")
        ));
    }
    lacking
}

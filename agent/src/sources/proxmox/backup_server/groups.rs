//! What a namespace holds, by group, put together as the list of snapshots is read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::sources::Desc;
use crate::sources::loose::{List, Number, Part, Text};
use crate::sources::proxmox::{BACKUPS_MAX, GUESTS_MAX, Told, api};

const COUNT: Desc = Desc::gauge("pbs_snapshot_count", "The total number of backups.");
const GROUP_COUNT: Desc =
    Desc::gauge("pbs_snapshot_vm_count", "The total number of backups per VM.");
const LAST: Desc =
    Desc::gauge("pbs_snapshot_vm_last_timestamp", "The timestamp of the last backup of a VM.");
const LAST_VERIFY: Desc =
    Desc::gauge("pbs_snapshot_vm_last_verify", "The verify status of the last backup of a VM.");
const SNAPSHOTS: Desc = Desc::gauge(
    "stoa_pbs_group_snapshots",
    "Snapshots of the group by what verifying them came to: ok, failed, none.",
);
const PROTECTED: Desc = Desc::gauge(
    "stoa_pbs_group_protected",
    "Snapshots of the group that are kept from being pruned.",
);
const LAST_SIZE: Desc =
    Desc::gauge("stoa_pbs_group_last_size_bytes", "Size of the group's newest snapshot.");

/// The groups of a namespace, by type and id.
#[derive(Debug, Default)]
pub(super) struct Groups {
    count: f64,
    groups: BTreeMap<(String, String), Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Verified and well, found damaged, not verified.
    verified: [f64; 3],
    protected: f64,
    newest: f64,
    size: Option<f64>,
    name: String,
    is_newest_well: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Snapshot {
    backup_type: Text,
    backup_id: Text,
    backup_time: Number,
    size: Number,
    protected: Number,
    comment: Text,
    verification: Part<Verification>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Verification {
    state: Text,
}

impl Groups {
    /// Reads `admin/datastore/STORE/snapshots`.
    pub(super) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let snapshots: List<Part<Snapshot>, BACKUPS_MAX> = api::data(body)?;
        let mut read = Self::default();
        for Part(snapshot) in snapshots.0 {
            let Some(begun) = snapshot.backup_time.0 else { continue };
            read.count += 1.0;
            let text = |text: &Text| text.as_str().to_owned();
            let key = (text(&snapshot.backup_type), text(&snapshot.backup_id));
            if read.groups.len() >= GUESTS_MAX && !read.groups.contains_key(&key) {
                continue;
            }
            let group = read.groups.entry(key).or_default();
            let state = match snapshot.verification.state.as_str() {
                "ok" => 0,
                "failed" => 1,
                _ => 2,
            };
            if let Some(count) = group.verified.get_mut(state) {
                *count += 1.0;
            }
            group.protected += f64::from(u8::from(snapshot.protected.is_true()));
            if begun >= group.newest {
                group.newest = begun;
                group.size = snapshot.size.0;
                group.name = text(&snapshot.comment);
                group.is_newest_well = state == 0;
            }
        }
        Ok(read)
    }

    pub(super) fn tell(&self, store: &str, namespace: &str, told: &mut Told<'_>) {
        let place = [("datastore", store), ("namespace", namespace)];
        told.push(&COUNT, &place, self.count);
        for ((kind, id), group) in &self.groups {
            let named = [place[0], place[1], ("vm_id", id), ("vm_name", &group.name)];
            told.push(&GROUP_COUNT, &named, group.verified.iter().sum());
            told.push(&LAST, &named, group.newest);
            told.push(&LAST_VERIFY, &named, f64::from(u8::from(group.is_newest_well)));
            let of = [place[0], place[1], ("type", kind), ("backup_id", id)];
            for (state, count) in ["ok", "failed", "none"].into_iter().zip(group.verified) {
                let pairs = [&of[..], &[("state", state)]].concat();
                told.push(&SNAPSHOTS, &pairs, count);
            }
            told.push(&PROTECTED, &of, group.protected);
            told.push_some(&LAST_SIZE, &of, group.size);
        }
    }
}

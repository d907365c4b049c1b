//! What a storage holds of each guest's backups, put together as the list is read.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BACKUPS_MAX, GUESTS_MAX, Told, api};
use crate::sources::Desc;
use crate::sources::loose::{List, Number, Part, Text};

const LAST: Desc = Desc::gauge(
    "stoa_guest_backup_last_timestamp_seconds",
    "When the newest backup of the guest on the storage was begun.",
);
const LAST_SIZE: Desc = Desc::gauge(
    "stoa_guest_backup_last_size_bytes",
    "Size of the newest backup of the guest on the storage.",
);
const LAST_VERIFIED: Desc = Desc::gauge(
    "stoa_guest_backup_last_verified",
    "Whether the newest backup of the guest on the storage was found whole; absent if not verified.",
);
const COUNT: Desc = Desc::gauge("stoa_guest_backups", "Backups of the guest on the storage.");
const PROTECTED: Desc = Desc::gauge(
    "stoa_guest_backups_protected",
    "Backups of the guest on the storage that are kept from being pruned.",
);
const UNVERIFIED: Desc = Desc::gauge(
    "stoa_guest_backups_corrupt",
    "Backups of the guest on the storage that were found damaged.",
);

/// The backups on a storage by guest, as `qemu/100`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Backups(pub(super) BTreeMap<String, OfGuest>);

/// A guest's.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OfGuest {
    count: f64,
    protected: f64,
    corrupt: f64,
    newest: f64,
    size: Option<f64>,
    verified: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    volid: Text,
    vmid: Text,
    subtype: Text,
    ctime: Number,
    size: Number,
    protected: Number,
    verification: Part<Verification>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Verification {
    state: Text,
}

impl Backups {
    /// Reads `nodes/NODE/storage/STORAGE/content?content=backup`.
    pub(super) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let volumes: List<Part<Volume>, BACKUPS_MAX> = api::data(body)?;
        let mut backups = Self::default();
        for Part(volume) in volumes.0 {
            let (Some(id), Some(begun)) = (volume.guest(), volume.ctime.0) else { continue };
            if backups.0.len() >= GUESTS_MAX && !backups.0.contains_key(&id) {
                continue;
            }
            let of = backups.0.entry(id).or_default();
            of.count += 1.0;
            of.protected += f64::from(u8::from(volume.protected.is_true()));
            let verified = volume.verified();
            of.corrupt += f64::from(u8::from(verified == Some(0.0)));
            if of.count == 1.0 || begun > of.newest {
                of.newest = begun;
                of.size = volume.size.0;
                of.verified = verified;
            }
        }
        Ok(backups)
    }

    /// Tells them; `node` is empty where the storage is the whole cluster's.
    pub(super) fn tell(&self, storage: &str, node: &str, told: &mut Told<'_>) {
        for (id, of) in &self.0 {
            let pairs = [("id", id.as_str()), ("storage", storage), ("node", node)];
            told.push(&LAST, &pairs, of.newest);
            told.push_some(&LAST_SIZE, &pairs, of.size);
            told.push_some(&LAST_VERIFIED, &pairs, of.verified);
            told.push(&COUNT, &pairs, of.count);
            told.push(&PROTECTED, &pairs, of.protected);
            told.push(&UNVERIFIED, &pairs, of.corrupt);
        }
    }
}

impl Volume {
    /// `qemu/100`, by what the API says or by the volume's name: `local:backup/vzdump-qemu-100-…`,
    /// `pbs:backup/vm/100/…`.
    fn guest(&self) -> Option<String> {
        let (_, name) = self.volid.as_str().split_once(":backup/")?;
        let mut words = name.split(['/', '-']).filter(|word| *word != "vzdump");
        let (kind, vmid) = (words.next()?, words.next()?);
        let kind = match (self.subtype.as_str(), kind) {
            ("qemu", _) | ("", "qemu" | "vm") => "qemu",
            ("lxc", _) | ("", "lxc" | "ct") => "lxc",
            _ => return None,
        };
        let vmid = self.vmid.or(vmid);
        let is_vmid = !vmid.is_empty() && vmid.bytes().all(|b| b.is_ascii_digit());
        is_vmid.then(|| format!("{kind}/{vmid}"))
    }

    fn verified(&self) -> Option<f64> {
        match self.verification.state.as_str() {
            "ok" => Some(1.0),
            "failed" => Some(0.0),
            _ => None,
        }
    }
}

//! What seldom questions were answered, as series: prometheus-pve-exporter's where it has them.

use std::collections::BTreeSet;

use crate::sources::proxmox::{Notebook, Told};
use crate::sources::{Desc, host};

use super::questions::{
    Answer, Config, Disk, Question, QuorumDevice, Replication, Snapshot, Subscription, Unprotected,
};
use super::resources::Overview;

const NOT_BACKED_UP: Desc =
    Desc::gauge("pve_not_backed_up_total", "Total number of guests not covered by any backup job.");
const NOT_BACKED_UP_INFO: Desc =
    Desc::gauge("pve_not_backed_up_info", "Present if guest is not covered by any backup job.");
const QDEVICE_UP: Desc =
    Desc::gauge("pve_qdevice_up", "Proxmox VE QDevice is connected (1) or not (0)");
const QDEVICE_INFO: Desc =
    Desc::gauge("pve_qdevice_info", "Proxmox VE QDevice info (1 if configured)");
const SUBSCRIPTION_INFO: Desc =
    Desc::gauge("pve_subscription_info", "Proxmox VE subscription info (1 if present)");
const SUBSCRIPTION_STATUS: Desc =
    Desc::gauge("pve_subscription_status", "Proxmox VE subscription status (1 if matches status)");
const SUBSCRIPTION_DUE: Desc = Desc::gauge(
    "pve_subscription_next_due_timestamp_seconds",
    "Subscription next due date as Unix timestamp",
);
const ONBOOT: Desc = Desc::gauge("pve_onboot_status", "Proxmox vm config onboot value");
const REPLICATION_INFO: Desc = Desc::gauge("pve_replication_info", "Proxmox vm replication info");
const REPLICATION_DURATION: Desc =
    Desc::gauge("pve_replication_duration_seconds", "Proxmox vm replication duration");
const REPLICATION_LAST_SYNC: Desc =
    Desc::gauge("pve_replication_last_sync_timestamp_seconds", "Proxmox vm replication last_sync");
const REPLICATION_LAST_TRY: Desc =
    Desc::gauge("pve_replication_last_try_timestamp_seconds", "Proxmox vm replication last_try");
const REPLICATION_NEXT_SYNC: Desc =
    Desc::gauge("pve_replication_next_sync_timestamp_seconds", "Proxmox vm replication next_sync");
const REPLICATION_FAILED: Desc =
    Desc::gauge("pve_replication_failed_syncs", "Proxmox vm replication fail_count");

const TASK_END: Desc = Desc::gauge(
    "stoa_proxmox_task_last_end_timestamp_seconds",
    "When the node's last task of a type ended with a result (ok, warnings, failed).",
);
const TASK_RUNNING: Desc = Desc::gauge(
    "stoa_proxmox_task_running_since_timestamp_seconds",
    "When the oldest of the node's running tasks of a type began; absent when none runs.",
);
const UPDATES: Desc =
    Desc::gauge("stoa_proxmox_updates_pending", "Packages of the node that can be updated.");
const DISK_HEALTHY: Desc = Desc::gauge(
    "stoa_proxmox_disk_healthy",
    "Whether the node's disk says it is well; absent where it says nothing.",
);
const DISK_LIFE: Desc =
    Desc::gauge("stoa_proxmox_disk_life_left_ratio", "What is left of the life of the node's SSD.");
const SNAPSHOTS: Desc = Desc::gauge("stoa_guest_snapshots", "Snapshots of the guest.");
const OLDEST_SNAPSHOT: Desc = Desc::gauge(
    "stoa_guest_snapshot_oldest_timestamp_seconds",
    "When the oldest snapshot of the guest was taken.",
);
const NEVER: Desc = Desc::gauge(
    "stoa_guest_never_backed_up",
    "Whether no storage has a backup of the guest; absent unless all of them were read.",
);

const STATUSES: &[&str] = &["new", "notfound", "active", "invalid", "expired", "suspended"];
/// Disks of a node told at most.
const DISKS_MAX: usize = 256;

/// Tells all that is known.
pub(super) fn tell(overview: &Overview, notebook: &Notebook<Question>, told: &mut Told<'_>) {
    for (question, answer) in notebook.answers() {
        match (question, answer) {
            (_, Answer::NotBackedUp(guests)) => tell_unprotected(overview, guests, told),
            (_, Answer::QuorumDevice(device)) => tell_device(overview, device, told),
            (Question::Tasks { node }, Answer::Tasks(tasks)) => {
                tasks.tell(&TASK_END, &TASK_RUNNING, &[("id", &id_of(node))], told);
            }
            (_, Answer::Replication(jobs)) => jobs.iter().for_each(|job| tell_job(job, told)),
            (Question::Backups { node, storage, is_shared }, Answer::Backups(backups)) => {
                backups.tell(storage, if *is_shared { "" } else { node }, told);
            }
            (Question::Subscription { node }, Answer::Subscription(subscription)) => {
                tell_subscription(node, subscription, told);
            }
            (Question::Updates { node }, Answer::Updates(count)) => {
                told.push(&UPDATES, &[("id", &id_of(node))], *count as f64);
            }
            (Question::Disks { node }, Answer::Disks(disks)) => tell_disks(node, disks, told),
            (Question::Config { node, guest }, Answer::Config(config)) => {
                tell_config(node, guest, config, told);
            }
            (Question::Snapshots { guest, .. }, Answer::Snapshots(snapshots)) => {
                tell_snapshots(guest, snapshots, told);
            }
            _ => {}
        }
    }
    tell_never(overview, notebook, told);
}

fn id_of(node: &str) -> String {
    format!("node/{node}")
}

fn tell_unprotected(overview: &Overview, guests: &[Unprotected], told: &mut Told<'_>) {
    told.push(&NOT_BACKED_UP, &[("id", &overview.id())], guests.len() as f64);
    for guest in guests {
        let id = format!("{}/{}", guest.kind.as_str(), guest.vmid.as_str());
        told.push(&NOT_BACKED_UP_INFO, &[("id", &id)], 1.0);
    }
}

fn tell_device(overview: &Overview, device: &QuorumDevice, told: &mut Told<'_>) {
    // A cluster without one says so by an empty object.
    if device.model.as_str().is_empty() && device.state.as_str().is_empty() {
        return;
    }
    let id = overview.id();
    let is_connected = device.state.as_str().eq_ignore_ascii_case("connected");
    told.push(&QDEVICE_UP, &[("id", &id)], f64::from(u8::from(is_connected)));
    let pairs = [
        ("id", id.as_str()),
        ("model", device.model.as_str()),
        ("algorithm", device.algorithm.as_str()),
        ("qnetd_host", device.host.as_str()),
        ("tie_breaker", device.tie_breaker.as_str()),
        ("state", device.state.as_str()),
    ];
    told.push(&QDEVICE_INFO, &pairs, 1.0);
}

fn tell_job(job: &Replication, told: &mut Told<'_>) {
    let id = [("id", job.id.as_str())];
    let (source, target) = (id_of(job.source.as_str()), id_of(job.target.as_str()));
    let guest = format!("{}/{}", job.vmtype.as_str(), job.guest.as_str());
    let pairs = [
        ("id", job.id.as_str()),
        ("type", job.kind.as_str()),
        ("source", if job.source.as_str().is_empty() { "" } else { &source }),
        ("target", &target),
        ("guest", &guest),
    ];
    told.push(&REPLICATION_INFO, &pairs, 1.0);
    for (desc, value) in [
        (&REPLICATION_DURATION, job.duration),
        (&REPLICATION_LAST_SYNC, job.last_sync),
        (&REPLICATION_LAST_TRY, job.last_try),
        (&REPLICATION_NEXT_SYNC, job.next_sync),
        (&REPLICATION_FAILED, job.fail_count),
    ] {
        told.push_some(desc, &id, value.0);
    }
}

fn tell_subscription(node: &str, subscription: &Subscription, told: &mut Told<'_>) {
    let id = id_of(node);
    let level = subscription.level.as_str();
    if !level.is_empty() {
        told.push(&SUBSCRIPTION_INFO, &[("id", &id), ("level", level)], 1.0);
    }
    // Case differs between versions.
    let status = subscription.status.as_str().to_ascii_lowercase();
    told.push_state(&SUBSCRIPTION_STATUS, &[("id", &id)], ("status", STATUSES), &status);
    let due = host::date(subscription.nextduedate.as_str());
    told.push_some(&SUBSCRIPTION_DUE, &[("id", &id)], due);
}

fn tell_disks(node: &str, disks: &[Disk], told: &mut Told<'_>) {
    let id = id_of(node);
    for disk in disks.iter().take(DISKS_MAX) {
        let pairs = [
            ("id", id.as_str()),
            ("device", disk.devpath.as_str().trim_start_matches("/dev/")),
            ("model", disk.model.as_str()),
            ("serial", disk.serial.as_str()),
            ("type", disk.kind.as_str()),
        ];
        let healthy = match disk.health.as_str() {
            "PASSED" | "OK" => Some(1.0),
            health if health.starts_with("FAIL") => Some(0.0),
            _ => None,
        };
        told.push_some(&DISK_HEALTHY, &pairs, healthy);
        let life = disk.wearout.0.filter(|percent| (0.0..=100.0).contains(percent));
        told.push_some(&DISK_LIFE, &pairs, life.map(|percent| percent / 100.0));
    }
}

fn tell_config(node: &str, guest: &str, config: &Config, told: &mut Told<'_>) {
    let kind = guest.split('/').next().unwrap_or_default();
    let pairs = [("id", guest), ("node", node), ("type", kind)];
    told.push_some(&ONBOOT, &pairs, config.onboot.0);
}

fn tell_snapshots(guest: &str, snapshots: &[Snapshot], told: &mut Told<'_>) {
    // Where the guest stands now is listed among them.
    let taken = snapshots.iter().filter(|snapshot| snapshot.name.as_str() != "current");
    told.push(&SNAPSHOTS, &[("id", guest)], taken.clone().count() as f64);
    let oldest = taken.filter_map(|snapshot| snapshot.snaptime.0).reduce(f64::min);
    told.push_some(&OLDEST_SNAPSHOT, &[("id", guest)], oldest);
}

/// Which guests no storage has a backup of; only where every storage was read.
fn tell_never(overview: &Overview, notebook: &Notebook<Question>, told: &mut Told<'_>) {
    let mut found = BTreeSet::new();
    let mut storages = 0;
    for (node, storage, is_shared) in overview.all_backup_storages() {
        let (node, storage) = (node.to_owned(), storage.to_owned());
        let question = Question::Backups { node, storage, is_shared };
        let Some(Answer::Backups(backups)) = notebook.answer(&question) else { return };
        found.extend(backups.0.keys().map(String::as_str));
        storages += 1;
    }
    if storages == 0 {
        return;
    }
    for guest in overview.guests().filter(|guest| !guest.is_template()) {
        let is_never = !found.contains(guest.id.as_str());
        told.push(&NEVER, &[("id", guest.id.as_str())], f64::from(u8::from(is_never)));
    }
}

//! The source `backup_server`: Proxmox Backup Server, in pbs-exporter's names and `stoa_pbs_*`.
//!
//! Asked each time are the version, the datastores and the host; the rest as [`questions`] say.
//! Snapshots are put together to groups as their list is read. A datastore that says it cannot be used
//! (unmounted, in maintenance) is asked nothing.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::sources::loose::{List, Number, Part, Text};
use crate::sources::registry::{Configured, Shared};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Reading, Roots, Source, host};

use super::{
    Api, BUDGET, DEADLINE, Fault, INTERVAL, Notebook, PATIENCE, Product, Round, Settings, Target,
    Told, api, note_faults,
};

mod groups;
mod questions;

use questions::{Answer, Collection, Job, Question, Rights, Subscription};

/// Datastores told at most.
const DATASTORES_MAX: usize = 64;

const UP: Desc = Desc::gauge("pbs_up", "Was the last query of PBS successful.");
const VERSION: Desc = Desc::gauge("pbs_version", "Version of the PBS installation.");
const AVAILABLE: Desc =
    Desc::gauge("pbs_available", "The available bytes of the underlying storage.");
const SIZE: Desc = Desc::gauge("pbs_size", "The size of the underlying storage in bytes.");
const USED: Desc = Desc::gauge("pbs_used", "The used bytes of the underlying storage.");
const SUBSCRIPTION_INFO: Desc =
    Desc::gauge("pbs_host_subscription_info", "The subscription info of the host.");
const SUBSCRIPTION_STATUS: Desc =
    Desc::gauge("pbs_host_subscription_status", "The subscription status of the host.");
const SUBSCRIPTION_DUE: Desc = Desc::gauge(
    "pbs_host_subscription_due_timestamp_seconds",
    "The subscription next due timestamp (unix seconds) of the host.",
);
const CPU: Desc = Desc::gauge("pbs_host_cpu_usage", "The CPU usage of the host.");
const MEMORY: [Desc; 3] = [
    Desc::gauge("pbs_host_memory_free", "The free memory of the host."),
    Desc::gauge("pbs_host_memory_total", "The total memory of the host."),
    Desc::gauge("pbs_host_memory_used", "The used memory of the host."),
];
const SWAP: [Desc; 3] = [
    Desc::gauge("pbs_host_swap_free", "The free swap of the host."),
    Desc::gauge("pbs_host_swap_total", "The total swap of the host."),
    Desc::gauge("pbs_host_swap_used", "The used swap of the host."),
];
const DISK: [Desc; 3] = [
    Desc::gauge("pbs_host_disk_available", "The available disk of the local root disk in bytes."),
    Desc::gauge("pbs_host_disk_total", "The total disk of the local root disk in bytes."),
    Desc::gauge("pbs_host_disk_used", "The used disk of the local root disk in bytes."),
];
const UPTIME: Desc = Desc::gauge("pbs_host_uptime", "The uptime of the host.");
const IO_WAIT: Desc = Desc::gauge("pbs_host_io_wait", "The io wait of the host.");
const LOADS: [Desc; 3] = [
    Desc::gauge("pbs_host_load1", "The load for 1 minute of the host."),
    Desc::gauge("pbs_host_load5", "The load for 5 minutes of the host."),
    Desc::gauge("pbs_host_load15", "The load for 15 minutes of the host."),
];

const USABLE: Desc = Desc::gauge(
    "stoa_pbs_datastore_usable",
    "Whether the datastore can be used; 0 when it is not mounted, in maintenance or broken.",
);
const FULL: Desc = Desc::gauge(
    "stoa_pbs_datastore_full_timestamp_seconds",
    "When the datastore is expected to be full; absent while its use does not grow.",
);
const DEDUP: Desc = Desc::gauge(
    "stoa_pbs_gc_deduplication_factor",
    "Bytes of all backups in the datastore by the bytes their chunks take, as of the last collection.",
);
const REMOVED: Desc = Desc::gauge(
    "stoa_pbs_gc_removed_bytes",
    "Bytes that the last garbage collection of the datastore removed.",
);
const PENDING: Desc = Desc::gauge(
    "stoa_pbs_gc_pending_bytes",
    "Bytes that garbage collection of the datastore will remove once they are old enough.",
);
const BAD: Desc = Desc::gauge(
    "stoa_pbs_gc_bad_chunks",
    "Damaged chunks that the last garbage collection of the datastore left.",
);
const GC_DURATION: Desc = Desc::gauge(
    "stoa_pbs_gc_duration_seconds",
    "What the last garbage collection of the datastore took.",
);
const JOB_END: Desc = Desc::gauge(
    "stoa_pbs_job_last_end_timestamp_seconds",
    "When the job (sync, verify, prune, gc) ended last.",
);
const JOB_OK: Desc = Desc::gauge(
    "stoa_pbs_job_last_ok",
    "Whether the job's last run ended without an error; warnings are none.",
);
const JOB_NEXT: Desc =
    Desc::gauge("stoa_pbs_job_next_timestamp_seconds", "When the job runs next.");
const TASK_END: Desc = Desc::gauge(
    "stoa_pbs_task_last_end_timestamp_seconds",
    "When the last task of a type ended with a result (ok, warnings, failed).",
);
const TASK_RUNNING: Desc = Desc::gauge(
    "stoa_pbs_task_running_since_timestamp_seconds",
    "When the oldest of the running tasks of a type began; absent when none runs.",
);

const STATUSES: &[&str] = &["new", "notfound", "active", "invalid", "expired", "suspended"];

/// The source `backup_server`.
#[derive(Debug)]
pub(crate) struct BackupServer(Round<Asked>);

/// One server.
#[derive(Debug)]
struct Asked {
    api: Api,
    instance: String,
    notebook: Notebook<Question>,
}

/// The server at one moment.
#[derive(Debug)]
struct Overview {
    version: Version,
    datastores: Vec<Datastore>,
    host: Host,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    release: Text,
    repoid: Text,
    version: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Datastore {
    store: Text,
    total: Number,
    used: Number,
    avail: Number,
    estimated_full_date: Number,
    gc_status: Part<Collection>,
    error: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Space {
    free: Number,
    avail: Number,
    total: Number,
    used: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Host {
    cpu: Number,
    wait: Number,
    uptime: Number,
    memory: Part<Space>,
    swap: Part<Space>,
    root: Part<Space>,
    loadavg: List<Number>,
}

impl BackupServer {
    pub(super) fn of(settings: Settings, budget: Duration) -> Self {
        let targets = settings.servers.into_iter().filter_map(|server| {
            let api = Api::new(Product::BackupServer, server)?;
            Some(Asked { instance: api.instance(), api, notebook: Notebook::new() })
        });
        Self(Round::new(Product::BackupServer, targets, budget))
    }
}

impl Configured for BackupServer {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::of(settings, BUDGET)
    }
}

impl Source for BackupServer {
    fn name(&self) -> &'static str {
        "backup_server"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, now: Now, reading: &mut Reading) {
        self.0.read(now, reading);
    }
}

impl Target for Asked {
    async fn read(
        &mut self,
        now: Now,
        until: Instant,
        sheet: &mut Sheet,
        reading: &mut Reading,
    ) -> bool {
        let Self { api, instance, notebook } = self;
        let mut told = Told { sheet, job: api.product.job(), instance };
        let overview = match look(api, until).await {
            Ok(overview) => overview,
            Err(fault) => {
                told.push(&UP, &[], 0.0);
                reading.note(api.problem(&fault.to_string()));
                return false;
            }
        };
        told.push(&UP, &[], 1.0);
        let usable: Vec<&str> = overview.usable().collect();
        // Namespaces are known first, then what is in them.
        for _ in 0..2 {
            notebook.want(questions::of(&usable, notebook));
            notebook.ask(api, now, until).await;
        }
        overview.tell(now, &mut told);
        for (question, answer) in notebook.answers() {
            tell(question, answer, &mut told);
        }
        for datastore in &overview.datastores {
            let (store, error) = (datastore.store.as_str(), datastore.error.as_str());
            if !error.is_empty() {
                reading.note(api.problem(&format!("datastore {store}: {error}")));
            }
        }
        let rights = notebook.answer(&Question::Permissions);
        if let Some(Answer::Permissions(Rights { can_audit: false })) = rights {
            let lacking = "datastores and jobs are not shown, as the token lacks Datastore.Audit; give both \
                           the user and the token Audit on / (or DatastoreAudit on /datastore)";
            reading.note(api.problem(lacking));
        }
        note_faults(api, notebook.faults(), reading);
        true
    }
}

/// Asks what changes all the time.
async fn look(api: &mut Api, until: Instant) -> Result<Overview, Fault> {
    api.prepare()?;
    let patience = |share: u32| {
        let left = until.saturating_duration_since(Instant::now());
        (left / share).min(PATIENCE)
    };
    let version = api.get("version", patience(3)).await?;
    let usage = api.get("status/datastore-usage", patience(2)).await?;
    let host = match api.get("nodes/localhost/status", patience(1)).await {
        Ok(host) => api.read(&host, api::data::<Part<Host>>)?.0,
        // Who may audit datastores only sees nothing of the host.
        Err(fault) if fault.is_lack() => Host::default(),
        Err(fault) => return Err(fault),
    };
    let Part(version) = api.read(&version, api::data::<Part<Version>>)?;
    let List(datastores) = api.read(&usage, api::data::<List<Part<Datastore>, DATASTORES_MAX>>)?;
    let datastores = datastores.into_iter().map(|Part(datastore)| datastore).collect();
    Ok(Overview { version, datastores, host })
}

impl Overview {
    /// Datastores that can be asked.
    fn usable(&self) -> impl Iterator<Item = &str> {
        let usable = self.datastores.iter().filter(|datastore| datastore.error.as_str().is_empty());
        usable.map(|datastore| datastore.store.as_str()).filter(|name| questions::is_path(name))
    }

    fn tell(&self, now: Now, told: &mut Told<'_>) {
        let Version { release, repoid, version } = &self.version;
        let pairs = [
            ("version", version.as_str()),
            ("repoid", repoid.as_str()),
            ("release", release.as_str()),
        ];
        told.push(&VERSION, &pairs, 1.0);
        for datastore in &self.datastores {
            let of = [("datastore", datastore.store.as_str())];
            let is_usable = datastore.error.as_str().is_empty();
            told.push(&USABLE, &of, f64::from(u8::from(is_usable)));
            told.push_some(&AVAILABLE, &of, datastore.avail.0);
            told.push_some(&SIZE, &of, datastore.total.0);
            told.push_some(&USED, &of, datastore.used.0);
            // A date in the past means that less is used than was.
            let seconds = now.unix_micros as f64 / 1e6;
            let full = datastore.estimated_full_date.0.filter(|date| *date > seconds);
            told.push_some(&FULL, &of, full);
            tell_collection(&of, &datastore.gc_status, told);
        }
        self.host.tell(told);
    }
}

impl Host {
    fn tell(&self, told: &mut Told<'_>) {
        let Self { cpu, wait, uptime, memory, swap, root, loadavg } = self;
        for (desc, value) in [(&CPU, cpu), (&IO_WAIT, wait), (&UPTIME, uptime)] {
            told.push_some(desc, &[], value.0);
        }
        for (descs, [first, total, used]) in [
            (&MEMORY, [memory.free, memory.total, memory.used]),
            (&SWAP, [swap.free, swap.total, swap.used]),
            (&DISK, [root.avail, root.total, root.used]),
        ] {
            for (desc, value) in descs.iter().zip([first, total, used]) {
                told.push_some(desc, &[], value.0);
            }
        }
        for (desc, value) in LOADS.iter().zip(&loadavg.0) {
            told.push_some(desc, &[], value.0);
        }
    }
}

fn tell(question: &Question, answer: &Answer, told: &mut Told<'_>) {
    match (question, answer) {
        (Question::Snapshots { store, namespace }, Answer::Groups(groups)) => {
            groups.tell(store, namespace, told);
        }
        (Question::Jobs(kind), Answer::Jobs(jobs)) => {
            jobs.iter().for_each(|job| tell_job(kind.name(), job, told));
        }
        (_, Answer::Collections(collections)) => {
            for (job, collection) in collections {
                let of = [("datastore", job.store.as_str())];
                tell_job("gc", job, told);
                told.push_some(&GC_DURATION, &of, job.duration.0);
                tell_collection(&of, collection, told);
            }
        }
        (_, Answer::Tasks(tasks)) => tasks.tell(&TASK_END, &TASK_RUNNING, &[], told),
        (_, Answer::Subscription(subscription)) => tell_subscription(subscription, told),
        _ => {}
    }
}

fn tell_collection(of: &[(&'static str, &str)], collection: &Collection, told: &mut Told<'_>) {
    let Collection { index_data_bytes, disk_bytes, removed_bytes, pending_bytes, still_bad } =
        collection;
    let dedup = match (index_data_bytes.0, disk_bytes.0) {
        (Some(data), Some(disk)) if disk > 0.0 => Some(data / disk),
        _ => None,
    };
    told.push_some(&DEDUP, of, dedup);
    told.push_some(&REMOVED, of, removed_bytes.0);
    told.push_some(&PENDING, of, pending_bytes.0);
    told.push_some(&BAD, of, still_bad.0);
}

fn tell_job(kind: &str, job: &Job, told: &mut Told<'_>) {
    let pairs = [
        ("type", kind),
        ("id", job.id.as_str()),
        ("datastore", job.store.as_str()),
        ("namespace", job.ns.as_str()),
    ];
    told.push_some(&JOB_END, &pairs, job.last_run_endtime.0);
    let state = job.last_run_state.as_str();
    if !state.is_empty() {
        let is_ok = super::tasks::result(state) != "failed";
        told.push(&JOB_OK, &pairs, f64::from(u8::from(is_ok)));
    }
    told.push_some(&JOB_NEXT, &pairs, job.next_run.0);
}

fn tell_subscription(subscription: &Subscription, told: &mut Told<'_>) {
    let status = subscription.status.as_str().to_ascii_lowercase();
    let product = subscription.productname.or("unknown");
    told.push(&SUBSCRIPTION_INFO, &[("productname", product), ("status", &status)], 1.0);
    told.push_state(&SUBSCRIPTION_STATUS, &[], ("status", STATUSES), &status);
    let due = host::date(subscription.nextduedate.as_str());
    told.push_some(&SUBSCRIPTION_DUE, &[("productname", product)], due);
}

//! The collector, assembled: parts are started from the disk outward and stopped from the ingress
//! inward, so that each drains into the next and nothing acknowledged is lost.
//!
//! Agents are served on a thread of their own, from socket to acknowledgement: nothing that people ask
//! delays them, and a frame never wakes a second thread on its way to the store's.
//!
//! This module only orders things; every decision is a part's own.

mod around;
mod port;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stoa_daemon::{DataDir, DataDirError};
use stoa_model::HostId;
use stoa_transport::{ListenError, Listener, ResetKeys, ResetKeysError};
use stoa_wal::Disk;
use stoa_wal::disk::RealDisk;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::around::Notices;
use self::port::Port;
use crate::agents_port;
use crate::ca::CaError;
use crate::clock::{self, Clock};
use crate::config::{Config, RemoteWriteConfig};
use crate::enroll;
use crate::hosts::{Host, Standing};
use crate::http::Routes;
use crate::http::access::Access;
use crate::http::admin::{self, Admin};
use crate::http::front::{self, FrontFacts};
use crate::http::handoff;
use crate::http::health::{self, Ready, Trouble};
use crate::http::import::{self, Importer};
use crate::http::inventory::{self, InventoryApi};
use crate::http::metrics;
use crate::http::otlp::{self, Otlp};
use crate::http::prometheus::{self, Prometheus};
use crate::http::remote_write::{self, RemoteWrite};
use crate::http::serve::{Limits, Places};
use crate::http::storage::{self, StorageAdmin};
use crate::http::tls::HttpTlsError;
use crate::ingest::{Ingest, clocks};
use crate::inventory::Inventories;
use crate::members::{Members, MembersError};
use crate::methods::MethodGate;
use crate::presence::Presence;
use crate::push::{Pusher, SERIES_PER_SENDER_MAX};
use crate::remote::{ClientError, Elsewhere, Target, TargetFigures};
use crate::selfstats::{self, Figures};
use crate::store::{Store, StoreError, StoreState};
use crate::watch::{self, WatchFigures};

/// How long agents' calls may take to end at shutdown; what is not acknowledged they send again.
const DRAIN: Duration = Duration::from_secs(3);

/// How often it is looked whether a part has ended.
const BROKEN_LOOK: Duration = Duration::from_secs(1);

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Tokens, hosts, the CA.
    #[error("open the members' books")]
    Members(#[from] MembersError),
    /// The store.
    #[error("open the store")]
    Store(#[from] StoreError),
    /// The keys that let agents notice a restart at once.
    #[error(transparent)]
    ResetKeys(#[from] ResetKeysError),
    /// The collector's own certificate.
    #[error("make the collector's certificate")]
    Certificate(#[from] CaError),
    /// The port for agents.
    #[error("listen for agents; `agents.listen`, or `stoa up --agents`, says where")]
    Agents(#[from] ListenError),
    /// The port for people.
    #[error("listen for HTTP on {addr}; is another collector running? {key} says where")]
    Http {
        /// What says where.
        key: &'static str,
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP server's certificate.
    #[error("serve TLS for HTTP")]
    HttpTls(#[from] HttpTlsError),
    /// No thread for agents.
    #[error("start the thread that serves agents")]
    AgentsThread(#[source] std::io::Error),
    /// A target of remote write or OTLP cannot be spoken to.
    #[error("pass on to {name}, of `remote_write` or `otlp.export`")]
    Target {
        /// Its name.
        name: String,
        /// Why.
        source: ClientError,
    },
    /// The engine asked for what is not kept here cannot be spoken to.
    #[error("ask `storage.remote`")]
    Elsewhere(#[source] ClientError),
    /// A thread of ours broke; a bug.
    #[error("start a part")]
    Thread(#[from] tokio::task::JoinError),
}

/// A running collector. End it with [`Server::stop`]; dropping it loses nothing that was
/// acknowledged, but cuts callers off.
pub struct Server {
    http: SocketAddr,
    otlp: Vec<SocketAddr>,
    url: String,
    parts: Parts,
    listener: Arc<Listener>,
    ready: Ready,
    /// Ends the HTTP server and what runs beside.
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    grpc: JoinHandle<()>,
    kept: Kept,
    _agents: AgentsRuntime,
    _data_dir: DataDir,
}

/// What is kept beside samples from a stop to the next start.
struct Kept {
    otlp: Otlp,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// The runtime that serves agents: one thread, and those that may block. Its tasks end when it is
/// dropped.
struct AgentsRuntime(Option<Runtime>);

impl AgentsRuntime {
    fn start() -> std::io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("stoa-agents").enable_all();
        runtime.build().map(|runtime| Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for AgentsRuntime {
    fn drop(&mut self) {
        // Whoever drops it may be a task itself, and tasks do not wait for others to end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What figures are read from; clones are cheap.
#[derive(Clone)]
pub struct Parts {
    /// Samples.
    pub store: Store,
    /// Tokens and hosts.
    pub members: Arc<Members>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) presence: Arc<Mutex<Presence>>,
    inventories: Arc<Inventories>,
    listener: Arc<Listener>,
    access: Arc<[Arc<Access>]>,
    places: Arc<Places>,
    prometheus: Prometheus,
    pusher: Pusher,
    remote_write: RemoteWrite,
    otlp: Otlp,
    importer: Importer,
    targets: Arc<[Target]>,
    clock: Clock,
    pub(crate) watch: Arc<WatchFigures>,
    notices: Arc<Notices>,
}

impl Parts {
    /// All figures as of now; walks the head, so for every few seconds.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            store: self.store.figures(),
            tsdb: self.store.view().stats(),
            ingest: self.ingest.figures(),
            clock_suspect: self.ingest.clock_standing() != clocks::Standing::Fine,
            own_samples_held: self.watch.held(),
            listener: self.listener.stats(),
            members: self.members.counts(),
            inventories: self.inventories.figures(),
            hosts: self.presence.lock().unwrap_or_else(PoisonError::into_inner).counts(),
            refusals: self.access.iter().map(|access| access.refusals()).sum(),
            http: self.places.figures(),
            queries: self.prometheus.figures(),
            reuse: self.prometheus.reuse(),
            remote_write: self.remote_write.figures(),
            otlp: self.otlp.figures(),
            deltas: self.otlp.deltas(),
            imports: self.importer.figures(),
            handoff: self.handoff(),
            elsewhere: self.prometheus.elsewhere(),
        }
    }

    /// What has been passed on to other engines.
    fn handoff(&self) -> Vec<TargetFigures> {
        let now_ms = (self.clock)();
        self.targets.iter().map(|target| target.figures(&self.store, now_ms)).collect()
    }

    fn front(&self, url: &str) -> FrontFacts {
        let tsdb = self.store.view().stats();
        // The books may wait for the disk; presence must not wait for them.
        let hosts = self
            .members
            .hosts()
            .into_iter()
            .filter(|(_, host)| !matches!(host.standing, Standing::Revoked { .. }));
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let is_up = |name: &str| HostId::parse(name).is_ok_and(|host| presence.is_up(&host));
        FrontFacts {
            version: env!("CARGO_PKG_VERSION"),
            series: tsdb.series,
            samples_stored: self.store.figures().samples.stored,
            disk_bytes: tsdb.block_bytes + tsdb.log_bytes,
            hosts: hosts.map(|(name, _)| (name.clone(), is_up(&name))).collect(),
            url: url.to_owned(),
        }
    }
}

impl Server {
    /// Starts a collector and returns once it serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_on(Arc::new(RealDisk), config, clock).await
    }

    /// Starts a collector whose samples are on another disk.
    async fn start_on(
        disk: Arc<dyn Disk>,
        config: Config,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let targets = targets(&config)?;
        let elsewhere = config.remote_read.as_ref();
        let elsewhere = elsewhere.map(|to| Elsewhere::new(to, config.query.concurrency_max));
        let elsewhere = elsewhere.transpose().map_err(StartError::Elsewhere)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let (store, members, inventories, reset_keys) =
            open(Arc::clone(&disk), &config, &clock).await?;
        let ready = Ready::default();
        let stop = CancellationToken::new();

        let listener_config = agents_port::listener_config(&members, reset_keys, clock())?;
        let agents = AgentsRuntime::start().map_err(StartError::AgentsThread)?;
        let (listener, incoming) = {
            let _tasks_of_it = agents.handle().enter();
            Listener::bind(config.agents.listen, listener_config)?
        };
        let listener = Arc::new(listener);
        let steady = clock::steady();
        let presence = Arc::new(Mutex::new(expected(&members, steady())));
        let ingest = Arc::new(Ingest::new(
            store.clone(),
            Arc::clone(&clock),
            steady,
            Arc::clone(&presence),
            Arc::clone(&inventories),
            config.agents.series_max,
            listener.draining(),
        ));
        let (joining, renewing) = enroll::services(&members, &clock);
        let (control, push, tell) = Ingest::services(&ingest);
        let serving = stoa_transport::server()
            .layer(MethodGate::new(Arc::clone(&members)))
            .add_service(joining)
            .add_service(renewing)
            .add_service(control)
            .add_service(push)
            .add_service(tell)
            .serve_with_incoming_shutdown(incoming, listener.draining().cancelled_owned());
        let grpc = agents.handle().spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = &error as &dyn std::error::Error, "serve agents");
            }
        });

        let people = "`http.listen`, or `stoa up --http`,";
        let people = Port::bind(people, config.http.listen, &config.http, &members, &clock).await?;
        let mut otlp_ports = Vec::new();
        for (key, listen) in [
            ("`otlp.http_listen`", config.otlp.http_listen),
            ("`otlp.grpc_listen`", config.otlp.grpc_listen),
        ] {
            if let Some(listen) = listen {
                let port = Port::bind(key, listen, &config.http, &members, &clock).await?;
                otlp_ports.push(port);
            }
        }
        let (http, is_tls) = (people.addr, people.tls.is_some());
        let access: Vec<Arc<Access>> =
            [&people].into_iter().chain(&otlp_ports).map(|port| Arc::clone(&port.access)).collect();
        let prometheus =
            Prometheus::with(store.clone(), &config.query, Arc::clone(&clock), elsewhere);
        let pusher = {
            let ingest = Arc::clone(&ingest);
            let doubt = move || ingest.clock_standing() == clocks::Standing::Behind;
            let (store, clock) = (store.clone(), Arc::clone(&clock));
            let doubt = Arc::new(doubt);
            Pusher::with(store, SERIES_PER_SENDER_MAX, clock, doubt, config.push)
        };
        let remote_write = RemoteWrite::over(pusher.clone());
        let otlp = Otlp::new(pusher.clone(), &config.otlp);
        let kept = Kept { otlp: otlp.clone(), disk, dir: config.data_dir.clone() };
        let kept = tokio::task::spawn_blocking(move || {
            kept.otlp.restore(&*kept.disk, &kept.dir);
            kept
        })
        .await?;
        let exempt = config.http.trusted_proxies.clone();
        let places = Places::new(Limits { exempt, ..Limits::default() });
        let importer = Importer::new(store.clone(), Arc::clone(&clock));
        let parts = Parts {
            store,
            members: Arc::clone(&members),
            ingest,
            presence,
            inventories,
            listener: Arc::clone(&listener),
            access: Arc::from(access),
            places: Arc::clone(&places),
            prometheus,
            pusher,
            remote_write,
            otlp,
            importer,
            targets: Arc::from(targets),
            clock: Arc::clone(&clock),
            watch: Arc::default(),
            notices: Arc::default(),
        };
        let scheme = if is_tls { "https" } else { "http" };
        let url = format!("{scheme}://{http}");
        let external = config.external_labels.clone();
        let table = routes(&parts, &ready, &url, &clock)
            .merge(prometheus::outward_routes(parts.prometheus.clone(), external))
            .merge(prometheus::settings_routes(&config));

        let mut tasks = vec![
            tokio::spawn(agents_port::keep(
                Arc::clone(&listener),
                Arc::clone(&members),
                Arc::clone(&clock),
                stop.clone(),
            )),
            tokio::spawn(watch::keep(parts.clone(), Arc::clone(&clock), stop.clone())),
        ];
        for target in parts.targets.iter().cloned() {
            tasks.push(tokio::spawn(target.keep(parts.store.clone(), stop.clone())));
        }
        let otlp_addrs = otlp_ports.iter().map(|port| port.addr).collect();
        let ports = otlp_ports.into_iter().map(|port| (port, otlp::routes(parts.otlp.clone())));
        for (port, table) in [(people, table)].into_iter().chain(ports) {
            port.serve(table, &places, (&members, &clock), &stop, &mut tasks);
        }
        ready.set(true);
        Ok(Self {
            http,
            otlp: otlp_addrs,
            url,
            parts,
            listener,
            ready,
            stop,
            tasks,
            grpc,
            kept,
            _agents: agents,
            _data_dir: data_dir,
        })
    }

    /// Where people and Grafana connect.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where else OTLP is taken: at `otlp.http_listen`, then at `otlp.grpc_listen`, if they are set.
    #[must_use]
    pub fn otlp_addrs(&self) -> &[SocketAddr] {
        &self.otlp
    }

    /// The address to open, as `http://127.0.0.1:7480`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where agents connect.
    #[must_use]
    pub fn agents_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The parts, to read figures from or to make tokens.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Waits until nothing can be stored any more or a part has ended that should not have, which
    /// only a restart mends, and says why. Whoever runs a collector stops it then and ends with an
    /// error, so that its supervisor restarts it.
    pub async fn failed(&self) -> String {
        let broken = async {
            let ended =
                || self.grpc.is_finished() || self.tasks.iter().any(JoinHandle::is_finished);
            while !ended() {
                tokio::time::sleep(BROKEN_LOOK).await;
            }
        };
        tokio::select! {
            reason = self.parts.store.failed() => format!("the store has failed: {reason}"),
            () = broken => "a part of the collector broke; the log says which".to_owned(),
        }
    }

    /// Stops taking, lets what is under way finish, makes everything durable, and closes.
    ///
    /// # Errors
    /// [`StoreError`] when the last samples could not be made durable; they were not acknowledged.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.ready.set(false);
        let drained = self.listener.drain(DRAIN).await;
        if drained.streams_cut > 0 {
            tracing::info!(streams = drained.streams_cut, "cut agents' streams at shutdown");
        }
        self.grpc.abort();
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the collector broke");
            }
        }
        let closed = self.parts.store.close().await;
        if closed.is_ok() {
            // Otherwise they would count what was not stored.
            let kept = self.kept;
            let keeping = move || kept.otlp.keep(&*kept.disk, &kept.dir);
            if let Err(error) = tokio::task::spawn_blocking(keeping).await {
                tracing::error!(%error, "a part of the collector broke");
            }
        }
        closed
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("http", &self.http).finish_non_exhaustive()
    }
}

/// Opens what is on disk, on a thread that may wait for it.
async fn open(
    disk: Arc<dyn Disk>,
    config: &Config,
    clock: &Clock,
) -> Result<(Store, Arc<Members>, Arc<Inventories>, ResetKeys), StartError> {
    let (config, clock) = (config.clone(), Arc::clone(clock));
    tokio::task::spawn_blocking(move || {
        let members = Members::open(&config.data_dir, clock())?;
        let is_host = |host: &Host| !matches!(host.standing, Standing::Revoked { .. });
        let hosts = members.hosts().into_iter().filter(|(_, host)| is_host(host));
        let known: HashSet<String> = hosts.map(|(name, _)| name).collect();
        let inventories = Inventories::open(members.state(), |host| known.contains(host))
            .map_err(MembersError::from)?;
        let reset_keys = ResetKeys::load_or_create(&config.data_dir.join("reset.keys"))?;
        let dir = config.data_dir.join("metrics");
        let (store, _told) = Store::open(disk, &dir, &config.storage, clock)?;
        let names: Vec<&str> = passed_on_to(&config).map(|to| to.name.as_str()).collect();
        if let Err(error) = store.follow_only(&names) {
            // The next start tries again; until then the log is kept for them, within its bounds.
            let error = stoa_daemon::error_chain(&error);
            tracing::warn!(error, "cannot forget targets that are gone");
        }
        for name in names {
            // A new target begins here. Where that cannot be written down now, when it can.
            drop(store.follow(name));
        }
        Ok((store, members, Arc::new(inventories), reset_keys))
    })
    .await?
}

/// Where what is stored is passed on to.
fn passed_on_to(config: &Config) -> impl Iterator<Item = &RemoteWriteConfig> {
    config.remote_write.iter().chain(&config.otlp.exports)
}

fn targets(config: &Config) -> Result<Vec<Target>, StartError> {
    let targets = passed_on_to(config).cloned();
    let targets = targets.map(|config| {
        let name = config.name.clone();
        Target::new(config).map_err(|source| StartError::Target { name, source })
    });
    targets.collect()
}

fn expected(members: &Members, steady_ms: i64) -> Presence {
    let mut presence = Presence::default();
    for (name, host) in members.hosts() {
        if host.standing == Standing::Active
            && let Ok(host) = HostId::parse(&name)
        {
            presence.expect(host, steady_ms);
        }
    }
    presence
}

fn routes(parts: &Parts, ready: &Ready, url: &str, clock: &Clock) -> Routes {
    let facts = {
        let (parts, url) = (parts.clone(), url.to_owned());
        Arc::new(move || parts.front(&url))
    };
    let metrics = {
        let parts = parts.clone();
        Arc::new(move || selfstats::families(&parts.figures()))
    };
    let handed_off = {
        let parts = parts.clone();
        Arc::new(move || parts.handoff())
    };
    let has_joined = {
        let members = Arc::clone(&parts.members);
        Arc::new(move |name: &str| members.knows(name))
    };
    Routes::new()
        .merge(handoff::routes(handed_off))
        .merge(health::routes(ready.clone(), trouble(parts.store.clone())))
        .merge(front::routes(facts))
        .merge(prometheus::routes(parts.prometheus.clone()))
        .merge(prometheus::around_routes(parts.prometheus.clone(), Arc::new(parts.clone())))
        .merge(remote_write::routes(parts.remote_write.clone()))
        .merge(otlp::routes(parts.otlp.clone()))
        .merge(metrics::routes(metrics))
        .merge(import::routes(parts.importer.clone()))
        .merge(storage::routes(StorageAdmin::new(parts.store.clone(), Arc::clone(clock))))
        .merge(inventory::routes(InventoryApi {
            inventories: Arc::clone(&parts.inventories),
            has_joined,
            clock: Arc::clone(clock),
        }))
        .merge(admin::routes(Admin {
            members: Arc::clone(&parts.members),
            inventories: Arc::clone(&parts.inventories),
            clock: Arc::clone(clock),
        }))
}

/// A full disk is none: what is stored is served, and senders keep the rest.
fn trouble(store: Store) -> Trouble {
    Arc::new(move || match store.state() {
        StoreState::Open | StoreState::DiskFull { .. } => None,
        StoreState::Failed(_) => Some("The store has failed; the log says why. Restart Stoa.\n"),
        StoreState::Closed => Some("Stoa is stopping.\n"),
    })
}

#[cfg(test)]
mod tests {
    use stoa_wal::disk::{Fault, SimDisk};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_store_that_ended_for_good_is_reported_as_failed() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.data_dir = dir.path().to_owned();
        config.agents.listen = "127.0.0.1:0".parse().unwrap();
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.storage.free_bytes_min = 0;
        let disk = SimDisk::new(1);
        let server =
            Server::start_on(Arc::new(disk.clone()), config, clock::system()).await.unwrap();
        // The collector's own figures are being stored, and nothing is wrong with that.
        while server.parts().figures().store.commits == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let early = tokio::time::timeout(2 * BROKEN_LOOK, server.failed()).await;
        assert!(early.is_err(), "reported while nothing had failed: {early:?}");
        // The next write or sync, whoever's it is.
        disk.fail_at(1, Fault::Eio);
        let reason = tokio::time::timeout(Duration::from_secs(40), server.failed()).await.unwrap();
        assert!(reason.starts_with("the store has failed: "), "{reason}");
        assert!(matches!(server.parts().store.state(), StoreState::Failed(_)));
        assert!(matches!(server.stop().await, Err(StoreError::Failed { .. })));
    }
}

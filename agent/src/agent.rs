//! The agent, assembled: sampler → batch → uplink, with the certificate kept fresh beside.
//!
//! This module only orders things; every decision is a part's own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stoa_daemon::{DataDir, DataDirError};
use stoa_model::{Family, TimestampMs};
use stoa_proto::tick::Tick;
use stoa_transport::{DialConfig, DialError, Dialer};
use stoa_wal::QueueError;
use stoa_wal::disk::RealDisk;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batcher, SourceReading};
use crate::config::Config;
use crate::identity::{self, IdentityError};
use crate::numbers::Numbers;
use crate::page::{Page, PageConfig, PageWriter, REQUEST};
use crate::renewal;
use crate::sampler::{self, Sampler, SamplerHandle, TICKS_MAX, Taken};
use crate::scrape::{self, ScrapeFigures};
use crate::selfstats::{SelfStats, TickFacts};
use crate::sources::inventory::Outbox;
use crate::sources::registry;
use crate::sources::settings::SettingsError;
use crate::spool::{Spool, SpoolOptions};
use crate::uplink::{self, Clock, Readings, UplinkConfig, UplinkFigures};

/// How long the uplink may take to save what it holds: longer only when the disk does not answer.
const STOP: Duration = Duration::from_secs(8);

/// How often it is looked whether a part has ended.
const BROKEN_LOOK: Duration = Duration::from_secs(1);

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Who this host is.
    #[error("read this host's identity")]
    Identity(#[from] IdentityError),
    /// Where the collector is.
    #[error(
        "where the collector is is not written down in {}; set `collector` in the configuration",
        dir.display()
    )]
    NoCollector {
        /// The data directory.
        dir: PathBuf,
    },
    /// The credentials.
    #[error("prepare to dial the collector")]
    Dial(#[from] DialError),
    /// The spool.
    #[error("open the spool {}", path.display())]
    Spool {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: QueueError,
    },
    /// A setting of a source.
    #[error("make the sources")]
    Sources(#[from] SettingsError),
    /// The page of metrics.
    #[error("serve metrics at {address}; set `metrics.listen` to an address that is free")]
    Page {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The sampler's thread.
    #[error("start the sampler")]
    Sampler(#[source] io::Error),
    /// A thread of ours broke; a bug.
    #[error("start a part")]
    Thread(#[from] tokio::task::JoinError),
}

/// A running agent. End it with [`Agent::stop`]; dropping it loses what is in memory only.
pub struct Agent {
    host: String,
    figures: watch::Receiver<UplinkFigures>,
    sampler: SamplerHandle,
    uplink: JoinHandle<()>,
    renewal: JoinHandle<()>,
    page: Option<SocketAddr>,
    stop: CancellationToken,
    _data_dir: DataDir,
}

impl Agent {
    /// Starts an agent that has joined.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let data_dir = DataDir::open(&config.data_dir)?;
        for (key, path) in config.roots.named() {
            if !path.is_dir() {
                tracing::warn!(key, path = %path.display(), "is not there; what is in it is not told");
            }
        }
        let epoch = uplink::draw_epoch();
        let now_ms = clock();
        let (identity, collector, spool, opened) = tokio::task::spawn_blocking({
            let config = config.clone();
            move || {
                let dir = &config.data_dir;
                let identity = identity::load(dir)?;
                let collector = match config.collector.clone() {
                    Some(collector) => Some(collector),
                    None => identity::collector_address(dir)?,
                };
                let collector =
                    collector.ok_or_else(|| StartError::NoCollector { dir: dir.clone() })?;
                let path = dir.join("spool");
                let options = SpoolOptions {
                    bytes_max: config.spool_bytes_max,
                    age_max_ms: millis(config.spool_age_max),
                    keep_ms: millis(config.spool_keep_acked),
                    ..SpoolOptions::default()
                };
                let (spool, opened) =
                    Spool::open(Arc::new(RealDisk), &path, options, epoch, now_ms)
                        .map_err(|source| StartError::Spool { path, source })?;
                Ok::<_, StartError>((identity, collector, spool, opened))
            }
        })
        .await??;
        if opened.recovered > 0 || !opened.dropped.is_empty() {
            let losses = opened.dropped.len();
            tracing::info!(samples = opened.recovered, losses, "found readings in the spool");
        }
        let dialer = Dialer::new(DialConfig::new(collector, identity.credentials()))?;
        let host = identity.host.to_string();

        let stop = CancellationToken::new();
        let page = open_page(&config, &clock, &stop).await?;
        let (page, page_writer) = page.unzip();

        let (sources, outbox) = registry::sources_and_inventory(&config.sources)?;
        let (figures_tx, figures) = watch::channel(UplinkFigures::default());
        let (ticks, ticks_rx) = mpsc::channel(TICKS_MAX);
        let numbers = Arc::new(Numbers::default());
        let scraping = (!config.scrape.is_off()).then(|| {
            let (figures, told) = watch::channel(ScrapeFigures::default());
            let out = scrape::Out { ticks: ticks.clone(), numbers: Arc::clone(&numbers), figures };
            let settings = config.scrape.clone();
            tokio::spawn(keep_scraping(settings, out, Arc::clone(&clock), stop.clone()));
            told
        });
        let batcher = Batcher::numbered(numbers);
        let mut batching = Batching {
            scraping,
            ..Batching::new(batcher, ticks, figures.clone(), outbox.clone(), page_writer)
        };
        let sampler = Sampler::new(sources, config.roots, config.interval);
        let sampler =
            sampler::spawn(sampler, move |t, took, families| batching.take(t, took, families))
                .map_err(StartError::Sampler)?;
        let uplink_config = UplinkConfig {
            epoch,
            boot_id: uplink::boot_id(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: rand::random(),
            recovered: opened.recovered,
        };
        let uplink = tokio::spawn(uplink::run(
            Arc::new(dialer.clone()),
            spool,
            uplink_config,
            Readings { ticks: ticks_rx, inventory: Some(outbox) },
            Arc::clone(&clock),
            figures_tx,
            stop.clone(),
        ));
        let renewal = tokio::spawn(renewal::keep(
            identity,
            dialer,
            config.data_dir.clone(),
            move || clock(),
            stop.clone(),
        ));
        Ok(Self { host, figures, sampler, uplink, renewal, page, stop, _data_dir: data_dir })
    }

    /// The host's name, as its certificate says.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where metrics are served, if they are.
    #[must_use]
    pub fn page(&self) -> Option<SocketAddr> {
        self.page
    }

    /// What the uplink has done so far.
    #[must_use]
    pub fn figures(&self) -> UplinkFigures {
        self.figures.borrow().clone()
    }

    /// Waits until a part has ended that should not have, which is a bug: nothing is sampled or sent
    /// any more. Whoever runs an agent stops it then and ends with an error, so that its supervisor
    /// restarts it.
    pub async fn broken(&self) {
        while !self.sampler.is_finished() && !self.uplink.is_finished() {
            tokio::time::sleep(BROKEN_LOOK).await;
        }
    }

    /// Stops sampling, hands what was read to the uplink, and saves what is not acknowledged.
    pub async fn stop(self) {
        let Self { sampler, uplink, renewal, stop, .. } = self;
        let stopped = tokio::task::spawn_blocking(move || sampler.stop());
        if let Err(error) = stopped.await {
            tracing::error!(%error, "the sampler broke");
        }
        stop.cancel();
        match tokio::time::timeout(STOP, uplink).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the uplink broke"),
            Err(_elapsed) => tracing::error!("the spool could not be closed in time"),
        }
        renewal.abort();
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Serves metrics where they are asked for, until `stop`.
async fn open_page(
    config: &Config,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<Option<(SocketAddr, PageWriter)>, StartError> {
    let Some(address) = config.metrics else { return Ok(None) };
    let failed = |source| StartError::Page { address, source };
    let page = PageConfig { listen: address, interval: config.interval, patience: REQUEST };
    let (page, writer) = Page::open(page, Arc::clone(clock)).await.map_err(failed)?;
    let address = page.address().map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics are served without TLS to all who reach this address");
    }
    tracing::info!(%address, "metrics are served");
    tokio::spawn(page.serve(stop.clone()));
    Ok(Some((address, writer)))
}

/// Scrapes until `stop`; what is wrong with the settings was said when they were read.
async fn keep_scraping(
    settings: scrape::settings::Settings,
    out: scrape::Out,
    clock: Clock,
    stop: CancellationToken,
) {
    if let Err((key, message)) = scrape::run(settings, out, clock, stop).await {
        tracing::error!(key, message, "nothing is scraped");
    }
}

/// Turns what the sampler read, and the agent's own figures, into ticks; on the sampler's thread.
struct Batching {
    batcher: Batcher,
    own: SelfStats,
    series_before: usize,
    refused: u64,
    ticks: mpsc::Sender<Arc<Tick>>,
    figures: watch::Receiver<UplinkFigures>,
    outbox: Outbox,
    page: Option<PageWriter>,
    scraping: Option<watch::Receiver<ScrapeFigures>>,
}

impl Batching {
    fn new(
        batcher: Batcher,
        ticks: mpsc::Sender<Arc<Tick>>,
        figures: watch::Receiver<UplinkFigures>,
        outbox: Outbox,
        page: Option<PageWriter>,
    ) -> Self {
        let (own, scraping) = (SelfStats::default(), None);
        Self { batcher, own, series_before: 0, refused: 0, ticks, figures, outbox, page, scraping }
    }

    fn take(&mut self, t_ms: TimestampMs, took: Duration, families: &[&Family]) -> Taken {
        let facts = TickFacts {
            t_ms,
            samples: families.iter().map(|family| family.metrics.len()).sum(),
            series_added: self.batcher.series().saturating_sub(self.series_before),
            duration_s: took.as_secs_f64(),
            refused: self.refused,
            page: self.page.as_ref().map(PageWriter::figures),
            scraping: self.scraping.as_ref().map(|figures| *figures.borrow()),
        };
        let figures = || (self.figures.borrow().clone(), self.outbox.figures());
        let own: Vec<&Family> = self.own.families(facts, figures).collect();
        // Whoever scrapes is told, whether or not the uplink takes anything.
        if let Some(page) = &mut self.page {
            page.tell(t_ms, families.iter().chain(&own).copied());
        }
        // Before anything is numbered: what is dropped must not seem told.
        let place = match self.ticks.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(())) => return Taken::Full,
            Err(TrySendError::Closed(())) => return Taken::Gone,
        };
        self.series_before = self.batcher.series();
        let readings = [
            SourceReading { source: "host", families },
            SourceReading { source: "agent", families: &own },
        ];
        let batched = self.batcher.tick(t_ms, &readings);
        self.refused += batched.refused;
        place.send(Arc::new(batched.tick));
        Taken::Yes
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

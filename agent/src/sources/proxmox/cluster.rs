//! The source `proxmox`: clusters of Proxmox VE and nodes that stand alone.
//!
//! Asked each time are the version, the cluster's state and its resources; the rest as [`questions`]
//! say. A node that the cluster calls offline is asked nothing. What is told of nodes, guests and storages
//! in prometheus-pve-exporter's names is [`resources`]; everything else is [`details`]. That nothing is shown
//! to a token without rights looks like a cluster without guests, so that the token's rights are read
//! ([`rights`]) and what is missing is told as a fault.

use std::time::Duration;

use tokio::time::Instant;

use crate::sources::registry::{Configured, Shared};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Reading, Roots, Source};

use super::{
    Api, BUDGET, DEADLINE, Fault, INTERVAL, Notebook, PATIENCE, Product, Round, Settings, Target,
    Told, note_faults,
};

mod details;
mod questions;
mod resources;
mod rights;

use questions::Question;
use resources::Overview;

const UP: Desc =
    Desc::gauge("stoa_proxmox_up", "Whether the API of Proxmox VE answers, and takes the token.");

/// The source `proxmox`.
#[derive(Debug)]
pub(crate) struct Cluster(Round<Asked>);

/// One cluster.
#[derive(Debug)]
struct Asked {
    api: Api,
    instance: String,
    notebook: Notebook<Question>,
}

impl Cluster {
    pub(super) fn of(settings: Settings, budget: Duration) -> Self {
        let targets = settings.servers.into_iter().filter_map(|server| {
            let api = Api::new(Product::VirtualEnvironment, server)?;
            Some(Asked { instance: api.instance(), api, notebook: Notebook::new() })
        });
        Self(Round::new(Product::VirtualEnvironment, targets, budget))
    }
}

impl Configured for Cluster {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::of(settings, BUDGET)
    }
}

impl Source for Cluster {
    fn name(&self) -> &'static str {
        "proxmox"
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
        // The rights are known first: what they forbid is not asked.
        for _ in 0..2 {
            notebook.want(questions::of(&overview, notebook.answer(&Question::Permissions)));
            notebook.ask(api, now, until).await;
        }
        overview.tell(&mut told);
        details::tell(&overview, notebook, &mut told);
        let rights = notebook.answer(&Question::Permissions);
        for lacking in rights::lacking(&overview, rights) {
            reading.note(api.problem(&lacking));
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
    let status = api.get("cluster/status", patience(2)).await?;
    let resources = api.get("cluster/resources", patience(1)).await?;
    Overview::read(api, &version, &status, &resources)
}

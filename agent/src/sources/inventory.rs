//! What this host is made of, as one document that is told when it changes.
//!
//! An [`InventorySource`] is a source like any other, asked every [`INTERVAL`]: it gathers the
//! sections anew, offers the document to the uplink through an [`Outbox`], and tells a few `_info`
//! series to join with. What changes all the time (free bytes, counters, uptime) is not in it, so that
//! a quiet host's document is told once. A section that cannot be read now stays as it was read last;
//! one that the host does not have is absent.
//!
//! Bounds: the document's own (`stoa_model::inventory`), and each section's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message as _;
use stoa_model::inventory::{Node, NodeKind, Value};
use stoa_model::{Family, Inventory, Labels, Metric};
use stoa_proto::message::Digest;
use stoa_proto::v1;
use tokio::sync::watch;

use super::registry::{Configured, NoSettings, Shared};
use super::{Desc, Now, Problem, Reading, Roots, Source};

mod disks;
mod machine;
mod mounts;
mod network;
mod packages;
mod processor;
mod system;
mod units;
mod virtualization;

/// How often the sections are gathered.
const INTERVAL: Duration = Duration::from_secs(300);

/// How long gathering may take: disks that wake, a file system that is slow to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Series of one `_info` family, at most.
const SERIES_MAX: usize = 64;

/// The id of the node that is this host.
const HOST_NODE: &str = "host";

/// Bytes of the hash that names a document.
const DIGEST_BYTES: usize = 16;

const HOST: Desc = Desc::gauge("stoa_host_info", "Always 1; the labels say what the host is.");
const ADDRESS: Desc = Desc::gauge(
    "stoa_network_address_info",
    "Always 1; the labels say which address a network device has.",
);
const DISK: Desc = Desc::gauge(
    "stoa_filesystem_disk_info",
    "Always 1; the labels say on which disk a file system is.",
);

/// A document and what names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Of the document; equal digests mean equal documents.
    pub digest: Digest,
    /// What the host is made of.
    pub document: Inventory,
}

impl Named {
    /// Gives a document its name.
    #[must_use]
    pub fn new(document: Inventory) -> Self {
        let bytes = v1::InventoryDocument::from(&document).encode_to_vec();
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let digest: Vec<u8> = hash.as_ref().iter().copied().take(DIGEST_BYTES).collect();
        Self { digest: Digest(digest.into()), document }
    }
}

/// What has been done with documents; shared by who tells them and who shows it.
#[derive(Debug, Default)]
pub struct Tally {
    told: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// What came of telling a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it.
    Told,
    /// The collector will not have it; it is told again when it has changed.
    Refused,
    /// Not now; it is tried again.
    Failed,
}

impl Tally {
    /// Counts.
    pub fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Told => &self.told,
            Outcome::Refused => &self.refused,
            Outcome::Failed => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where the source puts its document.
pub(crate) type Offer = watch::Sender<Option<Arc<Named>>>;

/// A place for a document, from both sides.
pub(crate) fn outbox() -> (Offer, Outbox) {
    let (offer, current) = watch::channel(None);
    (offer, Outbox { current, tally: Arc::default() })
}

/// The document as of now, for the uplink to tell; clones see the same.
#[derive(Clone, Debug)]
pub struct Outbox {
    current: watch::Receiver<Option<Arc<Named>>>,
    tally: Arc<Tally>,
}

/// What [`crate::selfstats`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryFigures {
    /// Documents the collector has taken.
    pub told: u64,
    /// Documents it will not have.
    pub refused: u64,
    /// Times a document could not be told.
    pub failed: u64,
    /// The document's size in bytes.
    pub bytes: u64,
    /// Items left out of it for want of room.
    pub left_out: u64,
}

impl Outbox {
    /// The document as of now.
    #[must_use]
    pub fn current(&mut self) -> Option<Arc<Named>> {
        self.current.borrow_and_update().clone()
    }

    /// Waits for the next document; for ever when there will be none.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts what came of telling.
    pub fn count(&self, outcome: Outcome) {
        self.tally.count(outcome);
    }

    /// What has been done so far.
    #[must_use]
    pub fn figures(&self) -> InventoryFigures {
        let current = self.current.borrow();
        let document = current.as_ref().map(|named| &named.document);
        let sections = || document.into_iter().flat_map(|document| document.sections().values());
        InventoryFigures {
            told: self.tally.told.load(Ordering::Relaxed),
            refused: self.tally.refused.load(Ordering::Relaxed),
            failed: self.tally.failed.load(Ordering::Relaxed),
            bytes: document.map_or(0, |document| document.bytes() as u64),
            left_out: sections().map(|section| section.left_out).sum(),
        }
    }
}

/// The source `inventory`.
#[derive(Debug)]
pub(crate) struct InventorySource {
    offer: Offer,
    packages: packages::Packages,
    /// As it was told last.
    last: Arc<Named>,
    told: Vec<Family>,
}

impl Configured for InventorySource {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, shared: &Shared) -> Self {
        Self::offering(shared.inventory.clone())
    }
}

impl InventorySource {
    fn offering(offer: Offer) -> Self {
        Self {
            offer,
            packages: packages::Packages::default(),
            last: Arc::new(Named::new(Inventory::new())),
            told: Vec::new(),
        }
    }

    fn gather(&mut self, roots: &Roots, reading: &mut Reading) -> Inventory {
        let mut document = Inventory::new();
        let packages = &mut self.packages;
        let mut section = |names: &[&str], read: &mut Gather<'_>| {
            let mut part = Inventory::new();
            match read(roots, &mut part) {
                Ok(()) => names.iter().for_each(|name| document.take_over(&part, name)),
                Err(problem) if problem.is_absence() => {}
                Err(problem) => {
                    names.iter().for_each(|name| document.take_over(&self.last.document, name));
                    reading.note(problem);
                }
            }
        };
        section(&["machine"], &mut machine::gather);
        section(&["processor"], &mut processor::gather);
        section(&["memory"], &mut system::memory);
        section(&["system"], &mut system::system);
        section(&["interfaces"], &mut network::gather);
        section(&["disks"], &mut disks::gather);
        section(&["mounts"], &mut mounts::gather);
        section(&["units"], &mut units::gather);
        section(&["packages"], &mut |roots, part| packages.gather(roots, part));
        let name = text(&document, "system", "", "hostname").unwrap_or_default().to_owned();
        let host = Node { id: HOST_NODE, kind: NodeKind::Host, name: &name, parent: None };
        document.put_node(&host);
        document
    }
}

/// Reads one section, or a few that come of one reading.
type Gather<'a> = dyn FnMut(&Roots, &mut Inventory) -> Result<(), Problem> + 'a;

impl Source for InventorySource {
    fn name(&self) -> &'static str {
        "inventory"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let named = Named::new(self.gather(roots, reading));
        if named.digest != self.last.digest {
            self.told = families(&named.document);
            self.last = Arc::new(named);
            self.offer.send_replace(Some(Arc::clone(&self.last)));
        }
        for family in &self.told {
            reading.copy(family);
        }
    }
}

/// The series to join with; node_exporter's own tell the rest (`node_uname_info`, `node_os_info`,
/// `node_dmi_info`, `node_disk_info`).
fn families(document: &Inventory) -> Vec<Family> {
    let mut host = HOST.family();
    let field = |section, name| text(document, section, "", name).unwrap_or_default();
    host.metrics.push(info(&[
        ("virtualization", field("machine", "virtualization")),
        ("container", field("machine", "container")),
        ("architecture", field("system", "architecture")),
        ("cpu_model", field("processor", "model")),
        ("os", field("system", "os")),
        ("kernel", field("system", "kernel")),
    ]));
    let mut addresses = ADDRESS.family();
    for (device, fields) in document.items("interfaces") {
        let Some(Value::List(texts)) = fields.get("addresses") else { continue };
        for text in texts {
            let Some((address, prefix)) = text.split_once('/') else { continue };
            let family = if address.contains(':') { "ipv6" } else { "ipv4" };
            addresses.metrics.push(info(&[
                ("device", device),
                ("address", address),
                ("prefix_length", prefix),
                ("family", family),
            ]));
        }
    }
    let mut disks = DISK.family();
    for (mount_point, fields) in document.items("mounts") {
        let Some(Value::List(texts)) = fields.get("disks") else { continue };
        let device = text(document, "mounts", mount_point, "device").unwrap_or_default();
        for disk in texts {
            disks.metrics.push(info(&[
                ("mountpoint", mount_point),
                ("device", device),
                ("disk", disk),
            ]));
        }
    }
    let mut families = vec![host, addresses, disks];
    families.iter_mut().for_each(|family| family.metrics.truncate(SERIES_MAX));
    families
}

fn info(labels: &[(&str, &str)]) -> Metric {
    Metric { labels: Labels::from_pairs_last_wins(labels.iter().copied()), value: 1.0 }
}

fn text<'a>(document: &'a Inventory, section: &str, key: &str, name: &str) -> Option<&'a str> {
    match document.sections().get(section)?.items.get(key)?.get(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// An item being written down; what is not known is left out of it.
#[derive(Debug, Default)]
struct Item(Vec<(String, Value)>);

impl Item {
    fn text(mut self, name: &str, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().trim();
        if !text.is_empty() {
            self.0.push((name.to_owned(), Value::from(text)));
        }
        self
    }

    fn number(mut self, name: &str, number: Option<u64>) -> Self {
        self.0.extend(number.map(|number| (name.to_owned(), Value::from(number))));
        self
    }

    fn flag(mut self, name: &str, flag: Option<bool>) -> Self {
        self.0.extend(flag.map(|flag| (name.to_owned(), Value::from(flag))));
        self
    }

    fn list(mut self, name: &str, texts: Vec<String>) -> Self {
        if !texts.is_empty() {
            self.0.push((name.to_owned(), Value::from(texts)));
        }
        self
    }

    fn put(self, document: &mut Inventory, section: &str, key: &str) {
        document.put(section, key, self.0);
    }
}

/// An attribute of one line; empty when it cannot be read, which is common: some are root's.
fn attribute(path: &Path) -> String {
    super::read_small(path).unwrap_or_default()
}

/// The names in a directory, sorted, at most so many.
fn names_in(dir: &Path, max: usize) -> Result<Vec<String>, Problem> {
    let entries = std::fs::read_dir(dir).map_err(|source| Problem::read(dir, source))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(max).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;

//! What this host is made of, as one document that is told when it changes.
//!
//! An [`InventorySource`] is a source like any other, asked every [`INTERVAL`]: it gathers the
//! sections anew, offers the document to the uplink through an [`Outbox`], and tells a few `_info`
//! series to join with. What changes all the time (free bytes, counters, uptime, whether a link is up)
//! is not in it, so that a quiet host's document is told once. In a container memory and processors are
//! the container's, and the node's machine and disks are left out. A section that cannot be read now
//! stays as it was read last; one that the host does not have is absent.
//!
//! Bounds: the document's own (`stoa_model::inventory`), and each section's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stoa_model::inventory::{Node, NodeKind, Value};
use stoa_model::{Family, Inventory};

use super::container::{self, SharedContainer};
use super::registry::{Configured, NoSettings, Shared};
use super::{Now, Problem, Reading, Roots, Source};

mod disks;
mod families;
mod machine;
mod memory;
mod mounts;
mod network;
mod outbox;
mod packages;
mod processor;
mod system;
mod units;
mod virtualization;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use network::address_of;

use families::families;
pub use outbox::{InventoryFigures, Named, Outbox, Outcome, Tally};
pub(crate) use outbox::{Offer, outbox};

/// How often the sections are gathered.
const INTERVAL: Duration = Duration::from_secs(300);

/// How long gathering may take: disks that wake, a file system that is slow to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// The id of the node that is this host.
const HOST_NODE: &str = "host";

/// The source `inventory`.
#[derive(Debug)]
pub(crate) struct InventorySource {
    offer: Offer,
    container: SharedContainer,
    of_container: container::Settings,
    packages: packages::Packages,
    /// As it was told last.
    last: Arc<Named>,
    told: Vec<Family>,
}

impl Configured for InventorySource {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, shared: &Shared) -> Self {
        let container = SharedContainer::clone(&shared.container);
        Self::offering(shared.inventory.clone(), container, shared.of_container.clone())
    }
}

impl InventorySource {
    fn offering(
        offer: Offer,
        container: SharedContainer,
        of_container: container::Settings,
    ) -> Self {
        Self {
            offer,
            container,
            of_container,
            packages: packages::Packages::default(),
            last: Arc::new(Named::new(Inventory::new())),
            told: Vec::new(),
        }
    }

    fn gather(&mut self, roots: &Roots, now: Now, reading: &mut Reading) -> Inventory {
        let bounds = container::bounds(&self.of_container, &self.container, roots, now);
        let bounds = bounds.as_ref();
        let last = Arc::clone(&self.last);
        let mut document = Inventory::new();
        let packages = &mut self.packages;
        let mut section = |names: &[&str], read: &mut Gather<'_>| {
            let mut part = Inventory::new();
            match read(roots, &mut part) {
                Ok(()) => names.iter().for_each(|name| document.take_over(&part, name)),
                Err(problem) if problem.is_absence() => {}
                Err(problem) => {
                    names.iter().for_each(|name| document.take_over(&last.document, name));
                    reading.note(problem);
                }
            }
        };
        section(&["machine"], &mut |roots, part| {
            machine::gather(roots, bounds.is_none(), part);
            Ok(())
        });
        section(&["processor"], &mut |roots, part| processor::gather(roots, bounds, part));
        section(&["memory"], &mut |roots, part| memory::gather(roots, bounds, part));
        section(&["system"], &mut system::system);
        section(&["interfaces"], &mut |roots, part| network::gather(roots, &last.document, part));
        if bounds.is_none() {
            section(&["disks"], &mut disks::gather);
        }
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

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let named = Named::new(self.gather(roots, now, reading));
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

/// A text of a document.
fn text<'a>(document: &'a Inventory, section: &str, key: &str, name: &str) -> Option<&'a str> {
    match document.sections().get(section)?.items.get(key)?.get(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A number of bytes as the kernel counts them.
fn whole(bytes: f64) -> Option<u64> {
    format!("{bytes:.0}").parse().ok()
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

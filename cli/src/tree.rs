//! What runs where, with live numbers: host → guest → container, unit → process, and the host's GPUs.
//!
//! ```text
//! PromQL answers (figures) → places (place) → Tree → drawn by `stoa host tree`, listed by `stoa top`
//! ```
//!
//! A node's id is its path, as stable as what it names: `pve1/lxc/101/docker/0123456789ab/ollama`. A host
//! that is a guest of another – its agent runs in the container – is found by what the node calls that
//! guest, and told there once, with what both sides know. Knows no terminal and no collector: rows come in,
//! a tree stands.

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) mod drawn;
pub(crate) mod figures;
mod place;

use figures::{Field, Row};
use place::Step;

/// What kind of thing a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A host with an agent.
    Host,
    /// A GPU of a host.
    Gpu,
    /// A container or virtual machine of a node.
    Guest,
    /// A container of Docker's or Podman's.
    Container,
    /// A unit of systemd.
    Unit,
    /// A process, or all of one name.
    Process,
}

/// What a node uses now. What is not known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Cores busy.
    #[serde(rename = "cpu_cores", skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<f64>,
    #[serde(rename = "memory_bytes", skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<f64>,
    /// Read from and written to storage.
    #[serde(rename = "io_bytes_per_second", skip_serializing_if = "Option::is_none")]
    pub(crate) io: Option<f64>,
    #[serde(rename = "gpu_memory_bytes", skip_serializing_if = "Option::is_none")]
    pub(crate) gpu_memory: Option<f64>,
    /// The share of the time in which GPUs worked; of two GPUs up to 2.
    #[serde(rename = "gpu_ratio", skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<f64>,
}

impl Figures {
    /// A figure.
    pub(crate) fn get(&self, field: Field) -> Option<f64> {
        match field {
            Field::Cpu => self.cpu,
            Field::Memory => self.memory,
            Field::Io => self.io,
            Field::GpuMemory => self.gpu_memory,
            Field::Gpu => self.gpu,
        }
    }

    fn slot(&mut self, field: Field) -> &mut Option<f64> {
        match field {
            Field::Cpu => &mut self.cpu,
            Field::Memory => &mut self.memory,
            Field::Io => &mut self.io,
            Field::GpuMemory => &mut self.gpu_memory,
            Field::Gpu => &mut self.gpu,
        }
    }

    fn add(&mut self, field: Field, value: f64) {
        let slot = self.slot(field);
        *slot = Some(slot.unwrap_or_default() + value);
    }
}

/// A thing that runs, and what runs in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    /// Its path from the host on.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// What a person calls it; empty where nothing says it.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// By what follows this node's id in theirs.
    #[serde(serialize_with = "in_order", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) children: BTreeMap<String, Self>,
}

fn in_order<S: serde::Serializer>(
    children: &BTreeMap<String, Node>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(children.values())
}

/// Everything that runs, by host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Tree {
    #[serde(serialize_with = "in_order")]
    pub(crate) hosts: BTreeMap<String, Node>,
}

impl Tree {
    /// The tree of what was answered.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let mut tree = Self::default();
        for row in rows {
            let Some(path) = place::of(row.subject, &row.labels) else { continue };
            if let Some(node) = tree.at(path) {
                node.figures.add(row.field, row.value);
            }
        }
        tree.join();
        for host in tree.hosts.values_mut() {
            host.sum_gpus();
            host.identify(None);
        }
        tree
    }

    /// Only the host that is called so; `None` where there is none.
    pub(crate) fn of_host(mut self, name: &str) -> Option<Self> {
        let host = self.hosts.remove(name).or_else(|| {
            // It may stand below its node.
            let mut all = self.hosts.values().flat_map(|host| host.children.values());
            all.find(|guest| guest.kind == Kind::Guest && guest.name == name).cloned()
        })?;
        Some(Self { hosts: BTreeMap::from([(name.to_owned(), host)]) })
    }

    /// The node at a path, made where it is not there.
    fn at(&mut self, path: Vec<Step>) -> Option<&mut Node> {
        let mut steps = path.into_iter();
        let first = steps.next()?;
        let mut node = self.hosts.entry(first.id.clone()).or_insert_with(|| Node::new(&first));
        for step in steps {
            node = node.children.entry(step.id.clone()).or_insert_with(|| Node::new(&step));
            if node.name.is_empty() {
                node.name = step.name;
            }
        }
        Some(node)
    }

    /// Hangs hosts that are guests of others below those.
    fn join(&mut self) {
        let mut nodes_of: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (host, node) in &self.hosts {
            for (guest, child) in node.children.iter().filter(|(_, it)| it.kind == Kind::Guest) {
                let place = (host.clone(), guest.clone());
                nodes_of.entry(child.name.to_lowercase()).or_default().push(place);
            }
        }
        for (name, places) in nodes_of {
            // Two guests of one name: nobody knows which it is.
            let [(host, guest)] = places.as_slice() else { continue };
            if *host == name || name.is_empty() {
                continue;
            }
            let Some(inner) = self.hosts.remove(&name) else { continue };
            let outer = self.hosts.get_mut(host).and_then(|it| it.children.get_mut(guest));
            if let Some(outer) = outer {
                outer.merge(inner);
            }
        }
    }
}

impl Node {
    fn new(step: &Step) -> Self {
        Self {
            id: String::new(),
            kind: step.kind,
            name: step.name.clone(),
            figures: Figures::default(),
            children: BTreeMap::new(),
        }
    }

    /// Takes in what the inside knows; where both know a number, the outside's stands.
    fn merge(&mut self, inner: Self) {
        for field in Field::ALL {
            let known = inner.figures.get(field);
            let slot = self.figures.slot(field);
            *slot = slot.or(known);
        }
        if self.name.is_empty() {
            self.name = inner.name;
        }
        for (id, child) in inner.children {
            match self.children.get_mut(&id) {
                Some(known) => known.merge(child),
                None => {
                    self.children.insert(id, child);
                }
            }
        }
    }

    /// GPUs' users are told each by itself: what a node uses is what all in it use. Processes are told beside
    /// whom they belong to, a GPU beside who uses it.
    fn sum_gpus(&mut self) {
        for child in self.children.values_mut() {
            child.sum_gpus();
            if matches!(child.kind, Kind::Process | Kind::Gpu) {
                continue;
            }
            for field in [Field::GpuMemory, Field::Gpu] {
                if let Some(value) = child.figures.get(field) {
                    self.figures.add(field, value);
                }
            }
        }
    }

    fn identify(&mut self, above: Option<(&str, &str)>) {
        self.id = match above {
            Some((above, own)) => format!("{above}/{own}"),
            None => self.name.clone(),
        };
        for (own, child) in &mut self.children {
            child.identify(Some((&self.id, own)));
        }
    }

    /// This node and all below it.
    pub(crate) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for child in self.children.values() {
            all.extend(child.all());
        }
        all
    }
}

#[cfg(test)]
mod tests;

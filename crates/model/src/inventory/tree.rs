//! The tree of what runs on a host: the host, its guests, their containers, their processes, the
//! devices they use. It is a section of the document like any other: an item per node, keyed by the
//! node's id, with the fields `kind`, `name`, and `parent` (the id of the node it runs on).

use super::{Fields, Inventory, Value};

/// The section the nodes are in.
pub const NODES: &str = "nodes";

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// The host itself, the root.
    Host,
    /// A virtual machine, or a container that is a system of its own (LXC).
    Guest,
    /// A container of one application.
    Container,
    /// A process.
    Process,
    /// A graphics processor.
    Gpu,
}

impl NodeKind {
    /// All of them, from the root outward.
    pub const ALL: [Self; 5] = [Self::Host, Self::Guest, Self::Container, Self::Process, Self::Gpu];

    /// The word in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Container => "container",
            Self::Process => "process",
            Self::Gpu => "gpu",
        }
    }

    /// The kind of that word; `None` for one of a newer agent.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A node as it is read out of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Names it within the document.
    pub id: &'a str,
    /// What it is.
    pub kind: NodeKind,
    /// What people call it.
    pub name: &'a str,
    /// The node it runs on; `None` for the root.
    pub parent: Option<&'a str>,
}

impl Inventory {
    /// Adds a node.
    pub fn put_node(&mut self, node: &Node<'_>) {
        let kind = ("kind".to_owned(), Value::from(node.kind.as_str()));
        let name = ("name".to_owned(), Value::from(node.name));
        let parent = node.parent.map(|parent| ("parent".to_owned(), Value::from(parent)));
        self.put(NODES, node.id, [kind, name].into_iter().chain(parent));
    }

    /// The nodes whose kind is known, by id.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.items(NODES).filter_map(|(id, fields)| {
            let kind = NodeKind::parse(text(fields, "kind")?)?;
            let name = text(fields, "name").unwrap_or_default();
            Some(Node { id, kind, name, parent: text(fields, "parent") })
        })
    }
}

fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    match fields.get(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

//! The tree as lines a person reads: a node a line, its numbers in columns.

use super::figures::Field;
use super::{Kind, Node, Tree};
use crate::table::{columns, printable};

/// How much of the tree is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Processes that are on no GPU, too.
    pub(crate) processes: bool,
    /// Nodes of one kind below one node; the rest is counted.
    pub(crate) limit: usize,
    pub(crate) ids: bool,
}

/// Draws the tree.
pub(crate) fn drawn(tree: &Tree, shape: Shape) -> String {
    if tree.hosts.is_empty() {
        return "no host is heard; join one with: stoa token create\n".to_owned();
    }
    let mut titles = vec!["what".to_owned()];
    titles.extend(Field::ALL.map(|field| format!("{:>9}", field.title())));
    if shape.ids {
        titles.push("id".to_owned());
    }
    let mut rows = vec![titles];
    for host in tree.hosts.values() {
        row(host, "", shape, &mut rows);
        below(host, "", shape, &mut rows);
    }
    columns(&rows)
}

fn row(node: &Node, lead: &str, shape: Shape, rows: &mut Vec<Vec<String>>) {
    let mut cells = vec![format!("{lead}{}", title(node))];
    cells.extend(Field::ALL.map(|field| format!("{:>9}", figure(node, field))));
    if shape.ids {
        cells.push(node.id.clone());
    }
    rows.push(cells);
}

fn below(node: &Node, indent: &str, shape: Shape, rows: &mut Vec<Vec<String>>) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for kind in [Kind::Gpu, Kind::Guest, Kind::Container, Kind::Unit, Kind::Process] {
        let mut children: Vec<&Node> = node
            .children
            .values()
            .filter(|child| child.kind == kind && is_drawn(child, shape))
            .collect();
        if kind != Kind::Gpu {
            children.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then_with(|| a.id.cmp(&b.id)));
        }
        let more = children.len().saturating_sub(shape.limit);
        children.truncate(shape.limit);
        lines.extend(children.into_iter().map(Line::Node));
        if more > 0 {
            lines.push(Line::More(more, kind));
        }
    }
    let last = lines.len().saturating_sub(1);
    for (at, line) in lines.into_iter().enumerate() {
        let (branch, bar) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        match line {
            Line::Node(child) => {
                row(child, &format!("{indent}{branch}"), shape, rows);
                below(child, &format!("{indent}{bar}"), shape, rows);
            }
            Line::More(count, kind) => {
                rows.push(vec![format!("{indent}{branch}… {count} more {}", plural(kind))]);
            }
        }
    }
}

enum Line<'n> {
    Node(&'n Node),
    More(usize, Kind),
}

/// Processes on a GPU always are.
fn is_drawn(node: &Node, shape: Shape) -> bool {
    node.kind != Kind::Process || shape.processes || node.figures.gpu_memory.is_some()
}

/// What puts a node before others: a core busy weighs as much as a gibibyte of memory or of a GPU's.
fn weight(node: &Node) -> f64 {
    let gibibytes = |bytes: Option<f64>| bytes.unwrap_or_default() / f64::from(1 << 30);
    let figures = &node.figures;
    figures.cpu.unwrap_or_default() + gibibytes(figures.memory) + gibibytes(figures.gpu_memory)
}

/// What a node is called, and what it is where that does not say it.
pub(crate) fn title(node: &Node) -> String {
    let own = node.id.rsplit('/').next().unwrap_or_default();
    let name = printable(&node.name);
    match node.kind {
        Kind::Host | Kind::Unit => name,
        Kind::Gpu => format!("gpu {own} {name}").trim_end().to_owned(),
        Kind::Guest | Kind::Container => {
            let kind = node.id.rsplit('/').nth(1).unwrap_or_default();
            if name.is_empty() || name == own {
                format!("{kind} {own}")
            } else {
                format!("{name} ({kind} {own})")
            }
        }
        Kind::Process if name == own => name,
        Kind::Process => format!("{name} (pid {own})"),
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Host => "hosts",
        Kind::Gpu => "GPUs",
        Kind::Guest => "guests",
        Kind::Container => "containers",
        Kind::Unit => "units",
        Kind::Process => "processes",
    }
}

/// A number as a person reads it; empty where it is not known.
pub(crate) fn figure(node: &Node, field: Field) -> String {
    let Some(value) = node.figures.get(field) else { return String::new() };
    match field {
        Field::Cpu | Field::Gpu => format!("{:.1} %", value * 100.0),
        Field::Memory | Field::GpuMemory => bytes(value),
        Field::Io => format!("{}/s", bytes(value)),
    }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"B"))
}

//! `/proc/net/softnet_stat`: packets handled by each CPU, and those it had no time for.

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, label};

/// Families and their column in the file.
const COLUMNS: [(usize, Desc); 7] = [
    (0, Desc::counter("node_softnet_processed_total", "Number of processed packets")),
    (1, Desc::counter("node_softnet_dropped_total", "Number of dropped packets")),
    (
        2,
        Desc::counter(
            "node_softnet_times_squeezed_total",
            "Number of times processing packets ran out of quota",
        ),
    ),
    (
        8,
        Desc::counter(
            "node_softnet_cpu_collision_total",
            "Number of collision occur while obtaining device lock while transmitting",
        ),
    ),
    (
        9,
        Desc::counter(
            "node_softnet_received_rps_total",
            "Number of times cpu woken up received_rps",
        ),
    ),
    (
        10,
        Desc::counter(
            "node_softnet_flow_limit_count_total",
            "Number of times flow limit has been reached",
        ),
    ),
    (BACKLOG, Desc::gauge("node_softnet_backlog_len", "Softnet backlog status")),
];

const BACKLOG: usize = 11;
/// Kernels from 5.14 on say which CPU a line is of; before, lines are counted.
const CPU: usize = 12;

/// The columns of each line; a word that is no number is 0, a column not there too.
pub(super) fn parse(text: &str) -> Vec<(u32, [f64; CPU])> {
    let mut rows = Vec::new();
    for (line, index) in text.lines().zip(0..) {
        let mut row = (index, [0.0; CPU]);
        for (column, word) in line.split_ascii_whitespace().enumerate() {
            let value = u32::from_str_radix(word, 16).unwrap_or(0);
            match row.1.get_mut(column) {
                Some(cell) => *cell = f64::from(value),
                None if column == CPU => row.0 = value,
                None => break,
            }
        }
        rows.push(row);
    }
    rows
}

/// The source `softnet`.
#[derive(Debug)]
pub(crate) struct Softnet {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for Softnet {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("net/softnet_stat"), labels: Kept::new() }
    }
}

impl Source for Softnet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let rows = match self.file.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        if rows.is_empty() {
            return reading.fail(Problem::parse(self.file.path(roots), "no line"));
        }
        let labels: Vec<Labels> = rows
            .iter()
            .map(|(cpu, _)| self.labels.get(&cpu.to_string(), |cpu| label("cpu", cpu)))
            .collect();
        self.labels.end_round();
        for (column, desc) in &COLUMNS {
            let family = reading.open(desc);
            for ((_, row), labels) in rows.iter().zip(&labels) {
                family.push(labels.clone(), row.get(*column).copied().unwrap_or(0.0));
            }
        }
    }
}

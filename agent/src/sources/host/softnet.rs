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
pub(super) fn parse(text: &str) -> impl Iterator<Item = (u32, [f64; CPU])> {
    text.lines().zip(0..).map(|(line, index)| {
        let mut row = (index, [0.0; CPU]);
        for (column, word) in line.split_ascii_whitespace().enumerate() {
            let value = u32::from_str_radix(word, 16).unwrap_or(0);
            match row.1.get_mut(column) {
                Some(cell) => *cell = f64::from(value),
                None if column == CPU => row.0 = value,
                None => break,
            }
        }
        row
    })
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
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let families = reading.group(COLUMNS.iter().map(|(_, desc)| desc));
        let mut number = itoa::Buffer::new();
        for (cpu, row) in parse(text) {
            let labels = self.labels.get(number.format(cpu), |cpu| label("cpu", cpu));
            for (family, (column, _)) in families.iter_mut().zip(&COLUMNS) {
                family.push(labels.clone(), row.get(*column).copied().unwrap_or(0.0));
            }
        }
        self.labels.end_round();
        if reading.is_empty() {
            reading.fail(Problem::parse(self.file.path(roots), "no line"));
        }
    }
}

//! `/proc/softirqs`: soft interrupts by CPU and kind. Off by default.

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{CPUS_MAX, Desc, Kept, KeptFile, Now, Reading, Roots, Source, number};

const FUNCTIONS: Desc = Desc::counter("node_softirqs_functions_total", "Softirq counts per CPU.");

/// The kernel has ten kinds.
const KINDS_MAX: usize = 32;

/// Kind, CPU and count; the first line says which CPUs there are.
pub(super) fn parse(text: &str) -> Vec<(&str, &str, f64)> {
    let mut lines = text.lines();
    let cpus: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("CPU"))
        .take(CPUS_MAX)
        .collect();
    let mut counts = Vec::new();
    for line in lines.take(KINDS_MAX) {
        let Some((kind, rest)) = line.split_once(':') else { continue };
        for (cpu, word) in cpus.iter().zip(rest.split_ascii_whitespace()) {
            if let Some(count) = number(word) {
                counts.push((kind.trim_start(), *cpu, count));
            }
        }
    }
    counts
}

/// The source `softirqs`.
#[derive(Debug)]
pub(crate) struct SoftIrqs {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for SoftIrqs {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("softirqs"), labels: Kept::new() }
    }
}

impl Source for SoftIrqs {
    fn name(&self) -> &'static str {
        "softirqs"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let counts = match self.file.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        let mut family = FUNCTIONS.family();
        for (kind, cpu, count) in counts {
            let labels = self.labels.get(&format!("{kind} {cpu}"), |_| {
                Labels::from_pairs_last_wins([("cpu", cpu), ("type", kind)])
            });
            family.push(labels, count);
        }
        self.labels.end_round();
        reading.family(family);
    }
}

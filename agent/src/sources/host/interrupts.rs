//! `/proc/interrupts`: interrupts by CPU and line.
//!
//! A big host has many thousands of these counters, most of them zero for ever: those are told only
//! with `include_zeros`.

use std::time::Duration;

use serde::Deserialize;
use stoa_model::Labels;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{
    CPUS_MAX, Desc, Kept, KeptFile, Now, Problem, Reading, Roots, Source, number,
};

const INTERRUPTS: Desc = Desc::counter("node_interrupts_total", "Interrupt details.");
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest text of a line that is told: it is told once for each CPU.
const TEXT_BYTES_MAX: usize = 1024;
/// Counters that are told; with more of them the rest is left out, and that is a problem.
const COUNTERS_MAX: usize = 131_072;

/// `[sources.interrupts]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Lines to tell, as `type;info;devices`; all if empty.
    name_include: Pattern,
    /// Lines to leave out, as `type;info;devices`.
    name_exclude: Pattern,
    /// Whether counters that are zero are told.
    include_zeros: bool,
}

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Interrupt<'a> {
    kind: &'a str,
    info: String,
    devices: String,
    counts: Vec<f64>,
}

/// The CPUs, and the lines that count by CPU.
pub(super) fn parse(text: &str) -> (Vec<&str>, Vec<Interrupt<'_>>) {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default().split_ascii_whitespace();
    let cpus: Vec<&str> = head.filter_map(|word| word.strip_prefix("CPU")).take(CPUS_MAX).collect();
    let interrupts = lines.filter_map(|line| interrupt(line, cpus.len())).collect();
    (cpus, interrupts)
}

fn interrupt(line: &str, cpus: usize) -> Option<Interrupt<'_>> {
    let (kind, rest) = line.split_once(':')?;
    let kind = kind.trim_start();
    let mut words = rest.split_ascii_whitespace();
    let counts: Vec<f64> = words.by_ref().take(cpus).map_while(number).collect();
    let mut words = words.peekable();
    // What counts for all CPUs together (`ERR`, `MIS`) has no words behind.
    if counts.len() < cpus || words.peek().is_none() || kind.len() > TEXT_BYTES_MAX {
        return None;
    }
    let is_numbered = kind.bytes().all(|b| b.is_ascii_digit());
    let info_words = if is_numbered { 1 } else { usize::MAX };
    let join = |words: Vec<&str>| {
        let mut text = words.join(" ");
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text
    };
    let info = join(words.by_ref().take(info_words).collect());
    Some(Interrupt { kind, info, devices: join(words.collect()), counts })
}

/// The source `interrupts`.
#[derive(Debug)]
pub(crate) struct Interrupts {
    file: KeptFile,
    filter: Filter,
    include_zeros: bool,
    labels: Kept<Labels>,
}

impl Configured for Interrupts {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            file: KeptFile::proc("interrupts"),
            filter: Filter::new(settings.name_include, settings.name_exclude),
            include_zeros: settings.include_zeros,
            labels: Kept::new(),
        }
    }
}

impl Source for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let (cpus, interrupts) = match self.file.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        let mut is_full = false;
        let mut family = INTERRUPTS.family();
        for line in interrupts {
            let name = format!("{};{};{}", line.kind, line.info, line.devices);
            if !self.filter.keeps(&name) {
                continue;
            }
            for (cpu, count) in cpus.iter().zip(line.counts) {
                if count == 0.0 && !self.include_zeros {
                    continue;
                }
                if family.metrics.len() >= COUNTERS_MAX {
                    is_full = true;
                    break;
                }
                let labels = self.labels.get(&format!("{cpu} {name}"), |_| {
                    Labels::from_pairs_last_wins([
                        ("cpu", *cpu),
                        ("type", line.kind),
                        ("info", line.info.as_str()),
                        ("devices", line.devices.as_str()),
                    ])
                });
                family.push(labels, count);
            }
        }
        self.labels.end_round();
        reading.family(family);
        if is_full {
            reading.note(Problem::parse(self.file.path(roots), "over 131072 counters"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_for_each_cpu_is_short() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let text = format!("CPU0 CPU1\n9: 1 2 chip edge {long}\n{long}: 1 2 chip edge\n");
        let (_, interrupts) = parse(&text);
        let told: Vec<usize> = interrupts.iter().map(|line| line.devices.len()).collect();
        // Cut between two signs of two bytes each.
        assert_eq!(told, [TEXT_BYTES_MAX - 1]);
    }
}

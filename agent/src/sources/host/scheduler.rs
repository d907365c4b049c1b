//! `/proc/schedstat`: how long tasks ran and waited on each CPU.

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, KeptFile, Now, Reading, Roots, Source, label, number};

const RUNNING: Desc = Desc::counter(
    "node_schedstat_running_seconds_total",
    "Number of seconds CPU spent running a process.",
);
const WAITING: Desc = Desc::counter(
    "node_schedstat_waiting_seconds_total",
    "Number of seconds spent by processing waiting for this CPU.",
);
const TIMESLICES: Desc =
    Desc::counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.");

const NANOS_PER_SECOND: f64 = 1e9;

/// CPU number, nanoseconds run, nanoseconds waited, timeslices: the last three of nine numbers.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, [f64; 3])> {
    text.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("cpu")?.split_once(' ')?;
        let mut numbers = rest.split_ascii_whitespace().skip(6).map_while(number);
        Some((key, [numbers.next()?, numbers.next()?, numbers.next()?]))
    })
}

/// The source `schedstat`.
#[derive(Debug)]
pub(crate) struct Scheduler {
    file: KeptFile,
    labels: Kept<Labels>,
}

impl Configured for Scheduler {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("schedstat"), labels: Kept::new() }
    }
}

impl Source for Scheduler {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let families = reading.group([&RUNNING, &WAITING, &TIMESLICES]);
        let [running, waiting, slices] = families else { return };
        for (cpu, [ran, waited, timeslices]) in parse(text) {
            let labels = self.labels.get(cpu, |cpu| label("cpu", cpu));
            running.push(labels.clone(), ran / NANOS_PER_SECOND);
            waiting.push(labels.clone(), waited / NANOS_PER_SECOND);
            slices.push(labels, timeslices);
        }
        self.labels.end_round();
    }
}

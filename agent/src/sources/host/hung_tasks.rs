//! `/proc/sys/kernel/hung_task_detect_count`: tasks the kernel found hung.

use std::time::Duration;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

const HUNG_TASKS: Desc = Desc::counter(
    "node_kernel_hung_tasks_total",
    "Total number of tasks that have been detected as hung since the system booted.",
);
const INTERVAL: Duration = Duration::from_secs(10);

/// The source `kernel_hung`.
#[derive(Debug)]
pub(crate) struct HungTasks {
    file: KeptFile,
}

impl Configured for HungTasks {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("sys/kernel/hung_task_detect_count") }
    }
}

impl Source for HungTasks {
    fn name(&self) -> &'static str {
        "kernel_hung"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        match self.file.read(roots).map(|text| number(text.trim())) {
            Ok(Some(count)) => reading.single(&HUNG_TASKS, count),
            Ok(None) => reading.fail(Problem::parse(self.file.path(roots), "no number")),
            Err(problem) => reading.fail(problem),
        }
    }
}

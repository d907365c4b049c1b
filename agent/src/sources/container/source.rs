//! The source `container`: where the agent thinks it is, and what binds it there.

use stoa_model::Labels;

use super::{Settings, SharedContainer, View, with_view};
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source};

const INFO: Desc = Desc::gauge(
    "stoa_container_info",
    "Always 1 in a container; the labels say of what kind, which cgroups are in sight, which files \
     lxcfs stands over, and whether its root is nobody outside.",
);
const CPU_LIMIT: Desc = Desc::gauge(
    "stoa_container_cpu_limit_cpus",
    "How many CPUs' time the container may use, by its cpuset and its quota.",
);
const PERIODS: Desc = Desc::counter(
    "stoa_container_cpu_periods_total",
    "Periods of the CPU quota in which the container ran.",
);
const THROTTLED_PERIODS: Desc = Desc::counter(
    "stoa_container_cpu_throttled_periods_total",
    "Periods in which the container used its CPU quota up.",
);
const THROTTLED_SECONDS: Desc = Desc::counter(
    "stoa_container_cpu_throttled_seconds_total",
    "Seconds the container was kept from running by its CPU quota.",
);
const MEMORY_LIMIT: Desc = Desc::gauge(
    "stoa_container_memory_limit_bytes",
    "The smallest memory limit in sight; absent without one.",
);
const TASKS: Desc = Desc::gauge("stoa_container_tasks", "Threads in the container.");
const TASKS_LIMIT: Desc = Desc::gauge(
    "stoa_container_tasks_max",
    "The most threads the container may have; absent without a limit.",
);

/// The source `container`.
#[derive(Debug)]
pub(crate) struct ContainerSource {
    container: SharedContainer,
    labels: Option<Labels>,
}

impl Configured for ContainerSource {
    type Settings = Settings;

    fn new(_settings: Settings, shared: &Shared) -> Self {
        Self::of(SharedContainer::clone(&shared.container))
    }
}

impl ContainerSource {
    pub(super) fn of(container: SharedContainer) -> Self {
        Self { container, labels: None }
    }
}

impl Source for ContainerSource {
    fn name(&self) -> &'static str {
        "container"
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        // On a host there is nothing to tell, and nothing has failed.
        with_view(&self.container, roots, now, |view| {
            let labels = self.labels.get_or_insert_with(|| labels(view));
            reading.one(&INFO, labels.clone(), 1.0);
            let mut single = |desc: &Desc, value: Option<f64>| {
                if let Some(value) = value {
                    reading.single(desc, value);
                }
            };
            if let Some(sample) = view.cpu() {
                let cpus = sample.allowed.len() as f64;
                single(&CPU_LIMIT, Some(sample.quota.map_or(cpus, |quota| quota.min(cpus))));
                single(&PERIODS, sample.throttling.periods);
                single(&THROTTLED_PERIODS, sample.throttling.throttled_periods);
                single(&THROTTLED_SECONDS, sample.throttling.throttled_seconds);
            }
            single(&MEMORY_LIMIT, view.memory(now).and_then(|memory| memory.limit));
            let View { task_count, task_limit, buffer, .. } = view;
            single(&TASKS, task_count.as_mut().and_then(|file| file.number(buffer)));
            single(&TASKS_LIMIT, task_limit.as_mut().and_then(|limit| limit.read(buffer)));
        });
    }
}

fn labels(view: &View) -> Labels {
    Labels::from_pairs_last_wins([
        ("runtime", view.place.runtime.as_str()),
        ("cgroup", view.hierarchies.version.name()),
        ("lxcfs", &*view.place.lxcfs.join(",")),
        ("unprivileged", if view.place.is_unprivileged { "true" } else { "false" }),
    ])
}

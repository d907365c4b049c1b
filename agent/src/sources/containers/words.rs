//! The names under which containers are told: cAdvisor's, and what it has no words for.

use super::numbers::Numbers;
use crate::sources::Desc;
use crate::sources::cgroup::disk_io::DiskIo;

/// A family, and what of a control group it tells.
pub(super) type Row<T> = (Desc, fn(&T) -> Option<f64>);

pub(super) const CPU: Desc =
    Desc::counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.");

/// Of all control groups.
pub(super) const USE: &[Row<Numbers>] = &[
    (
        Desc::counter(
            "container_cpu_user_seconds_total",
            "Cumulative user cpu time consumed in seconds.",
        ),
        |it| it.user,
    ),
    (
        Desc::counter(
            "container_cpu_system_seconds_total",
            "Cumulative system cpu time consumed in seconds.",
        ),
        |it| it.system,
    ),
    (
        Desc::counter(
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
        ),
        |it| it.periods.filter(|_| it.has_quota()),
    ),
    (
        Desc::counter(
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
        ),
        |it| it.throttled_periods.filter(|_| it.has_quota()),
    ),
    (
        Desc::counter(
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
        ),
        |it| it.throttled_seconds.filter(|_| it.has_quota()),
    ),
    (
        Desc::gauge(
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed.",
        ),
        |it| it.usage,
    ),
    (Desc::gauge("container_memory_working_set_bytes", "Current working set in bytes."), |it| {
        it.working_set
    }),
    (Desc::gauge("container_memory_cache", "Number of bytes of page cache memory."), |it| it.cache),
    (Desc::gauge("container_memory_rss", "Size of RSS in bytes."), |it| it.rss),
    (Desc::gauge("container_memory_swap", "Container swap usage in bytes."), |it| it.swap),
    (Desc::gauge("container_memory_mapped_file", "Size of memory mapped files in bytes."), |it| {
        it.mapped_file
    }),
    (
        Desc::gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes."),
        |it| it.max_usage,
    ),
    (Desc::counter("container_memory_failcnt", "Number of memory usage hits limits."), |it| {
        it.limit_hits
    }),
    (Desc::gauge("container_threads", "Number of threads running inside the container."), |it| {
        it.threads
    }),
    (
        Desc::gauge("container_processes", "Number of processes running inside the container."),
        |it| it.processes,
    ),
    (
        Desc::counter(
            "container_pressure_cpu_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to CPU congestion.",
        ),
        |it| it.pressures[0][0],
    ),
    (
        Desc::counter(
            "container_pressure_cpu_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to CPU congestion.",
        ),
        |it| it.pressures[0][1],
    ),
    (
        Desc::counter(
            "container_pressure_memory_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to memory congestion.",
        ),
        |it| it.pressures[1][0],
    ),
    (
        Desc::counter(
            "container_pressure_memory_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to memory congestion.",
        ),
        |it| it.pressures[1][1],
    ),
    (
        Desc::counter(
            "container_pressure_io_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to IO congestion.",
        ),
        |it| it.pressures[2][0],
    ),
    (
        Desc::counter(
            "container_pressure_io_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to IO congestion.",
        ),
        |it| it.pressures[2][1],
    ),
    (Desc::gauge("container_spec_cpu_period", "CPU period of the container."), |it| {
        it.bounds.period
    }),
    (Desc::gauge("container_spec_cpu_quota", "CPU quota of the container."), |it| it.bounds.quota),
    (Desc::gauge("container_spec_cpu_shares", "CPU share of the container."), |it| {
        it.bounds.shares
    }),
    (Desc::gauge("container_spec_memory_limit_bytes", "Memory limit for the container."), |it| {
        it.bounds.memory
    }),
    (
        Desc::gauge(
            "container_spec_memory_swap_limit_bytes",
            "Memory swap limit for the container.",
        ),
        |it| it.bounds.swap,
    ),
    (
        Desc::gauge(
            "container_spec_memory_reservation_limit_bytes",
            "Memory reservation limit for the container.",
        ),
        |it| it.bounds.reservation,
    ),
    (
        Desc::gauge(
            "container_threads_max",
            "Maximum number of threads allowed inside the container, infinity if value is zero.",
        ),
        |it| it.bounds.threads,
    ),
];

impl Numbers {
    fn has_quota(&self) -> bool {
        self.bounds.quota.is_some()
    }
}

/// Of each device.
pub(super) const DISKS: &[Row<DiskIo>] = &[
    (Desc::counter("container_fs_reads_bytes_total", "Cumulative count of bytes read"), |it| {
        it.read_bytes
    }),
    (Desc::counter("container_fs_reads_total", "Cumulative count of reads completed"), |it| {
        it.reads
    }),
    (Desc::counter("container_fs_writes_bytes_total", "Cumulative count of bytes written"), |it| {
        it.written_bytes
    }),
    (Desc::counter("container_fs_writes_total", "Cumulative count of writes completed"), |it| {
        it.writes
    }),
];

/// Of each network device: the columns of `/proc/net/dev`.
pub(super) const NETWORK: &[(usize, Desc)] = &[
    (
        0,
        Desc::counter(
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
        ),
    ),
    (
        1,
        Desc::counter(
            "container_network_receive_packets_total",
            "Cumulative count of packets received",
        ),
    ),
    (
        2,
        Desc::counter(
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
        ),
    ),
    (
        3,
        Desc::counter(
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
        ),
    ),
    (
        8,
        Desc::counter(
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
        ),
    ),
    (
        9,
        Desc::counter(
            "container_network_transmit_packets_total",
            "Cumulative count of packets transmitted",
        ),
    ),
    (
        10,
        Desc::counter(
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
        ),
    ),
    (
        11,
        Desc::counter(
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
        ),
    ),
];

pub(super) const FAULTS: Desc = Desc::counter(
    "container_memory_failures_total",
    "Cumulative count of memory allocation failures.",
);
/// The labels' values, in the order of [`Numbers::faults`].
pub(super) const FAULT_SCOPES: [&str; 2] = ["container", "hierarchy"];
pub(super) const FAULT_TYPES: [&str; 2] = ["pgfault", "pgmajfault"];

pub(super) const OOM_EVENTS: Desc = Desc::counter(
    "container_oom_events_total",
    "Count of out of memory events observed for the container",
);
pub(super) const LAST_SEEN: Desc =
    Desc::gauge("container_last_seen", "Last time a container was seen by the exporter");
pub(super) const STARTED: Desc = Desc::gauge(
    "container_start_time_seconds",
    "Start time of the container since unix epoch in seconds.",
);
pub(super) const WRITTEN: Desc = Desc::gauge(
    "container_fs_usage_bytes",
    "Number of bytes that are consumed by the container on this filesystem.",
);
pub(super) const CORES: Desc = Desc::gauge("machine_cpu_cores", "Number of logical CPU cores.");
pub(super) const MEMORY: Desc =
    Desc::gauge("machine_memory_bytes", "Amount of memory installed on the machine.");

pub(super) const STATE: Desc =
    Desc::gauge("stoa_container_state", "1 for the state the container is in, 0 for the others.");
pub(super) const HEALTH: Desc = Desc::gauge(
    "stoa_container_health",
    "1 for what the container's health check came to, 0 for the rest; absent without a check.",
);
pub(super) const RESTARTS: Desc = Desc::counter(
    "stoa_container_restarts_total",
    "How often the engine has started the container again by its restart policy.",
);
pub(super) const OOM_KILLED: Desc = Desc::gauge(
    "stoa_container_oom_killed",
    "Whether the container, as it ran last, met its memory limit and something in it was killed.",
);
pub(super) const EXIT_CODE: Desc = Desc::gauge(
    "stoa_container_exit_code",
    "What the container's init ended with; absent while it runs.",
);
pub(super) const FINISHED: Desc = Desc::gauge(
    "stoa_container_finished_time_seconds",
    "When the container ended, in seconds since the Unix epoch; absent while it runs.",
);
pub(super) const PORT: Desc = Desc::gauge(
    "stoa_container_port_info",
    "Always 1; the labels say which port of the host is the container's.",
);
pub(super) const IMAGE_CREATED: Desc = Desc::gauge(
    "stoa_container_image_created_time_seconds",
    "When the container's image was made, in seconds since the Unix epoch.",
);
pub(super) const COMPOSE: Desc = Desc::gauge(
    "stoa_container_compose_info",
    "Always 1; the labels say whose part the container is: project, service and number.",
);
pub(super) const ENGINE: Desc =
    Desc::gauge("stoa_container_engine_info", "Always 1; the labels say the engine's version.");
pub(super) const ENGINE_UP: Desc =
    Desc::gauge("stoa_container_engine_up", "Whether the container engine answers.");
pub(super) const LEFT_OUT: Desc = Desc::gauge(
    "stoa_container_left_out",
    "Containers of the engine that are not told, as there are too many; at least so many.",
);

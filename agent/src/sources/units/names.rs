//! The names units' numbers are told by: node_exporter's, `systemd_exporter`'s, and Stoa's own where
//! neither has one.

use crate::sources::Desc;

use super::Settings;
use super::property::{Kind, Number};

/// The states both exporters tell of each unit, in node_exporter's order.
pub(super) const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

pub(super) const UNITS: Desc = Desc::gauge("node_systemd_units", "Summary of systemd unit states");
pub(super) const UNIT_STATE: Desc = Desc::gauge("node_systemd_unit_state", "Systemd unit");
pub(super) const RUNNING: Desc = Desc::gauge(
    "node_systemd_system_running",
    "Whether the system is operational (see 'systemctl is-system-running')",
);
pub(super) const VERSION: Desc = Desc::gauge("node_systemd_version", "Detected systemd version");
pub(super) const VIRTUALIZATION: Desc =
    Desc::gauge("node_systemd_virtualization_info", "Detected virtualization technology");

pub(super) const SD_UNIT_STATE: Desc = Desc::gauge("systemd_unit_state", "Systemd unit");
pub(super) const SD_UNIT_INFO: Desc =
    Desc::gauge("systemd_unit_info", "Mostly-static metadata for all unit types");
pub(super) const SD_WATCHDOG: Desc =
    Desc::gauge("systemd_watchdog_enabled", "systemd watchdog enabled");
pub(super) const SD_BOOT_MONOTONIC: Desc =
    Desc::gauge("systemd_boot_monotonic_seconds", "Systemd boot stage monotonic timestamps");
pub(super) const SD_BOOT_TIME: Desc =
    Desc::gauge("systemd_boot_time_seconds", "Systemd boot stage timestamps");
/// Stages of a boot; each is a property of systemd's manager, `FinishTimestamp`, by both clocks. The
/// last one that is reached is the first.
pub(super) const SD_BOOT_STAGES: [&str; 18] = [
    "Finish",
    "Firmware",
    "Loader",
    "Kernel",
    "InitRD",
    "InitRDGeneratorsStart",
    "InitRDGeneratorsFinish",
    "InitRDSecurityStart",
    "InitRDSecurityFinish",
    "InitRDUnitsLoadStart",
    "InitRDUnitsLoadFinish",
    "GeneratorsStart",
    "GeneratorsFinish",
    "SecurityStart",
    "SecurityFinish",
    "Userspace",
    "UnitsLoadStart",
    "UnitsLoadFinish",
];
/// What systemd says of the hardware's watchdog; properties of its manager in microseconds.
pub(super) const SD_WATCHDOG_TIMES: [(&str, Desc); 3] = [
    (
        "WatchdogLastPingTimestampMonotonic",
        Desc::gauge(
            "systemd_watchdog_last_ping_monotonic_seconds",
            "systemd watchdog last ping monotonic seconds",
        ),
    ),
    (
        "WatchdogLastPingTimestamp",
        Desc::gauge(
            "systemd_watchdog_last_ping_time_seconds",
            "systemd watchdog last ping time seconds",
        ),
    ),
    (
        "RuntimeWatchdogUSec",
        Desc::gauge("systemd_watchdog_runtime_seconds", "systemd watchdog runtime seconds"),
    ),
];

pub(super) const FAILED: Desc = Desc::gauge(
    "stoa_systemd_failed_unit_info",
    "Always 1: a unit that has failed, of whatever kind, and why (systemd's Result).",
);
pub(super) const NEXT_TRIGGER: Desc = Desc::gauge(
    "stoa_systemd_timer_next_trigger_seconds",
    "Seconds since epoch of the next trigger.",
);
pub(super) const LEFT_OUT: Desc = Desc::gauge(
    "stoa_systemd_units_left_out",
    "Units not told because there are too many or their names are too long.",
);

/// A number told by a name.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) desc: Desc,
    pub(super) number: Number,
    /// Which settings ask for it.
    pub(super) is_wanted: fn(&Settings) -> bool,
    /// `None`: of each kind that has it.
    pub(super) only: Option<Kind>,
    /// Whether the unit's kind is a label too.
    pub(super) has_type: bool,
}

impl Shown {
    pub(super) fn is_of(&self, kind: Kind) -> bool {
        self.number.is_of(kind) && self.only.is_none_or(|only| only == kind)
    }
}

const fn node(desc: Desc, number: Number, is_wanted: fn(&Settings) -> bool) -> Shown {
    Shown { desc, number, is_wanted, only: None, has_type: false }
}

const fn typed(desc: Desc, number: Number, is_wanted: fn(&Settings) -> bool) -> Shown {
    Shown { desc, number, is_wanted, only: None, has_type: true }
}

const fn of(only: Kind, shown: Shown) -> Shown {
    Shown {
        desc: shown.desc,
        number: shown.number,
        is_wanted: shown.is_wanted,
        only: Some(only),
        has_type: shown.has_type,
    }
}

const START_TIME_HELP: &str = "Start time of the unit since unix epoch in seconds.";
const TASKS_HELP: &str = "Current number of tasks per Systemd unit";
const TASKS_MAX_HELP: &str = "Maximum number of tasks per Systemd unit";
const RESTARTS_HELP: &str = "Service unit count of Restart triggers";
const TRIGGER_HELP: &str = "Seconds since epoch of last trigger.";
const ACCEPTED_HELP: &str = "Total number of accepted socket connections";
const CONNECTIONS_HELP: &str = "Current number of socket connections";
const REFUSED_HELP: &str = "Total number of refused socket connections";

/// All numbers of units that are told as they are.
pub(super) const SHOWN: [Shown; 34] = [
    node(
        Desc::gauge("node_systemd_unit_start_time_seconds", START_TIME_HELP),
        Number::ActiveSince,
        |s| s.is_node() && s.enable_start_time_metrics,
    ),
    of(
        Kind::Service,
        node(
            Desc::gauge("node_systemd_unit_tasks_current", TASKS_HELP),
            Number::TasksCurrent,
            |s| s.is_node() && s.enable_task_metrics,
        ),
    ),
    of(
        Kind::Service,
        node(Desc::gauge("node_systemd_unit_tasks_max", TASKS_MAX_HELP), Number::TasksMax, |s| {
            s.is_node() && s.enable_task_metrics
        }),
    ),
    node(
        Desc::counter("node_systemd_service_restart_total", RESTARTS_HELP),
        Number::Restarts,
        |s| s.is_node() && s.enable_restarts_metrics,
    ),
    node(
        Desc::gauge("node_systemd_timer_last_trigger_seconds", TRIGGER_HELP),
        Number::LastTrigger,
        Settings::is_node,
    ),
    node(
        Desc::counter("node_systemd_socket_accepted_connections_total", ACCEPTED_HELP),
        Number::Accepted,
        Settings::is_node,
    ),
    node(
        Desc::gauge("node_systemd_socket_current_connections", CONNECTIONS_HELP),
        Number::Connections,
        Settings::is_node,
    ),
    node(
        Desc::gauge("node_systemd_socket_refused_connections_total", REFUSED_HELP),
        Number::Refused,
        Settings::is_node,
    ),
    of(
        Kind::Service,
        typed(
            Desc::gauge("systemd_unit_start_time_seconds", START_TIME_HELP),
            Number::ActiveSince,
            Settings::is_systemd,
        ),
    ),
    typed(
        Desc::gauge(
            "systemd_unit_active_enter_time_seconds",
            "Last time the unit transitioned into the active state",
        ),
        Number::ActiveEntered,
        Settings::is_systemd,
    ),
    typed(
        Desc::gauge(
            "systemd_unit_active_exit_time_seconds",
            "Last time the unit transitioned out of the active state",
        ),
        Number::ActiveLeft,
        Settings::is_systemd,
    ),
    typed(
        Desc::gauge(
            "systemd_unit_inactive_enter_time_seconds",
            "Last time the unit transitioned into the inactive state",
        ),
        Number::InactiveEntered,
        Settings::is_systemd,
    ),
    typed(
        Desc::gauge(
            "systemd_unit_inactive_exit_time_seconds",
            "Last time the unit transitioned out of the inactive state",
        ),
        Number::InactiveLeft,
        Settings::is_systemd,
    ),
    node(
        Desc::gauge("systemd_unit_tasks_current", TASKS_HELP),
        Number::TasksCurrent,
        Settings::is_systemd,
    ),
    typed(
        Desc::gauge("systemd_unit_tasks_max", TASKS_MAX_HELP),
        Number::TasksMax,
        Settings::is_systemd,
    ),
    node(Desc::counter("systemd_service_restart_total", RESTARTS_HELP), Number::Restarts, |s| {
        s.is_systemd() && s.enable_restarts_metrics
    }),
    node(
        Desc::gauge("systemd_timer_last_trigger_seconds", TRIGGER_HELP),
        Number::LastTrigger,
        Settings::is_systemd,
    ),
    node(
        Desc::counter("systemd_socket_accepted_connections_total", ACCEPTED_HELP),
        Number::Accepted,
        Settings::is_systemd,
    ),
    node(
        Desc::gauge("systemd_socket_current_connections", CONNECTIONS_HELP),
        Number::Connections,
        Settings::is_systemd,
    ),
    node(
        Desc::gauge("systemd_socket_refused_connections_total", REFUSED_HELP),
        Number::Refused,
        Settings::is_systemd,
    ),
    typed(
        Desc::counter("systemd_unit_cpu_seconds_total", "Unit CPU time in seconds"),
        Number::Cpu,
        |s| s.enable_resource_metrics,
    ),
    typed(
        Desc::gauge("systemd_unit_memory_bytes", "Unit memory usage in bytes"),
        Number::Memory,
        |s| s.enable_resource_metrics,
    ),
    typed(
        Desc::counter("systemd_unit_io_read_bytes_total", "Unit bytes read"),
        Number::ReadBytes,
        |s| s.enable_resource_metrics,
    ),
    typed(
        Desc::counter("systemd_unit_io_write_bytes_total", "Unit bytes written"),
        Number::WrittenBytes,
        |s| s.enable_resource_metrics,
    ),
    typed(
        Desc::counter("systemd_unit_io_read_operations_total", "Unit read operations"),
        Number::Reads,
        |s| s.enable_resource_metrics,
    ),
    typed(
        Desc::counter("systemd_unit_io_write_operations_total", "Unit write operations"),
        Number::Writes,
        |s| s.enable_resource_metrics,
    ),
    node(
        Desc::counter(
            "systemd_service_ip_ingress_bytes",
            "Service unit ingress IP accounting in bytes.",
        ),
        Number::IngressBytes,
        |s| s.enable_ip_accounting,
    ),
    node(
        Desc::counter(
            "systemd_service_ip_egress_bytes",
            "Service unit egress IP accounting in bytes.",
        ),
        Number::EgressBytes,
        |s| s.enable_ip_accounting,
    ),
    node(
        Desc::counter(
            "systemd_service_ip_ingress_packets_total",
            "Service unit ingress IP accounting in packets.",
        ),
        Number::IngressPackets,
        |s| s.enable_ip_accounting,
    ),
    node(
        Desc::counter(
            "systemd_service_ip_egress_packets_total",
            "Service unit egress IP accounting in packets.",
        ),
        Number::EgressPackets,
        |s| s.enable_ip_accounting,
    ),
    node(
        Desc::gauge(
            "stoa_systemd_service_watchdog_seconds",
            "How often the service has to say that it lives.",
        ),
        Number::WatchdogSeconds,
        Settings::always,
    ),
    node(
        Desc::gauge(
            "stoa_systemd_service_watchdog_last_ping_timestamp_seconds",
            "Seconds since epoch at which the service last said that it lives.",
        ),
        Number::WatchdogPinged,
        Settings::always,
    ),
    node(
        Desc::gauge(
            "stoa_systemd_service_last_exit_status",
            "What a oneshot service's main process last ended with: its exit code, or a signal's number.",
        ),
        Number::ExitStatus,
        Settings::always,
    ),
    node(
        Desc::gauge(
            "stoa_systemd_service_last_exit_timestamp_seconds",
            "Seconds since epoch at which a oneshot service's main process last ended.",
        ),
        Number::ExitedAt,
        Settings::always,
    ),
];

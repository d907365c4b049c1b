//! What the agent's own process costs, under the names Prometheus's client libraries give it, and
//! what it is, under the name node_exporter gives that.

use std::fs;

use rustix::process::{Resource, getrlimit};
use stoa_model::{Labels, MetricKind};

use crate::sources::{Reading, no_labels};

/// What node_exporter's own labels call the architecture.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// Reads what the process costs. What cannot be read is left out.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Never change while the process runs.
    constants: Option<Constants>,
    build: Option<Labels>,
}

#[derive(Clone, Copy, Debug)]
struct Constants {
    page_bytes: f64,
    ticks_per_second: f64,
    /// When the host started, in seconds since the Unix epoch.
    boot_s: Option<f64>,
}

impl Constants {
    fn read() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        Self {
            page_bytes: rustix::param::page_size() as f64,
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            boot_s: boot.and_then(|text| text.trim().parse().ok()),
        }
    }
}

impl Process {
    /// Appends the families as of now.
    pub(crate) fn tell(&mut self, told: &mut Reading) {
        let mut one = |kind, name: &str, help: &str, value| {
            told.named(name, help, kind).push(no_labels(), value);
        };
        let constants = *self.constants.get_or_insert_with(Constants::read);
        let stat = fs::read_to_string("/proc/self/stat").ok();
        if let Some(stat) = stat.as_deref().and_then(Stat::parse) {
            let cpu_s = stat.cpu_ticks / constants.ticks_per_second;
            let help = "Total user and system CPU time spent in seconds.";
            one(MetricKind::Counter, "process_cpu_seconds_total", help, cpu_s);
            let help = "Resident memory size in bytes.";
            let rss = stat.resident_pages * constants.page_bytes;
            one(MetricKind::Gauge, "process_resident_memory_bytes", help, rss);
            let help = "Virtual memory size in bytes.";
            one(MetricKind::Gauge, "process_virtual_memory_bytes", help, stat.virtual_bytes);
            if let Some(boot_s) = constants.boot_s {
                let help = "Start time of the process since unix epoch in seconds.";
                let start = boot_s + stat.start_ticks / constants.ticks_per_second;
                one(MetricKind::Gauge, "process_start_time_seconds", help, start);
            }
        }
        let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX) as f64;
        let help = "Maximum amount of virtual memory available in bytes.";
        one(MetricKind::Gauge, "process_virtual_memory_max_bytes", help, limit(Resource::As));
        let help = "Maximum number of open file descriptors.";
        one(MetricKind::Gauge, "process_max_fds", help, limit(Resource::Nofile));
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            let help = "Number of open file descriptors.";
            let open = open.count().saturating_sub(1);
            one(MetricKind::Gauge, "process_open_fds", help, open as f64);
        }
        let netstat = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
        if let Some((received, sent)) = octets(&netstat) {
            let help = "Number of bytes received by the process over the network.";
            one(MetricKind::Counter, "process_network_receive_bytes_total", help, received);
            let help = "Number of bytes sent by the process over the network.";
            one(MetricKind::Counter, "process_network_transmit_bytes_total", help, sent);
        }
        let build = self.build.get_or_insert_with(build_labels);
        told.named(BUILD_INFO.0, BUILD_INFO.1, MetricKind::Gauge).push(build.clone(), 1.0);
    }
}

/// Joins of dashboards look for it.
const BUILD_INFO: (&str, &str) = (
    "node_exporter_build_info",
    "A metric with a constant '1' value labeled by version, revision, branch, goversion from \
     which node_exporter was built, and the goos and goarch for the build.",
);

fn build_labels() -> Labels {
    Labels::from_pairs_last_wins([
        ("version", env!("CARGO_PKG_VERSION")),
        ("goos", std::env::consts::OS),
        ("goarch", ARCHITECTURE),
    ])
}

/// Bytes received and sent by IP, as far as the process's network namespace has seen them.
fn octets(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let field = |wanted: &str| {
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs.find(|(name, _)| *name == wanted).and_then(|(_, value)| value.parse::<f64>().ok())
    };
    Some((field("InOctets")?, field("OutOctets")?))
}

/// The fields of `/proc/self/stat` we tell (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command's name may hold anything but ends at the last parenthesis; field 3 follows.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field =
            |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_blanks_and_parentheses_is_read_over() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 11 22 0 0 20 0 4 0 99 1024 55 18446 1";
        let expected = Stat {
            cpu_ticks: 33.0,
            start_ticks: 99.0,
            virtual_bytes: 1024.0,
            resident_pages: 55.0,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn octets_stand_under_their_names() {
        let text = "TcpExt: A\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 7 9\n";
        assert_eq!(octets(text), Some((7.0, 9.0)));
        assert_eq!(octets("IpExt: InOctets\nIpExt: 7\n"), None);
    }

    #[test]
    fn everything_of_a_go_process_is_told_here() {
        let mut told = Reading::default();
        Process::default().tell(&mut told);
        let names: Vec<&str> = told.families().map(|family| family.name.as_str()).collect();
        let expected = [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_max_bytes",
            "process_max_fds",
            "process_open_fds",
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
            "node_exporter_build_info",
        ];
        assert_eq!(names, expected);
        // A young process has used no tick of a CPU, and a network namespace may have seen no packet.
        let may_be_zero = |name: &str| name.contains("_cpu_") || name.contains("_network_");
        let others = told.families().filter(|family| !may_be_zero(&family.name));
        assert!(others.flat_map(|family| &family.metrics).all(|metric| metric.value > 0.0));
    }
}

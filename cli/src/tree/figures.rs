//! What is asked of the collector, and what its answers are about.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::client::Client;

/// A number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Field {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Storage read and written.
    Io,
    /// Memory of GPUs.
    #[value(name = "gpu-memory")]
    GpuMemory,
    /// Time of GPUs.
    Gpu,
}

impl Field {
    /// All of them, as they stand in a row.
    pub(crate) const ALL: [Self; 5] =
        [Self::Cpu, Self::Memory, Self::Io, Self::GpuMemory, Self::Gpu];

    /// The title of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io/s",
            Self::GpuMemory => "gpu mem",
            Self::Gpu => "gpu",
        }
    }
}

/// What a series is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Host,
    Gpu,
    /// A guest, container or unit.
    Owner,
    /// A guest or container.
    Container,
    Unit,
    /// Processes of one name.
    Process,
    /// One process on a GPU.
    GpuProcess,
}

/// A number about something.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(super) subject: Subject,
    pub(super) field: Field,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// What is asked. Rates are over a minute: sources of ten seconds have a few readings in it.
const QUESTIONS: &[(Subject, Field, &str)] = {
    use Subject as S;
    &[
        (
            S::Host,
            Field::Cpu,
            r#"sum by (host) (rate(node_cpu_seconds_total{mode!~"idle|iowait|steal"}[1m]))"#,
        ),
        (
            S::Host,
            Field::Memory,
            "sum by (host) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)",
        ),
        (
            S::Host,
            Field::Io,
            r#"sum by (host) (rate(node_disk_read_bytes_total{device!~"(dm-|md|loop|zram|zd).*"}[1m]))"#,
        ),
        (
            S::Host,
            Field::Io,
            r#"sum by (host) (rate(node_disk_written_bytes_total{device!~"(dm-|md|loop|zram|zd).*"}[1m]))"#,
        ),
        (S::Container, Field::Cpu, "rate(container_cpu_usage_seconds_total[1m])"),
        (S::Container, Field::Memory, "container_memory_working_set_bytes"),
        (S::Container, Field::Io, "rate(container_fs_reads_bytes_total[1m])"),
        (S::Container, Field::Io, "rate(container_fs_writes_bytes_total[1m])"),
        (S::Unit, Field::Cpu, "rate(stoa_unit_cpu_seconds_total[1m])"),
        (S::Unit, Field::Memory, "stoa_unit_memory_bytes or stoa_unit_resident_memory_bytes"),
        (S::Unit, Field::Io, "rate(stoa_unit_read_bytes_total[1m])"),
        (S::Unit, Field::Io, "rate(stoa_unit_written_bytes_total[1m])"),
        (S::Process, Field::Cpu, "rate(stoa_process_cpu_seconds_total[1m])"),
        (S::Process, Field::Memory, "stoa_process_resident_memory_bytes"),
        (S::Process, Field::Io, "rate(stoa_process_read_bytes_total[1m])"),
        (S::Process, Field::Io, "rate(stoa_process_written_bytes_total[1m])"),
        (
            S::Gpu,
            Field::GpuMemory,
            "DCGM_FI_DEV_FB_USED * 1048576 or node_drm_memory_vram_used_bytes",
        ),
        (S::Gpu, Field::Gpu, "DCGM_FI_DEV_GPU_UTIL / 100 or node_drm_gpu_busy_percent / 100"),
        (S::Owner, Field::GpuMemory, r#"{__name__=~"stoa_(gpu|drm)_owner_memory_bytes"}"#),
        (
            S::Owner,
            Field::Gpu,
            r#"{__name__=~"stoa_(gpu|drm)_owner_engine_ratio",engine=~"sm|gfx|compute|render|rcs|ccs"}"#,
        ),
        (S::GpuProcess, Field::GpuMemory, r#"{__name__=~"stoa_(gpu|drm)_process_memory_bytes"}"#),
        (
            S::GpuProcess,
            Field::Gpu,
            r#"{__name__=~"stoa_(gpu|drm)_process_engine_ratio",engine=~"sm|gfx|compute|render|rcs|ccs"}"#,
        ),
    ]
};

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// Asks for all there is now.
///
/// # Errors
/// When the collector does not answer, or refuses.
pub(crate) async fn ask(client: &Client) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (subject, field, expr) in QUESTIONS {
        let form = [("query", (*expr).to_owned())];
        let answer = client.prometheus("/api/v1/query", &form).await?;
        let body: Body = serde_json::from_str(&answer.text).context("read the answer")?;
        for Told { metric: labels, value: (_, value) } in body.data.result {
            let value: f64 = value.parse().unwrap_or(f64::NAN);
            if value.is_finite() {
                rows.push(Row { subject: *subject, field: *field, labels, value });
            }
        }
    }
    Ok(rows)
}

/// Rows for tests: a line each, `subject field value label=value…`.
#[cfg(test)]
pub(crate) fn rows_of(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let subject = match words.next()? {
            "host" => Subject::Host,
            "gpu" => Subject::Gpu,
            "owner" => Subject::Owner,
            "container" => Subject::Container,
            "unit" => Subject::Unit,
            "process" => Subject::Process,
            "gpu-process" => Subject::GpuProcess,
            other => panic!("no subject is called {other}"),
        };
        let field = <Field as clap::ValueEnum>::from_str(words.next()?, false).ok()?;
        let value = words.next()?.parse().ok()?;
        let pairs = words.filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Row { subject, field, labels, value })
    };
    text.lines().map(|line| row(line).unwrap_or_else(|| panic!("no row: {line}"))).collect()
}

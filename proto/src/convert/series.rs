//! Labels as an agent wrote them become labels as they are stored.

use stoa_model::{HostId, Labels, METRIC_NAME, MetricKind};

pub use crate::frame::LABELS_MAX;
use crate::frame::SeriesText;

/// Series of one agent alive at once, at most, unless configured otherwise: what keeps one bad
/// exporter from filling the collector's memory.
pub const SERIES_PER_AGENT_MAX: usize = 20_000;

/// Bytes of one label's name, and of its value, at most.
pub const LABEL_BYTES_MAX: usize = 1024;

/// Labels that say who sent a series; only the collector sets them, from the certificate.
pub const RESERVED: [&str; 3] = ["host", "instance", "job"];

/// The label by which an agent says the `job` of what it probes or scrapes, a *target*; decision 0012.
pub const TARGET_JOB: &str = "__job__";

/// The label by which an agent says the `instance` of a target; counts beside [`TARGET_JOB`] only.
pub const TARGET_INSTANCE: &str = "__instance__";

/// The job of what the collector tells of itself, which no agent may say.
pub const COLLECTOR_JOB: &str = "stoa-collector";

/// What a reserved label of the payload is renamed with, as a scrape does.
const EXPORTED: &str = "exported_";

/// Why a series is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// More labels than allowed.
    #[error("{count} labels, {LABELS_MAX} are allowed")]
    Labels {
        /// How many.
        count: usize,
    },
    /// A name or value is too long.
    #[error("label {name:?} has {bytes} bytes, {LABEL_BYTES_MAX} are allowed")]
    Bytes {
        /// The label's name, cut to a printable length.
        name: String,
        /// The longer of its name and value.
        bytes: usize,
    },
    /// A label without a name, or a name that stands twice.
    #[error("label name {name:?} is empty or stands twice")]
    Name {
        /// The name, cut to a printable length.
        name: String,
    },
    /// No metric name.
    #[error("no metric name")]
    Nameless,
}

/// The labels a series is stored under: the sender's, with `host`, `instance` and `job` said by
/// the collector. The sender's own labels of these names become `exported_…`.
///
/// A target's series has the job and instance that the sender says, unless they could be those of an
/// agent or of the collector: nobody speaks in another's name. Then they, too, become `exported_…`.
///
/// # Errors
/// [`SeriesError`] when a label limit is passed or the labels are no label set.
pub fn labels_of(series: &SeriesText, host: &HostId, job: &str) -> Result<Labels, SeriesError> {
    if series.label_count > LABELS_MAX {
        return Err(SeriesError::Labels { count: series.label_count });
    }
    let target = target(series, host, job);
    let mut pairs: Vec<(String, &str)> = Vec::with_capacity(series.labels.len() + RESERVED.len());
    for (name, value) in &series.labels {
        let bytes = name.len().max(value.len());
        if bytes > LABEL_BYTES_MAX {
            return Err(SeriesError::Bytes { name: printable(name), bytes });
        }
        if name.is_empty() {
            return Err(SeriesError::Name { name: String::new() });
        }
        let name = match (name.as_str(), target) {
            (TARGET_JOB | TARGET_INSTANCE, Some(_)) => continue,
            (TARGET_JOB, None) => "job",
            (TARGET_INSTANCE, None) => "instance",
            (name, _) => name,
        };
        let mut stored_as = name.to_owned();
        if RESERVED.contains(&name) {
            stored_as.insert_str(0, EXPORTED);
            let taken = |it: &str| {
                let is_it = |other: &str| other == it;
                series.labels.iter().any(|(other, _)| is_it(other))
                    || pairs.iter().any(|(other, _)| is_it(other))
            };
            while taken(&stored_as) {
                stored_as.insert_str(0, EXPORTED);
            }
        }
        pairs.push((stored_as, value));
    }
    if !pairs.iter().any(|(name, value)| name == METRIC_NAME && !value.is_empty()) {
        return Err(SeriesError::Nameless);
    }
    let (job, instance) = target.unwrap_or((job, host.as_str()));
    for (name, value) in RESERVED.into_iter().zip([host.as_str(), instance, job]) {
        pairs.push((name.to_owned(), value));
    }
    Labels::from_pairs(pairs).map_err(|stoa_model::LabelsError::Duplicate(name)| {
        SeriesError::Name { name: printable(&name) }
    })
}

/// The job and instance of a target's series; `None` of one of the host's own, or of another's name.
fn target<'a>(
    series: &'a SeriesText,
    host: &'a HostId,
    agents_job: &str,
) -> Option<(&'a str, &'a str)> {
    let said = |name: &str| {
        let label = series.labels.iter().find(|(it, value)| it == name && !value.is_empty());
        label.map(|(_, value)| value.as_str())
    };
    let job = said(TARGET_JOB)?;
    let instance = said(TARGET_INSTANCE).unwrap_or(host.as_str());
    let is_anothers = job == COLLECTOR_JOB || job == agents_job && HostId::parse(instance).is_ok();
    (!is_anothers).then_some((job, instance))
}

fn printable(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A kind as one byte.
pub(crate) fn kind_code(kind: MetricKind) -> u8 {
    match kind {
        MetricKind::Untyped => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
        MetricKind::Histogram => 3,
        MetricKind::Summary => 4,
    }
}

/// The kind a byte stands for; one from a newer sender is untyped.
pub(crate) fn kind_of_code(code: u8) -> MetricKind {
    match code {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::Summary,
        _ => MetricKind::Untyped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[(&str, &str)], expected: Result<&str, SeriesError>) {
        let series = SeriesText {
            family: 0,
            label_count: labels.len(),
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        let host = HostId::parse("pve1").unwrap();
        let got = labels_of(&series, &host, "node");
        assert_eq!(got.map(|labels| labels.to_string()), expected.map(str::to_owned));
    }

    #[test]
    fn the_certificate_says_who_sent_it() {
        check(&[("__name__", "up")], Ok(r#"up{host="pve1", instance="pve1", job="node"}"#));
        check(
            &[("__name__", "up"), ("host", "x"), ("job", "y"), ("exported_job", "z")],
            Ok(
                r#"up{exported_exported_job="y", exported_host="x", exported_job="z", host="pve1", instance="pve1", job="node"}"#,
            ),
        );
    }

    #[test]
    fn a_targets_job_and_instance_are_what_its_agent_says() {
        let check = |labels: &[(&str, &str)], expected: &str| {
            let labels: Vec<_> = [("__name__", "up")].iter().chain(labels).copied().collect();
            check(&labels, Ok(expected));
        };
        check(
            &[("__job__", "blackbox"), ("__instance__", "https://nas.lan"), ("host", "pve2")],
            r#"up{exported_host="pve2", host="pve1", instance="https://nas.lan", job="blackbox"}"#,
        );
        check(&[("__job__", "dns")], r#"up{host="pve1", instance="pve1", job="dns"}"#);
        // An exporter on another machine has a port, an agent has none.
        check(
            &[("__job__", "node"), ("__instance__", "pve2:9100")],
            r#"up{host="pve1", instance="pve2:9100", job="node"}"#,
        );
        for (job, instance) in
            [("node", "pve2"), ("node", "10.0.0.2"), ("node", "pve1"), ("stoa-collector", "a:1")]
        {
            let expected = format!(
                r#"up{{exported_instance="{instance}", exported_job="{job}", host="pve1", instance="pve1", job="node"}}"#
            );
            check(&[("__job__", job), ("__instance__", instance)], &expected);
        }
        check(
            &[("__job__", "node"), ("job", "mine"), ("exported_job", "x")],
            r#"up{exported_exported_exported_job="mine", exported_exported_job="node", exported_job="x", host="pve1", instance="pve1", job="node"}"#,
        );
        // Nothing is said by an instance alone.
        check(
            &[("__instance__", "a")],
            r#"up{exported_instance="a", host="pve1", instance="pve1", job="node"}"#,
        );
    }

    #[test]
    fn what_is_no_series_is_refused() {
        check(&[("a", "b")], Err(SeriesError::Nameless));
        check(&[("__name__", "")], Err(SeriesError::Nameless));
        check(&[("", "b")], Err(SeriesError::Name { name: String::new() }));
        check(
            &[("__name__", "up"), ("a", "1"), ("a", "2")],
            Err(SeriesError::Name { name: "a".into() }),
        );
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        check(
            &[("__name__", "up"), ("a", &long)],
            Err(SeriesError::Bytes { name: "a".into(), bytes: LABEL_BYTES_MAX + 1 }),
        );
        let names: Vec<String> = (0..=LABELS_MAX).map(|i| format!("l{i}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        check(&many, Err(SeriesError::Labels { count: LABELS_MAX + 1 }));
    }
}

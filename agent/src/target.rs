//! A *target*: something that is not this host and is probed or scraped from it, with a `job` and an
//! `instance` of its own.
//!
//! Its series, whole families of them, carry these under names that no exporter gives ([`TARGET_JOB`],
//! [`TARGET_INSTANCE`]); the collector stores them as `job` and `instance` beside the `host` that the certificate says (decision 0012).

use std::borrow::Cow;

use stoa_model::{Family, Labels};
use stoa_proto::convert::{TARGET_INSTANCE, TARGET_JOB};

/// The names of a target's job and instance, as they travel and as they are meant.
const NAMES: [(&str, &str); 2] = [(TARGET_JOB, "job"), (TARGET_INSTANCE, "instance")];

/// A family as a person or a scraper reads it here: targets' labels under the names they mean.
pub(crate) fn as_read(family: &Family) -> Cow<'_, Family> {
    let is_of_target = |labels: &Labels| labels.get(TARGET_JOB).is_some();
    // A family is of targets or is not.
    if !family.metrics.first().is_some_and(|metric| is_of_target(&metric.labels)) {
        return Cow::Borrowed(family);
    }
    let mut family = family.clone();
    for metric in &mut family.metrics {
        for (travels_as, name) in NAMES {
            if let Some(value) = metric.labels.get(travels_as) {
                metric.labels = metric.labels.without(travels_as).with(name, value);
            }
        }
    }
    Cow::Owned(family)
}

#[cfg(test)]
mod tests {
    use stoa_model::MetricKind;

    use super::*;

    fn check(labels: &[(&str, &str)], expected: &str) {
        let mut family = Family::new("probe_success", "", MetricKind::Gauge);
        family.push(Labels::from_pairs(labels.iter().copied()).unwrap(), 1.0);
        let read = as_read(&family);
        assert_eq!(read.metrics[0].labels.to_string(), expected);
    }

    #[test]
    fn a_targets_labels_are_read_as_they_are_meant() {
        check(
            &[("__job__", "web"), ("__instance__", "a"), ("x", "y")],
            r#"{instance="a", job="web", x="y"}"#,
        );
        check(&[("__job__", "web")], r#"{job="web"}"#);
        check(&[("job", "web")], r#"{job="web"}"#);
    }
}

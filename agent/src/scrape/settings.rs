//! `[scrape]` of the agent's own file: a `prometheus.yml`, and targets that need no more than an address.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stoa_daemon::Span;

use super::job::{Access, Group, Job, Limits, Protocol, TlsWritten};

/// Series of all targets alive at once, at most, unless set: the host's own fit beside them into
/// what a collector takes of one agent unless set otherwise.
pub const SERIES_MAX: usize = 15_000;

/// The most that can be set: what one connection to the collector has room for, beside the host's own.
const SERIES_MAX_MAX: usize = 60_000;

/// `[scrape]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file of Prometheus's, of which the part about scraping is read.
    pub prometheus_yml: Option<PathBuf>,
    /// Series of all targets alive at once, at most.
    pub series_max: usize,
    /// Targets by their addresses.
    pub targets: Vec<Simple>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { prometheus_yml: None, series_max: SERIES_MAX, targets: Vec::new() }
    }
}

/// One `[[scrape.targets]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simple {
    url: String,
    #[serde(default)]
    job: Option<String>,
    #[serde(default)]
    instance: Option<String>,
    #[serde(default = "interval")]
    interval: Span,
    #[serde(default)]
    timeout: Option<Span>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_verify: bool,
}

fn interval() -> Span {
    Span(Duration::from_secs(15))
}

impl Settings {
    /// Whether anything is to be scraped.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.prometheus_yml.is_none() && self.targets.is_empty()
    }

    /// The targets that stand here, as jobs of one each.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn jobs(&self) -> Result<Vec<Job>, (String, String)> {
        if self.series_max > SERIES_MAX_MAX {
            let message = format!("{} is more than {SERIES_MAX_MAX}", self.series_max);
            return Err(("scrape.series_max".into(), message));
        }
        let jobs = self.targets.iter().enumerate().map(|(at, target)| {
            target.job().map_err(|why| (format!("scrape.targets[{at}].url"), why))
        });
        jobs.collect()
    }
}

impl Simple {
    fn job(&self) -> Result<Job, String> {
        let wrong =
            || format!("{:?} is no address such as \"http://127.0.0.1:9100/metrics\"", self.url);
        let (scheme, rest) = self.url.split_once("://").ok_or_else(wrong)?;
        let (address, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/metrics"),
        };
        let is_one = !address.is_empty() && !address.contains(['@', '?', '#', ' ']);
        if !matches!(scheme, "http" | "https") || !is_one || path.contains('?') {
            return Err(wrong());
        }
        let (interval, timeout) = (self.interval.0, self.timeout.map(|span| span.0));
        let timeout = timeout.unwrap_or(Duration::from_secs(10)).min(interval);
        let mut labels: Vec<(String, String)> = self.labels.clone().into_iter().collect();
        labels.extend(self.instance.clone().map(|instance| ("instance".to_owned(), instance)));
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        Ok(Job {
            name: self.job.clone().unwrap_or_else(|| "scrape".to_owned()),
            stamp: hasher.finish(),
            interval,
            timeout,
            metrics_path: path.to_owned(),
            scheme: scheme.to_owned(),
            params: Vec::new(),
            honor_labels: false,
            limits: Limits::default(),
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            groups: vec![Group { targets: vec![address.to_owned()], labels }],
            files: Vec::new(),
            access: Access {
                credential: None,
                tls: TlsWritten {
                    ca_file: self.ca_file.clone(),
                    insecure_skip_verify: self.insecure_skip_verify,
                    ..TlsWritten::default()
                },
                headers: Vec::new(),
                follow_redirects: true,
                compression: true,
                protocols: Protocol::DEFAULT.to_vec(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scrape::target::targets_of;

    #[test]
    fn an_address_is_a_target() {
        let check = |text: &str, expected: &str| {
            let settings: Settings = toml::from_str(&format!("[[targets]]\n{text}")).unwrap();
            let found = match settings.jobs() {
                Ok(jobs) => {
                    let job = Arc::new(jobs.into_iter().next().unwrap());
                    let target = targets_of(&job, &job.groups[0], None).0.remove(0);
                    format!("{} {}", target.url, target.labels)
                }
                Err((key, message)) => format!("{key}: {message}"),
            };
            assert!(found.contains(expected), "{found}\nnot: {expected}");
        };
        check(
            "url = 'http://127.0.0.1:8080'\njob = 'traefik'",
            r#"http://127.0.0.1:8080/metrics {instance="127.0.0.1:8080", job="traefik"}"#,
        );
        check(
            "url = 'https://nas:1/a/b'\ninstance = 'nas'\nlabels = { room = 'attic' }",
            r#"https://nas:1/a/b {instance="nas", job="scrape", room="attic"}"#,
        );
        check("url = 'nas:1'", "scrape.targets[0].url: \"nas:1\" is no address");
        check("url = 'http://u:p@nas'", "is no address");
        assert!(Settings::default().is_off());
        let many: Settings = toml::from_str("series_max = 1000000").unwrap();
        assert_eq!(many.jobs().unwrap_err().0, "scrape.series_max");
    }
}

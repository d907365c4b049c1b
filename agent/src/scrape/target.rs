//! A target: one address that is asked, and the labels of what it tells.
//!
//! Made as Prometheus makes it: what was found (`__address__`, `__meta_…`, labels of its group) and what
//! the job says (`job`, `__scheme__`, `__metrics_path__`, `__param_…`, `__scrape_interval__`,
//! `__scrape_timeout__`), relabelled; then `instance` is the address unless it is there, and labels that begin
//! with `__` are left out.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use stoa_daemon::Span;
use stoa_exchange::relabel::relabel;
use stoa_model::Labels;

use super::job::{Group, Job};
use super::schedule::TargetId;

/// The shortest interval: below it asking costs more than it tells.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// A target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its number: of address, labels and job.
    pub id: TargetId,
    /// Where it is asked.
    pub url: String,
    /// The labels of what it tells.
    pub labels: Labels,
    /// How often it is asked.
    pub interval: Duration,
    /// How long that may take.
    pub timeout: Duration,
    /// How.
    pub job: Arc<Job>,
}

/// The targets of a group, and why some are none. Those that relabelling leaves out are neither.
#[must_use]
pub fn targets_of(
    job: &Arc<Job>,
    group: &Group,
    found_in: Option<&str>,
) -> (Vec<Target>, Vec<String>) {
    let (mut targets, mut wrong) = (Vec::new(), Vec::new());
    for address in &group.targets {
        let mut pairs: Vec<(&str, &str)> =
            group.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.push(("__address__", address));
        pairs.extend(found_in.map(|path| ("__meta_filepath", path)));
        match target(job, Labels::from_pairs_last_wins(pairs)) {
            Ok(target) => targets.extend(target),
            Err(why) => wrong.push(format!("target {address:?} of job {:?}: {why}", job.name)),
        }
    }
    (targets, wrong)
}

/// The target that was found under these labels; `None` when relabelling leaves it out.
///
/// # Errors
/// What is wrong with it.
pub fn target(job: &Arc<Job>, found: Labels) -> Result<Option<Target>, String> {
    let interval = Span(job.interval).to_string();
    let timeout = Span(job.timeout).to_string();
    let params: Vec<(String, &str)> = job
        .params
        .iter()
        .filter_map(|(name, values)| Some((format!("__param_{name}"), values.first()?.as_str())))
        .collect();
    let said = [
        ("job", job.name.as_str()),
        ("__scheme__", &job.scheme),
        ("__metrics_path__", &job.metrics_path),
        ("__scrape_interval__", &interval),
        ("__scrape_timeout__", &timeout),
    ];
    let said = said.into_iter().chain(params.iter().map(|(name, value)| (name.as_str(), *value)));
    let labels = found.with_missing(&Labels::from_pairs_last_wins(said));
    let Some(labels) = relabel(&job.relabel, labels) else { return Ok(None) };

    let text = |name: &str| labels.get(name).unwrap_or("");
    let address = text("__address__");
    if address.is_empty() {
        return Err("it has no address".into());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is no address: it has a / in it"));
    }
    let span = |name: &str| {
        let text = text(name);
        let span = Span::parse(text).ok_or_else(|| format!("{name} {text:?} is no duration"))?;
        Ok::<_, String>(span.0)
    };
    let (interval, timeout) = (span("__scrape_interval__")?, span("__scrape_timeout__")?);
    if interval < INTERVAL_MIN {
        return Err(format!("an interval of {interval:?} is less than {INTERVAL_MIN:?}"));
    }
    if timeout.is_zero() || timeout > interval {
        return Err(format!("a timeout of {timeout:?} is 0 or longer than {interval:?}"));
    }
    let scheme = text("__scheme__");
    if !matches!(scheme, "http" | "https") {
        return Err(format!("the scheme {scheme:?} is neither http nor https"));
    }
    let url =
        format!("{scheme}://{address}{}{}", slashed(text("__metrics_path__")), query(job, &labels));
    let labels = match labels.get("instance") {
        Some(_) => labels.clone(),
        None => labels.with("instance", address),
    };
    let labels = labels.retain(|label| !label.name.starts_with("__"));
    let mut hasher = DefaultHasher::new();
    (&url, &labels, &job.name, job.stamp).hash(&mut hasher);
    let id = hasher.finish();
    Ok(Some(Target { id, url, labels, interval, timeout, job: Arc::clone(job) }))
}

fn slashed(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The parameters of the address, those of labels in place of the job's first.
fn query(job: &Job, labels: &Labels) -> String {
    let mut params: Vec<(String, Vec<String>)> = job.params.clone();
    for label in labels {
        let Some(name) = label.name.strip_prefix("__param_") else { continue };
        let value = label.value.to_string();
        match params.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            },
            None => params.push((name.to_owned(), vec![value])),
        }
    }
    params.sort();
    let pairs = params.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| format!("{}={}", escaped(name), escaped(value)))
    });
    let text = pairs.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

/// As a query writes it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scrape::yaml;

    fn job(text: &str) -> Arc<Job> {
        let text = format!("scrape_configs:\n- job_name: j\n  {}\n", text.replace('\n', "\n  "));
        let read = yaml::parse(Path::new("prometheus.yml"), &text).unwrap();
        Arc::new(read.jobs.into_iter().next().unwrap())
    }

    /// What the first static target of a job is asked and labelled as; `-`: it is left out.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let job = job(text);
        let (targets, wrong) = targets_of(&job, &job.groups[0], None);
        let found = match (targets.first(), wrong.first()) {
            (Some(target), _) => format!("{} {}", target.url, target.labels),
            (None, Some(wrong)) => wrong.clone(),
            (None, None) => "-".to_owned(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn targets_are_made_as_prometheus_makes_them() {
        let at = "static_configs: [{targets: ['h:1'], labels: {rack: a, __meta_x: b}}]\n";
        let with = |more: &str| format!("{at}{more}");
        check(at, r#"http://h:1/metrics {instance="h:1", job="j", rack="a"}"#);
        check(
            &with("metrics_path: /probe\nscheme: https\nparams: {module: [http, x], 'a b': ['&']}"),
            r#"https://h:1/probe?a+b=%26&module=http&module=x {instance="h:1", job="j", rack="a"}"#,
        );
        let blackbox = "relabel_configs:\n\
            - {source_labels: [__address__], target_label: __param_target}\n\
            - {source_labels: [__param_target], target_label: instance}\n\
            - {target_label: __address__, replacement: 'box:9115'}\n\
            - {regex: '__meta_(.+)', action: labelmap}";
        check(
            &with(blackbox),
            r#"http://box:9115/metrics?target=h%3A1 {instance="h:1", job="j", rack="a", x="b"}"#,
        );
        check(&with("relabel_configs: [{source_labels: [rack], regex: a, action: drop}]"), "-");
        let wrong = |more: &str, expected: &str| {
            check(&with(more), &format!("target \"h:1\" of job \"j\": {expected}"));
        };
        wrong(
            "relabel_configs: [{target_label: __scrape_timeout__, replacement: 2m}]",
            "a timeout of 120s is 0 or longer than 60s",
        );
        wrong(
            "relabel_configs: [{target_label: __address__, replacement: a/b}]",
            "\"a/b\" is no address: it has a / in it",
        );
        wrong(
            "relabel_configs: [{target_label: __address__, replacement: ''}]",
            "it has no address",
        );
        wrong(
            "relabel_configs: [{target_label: __scheme__, replacement: ftp}]",
            "the scheme \"ftp\" is neither http nor https",
        );
    }

    #[test]
    fn a_target_has_the_same_number_until_something_of_it_changes() {
        let id = |text: &str| {
            let job = job(text);
            targets_of(&job, &job.groups[0], None).0[0].id
        };
        let at = "static_configs: [{targets: ['h:1']}]\n";
        assert_eq!(id(at), id(at));
        assert_ne!(id(at), id(&at.replace("h:1", "h:2")));
        assert_ne!(id(at), id(&format!("{at}sample_limit: 7")));
    }
}

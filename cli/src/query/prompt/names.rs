//! Names and label values, asked of the collector while a person writes.
//!
//! Bounds: [`NAMES_MAX`] of each, [`PATIENCE`] for an answer, [`ANSWERS_MAX`] answers remembered for
//! [`AGE_MAX`], series of the last [`LOOK_BACK_S`] seconds. What cannot be had in that is not offered;
//! a person who writes is not told of errors.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;

/// The most names asked for at once.
const NAMES_MAX: usize = 500;

/// How long a person waits for a completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most answers remembered.
const ANSWERS_MAX: usize = 64;

/// How long an answer is remembered.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Series that ended before are not offered.
const LOOK_BACK_S: i64 = 86_400;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// Names of metrics that begin so.
    Metrics {
        /// The beginning.
        prefix: String,
    },
    /// Names of the labels of a metric's series; of all without one.
    Labels {
        /// The metric.
        metric: Option<String>,
    },
    /// Values of a label of a metric's series; of all without one.
    Values {
        /// The metric.
        metric: Option<String>,
        /// The label.
        label: String,
    },
}

/// Asks, and remembers for a while.
pub(super) struct Names {
    client: Client,
    known: HashMap<Wanted, (Instant, Vec<String>)>,
}

impl Names {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: HashMap::new() }
    }

    /// What there is; nothing where the collector does not say.
    pub(super) async fn of(&mut self, wanted: Wanted, now_s: i64) -> Vec<String> {
        if let Some((asked, names)) = self.known.get(&wanted)
            && asked.elapsed() < AGE_MAX
        {
            return names.clone();
        }
        let (path, mut form) = wanted.question();
        form.push(("limit", NAMES_MAX.to_string()));
        form.push(("start", now_s.saturating_sub(LOOK_BACK_S).to_string()));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let asking = self.client.names(&path, &form);
        let Ok(Ok(names)) = tokio::time::timeout(PATIENCE, asking).await else {
            return Vec::new();
        };
        if self.known.len() >= ANSWERS_MAX {
            self.known.clear();
        }
        self.known.insert(wanted, (Instant::now(), names.clone()));
        names
    }
}

impl Wanted {
    /// The path below `/api/v1`, segment by segment, and the parameters.
    fn question(&self) -> (Vec<String>, Vec<(&'static str, String)>) {
        let values = |label: &str| vec!["label".to_owned(), in_path(label), "values".to_owned()];
        match self {
            Self::Metrics { prefix } if prefix.is_empty() => (values("__name__"), Vec::new()),
            Self::Metrics { prefix } => {
                // Names a person writes without quotes hold nothing that a pattern minds but dots.
                let pattern = prefix.replace('.', "\\\\.");
                let matcher = format!("{{__name__=~\"{pattern}.*\"}}");
                (values("__name__"), vec![("match[]", matcher)])
            }
            Self::Labels { metric } => (vec!["labels".to_owned()], of_metric(metric.as_deref())),
            Self::Values { metric, label } => (values(label), of_metric(metric.as_deref())),
        }
    }
}

fn of_metric(metric: Option<&str>) -> Vec<(&'static str, String)> {
    metric.map(|name| ("match[]", format!("{{__name__=\"{name}\"}}"))).into_iter().collect()
}

/// A label's name as a path has it: one that is no plain name is escaped as Prometheus does.
fn in_path(label: &str) -> String {
    let is_plain = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !label.starts_with(|c: char| c.is_ascii_digit());
    if is_plain {
        return label.to_owned();
    }
    let mut out = "U__".to_owned();
    for c in label.chars() {
        match c {
            '_' => out.push_str("__"),
            c if c.is_ascii_alphanumeric() => out.push(c),
            c => out.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_name_what_is_asked_for() {
        let check = |wanted: Wanted, path: &str, parameter: Option<&str>| {
            let (segments, form) = wanted.question();
            assert_eq!(segments.join("/"), path);
            assert_eq!(form.first().map(|(_, value)| value.as_str()), parameter);
        };
        check(Wanted::Metrics { prefix: String::new() }, "label/__name__/values", None);
        check(
            Wanted::Metrics { prefix: "a.b".into() },
            "label/__name__/values",
            Some("{__name__=~\"a\\\\.b.*\"}"),
        );
        check(Wanted::Labels { metric: Some("up".into()) }, "labels", Some("{__name__=\"up\"}"));
        check(
            Wanted::Values { metric: None, label: "http.code_a".into() },
            "label/U__http_2e_code__a/values",
            None,
        );
    }
}

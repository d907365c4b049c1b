//! Queries over HTTP, timed until the last byte of the answer: to Stoa, and to whoever speaks
//! Prometheus's interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_collector::dashboard;
use stoa_daemon::Misuse;
use tokio::time::Instant;

use super::fill::{JOB, host_name};
use super::latency::Latency;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each query of a dashboard is asked; the fastest counts.
const TRIES: usize = 3;

/// Questions for a single series.
const SINGLES: usize = 1000;

/// Where in the directory of test data the dashboard lies.
const DASHBOARD: &str = "dashboards/node-exporter-full-1860.json";

/// The ranges a dashboard is asked for: hours, and seconds of a step.
pub(super) const RANGES: [(u32, u32); 2] = [(1, 15), (24, 60)];

/// Asks one server over one connection.
pub(super) struct Asker {
    url: String,
    web: reqwest::Client,
    /// Stoa and VictoriaMetrics give parts of an answer again unless told not to.
    no_cache: bool,
}

impl Asker {
    /// Of the server at a URL.
    ///
    /// # Errors
    /// When no client can be made.
    pub(super) fn new(url: String, no_cache: bool) -> anyhow::Result<Self> {
        let web = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { url, web, no_cache })
    }

    /// Asks; the time until all of the answer is here, and the answer.
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    async fn ask(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> anyhow::Result<(Duration, Vec<u8>)> {
        let mut form: Vec<(&str, &str)> =
            params.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.no_cache {
            form.push(("nocache", "1"));
        }
        let began = Instant::now();
        let answer = self.web.post(format!("{}{path}", self.url)).form(&form).send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let took = began.elapsed();
        anyhow::ensure!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(&body).chars().take(300).collect::<String>()
        );
        Ok((took, body.to_vec()))
    }

    /// All queries of a dashboard over a range that ends at `end_s`, one after another.
    ///
    /// # Errors
    /// When the server does not answer at all; queries it refuses are counted.
    pub(super) async fn dashboard(
        &self,
        queries: &[String],
        end_s: i64,
        (hours, step_s): (u32, u32),
    ) -> anyhow::Result<Panels> {
        let start_s = end_s - i64::from(hours) * 3600;
        let (mut fastest, mut refused, mut empty, mut bytes) = (Vec::new(), 0, 0, 0);
        let mut first_refusal = None;
        for query in queries {
            let params = [
                ("query", query.clone()),
                ("start", start_s.to_string()),
                ("end", end_s.to_string()),
                ("step", step_s.to_string()),
            ];
            let mut best = None;
            for _ in 0..TRIES {
                match self.ask("/api/v1/query_range", &params).await {
                    Ok((took, body)) => {
                        let fastest = best.as_ref().is_none_or(|(best, _)| took < *best);
                        if fastest {
                            best = Some((took, body));
                        }
                    }
                    Err(error) if error.is::<reqwest::Error>() => return Err(error),
                    Err(error) => {
                        first_refusal.get_or_insert_with(|| format!("{query}: {error:#}"));
                    }
                }
            }
            match best {
                Some((took, body)) => {
                    fastest.push(took);
                    bytes += body.len() as u64;
                    empty += u64::from(is_empty(&body));
                }
                None => refused += 1,
            }
        }
        if let Some(refusal) = first_refusal {
            super::say(&format!("refused: {refusal}"));
        }
        Ok(Panels::of(hours, step_s, fastest, refused, empty, bytes))
    }

    /// The same of a dashboard that refreshes: each query has been asked a step before, and what is kept of
    /// that may be used.
    ///
    /// # Errors
    /// When the server does not answer, or refuses a query.
    pub(super) async fn refreshed(
        &self,
        queries: &[String],
        end_s: i64,
        (hours, step_s): (u32, u32),
    ) -> anyhow::Result<Panels> {
        let again = Self { url: self.url.clone(), web: self.web.clone(), no_cache: false };
        let (mut fastest, mut empty, mut bytes) = (Vec::new(), 0, 0);
        for query in queries {
            let mut best: Option<(Duration, Vec<u8>)> = None;
            for before in (0..=TRIES as i64).rev() {
                let end_s = end_s - before * i64::from(step_s);
                let params = [
                    ("query", query.clone()),
                    ("start", (end_s - i64::from(hours) * 3600).to_string()),
                    ("end", end_s.to_string()),
                    ("step", step_s.to_string()),
                ];
                let (took, body) = again.ask("/api/v1/query_range", &params).await?;
                // The first of them finds nothing kept.
                let is_again = before < TRIES as i64;
                if is_again && best.as_ref().is_none_or(|(best, _)| took < *best) {
                    best = Some((took, body));
                }
            }
            if let Some((took, body)) = best {
                fastest.push(took);
                bytes += body.len() as u64;
                empty += u64::from(is_empty(&body));
            }
        }
        Ok(Panels::of(hours, step_s, fastest, 0, empty, bytes))
    }

    /// The last value of one series, many times.
    ///
    /// # Errors
    /// When there is no answer, or an empty one.
    pub(super) async fn single(&self, query: &str, at_s: i64) -> anyhow::Result<Latency> {
        let params = [("query", query.to_owned()), ("time", at_s.to_string())];
        let mut all = Vec::with_capacity(SINGLES);
        for _ in 0..SINGLES {
            let (took, body) = self.ask("/api/v1/query", &params).await?;
            anyhow::ensure!(!is_empty(&body), "{query} finds nothing");
            all.push(took);
        }
        Ok(Latency::of(all))
    }

    /// The one number a query gives.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn number(&self, query: &str, at_s: i64) -> anyhow::Result<f64> {
        let params = [("query", query.to_owned()), ("time", at_s.to_string())];
        let (_, body) = self.ask("/api/v1/query", &params).await?;
        let document: serde_json::Value = serde_json::from_slice(&body)?;
        let value = document.pointer("/data/result/0/value/1").and_then(|value| value.as_str());
        Ok(value.with_context(|| format!("{query} finds nothing"))?.parse()?)
    }

    /// The names of the metrics a selector finds.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn names(&self, selector: &str) -> anyhow::Result<Vec<String>> {
        let url = format!("{}/api/v1/label/__name__/values", self.url);
        let answer = self.web.get(url).query(&[("match[]", selector)]).send().await?;
        let document: serde_json::Value = answer.error_for_status()?.json().await?;
        let names = document.pointer("/data").and_then(|data| data.as_array());
        let names = names.with_context(|| format!("{selector} has no names"))?;
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }
}

fn is_empty(body: &[u8]) -> bool {
    let begin = body.get(..body.len().min(128)).unwrap_or_default();
    String::from_utf8_lossy(begin).contains("\"result\":[]")
}

/// How long a dashboard's queries take, each the fastest of its tries.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Panels {
    pub(super) hours: u32,
    pub(super) step_s: u32,
    /// Queries that were answered.
    pub(super) answered: usize,
    /// Those of them that found nothing.
    pub(super) empty: u64,
    pub(super) refused: u64,
    pub(super) sum_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) max_ms: f64,
    /// Bytes of all answers.
    pub(super) bytes: u64,
}

impl Panels {
    fn of(
        hours: u32,
        step_s: u32,
        mut took: Vec<Duration>,
        refused: u64,
        empty: u64,
        bytes: u64,
    ) -> Self {
        took.sort_unstable();
        let ms = |took: &Duration| took.as_secs_f64() * 1e3;
        let at = |part: usize| {
            let rank = (took.len() * part).div_ceil(100).max(1);
            took.get(rank - 1).map_or(0.0, ms)
        };
        Self {
            hours,
            step_s,
            answered: took.len(),
            empty,
            refused,
            sum_ms: took.iter().map(ms).sum(),
            p50_ms: at(50),
            p95_ms: at(95),
            max_ms: at(100),
            bytes,
        }
    }

    /// All figures in one line.
    pub(super) fn said(&self) -> String {
        let Self { answered, empty, refused, sum_ms, p50_ms, p95_ms, max_ms, .. } = self;
        let refused = if *refused == 0 { String::new() } else { format!(", {refused} refused") };
        format!(
            "{sum_ms:.0} ms for {answered} queries one after another ({empty} find nothing{refused}); {p50_ms:.2} ms p50, {p95_ms:.2} ms p95, {max_ms:.1} ms at most"
        )
    }
}

/// A dashboard's queries with one host in place of its variables; `None` when no file was named and
/// there is no directory of test data.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn queries(named: Option<&Path>, host: u16) -> anyhow::Result<Option<Vec<String>>> {
    let data = std::env::var_os("STOA_CONFORMANCE_DATA").map(PathBuf::from);
    let path = match (named, data) {
        (Some(path), _) => path.to_owned(),
        (None, Some(data)) => data.join(DASHBOARD),
        (None, None) => return Ok(None),
    };
    let read = |error: std::io::Error| Misuse(format!("cannot read {}: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(read)?;
    let document = serde_json::from_str(&text)
        .with_context(|| format!("understand the dashboard {}", path.display()))?;
    let host = host_name(host);
    let variables = [("__rate_interval", "1m"), ("node", host.as_str()), ("job", JOB)];
    let found = dashboard::expressions(&document);
    anyhow::ensure!(!found.is_empty(), "{} has no queries", path.display());
    Ok(Some(found.iter().map(|query| dashboard::filled(query, &variables)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_summed_and_ranked() {
        let took = (1..=100).rev().map(Duration::from_millis).collect();
        let panels = Panels::of(1, 15, took, 0, 2, 9);
        let Panels { sum_ms, p50_ms, p95_ms, max_ms, answered, .. } = panels;
        assert_eq!((answered, p50_ms, p95_ms, max_ms), (100, 50.0, 95.0, 100.0));
        assert!((sum_ms - 5050.0).abs() < 1e-6);
        assert!(Panels::of(1, 15, Vec::new(), 0, 0, 0).sum_ms.abs() < 1e-9);
    }

    #[test]
    fn an_answer_without_series_is_empty() {
        let empty = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(is_empty(empty));
        let one =
            br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}}]}}"#;
        assert!(!is_empty(one));
    }
}

//! Where samples are handed out from: a collector that runs, or the directory of one that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stoa_collector::http::prometheus::TRUNCATED;
use stoa_daemon::{DataDir, Misuse, unix_ms};
use stoa_exchange::exposition::Printer;
use stoa_model::histogram::Histogram;
use stoa_model::{Labels, Matcher};
use stoa_promql::parse_selector;
use stoa_tsdb::{Cost, Damage, Db, Options};
use stoa_wal::disk::RealDisk;

use crate::client::{Client, ServerArgs};
use crate::local;
use crate::query::say;
use crate::table::printable;

/// What is asked for at once, of one series: a day, 86,400 samples at one a second.
const WINDOW_MS: i64 = 86_400_000;

/// More samples of one series in one window than this are refused by an offline source.
const SAMPLES_MAX: usize = 100_000_000;

/// Warnings and notes said at most.
const SAID_MAX: usize = 100;

/// More series than this that have all labels of one, and others besides, are refused.
const SERIES_MAX: usize = 1_000_000;

/// A source and which of its series are wanted.
#[derive(Debug)]
pub(super) enum Source {
    Directory { db: Box<Db>, matchers: Vec<Matcher>, _held: DataDir, told: Told },
    Collector { client: Box<Client>, selector: String, told: Told },
}

/// What was said of what is handed out.
#[derive(Debug, Default)]
pub(super) struct Told {
    texts: Mutex<BTreeSet<String>>,
    is_short: AtomicBool,
}

impl Told {
    /// Says, once each, why something is missing.
    fn warn(&self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            self.is_short.store(true, Relaxed);
            self.say("warning", warning);
        }
    }

    /// Says, once each, what is to be known of what is there.
    fn inform(&self, infos: impl IntoIterator<Item = String>) {
        for info in infos {
            self.say("note", info);
        }
    }

    fn damaged(&self, found: &[Damage]) {
        let (harmless, rest): (Vec<_>, Vec<_>) =
            found.iter().partition(|damage| damage.cost == Cost::Nothing);
        self.inform(harmless.iter().map(ToString::to_string));
        self.warn(rest.iter().map(ToString::to_string));
    }

    fn say(&self, kind: &str, text: String) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < SAID_MAX && texts.insert(text.clone()) {
            say(&format!("{kind}: {}", printable(&text)));
        }
    }

    /// Says what reading a directory met.
    fn warn_of_damage(&self, db: &Db) {
        let (found, unlisted) = db.take_damage();
        self.damaged(&found);
        self.warn((unlisted > 0).then(|| format!("{unlisted} more damaged places")));
    }
}

/// What there is of one series in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    /// In order of time.
    pub(super) floats: Vec<(i64, f64)>,
    /// Native histograms beside them, in order of time.
    pub(super) histograms: Vec<(i64, Histogram)>,
    /// How many of these there are beside, which text does not hand out whole.
    pub(super) histograms_unread: u64,
}

impl Source {
    pub(super) fn open(
        data_dir: Option<&Path>,
        server: &ServerArgs,
        selector: &str,
    ) -> anyhow::Result<Self> {
        let matchers = parse_selector(selector)
            .map_err(|error| Misuse(printable(&format!("matchers: {error}"))))?;
        let Some(dir) = data_dir else {
            let client = Box::new(Client::new(server)?);
            return Ok(Self::Collector {
                client,
                selector: selector.to_owned(),
                told: Told::default(),
            });
        };
        let dir = local::collector_dir(dir)?;
        let held = DataDir::open(&dir)?;
        let (db, recovery) =
            Db::open(Arc::new(RealDisk), &dir.join("metrics"), Options::default(), unix_ms())?;
        let told = Told::default();
        told.damaged(&recovery.damage);
        told.warn(recovery.unread);
        Ok(Self::Directory { db: Box::new(db), matchers, _held: held, told })
    }

    /// Whether something that was asked for could not be handed out.
    pub(super) fn is_short(&self) -> bool {
        let (Self::Directory { told, .. } | Self::Collector { told, .. }) = self;
        told.is_short.load(Relaxed)
    }

    /// From when on there may be something in the range. What is told of missing parts is told.
    pub(super) async fn begins(&self, start: i64, end: i64) -> anyhow::Result<i64> {
        if !self.has(start, end).await? {
            return Ok(end);
        }
        // Nothing lies before the first, something between it and the second.
        let (mut from, mut to) = (start, end);
        while to.saturating_sub(from) > WINDOW_MS {
            let middle = from.midpoint(to);
            match self.has(start, middle).await? {
                true => to = middle,
                false => from = middle,
            }
        }
        Ok(from)
    }

    /// Whether there is something, or may be: what is missing counts.
    async fn has(&self, start: i64, end: i64) -> anyhow::Result<bool> {
        match self {
            Self::Directory { db, matchers, told, .. } => {
                let found = db.series(&[matchers], start, end, 1);
                told.warn_of_damage(db);
                Ok(!found.is_empty())
            }
            Self::Collector { client, selector, told } => {
                let mut form = asking(selector, start, end);
                form.push(("limit", "1".to_owned()));
                let answer = client.prometheus("/api/v1/series", &form).await?;
                let list: List = serde_json::from_str(&answer.text).context("read the answer")?;
                let missing: Vec<_> =
                    answer.warnings.into_iter().filter(|warning| warning != TRUNCATED).collect();
                let has_some = !list.data.is_empty() || !missing.is_empty();
                told.warn(missing);
                Ok(has_some)
            }
        }
    }

    /// The series wanted with samples near the range, sorted.
    pub(super) async fn series(&self, start: i64, end: i64) -> anyhow::Result<Vec<Labels>> {
        match self {
            Self::Directory { db, matchers, told, .. } => {
                let series = db.series(&[matchers], start, end, usize::MAX);
                told.warn_of_damage(db);
                Ok(series)
            }
            Self::Collector { client, selector, told } => {
                let form = asking(selector, start, end);
                let answer = client.prometheus("/api/v1/series", &form).await?;
                if answer.warnings.iter().any(|warning| warning == TRUNCATED) {
                    anyhow::bail!("the collector cut its answer short: {TRUNCATED}");
                }
                told.warn(answer.warnings);
                let list: List = serde_json::from_str(&answer.text).context("read the answer")?;
                let mut series: Vec<Labels> =
                    list.data.into_iter().map(Labels::from_pairs_last_wins).collect();
                series.sort_unstable();
                Ok(series)
            }
        }
    }

    /// The samples of exactly this series, both ends included.
    pub(super) async fn samples(
        &self,
        labels: &Labels,
        start: i64,
        end: i64,
    ) -> anyhow::Result<Samples> {
        match self {
            Self::Directory { db, told, .. } => {
                let exact: Vec<Matcher> = labels
                    .iter()
                    .map(|label| Matcher::equal(&*label.name, &*label.value))
                    .collect();
                let found = db.select(&exact, start, end, SERIES_MAX, SAMPLES_MAX)?;
                told.warn_of_damage(db);
                let series = found.into_iter().find(|series| series.labels == *labels);
                let floats = series.map_or_else(Vec::new, |series| {
                    series.timestamps.iter().copied().zip(series.values).collect()
                });
                let found = db.select_histograms(&exact, start, end, SERIES_MAX, SAMPLES_MAX)?;
                let series = found.into_iter().find(|series| series.labels == *labels);
                let histograms = series.map_or_else(Vec::new, |series| series.samples);
                Ok(Samples { floats, histograms, histograms_unread: 0 })
            }
            Self::Collector { client, told, .. } => {
                let front = Printer::<Vec<u8>>::series_text(labels);
                let front = String::from_utf8_lossy(&front);
                // A range leaves its beginning out.
                let range = end.saturating_sub(start).saturating_add(1);
                let form = [("query", format!("{front}[{range}ms]")), ("time", seconds(end))];
                let answer = client.prometheus("/api/v1/query", &form).await?;
                told.warn(answer.warnings);
                told.inform(answer.infos);
                let matrix: Matrix =
                    serde_json::from_str(&answer.text).context("read the answer")?;
                let of_it =
                    |series: &Range| Labels::from_pairs_last_wins(series.metric.clone()) == *labels;
                let Some(series) = matrix.data.result.into_iter().find(of_it) else {
                    return Ok(Samples::default());
                };
                let sample = |(t, value): (f64, String)| {
                    let value = value.parse().with_context(|| format!("a value is {value:?}"))?;
                    anyhow::Ok((millis(t), value))
                };
                let floats: anyhow::Result<_> = series.values.into_iter().map(sample).collect();
                let histograms_unread = series.histograms.len() as u64;
                Ok(Samples { floats: floats?, histograms_unread, ..Samples::default() })
            }
        }
    }
}

fn asking(selector: &str, start: i64, end: i64) -> Vec<(&'static str, String)> {
    vec![("match[]", selector.to_owned()), ("start", seconds(start)), ("end", seconds(end))]
}

/// A range cut into windows, each with both its ends.
pub(super) fn windows(start: i64, end: i64) -> impl Iterator<Item = (i64, i64)> {
    spans(start, end, WINDOW_MS)
}

/// A range cut at multiples of `span_ms`.
pub(super) fn spans(start: i64, end: i64, span_ms: i64) -> impl Iterator<Item = (i64, i64)> {
    let first = start.div_euclid(span_ms);
    (first..=end.div_euclid(span_ms)).map(move |number| {
        let from = number.saturating_mul(span_ms);
        (from.max(start), from.saturating_add(span_ms - 1).min(end))
    })
}

fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time the collector printed fits; as saturates"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[derive(Deserialize)]
struct List {
    data: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Matrix {
    data: Found,
}

#[derive(Deserialize)]
struct Found {
    result: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_histograms_has_no_values_and_one_of_floats_nothing_else() {
        let read = |json: &str| {
            let matrix: Matrix = serde_json::from_str(json).unwrap();
            let counts = |series: &Range| (series.values.len(), series.histograms.len());
            matrix.data.result.iter().map(counts).collect::<Vec<_>>()
        };
        let answer = r#"{"data": {"result": [
            {"metric": {}, "values": [[1, "1"], [2, "1"]]},
            {"metric": {}, "histograms": [[3, {"count": "1", "sum": "1"}]]},
            {"metric": {}, "values": [[1, "1"]], "histograms": [[3, {}], [4, {}], [5, {}]]}]}}"#;
        assert_eq!(read(answer), [(2, 0), (0, 1), (1, 3)]);
    }

    #[test]
    fn only_what_is_missing_makes_an_export_short() {
        let damage = |cost| Damage {
            path: "chunks".into(),
            offset: 0,
            bytes: 0,
            what: "a checksum does not match".to_owned(),
            cost,
            kept: None,
            repaired: false,
        };
        let told = Told::default();
        told.inform(["answered from aggregates".to_owned()]);
        told.damaged(&[damage(Cost::Nothing)]);
        assert!(!told.is_short.load(Relaxed));
        told.damaged(&[damage(Cost::Block)]);
        assert!(told.is_short.load(Relaxed));
    }

    #[test]
    fn spans_meet_and_do_not_overlap() {
        let cut: Vec<_> = spans(-5, 25, 10).collect();
        assert_eq!(cut, [(-5, -1), (0, 9), (10, 19), (20, 25)]);
        assert_eq!(spans(3, 3, 10).collect::<Vec<_>>(), [(3, 3)]);
    }
}

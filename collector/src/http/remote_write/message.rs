//! A message's series and what it says about metrics, handed over.

use std::sync::Arc;

use stoa_exchange::remote_write::{self, Exemplar, Metadata, RawLabel, Series, Version, Visitor};
use stoa_model::{MetricKind, TimestampMs, is_stale};

use crate::http::pushed::Refusal;
use crate::push::{Intake, Source, Taken};

/// Walks a message.
pub(super) fn take(source: &Source, version: Version, message: &[u8]) -> Result<Taken, Refusal> {
    let mut walk = Walk { intake: source.begin(), version, is_new: false };
    remote_write::read(version, message, &mut walk)
        .map_err(|error| Refusal::Bad(error.to_string()))?;
    Ok(walk.intake.finish())
}

struct Walk<'s> {
    intake: Intake<'s>,
    version: Version,
    /// Whether the last series came for the first time.
    is_new: bool,
}

impl Visitor for Walk<'_> {
    fn series(&mut self, series: &Series<'_>) {
        self.is_new = false;
        let count = (series.samples.len() + series.histograms.len()) as u64;
        let labels = match series.labels {
            Ok(labels) => labels,
            Err(fault) => {
                self.intake.tally.exemplars_ignored += series.exemplars.len() as u64;
                return self.intake.tally.mislabelled(count, || fault.to_string());
            }
        };
        if !series.exemplars.is_empty() {
            self.exemplars(labels, series.exemplars);
        }
        if count == 0 {
            return;
        }
        let Some((place, is_new)) = self.intake.place(labels, count) else { return };
        self.is_new = is_new;
        let start = |starts: &[TimestampMs], at: usize| starts.get(at).copied().unwrap_or(0);
        for (at, (t_ms, value)) in series.samples.iter().enumerate() {
            self.intake.sample(place, *t_ms, *value);
            if !is_stale(*value) {
                self.intake.starts(place, start(series.sample_starts, at), *t_ms, None);
            }
        }
        for (at, (t_ms, histogram)) in series.histograms.iter().enumerate() {
            let start_ms = start(series.histogram_starts, at);
            let histogram = Arc::new(histogram.clone());
            if self.intake.histogram(place, *t_ms, Arc::clone(&histogram)) && !histogram.is_stale()
            {
                self.intake.starts(place, start_ms, *t_ms, Some(&histogram));
            }
        }
    }

    fn metadata(&mut self, said: &Metadata<'_>) {
        // Version 1 says it now and then; version 2 with every series, of which the first will do.
        if self.version == Version::Two && !self.is_new {
            return;
        }
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let name = family(text(said.name), said.kind);
        self.intake.describe(name, said.kind, text(said.help), text(said.unit));
    }
}

impl Walk<'_> {
    fn exemplars(&mut self, series: &[RawLabel<'_>], exemplars: &[Exemplar<'_>]) {
        let readable = exemplars.iter().filter_map(|exemplar| {
            let labels = exemplar.labels.as_deref().ok()?;
            Some((labels, exemplar.value, exemplar.t_ms))
        });
        let unreadable = exemplars.iter().filter(|exemplar| exemplar.labels.is_err()).count();
        self.intake.tally.exemplars_ignored += unreadable as u64;
        self.intake.exemplars(series, readable);
    }
}

/// The family's name by the name of one of its series.
fn family(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

//! A message's series and what it says about metrics, handed over.

use stoa_exchange::remote_write::{self, Metadata, Series, Version, Visitor};
use stoa_model::MetricKind;

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
        self.intake.tally.exemplars += series.exemplars;
        self.is_new = false;
        let count = (series.samples.len() + series.histograms.len()) as u64;
        let labels = match series.labels {
            Ok(labels) => labels,
            Err(fault) => return self.intake.tally.mislabelled(count, || fault.to_string()),
        };
        if count == 0 {
            return;
        }
        let Some((place, is_new)) = self.intake.place(labels, count) else { return };
        self.is_new = is_new;
        for (t_ms, value) in series.samples {
            self.intake.sample(place, *t_ms, *value);
        }
        for (t_ms, histogram) in series.histograms {
            self.intake.histogram(place, *t_ms, histogram.clone());
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

/// The family's name by the name of one of its series.
fn family(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

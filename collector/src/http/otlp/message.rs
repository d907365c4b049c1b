//! A message's points as samples, handed over.

use std::sync::Arc;

use stoa_exchange::otlp::{
    self, Accumulate, DeltaFault, Form, Options, Refused, SampleExemplar, SampleLabels, Sink,
    Translator,
};
use stoa_exchange::remote_write::RawLabel;
use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs, is_stale};

use super::deltas::Streams;
use crate::http::pushed::Refusal;
use crate::push::{Intake, Place, Source, Taken};

/// Walks a message.
pub(super) fn take(
    source: &Source,
    form: Form,
    message: &[u8],
    options: &Options,
    deltas: Option<&Streams>,
) -> Result<Taken, Refusal> {
    let mut deltas = deltas.map(|streams| streams.of(source.sender(), source.now_ms()));
    let deltas = deltas.as_mut().map(|deltas| -> &mut dyn Accumulate { deltas });
    let mut samples = Samples { intake: source.begin(), start_ms: None };
    let mut translator = Translator::new(options, &mut samples).adding(deltas);
    otlp::read(form, message, &mut translator).map_err(|error| Refusal::Bad(error.to_string()))?;
    translator.finish();
    Ok(samples.intake.finish())
}

struct Samples<'s> {
    intake: Intake<'s>,
    /// From when on counts what is handed over next.
    start_ms: Option<TimestampMs>,
}

impl Samples<'_> {
    fn place(&mut self, labels: SampleLabels<'_>) -> Option<Place> {
        self.intake.place(&raw(labels), 1).map(|(place, _is_new)| place)
    }
}

fn raw<'a>(labels: SampleLabels<'a>) -> Vec<RawLabel<'a>> {
    labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn raw_of<'a>(exemplar: &'a SampleExemplar<'_>) -> Vec<RawLabel<'a>> {
    exemplar.labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

impl Sink for Samples<'_> {
    fn point(&mut self) {
        self.intake.begin_point();
    }

    fn has_starts(&self) -> bool {
        self.intake.has_starts()
    }

    fn starts(&mut self, start_ms: TimestampMs) {
        self.start_ms = Some(start_ms);
    }

    fn info(&mut self) {
        self.intake.end_point();
    }

    fn sample(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, value: f64) {
        let start_ms = self.start_ms.take();
        if let Some(place) = self.place(labels) {
            self.intake.sample(place, t_ms, value);
            if let Some(start_ms) = start_ms.filter(|_| !is_stale(value)) {
                self.intake.starts(place, start_ms, t_ms, None);
            }
        }
    }

    fn histogram(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, histogram: Histogram) {
        let start_ms = self.start_ms.take();
        if let Some(place) = self.place(labels) {
            let histogram = Arc::new(histogram);
            let is_taken = self.intake.histogram(place, t_ms, Arc::clone(&histogram));
            if let Some(start_ms) = start_ms.filter(|_| is_taken && !histogram.is_stale()) {
                self.intake.starts(place, start_ms, t_ms, Some(&histogram));
            }
        }
    }

    fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        self.intake.describe(name, kind, help, unit);
    }

    fn place(&mut self, labels: SampleLabels<'_>) -> bool {
        Self::place(self, labels).is_some()
    }

    fn exemplars(&mut self, series: SampleLabels<'_>, exemplars: &[SampleExemplar<'_>]) {
        let labels: Vec<Vec<RawLabel<'_>>> = exemplars.iter().map(raw_of).collect();
        let each = labels.iter().zip(exemplars);
        let each = each.map(|(labels, exemplar)| (&**labels, exemplar.value, exemplar.t_ms));
        self.intake.exemplars(&raw(series), each);
    }

    fn exemplars_left_out(&mut self, count: u64) {
        self.intake.tally.exemplars_ignored += count;
    }

    fn refused(&mut self, why: &Refused) {
        if matches!(why, Refused::Delta { why: DeltaFault::Ahead, .. }) {
            return self.intake.ahead();
        }
        self.intake.unfit(|| why.to_string());
    }
}

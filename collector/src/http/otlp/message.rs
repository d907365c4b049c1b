//! A message's points as samples, handed over.

use stoa_exchange::otlp::{
    self, Form, Metric, Options, Point, Refused, Resource, SampleLabels, Scope, Sink, Translator,
    Visitor,
};
use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs};

use crate::http::pushed::Refusal;
use crate::push::{Intake, Place, Source, Taken};

/// Walks a message.
pub(super) fn take(
    source: &Source,
    form: Form,
    message: &[u8],
    options: &Options,
) -> Result<Taken, Refusal> {
    let mut samples = Samples { intake: source.begin() };
    let mut points = Points { translator: Translator::new(options, &mut samples), count: 0 };
    otlp::read(form, message, &mut points).map_err(|error| Refusal::Bad(error.to_string()))?;
    let Points { translator, count } = points;
    translator.finish();
    samples.intake.tally.given = count;
    Ok(samples.intake.finish())
}

/// Counts points on their way.
struct Points<'s> {
    translator: Translator<'s>,
    count: u64,
}

impl Visitor for Points<'_> {
    fn resource(&mut self, resource: &Resource<'_>) {
        self.translator.resource(resource);
    }

    fn scope(&mut self, scope: &Scope<'_>) {
        self.translator.scope(scope);
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.translator.metric(metric);
    }

    fn point(&mut self, point: &Point<'_>) {
        self.count += 1;
        self.translator.point(point);
    }
}

struct Samples<'s> {
    intake: Intake<'s>,
}

impl Samples<'_> {
    fn place(&mut self, labels: SampleLabels<'_>) -> Option<Place> {
        let raw = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let raw: Vec<_> = raw.collect();
        self.intake.place(&raw, 1).map(|(place, _is_new)| place)
    }
}

impl Sink for Samples<'_> {
    fn sample(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, value: f64) {
        if let Some(place) = self.place(labels) {
            self.intake.sample(place, t_ms, value);
        }
    }

    fn histogram(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, histogram: Histogram) {
        if let Some(place) = self.place(labels) {
            self.intake.histogram(place, t_ms, histogram);
        }
    }

    fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        self.intake.describe(name, kind, help, unit);
    }

    fn exemplars(&mut self, count: u64) {
        self.intake.tally.exemplars += count;
    }

    fn refused(&mut self, why: &Refused) {
        self.intake.tally.unfit(|| why.to_string());
    }
}

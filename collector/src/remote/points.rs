//! Samples of the log as messages of OTLP.
//!
//! Series become metrics by what is known of them (`OpenTelemetry`'s compatibility with Prometheus, the
//! other way round): counters become monotonic cumulative sums, the series of a classic histogram or of a
//! summary that came together one point each, native histograms exponential ones or, with custom
//! buckets, classic ones, all else gauges. Names stay as they are, also of units; `job` and `instance`
//! are the resource's `service.name` and `service.instance.id`, other labels attributes. A stale marker
//! is a point without a recorded value. When counting began is not known and not said.
//!
//! Parts that came apart wait for each other ([`waiting`]). What cannot be put together, because a part of
//! it is missing still or its counts are no counts, goes out as gauges under the names it has, and is counted. Native histograms of floats have no form in OTLP and are left out and
//! counted.

mod waiting;

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use stoa_exchange::otlp::{
    self, Attribute, Explicit, ExponentialTotal, Form, Kind, Measure, Metric, Point, Resource,
    Scope, Summary, Temporality, Total, Visitor, Writer,
};
use stoa_model::{Labels, METRIC_NAME, MetricKind, TimestampMs, is_stale};
use stoa_tsdb::{Cursor, FollowedSeries};
use tokio::time::Instant;

pub(super) use self::waiting::Waiting;
use super::message::Message;
use crate::store::Metadata;

/// Largest count that a sample says exactly.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

const JOB: &str = "job";
const INSTANCE: &str = "instance";
const LE: &str = "le";
const QUANTILE: &str = "quantile";

/// What a read of the log becomes.
#[derive(Debug)]
pub(super) struct Written {
    /// The samples in their order, at most as many in a message as was said, or one point.
    pub(super) messages: Vec<Message>,
    /// Samples that have no form.
    pub(super) left_out: u64,
    /// Samples of histograms and summaries that go as gauges.
    pub(super) apart: u64,
    /// Up to where all is in these messages and those before; `None` when nothing is.
    pub(super) cursor: Option<Cursor>,
}

/// What was read of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read<'a> {
    pub(super) series: &'a [FollowedSeries],
    /// Up to where.
    pub(super) end: Cursor,
    /// Its newest time, where there is more in the log.
    pub(super) newest_t: Option<TimestampMs>,
}

/// What was read as messages, but for what waits.
pub(super) fn written(
    waiting: &mut Waiting,
    read: &Read<'_>,
    samples_max: usize,
    metadata: &Metadata,
    now: Instant,
) -> Written {
    let mut gathered = Gathered::default();
    let families = waiting.families(bucket_families(read.series));
    for one in read.series {
        gathered.take(one, families, metadata);
    }
    waiting.settle(&mut gathered.parts, read.newest_t, now);
    gathered.join();
    let (left_out, apart) = (gathered.left_out, gathered.apart);
    let messages = gathered.written(samples_max, metadata);
    Written { messages, left_out, apart, cursor: waiting.cursor(read.end) }
}

/// A message as two, each of half its points; `None` when there are not two points in it.
pub(super) fn halves(message: &Message) -> Option<Vec<Message>> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*message.body).read_to_end(&mut text).ok()?;
    let mut halves = Halves { writers: Default::default(), seen: 0, first: message.points / 2 };
    otlp::read(Form::Protobuf, &text, &mut halves).ok()?;
    let samples = message.samples * halves.first / message.points.max(1);
    let [first, second] = halves.writers;
    (message.points > 1)
        .then(|| vec![finish(first, samples), finish(second, message.samples - samples)])
}

/// A message's points on their way into two.
struct Halves {
    writers: [Writer; 2],
    seen: u64,
    /// How many are the first half.
    first: u64,
}

impl Visitor for Halves {
    fn resource(&mut self, resource: &Resource<'_>) {
        self.writers.iter_mut().for_each(|writer| writer.resource(resource));
    }

    fn scope(&mut self, scope: &Scope<'_>) {
        self.writers.iter_mut().for_each(|writer| writer.scope(scope));
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.writers.iter_mut().for_each(|writer| writer.metric(metric));
    }

    fn point(&mut self, point: &Point<'_>) {
        let [first, second] = &mut self.writers;
        let half = if self.seen < self.first { first } else { second };
        half.point(point);
        self.seen += 1;
    }
}

fn finish(writer: Writer, samples: u64) -> Message {
    let points = writer.points();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Into memory, which does not fail.
    let body = packed.write_all(&writer.finish()).and_then(|()| packed.finish());
    Message { body: Bytes::from(body.unwrap_or_default()), samples, points }
}

/// The families whose buckets are there, by their names.
fn bucket_families(series: &[FollowedSeries]) -> HashSet<&str> {
    fn family(one: &FollowedSeries) -> Option<&str> {
        one.labels.get(LE)?.parse::<f64>().ok()?;
        one.labels.get(METRIC_NAME)?.strip_suffix("_bucket")
    }
    series.iter().filter_map(family).collect()
}

/// A stream of points, in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Stream {
    job: String,
    instance: String,
    name: String,
    form: PointForm,
    attributes: Vec<(String, String)>,
}

/// What the points of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PointForm {
    Gauge,
    Counter,
    Histogram,
    Exponential,
    Summary,
}

/// A point.
#[derive(Debug)]
struct Made {
    t_ms: TimestampMs,
    ended: bool,
    measured: Measured,
    /// Of so many samples.
    samples: u64,
}

#[derive(Debug)]
enum Measured {
    Double(f64),
    Total(Total),
    Explicit { count: u64, sum: Option<f64>, bounds: Vec<f64>, counts: Vec<u64> },
    Summary { count: u64, sum: f64, quantiles: Vec<(f64, f64)> },
}

impl Measured {
    fn measure(&self) -> Measure<'_> {
        match self {
            Self::Double(value) => Measure::Double(*value),
            Self::Total(total) => total.measure(),
            Self::Explicit { count, sum, bounds, counts } => {
                Measure::Histogram(Explicit { count: *count, sum: *sum, bounds, counts })
            }
            Self::Summary { count, sum, quantiles } => {
                Measure::Summary(Summary { count: *count, sum: *sum, quantiles })
            }
        }
    }
}

/// What of a point has come.
#[derive(Debug, Default)]
struct Parts {
    /// Cumulative, by the label as it was.
    listed: Vec<(f64, String, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
    /// In which read the first of it came, and when that was, if it waits.
    since: Option<(u64, Instant)>,
}

/// Which part of a point a series holds.
enum Role<'a> {
    Alone(PointForm),
    /// A bucket or a quantile, and its label.
    Listed(&'a str, PointForm, &'a str),
    Sum(&'a str, PointForm),
    Count(&'a str, PointForm),
}

fn role<'a>(labels: &'a Labels, families: &HashSet<String>, metadata: &Metadata) -> Role<'a> {
    let name = labels.get(METRIC_NAME).unwrap_or_default();
    let number = |label| labels.get(label).filter(|text| text.parse::<f64>().is_ok());
    let kind = |name: &str| metadata.get(name).map(|said| said.kind);
    match kind(name) {
        Some(MetricKind::Counter) => return Role::Alone(PointForm::Counter),
        Some(MetricKind::Summary) => {
            return match number(QUANTILE) {
                Some(quantile) => Role::Listed(name, PointForm::Summary, quantile),
                None => Role::Alone(PointForm::Gauge),
            };
        }
        Some(_) => return Role::Alone(PointForm::Gauge),
        None => {}
    }
    let form = |family: &str| match kind(family) {
        Some(MetricKind::Histogram) => Some(PointForm::Histogram),
        Some(MetricKind::Summary) => Some(PointForm::Summary),
        Some(_) => None,
        None => families.contains(family).then_some(PointForm::Histogram),
    };
    let of = |suffix| {
        let family = name.strip_suffix(suffix)?;
        Some((family, form(family)?))
    };
    if let (Some((family, PointForm::Histogram)), Some(le)) = (of("_bucket"), number(LE)) {
        return Role::Listed(family, PointForm::Histogram, le);
    }
    if let Some((family, form)) = of("_sum") {
        return Role::Sum(family, form);
    }
    if let Some((family, form)) = of("_count") {
        return Role::Count(family, form);
    }
    let counts = name.ends_with("_total");
    Role::Alone(if counts { PointForm::Counter } else { PointForm::Gauge })
}

/// All points of a batch.
#[derive(Debug, Default)]
struct Gathered {
    streams: BTreeMap<Stream, Vec<Made>>,
    parts: BTreeMap<Stream, BTreeMap<TimestampMs, Parts>>,
    left_out: u64,
    /// Samples of points that could not be put together.
    apart: u64,
}

impl Gathered {
    fn take(&mut self, one: &FollowedSeries, families: &HashSet<String>, metadata: &Metadata) {
        let FollowedSeries { labels, samples, histograms } = one;
        let role = role(labels, families, metadata);
        let (name, form, without) = match &role {
            Role::Alone(form) => (labels.get(METRIC_NAME).unwrap_or_default(), *form, ""),
            Role::Listed(family, form, _) => {
                (*family, *form, if *form == PointForm::Summary { QUANTILE } else { LE })
            }
            Role::Sum(family, form) | Role::Count(family, form) => (*family, *form, ""),
        };
        let stream = stream(labels, name, form, without);
        let is_known = |t_ms: TimestampMs| t_ms >= 0;
        for (t_ms, value) in samples {
            if !is_known(*t_ms) {
                self.left_out += 1;
                continue;
            }
            if let Role::Alone(_) = role {
                self.number(stream.clone(), *t_ms, *value);
                continue;
            }
            let parts = self.parts.entry(stream.clone()).or_default().entry(*t_ms).or_default();
            match role {
                Role::Listed(_, _, text) => {
                    let number = text.parse().unwrap_or(f64::NAN);
                    parts.listed.push((number, text.to_owned(), *value));
                }
                Role::Sum(..) => parts.sum = Some(*value),
                Role::Count(..) => parts.count = Some(*value),
                Role::Alone(_) => {}
            }
        }
        for (t_ms, histogram) in histograms {
            let ended = histogram.is_stale();
            let total = match ended {
                true => Some(Total::Exponential(ExponentialTotal::default())),
                false => Total::of_native(histogram),
            };
            let Some(total) = total.filter(|_| is_known(*t_ms)) else {
                self.left_out += 1;
                continue;
            };
            let form = match total {
                Total::Explicit(_) => PointForm::Histogram,
                _ => PointForm::Exponential,
            };
            let stream = Stream {
                name: labels.get(METRIC_NAME).unwrap_or_default().to_owned(),
                form,
                ..stream.clone()
            };
            let measured = Measured::Total(total);
            self.add(stream, Made { t_ms: *t_ms, ended, measured, samples: 1 });
        }
    }

    fn number(&mut self, stream: Stream, t_ms: TimestampMs, value: f64) {
        let measured = Measured::Double(value);
        self.add(stream, Made { t_ms, ended: is_stale(value), measured, samples: 1 });
    }

    fn add(&mut self, stream: Stream, made: Made) {
        self.streams.entry(stream).or_default().push(made);
    }

    /// Puts together what came in parts.
    fn join(&mut self) {
        for (stream, points) in std::mem::take(&mut self.parts) {
            for (t_ms, mut parts) in points {
                parts.listed.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
                let whole = match stream.form {
                    PointForm::Summary => parts.summary(),
                    _ => parts.histogram(),
                };
                match whole {
                    Some((measured, ended)) => {
                        let samples = parts.samples();
                        self.add(stream.clone(), Made { t_ms, ended, measured, samples });
                    }
                    None => {
                        self.apart += parts.samples();
                        self.apart(&stream, t_ms, parts);
                    }
                }
            }
        }
    }

    /// What is no point, as it is stored.
    fn apart(&mut self, of: &Stream, t_ms: TimestampMs, parts: Parts) {
        let is_summary = of.form == PointForm::Summary;
        let (suffix, label) = if is_summary { ("", QUANTILE) } else { ("_bucket", LE) };
        let named = |suffix: &str| Stream {
            name: format!("{}{suffix}", of.name),
            form: PointForm::Gauge,
            ..of.clone()
        };
        for (_, text, value) in parts.listed {
            let mut stream = named(suffix);
            stream.attributes.push((label.to_owned(), text));
            stream.attributes.sort_unstable();
            self.number(stream, t_ms, value);
        }
        for (suffix, value) in [("_sum", parts.sum), ("_count", parts.count)] {
            if let Some(value) = value {
                self.number(named(suffix), t_ms, value);
            }
        }
    }

    fn written(self, samples_max: usize, metadata: &Metadata) -> Vec<Message> {
        let samples_max = samples_max as u64;
        let (mut messages, mut writer, mut held) = (Vec::new(), Writer::default(), 0);
        let mut last: Option<&Stream> = None;
        for (stream, points) in &self.streams {
            for made in points {
                if held > 0 && held + made.samples > samples_max {
                    messages.push(finish(std::mem::take(&mut writer), held));
                    (held, last) = (0, None);
                }
                begin(&mut writer, last, stream, metadata);
                last = Some(stream);
                write(&mut writer, stream, made);
                held += made.samples;
            }
        }
        if held > 0 {
            messages.push(finish(writer, held));
        }
        messages
    }
}

/// The stream of a series, without a label that becomes a part of its points.
fn stream(labels: &Labels, name: &str, form: PointForm, without: &str) -> Stream {
    let text = |name| labels.get(name).unwrap_or_default().to_owned();
    let is_attribute =
        |name: &str| name != METRIC_NAME && name != JOB && name != INSTANCE && name != without;
    let attributes = labels.iter().filter(|label| is_attribute(&label.name));
    let attributes = attributes.map(|label| (label.name.to_string(), label.value.to_string()));
    let attributes = attributes.collect();
    Stream { job: text(JOB), instance: text(INSTANCE), name: name.to_owned(), form, attributes }
}

/// Says what is new since the stream before.
fn begin(writer: &mut Writer, last: Option<&Stream>, stream: &Stream, metadata: &Metadata) {
    let resource = |of: &Stream| (of.job.clone(), of.instance.clone());
    let is_same = last.is_some_and(|last| resource(last) == resource(stream));
    if !is_same {
        let said = [("service.name", &stream.job), ("service.instance.id", &stream.instance)];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        let attributes: Vec<Attribute<'_>> = said
            .map(|(key, value)| Attribute { key: key.into(), value: value.as_str().into() })
            .collect();
        writer.resource(&Resource { attributes: Ok(&attributes), left_out: &[] });
        let (name, version) = ("stoa", env!("CARGO_PKG_VERSION"));
        writer.scope(&Scope { name, version, schema_url: "", attributes: Ok(&[]) });
    }
    let metric = |of: &Stream| (of.name.clone(), of.form);
    if is_same && last.is_some_and(|last| metric(last) == metric(stream)) {
        return;
    }
    let said = metadata.get(&stream.name);
    // A unit that the name does not say would be added to it by who receives it.
    let base = stream.name.strip_suffix("_total").unwrap_or(&stream.name);
    let unit = said.as_ref().map(|said| &*said.unit).unwrap_or_default();
    let unit = if base.ends_with(unit) { unit } else { "" };
    let kind = match stream.form {
        PointForm::Gauge => Kind::Gauge,
        PointForm::Counter => Kind::Sum,
        PointForm::Histogram => Kind::Histogram,
        PointForm::Exponential => Kind::ExponentialHistogram,
        PointForm::Summary => Kind::Summary,
    };
    writer.metric(&Metric {
        name: &stream.name,
        description: said.as_ref().map(|said| &*said.help).unwrap_or_default(),
        unit,
        kind,
        temporality: match stream.form {
            PointForm::Gauge | PointForm::Summary => Temporality::Unspecified,
            _ => Temporality::Cumulative,
        },
        monotonic: stream.form == PointForm::Counter,
    });
}

fn write(writer: &mut Writer, stream: &Stream, made: &Made) {
    let attributes: Vec<Attribute<'_>> = stream
        .attributes
        .iter()
        .map(|(key, value)| Attribute { key: key.as_str().into(), value: value.as_str().into() })
        .collect();
    let is_number = matches!(made.measured, Measured::Double(_));
    let measure = if made.ended && is_number { Measure::Absent } else { made.measured.measure() };
    writer.point(&Point {
        attributes: Ok(&attributes),
        start_ns: 0,
        time_ns: made.t_ms.cast_unsigned().saturating_mul(1_000_000),
        ended: made.ended,
        measure,
        exemplars: &[],
        exemplars_left_out: 0,
    });
}

impl Parts {
    /// Adds what came before.
    fn add(&mut self, before: Self) {
        let Self { listed, sum, count, since } = before;
        self.listed.extend(listed);
        self.sum = sum.or(self.sum);
        self.count = count.or(self.count);
        self.since = since.or(self.since);
    }

    /// Which parts there are, as a hash.
    fn layout(&self, hasher: &impl BuildHasher) -> u64 {
        let mut listed: Vec<&str> = self.listed.iter().map(|(_, text, _)| &**text).collect();
        listed.sort_unstable();
        hasher.hash_one((listed, self.sum.is_some(), self.count.is_some()))
    }

    fn samples(&self) -> u64 {
        let alone = u64::from(self.sum.is_some()) + u64::from(self.count.is_some());
        self.listed.len() as u64 + alone
    }

    /// Whether all of it says that the series have ended.
    fn ended(&self) -> bool {
        let listed = self.listed.iter().map(|(.., value)| *value);
        listed.chain(self.sum).chain(self.count).all(is_stale)
    }

    /// The buckets, whose bounds ascend, as a point; `None` where they are none.
    fn histogram(&self) -> Option<(Measured, bool)> {
        let bounds: Vec<f64> = self.listed.iter().map(|(le, ..)| *le).collect();
        if !bounds.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let finite: Vec<f64> = bounds.iter().copied().filter(|le| *le < f64::INFINITY).collect();
        let has_all = bounds.last() == Some(&f64::INFINITY);
        if self.ended() {
            let counts = vec![0; if finite.is_empty() { 0 } else { finite.len() + 1 }];
            let measured = Measured::Explicit { count: 0, sum: None, bounds: finite, counts };
            return Some((measured, true));
        }
        let (mut counts, mut below) = (Vec::with_capacity(bounds.len()), 0);
        for (.., value) in &self.listed {
            let until = whole(*value)?;
            counts.push(until.checked_sub(below)?);
            below = until;
        }
        let count = match (has_all, self.listed.is_empty(), self.count) {
            (true, _, _) => below,
            (false, true, Some(count)) => whole(count)?,
            _ => return None,
        };
        let sum = self.sum.filter(|sum| !is_stale(*sum));
        Some((Measured::Explicit { count, sum, bounds: finite, counts }, false))
    }

    fn summary(&self) -> Option<(Measured, bool)> {
        let ended = self.ended();
        let quantiles = self.listed.iter().map(|(quantile, _, value)| (*quantile, *value));
        let quantiles = quantiles.collect();
        let (count, sum) = if ended { (0, 0.0) } else { (whole(self.count?)?, self.sum?) };
        Some((Measured::Summary { count, sum, quantiles }, ended))
    }
}

/// A count, where a value is one.
fn whole(value: f64) -> Option<u64> {
    let is_count = (0.0..=COUNT_MAX).contains(&value) && value.fract() == 0.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just looked at")]
    is_count.then_some(value as u64)
}

#[cfg(test)]
mod tests;

//! Families as protobuf: a stream of `io.prometheus.client.MetricFamily`, each after its length.
//!
//! Read in place and handed to a [`Visitor`] sample by sample, under the names and labels that the text
//! format would have: a histogram's `_bucket` with `le`, a summary's quantiles, `_sum` and `_count`. Of a
//! native histogram its classic buckets are told, if it has any; the others are counted in
//! [`Skipped`], as are exemplars. Bounds: [`LABELS_MAX`] labels of a metric, all else is at most as large as the bytes.
//!
//! Source: `io/prometheus/client/metrics.proto` of `prometheus/client_model`.

use stoa_model::TimestampMs;

use super::MetricType;
use super::number::value_text;
use crate::wire::{Fields, Malformed, Value};

/// The `Content-Type` of such a stream.
pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Labels of one metric, at most.
pub const LABELS_MAX: usize = 1024;

/// What is told of a stream.
pub trait Visitor {
    /// Why reading ends early.
    type Stop;

    /// A family begins; the samples after it are its own.
    ///
    /// # Errors
    /// To end reading.
    fn family(&mut self, family: &FamilyHead<'_>) -> Result<(), Self::Stop>;

    /// A reading.
    ///
    /// # Errors
    /// To end reading.
    fn sample(&mut self, sample: &MetricSample<'_>) -> Result<(), Self::Stop>;
}

/// What a family says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyHead<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it means; may be empty.
    pub help: &'a str,
    /// What it is counted in; may be empty.
    pub unit: &'a str,
    /// What it measures.
    pub kind: MetricType,
}

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricSample<'a> {
    /// The series' name.
    pub name: &'a str,
    /// Its labels as they came, without the name.
    pub labels: &'a [(&'a str, &'a str)],
    /// What was read.
    pub value: f64,
    /// When, if it is said.
    pub t_ms: Option<TimestampMs>,
}

/// What of a stream is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Histograms that have native buckets only.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Why a stream was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError<S> {
    /// It is not protobuf, or not of this message.
    #[error("no stream of MetricFamily: {0}")]
    Malformed(#[from] Malformed),
    /// A name, label or help is not UTF-8.
    #[error("no stream of MetricFamily: a text is not UTF-8")]
    NotUtf8,
    /// A family or label without a name.
    #[error("no stream of MetricFamily: a name is missing")]
    Nameless,
    /// More than [`LABELS_MAX`] labels of one metric.
    #[error("a metric of over {LABELS_MAX} labels")]
    TooManyLabels,
    /// The visitor has seen enough.
    #[error("stopped")]
    Stopped(S),
}

/// Reads a stream.
///
/// # Errors
/// [`StreamError`]; the visitor has seen what stands before.
pub fn read<V: Visitor>(stream: &[u8], visitor: &mut V) -> Result<Skipped, StreamError<V::Stop>> {
    let mut rest = Fields(stream);
    let mut skipped = Skipped::default();
    while !rest.0.is_empty() {
        let len = usize::try_from(rest.number()?).map_err(|_wide| Malformed::Truncated)?;
        let (message, after) = rest.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        rest.0 = after;
        family(message, visitor, &mut skipped)?;
    }
    Ok(skipped)
}

fn family<V: Visitor>(
    message: &[u8],
    visitor: &mut V,
    skipped: &mut Skipped,
) -> Result<(), StreamError<V::Stop>> {
    let mut head = FamilyHead { name: "", help: "", unit: "", kind: MetricType::Counter };
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => head.name = text(bytes)?,
            (2, Value::Bytes(bytes)) => head.help = text(bytes)?,
            (5, Value::Bytes(bytes)) => head.unit = text(bytes)?,
            (3, Value::Number(kind)) => {
                head.kind = match kind {
                    0 => MetricType::Counter,
                    1 => MetricType::Gauge,
                    2 => MetricType::Summary,
                    4 => MetricType::Histogram,
                    5 => MetricType::GaugeHistogram,
                    _ => MetricType::Unknown,
                }
            }
            (1..=3 | 5, _) => return Err(Malformed::Type { field }.into()),
            _ => {}
        }
    }
    if head.name.is_empty() {
        return Err(StreamError::Nameless);
    }
    visitor.family(&head).map_err(StreamError::Stopped)?;
    let mut names = Names::of(head.name);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (4, Value::Bytes(bytes)) => metric(bytes, &mut names, visitor, skipped)?,
            (4, _) => return Err(Malformed::Type { field }.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The names of a family's series.
struct Names<'a> {
    plain: &'a str,
    bucket: String,
    sum: String,
    count: String,
    /// Room for the text of a bound.
    bound: String,
}

impl<'a> Names<'a> {
    fn of(plain: &'a str) -> Self {
        let with = |suffix| format!("{plain}{suffix}");
        let (bucket, sum, count) = (with("_bucket"), with("_sum"), with("_count"));
        Self { plain, bucket, sum, count, bound: String::new() }
    }
}

fn metric<V: Visitor>(
    message: &[u8],
    names: &mut Names<'_>,
    visitor: &mut V,
    skipped: &mut Skipped,
) -> Result<(), StreamError<V::Stop>> {
    let mut labels: Vec<(&str, &str)> = Vec::with_capacity(8);
    let (mut t_ms, mut plain, mut parts) = (None, None, None);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => {
                if labels.len() == LABELS_MAX {
                    return Err(StreamError::TooManyLabels);
                }
                labels.push(pair(bytes)?);
            }
            (2 | 5, Value::Bytes(bytes)) => plain = Some(double(bytes)?),
            (3, Value::Bytes(bytes)) => {
                plain = Some(double(bytes)?);
                skipped.exemplars += u64::from(has(bytes, 2)?);
            }
            (4, Value::Bytes(bytes)) => parts = Some((bytes, false)),
            (7, Value::Bytes(bytes)) => parts = Some((bytes, true)),
            (6, Value::Number(t)) => t_ms = Some(t.cast_signed()),
            (1..=7, _) => return Err(Malformed::Type { field }.into()),
            _ => {}
        }
    }
    if let Some(value) = plain {
        let sample = MetricSample { name: names.plain, labels: &labels, value, t_ms };
        visitor.sample(&sample).map_err(StreamError::Stopped)?;
    }
    match parts {
        None => Ok(()),
        Some((bytes, is_histogram)) => {
            compound(bytes, is_histogram, labels, t_ms, names, visitor, skipped)
        }
    }
}

/// A histogram or summary: its parts, then sum and count.
fn compound<V: Visitor>(
    message: &[u8],
    is_histogram: bool,
    labels: Vec<(&str, &str)>,
    t_ms: Option<TimestampMs>,
    names: &mut Names<'_>,
    visitor: &mut V,
    skipped: &mut Skipped,
) -> Result<(), StreamError<V::Stop>> {
    let (mut count, mut sum, mut parts) = (0.0, 0.0, 0_usize);
    let mut has_infinity = false;
    let Names { plain, bucket, sum: sum_name, count: count_name, bound } = names;
    let (part_name, part_label) =
        if is_histogram { (bucket.as_str(), "le") } else { (*plain, "quantile") };
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Number(whole)) => count = whole as f64,
            (4, Value::Eight(bits)) if is_histogram => count = f64::from_bits(bits),
            (2, Value::Eight(bits)) => sum = f64::from_bits(bits),
            (3, Value::Bytes(bytes)) => {
                let part = part(bytes, is_histogram)?;
                skipped.exemplars += u64::from(is_histogram && has(bytes, 3)?);
                parts += 1;
                has_infinity |= part.bound == f64::INFINITY;
                bound.clear();
                write_double(part.bound, bound);
                let mut labels = labels.clone();
                labels.push((part_label, bound));
                let sample =
                    MetricSample { name: part_name, labels: &labels, value: part.value, t_ms };
                visitor.sample(&sample).map_err(StreamError::Stopped)?;
            }
            (1..=3, _) => return Err(Malformed::Type { field }.into()),
            _ => {}
        }
    }
    if is_histogram && parts == 0 {
        skipped.histograms += 1;
    }
    if is_histogram && parts > 0 && !has_infinity {
        let mut labels = labels.clone();
        labels.push((part_label, "+Inf"));
        let sample = MetricSample { name: part_name, labels: &labels, value: count, t_ms };
        visitor.sample(&sample).map_err(StreamError::Stopped)?;
    }
    for (name, value) in [(sum_name, sum), (count_name, count)] {
        let sample = MetricSample { name, labels: &labels, value, t_ms };
        visitor.sample(&sample).map_err(StreamError::Stopped)?;
    }
    Ok(())
}

/// A bucket, or a quantile.
struct Part {
    bound: f64,
    value: f64,
}

fn part(message: &[u8], is_bucket: bool) -> Result<Part, Malformed> {
    let mut part = Part { bound: 0.0, value: 0.0 };
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Number(whole)) if is_bucket => part.value = whole as f64,
            (4, Value::Eight(bits)) if is_bucket => part.value = f64::from_bits(bits),
            (2, Value::Eight(bits)) if is_bucket => part.bound = f64::from_bits(bits),
            (1, Value::Eight(bits)) if !is_bucket => part.bound = f64::from_bits(bits),
            (2, Value::Eight(bits)) if !is_bucket => part.value = f64::from_bits(bits),
            (1 | 2, _) => return Err(Malformed::Type { field }),
            _ => {}
        }
    }
    Ok(part)
}

/// The double that is a message's first field.
fn double(message: &[u8]) -> Result<f64, Malformed> {
    let mut fields = Fields(message);
    let mut found = 0.0;
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Eight(bits)) => found = f64::from_bits(bits),
            (1, _) => return Err(Malformed::Type { field }),
            _ => {}
        }
    }
    Ok(found)
}

/// Whether a message has a field.
fn has(message: &[u8], wanted: u64) -> Result<bool, Malformed> {
    let mut fields = Fields(message);
    while let Some((field, _)) = fields.next()? {
        if field == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn pair<S>(message: &[u8]) -> Result<(&str, &str), StreamError<S>> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields(message);
    while let Some((field, found)) = fields.next()? {
        match (field, found) {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => value = text(bytes)?,
            (1 | 2, _) => return Err(Malformed::Type { field }.into()),
            _ => {}
        }
    }
    if name.is_empty() { Err(StreamError::Nameless) } else { Ok((name, value)) }
}

fn text<S>(bytes: &[u8]) -> Result<&str, StreamError<S>> {
    std::str::from_utf8(bytes).map_err(|_invalid| StreamError::NotUtf8)
}

/// A bound as OpenMetrics writes it: `1.0`, `0.05`, `+Inf`.
fn write_double(value: f64, out: &mut String) {
    let text = value_text(value).to_string();
    out.push_str(&text);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        out.push_str(".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        out.extend(length(content.len()));
        out.extend_from_slice(content);
        out
    }

    fn length(mut len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while len >= 0x80 {
            out.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        out.push(u8::try_from(len).unwrap());
        out
    }

    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    fn eight(field: u8, value: f64) -> Vec<u8> {
        let mut out = vec![field << 3 | 1];
        out.extend(value.to_le_bytes());
        out
    }

    fn family(name: &str, kind: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
        let mut message = bytes(1, name.as_bytes());
        message.extend(bytes(2, b"Help."));
        message.extend(number(3, kind));
        metrics.iter().for_each(|metric| message.extend(bytes(4, metric)));
        let mut out = length(message.len());
        out.extend(message);
        out
    }

    fn label(name: &str, value: &str) -> Vec<u8> {
        bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
    }

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Visitor for Told {
        type Stop = ();

        fn family(&mut self, family: &FamilyHead<'_>) -> Result<(), ()> {
            self.0.push(format!("# {} {:?} {}", family.name, family.kind, family.help));
            Ok(())
        }

        fn sample(&mut self, sample: &MetricSample<'_>) -> Result<(), ()> {
            let labels: Vec<String> =
                sample.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let t = sample.t_ms.map(|t| format!(" @{t}")).unwrap_or_default();
            self.0.push(format!("{}{{{}}} {}{t}", sample.name, labels.join(","), sample.value));
            Ok(())
        }
    }

    #[track_caller]
    fn check(stream: &[u8], expected: &[&str], skipped: (u64, u64)) {
        let mut told = Told::default();
        let found = read(stream, &mut told).unwrap();
        assert_eq!(told.0, expected);
        assert_eq!((found.histograms, found.exemplars), skipped);
        // Cut anywhere it is an error or what stands before, and nothing panics.
        for end in 0..stream.len() {
            let cut = read(&stream[..end], &mut Told::default());
            assert!(cut.is_err() || end < stream.len());
        }
    }

    #[test]
    fn families_are_told_as_text_would_tell_them() {
        let up = [label("a", "b"), bytes(2, &eight(1, 1.5)), vec![6 << 3, 0xe8, 0x07]].concat();
        check(&family("up", 1, &[up]), &["# up Gauge Help.", "up{a=b} 1.5 @1000"], (0, 0));
        let seen = bytes(3, &[eight(1, 3.0), bytes(2, b"")].concat());
        check(
            &family("seen_total", 0, &[seen]),
            &["# seen_total Counter Help.", "seen_total{} 3"],
            (0, 1),
        );
        let bucket = |count, bound| bytes(3, &[number(1, count), eight(2, bound)].concat());
        let histogram = [number(1, 7), eight(2, 2.5), bucket(3, 1.0), bucket(5, 0.25)].concat();
        check(
            &family("h", 4, &[bytes(7, &histogram)]),
            &[
                "# h Histogram Help.",
                "h_bucket{le=1.0} 3",
                "h_bucket{le=0.25} 5",
                "h_bucket{le=+Inf} 7",
                "h_sum{} 2.5",
                "h_count{} 7",
            ],
            (0, 0),
        );
        let native = [number(1, 7), eight(2, 2.5), vec![5 << 3, 6]].concat();
        check(
            &family("n", 4, &[bytes(7, &native)]),
            &["# n Histogram Help.", "n_sum{} 2.5", "n_count{} 7"],
            (1, 0),
        );
        let quantile = bytes(3, &[eight(1, 0.5), eight(2, 4.0)].concat());
        let summary = [number(1, 2), eight(2, 8.0), quantile].concat();
        check(
            &family("s", 2, &[bytes(4, &summary)]),
            &["# s Summary Help.", "s{quantile=0.5} 4", "s_sum{} 8", "s_count{} 2"],
            (0, 0),
        );
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let check = |stream: &[u8], expected: &str| {
            let error = read(stream, &mut Told::default()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(b"up 1\n", "ends within");
        check(&family("", 1, &[]), "a name is missing");
        check(&family("up", 1, &[label("", "b")]), "a name is missing");
        check(&family("up", 1, &[bytes(2, &number(1, 1))]), "wrong wire type");
        let invalid = bytes(1, &[bytes(1, b"a"), bytes(2, &[0xff])].concat());
        check(&family("up", 1, &[invalid]), "not UTF-8");
        check(&family("up", 1, &[label("a", "b").repeat(LABELS_MAX + 1)]), "over 1024 labels");
    }
}

//! Messages being written.

use std::collections::HashMap;

use stoa_model::histogram::{Counts, Histogram, ResetHint, Span};
use stoa_model::{MetricKind, TimestampMs};

use super::Version;
use crate::wire::{put_bytes, put_double, put_number, put_varint, zigzag};

/// An exemplar to be written: its labels, its value, its time.
pub type WrittenExemplar<'a> = (&'a [(&'a str, &'a str)], f64, TimestampMs);

/// A message under construction. The caller bounds what goes into one.
#[derive(Debug)]
pub struct Writer {
    version: Version,
    /// Series, and metadata in version 1.
    body: Vec<u8>,
    symbols: Vec<u8>,
    references: HashMap<String, u64>,
    /// A message within the body before its length is known.
    scratch: Vec<u8>,
}

impl Writer {
    /// An empty message.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let mut writer = Self {
            version,
            body: Vec::new(),
            symbols: Vec::new(),
            references: HashMap::new(),
            scratch: Vec::new(),
        };
        // The first symbol is the empty one, so that 0 means "not said".
        writer.reference("");
        writer
    }

    /// Adds a series: labels sorted by name, samples in order of time.
    pub fn series(&mut self, labels: &[(&str, &str)], samples: &[(TimestampMs, f64)]) {
        self.described(labels, samples, None);
    }

    /// Adds a series with, in version 2, what is said about its metric: kind, help, unit.
    pub fn described(
        &mut self,
        labels: &[(&str, &str)],
        samples: &[(TimestampMs, f64)],
        metadata: Option<(MetricKind, &str, &str)>,
    ) {
        let mut message = self.begin(labels);
        for (t, v) in samples {
            let mut sample = Vec::with_capacity(20);
            sample.push(1 << 3 | 1);
            sample.extend_from_slice(&v.to_le_bytes());
            put_number(&mut sample, 2, t.cast_unsigned());
            put_bytes(&mut message, 2, &sample);
        }
        if let (Version::Two, Some((kind, help, unit))) = (self.version, metadata) {
            let mut said = Vec::new();
            put_number(&mut said, 1, number(kind));
            put_number(&mut said, 3, self.reference(help));
            put_number(&mut said, 4, self.reference(unit));
            put_bytes(&mut message, 5, &said);
        }
        self.end(message);
    }

    /// Adds a series of native histograms, in order of time.
    pub fn histograms(
        &mut self,
        labels: &[(&str, &str)],
        histograms: &[(TimestampMs, &Histogram)],
    ) {
        let mut message = self.begin(labels);
        for (t, histogram) in histograms {
            let field = if self.version == Version::One { 4 } else { 3 };
            put_bytes(&mut message, field, &histogram_message(*t, histogram));
        }
        self.end(message);
    }

    /// Adds exemplars of a series, as Prometheus sends them: as a series of its own without samples.
    pub fn exemplars(&mut self, labels: &[(&str, &str)], exemplars: &[WrittenExemplar<'_>]) {
        let mut message = self.begin(labels);
        for (labels, value, t) in exemplars {
            let mut exemplar = Vec::new();
            self.labels(labels, &mut exemplar);
            put_double(&mut exemplar, 2, *value);
            put_number(&mut exemplar, 3, t.cast_unsigned());
            put_bytes(&mut message, if self.version == Version::One { 3 } else { 4 }, &exemplar);
        }
        self.end(message);
    }

    /// A series' message with its labels.
    fn begin(&mut self, labels: &[(&str, &str)]) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.scratch);
        message.clear();
        self.labels(labels, &mut message);
        message
    }

    /// Writes labels as a series or an exemplar has them.
    fn labels(&mut self, labels: &[(&str, &str)], message: &mut Vec<u8>) {
        match self.version {
            Version::One => {
                for (name, value) in labels {
                    let mut label = Vec::with_capacity(4 + name.len() + value.len());
                    put_bytes(&mut label, 1, name.as_bytes());
                    put_bytes(&mut label, 2, value.as_bytes());
                    put_bytes(message, 1, &label);
                }
            }
            Version::Two => {
                let mut packed = Vec::new();
                for (name, value) in labels {
                    put_varint(&mut packed, self.reference(name));
                    put_varint(&mut packed, self.reference(value));
                }
                put_bytes(message, 1, &packed);
            }
        }
    }

    fn end(&mut self, message: Vec<u8>) {
        put_bytes(&mut self.body, if self.version == Version::One { 1 } else { 5 }, &message);
        self.scratch = message;
    }

    /// Adds what is said about a metric, to a message of version 1; version 2 says it beside series.
    pub fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        if self.version == Version::One {
            let mut said = Vec::new();
            put_number(&mut said, 1, number(kind));
            put_bytes(&mut said, 2, name.as_bytes());
            put_bytes(&mut said, 4, help.as_bytes());
            put_bytes(&mut said, 5, unit.as_bytes());
            put_bytes(&mut self.body, 3, &said);
        }
    }

    /// The whole message, not compressed.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.version {
            Version::One => self.body,
            Version::Two => [self.symbols, self.body].concat(),
        }
    }

    fn reference(&mut self, text: &str) -> u64 {
        if let Some(reference) = self.references.get(text) {
            return *reference;
        }
        let reference = self.references.len() as u64;
        self.references.insert(text.to_owned(), reference);
        put_bytes(&mut self.symbols, 4, text.as_bytes());
        reference
    }
}

/// A `Histogram`, which both versions write alike.
pub(crate) fn histogram_message(t: TimestampMs, histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    let spans = |out: &mut Vec<u8>, field: u64, spans: &[Span]| {
        for span in spans {
            let mut message = Vec::new();
            put_number(&mut message, 1, zigzag(span.offset.into()));
            put_number(&mut message, 2, span.length.into());
            put_bytes(out, field, &message);
        }
    };
    let doubles = |out: &mut Vec<u8>, field: u64, values: &[f64]| {
        if !values.is_empty() {
            let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            put_bytes(out, field, &packed);
        }
    };
    let deltas = |out: &mut Vec<u8>, field: u64, counts: &[u64]| {
        let mut packed = Vec::new();
        let mut last = 0u64;
        for count in counts {
            put_varint(&mut packed, zigzag(count.wrapping_sub(last).cast_signed()));
            last = *count;
        }
        if !packed.is_empty() {
            put_bytes(out, field, &packed);
        }
    };
    match &histogram.counts {
        Counts::Integer(counts) => {
            put_number(&mut out, 1, counts.count);
            put_number(&mut out, 6, counts.zero_count);
        }
        Counts::Float(counts) => {
            put_double(&mut out, 2, counts.count);
            put_double(&mut out, 7, counts.zero_count);
        }
    }
    put_double(&mut out, 3, histogram.sum);
    put_number(&mut out, 4, zigzag(histogram.schema.into()));
    put_double(&mut out, 5, histogram.zero_threshold);
    spans(&mut out, 8, &histogram.negative_spans);
    spans(&mut out, 11, &histogram.positive_spans);
    match &histogram.counts {
        Counts::Integer(counts) => {
            deltas(&mut out, 9, &counts.negative);
            deltas(&mut out, 12, &counts.positive);
        }
        Counts::Float(counts) => {
            doubles(&mut out, 10, &counts.negative);
            doubles(&mut out, 13, &counts.positive);
        }
    }
    let hint = match histogram.reset {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    put_number(&mut out, 14, hint);
    put_number(&mut out, 15, t.cast_unsigned());
    doubles(&mut out, 16, &histogram.custom_values);
    out
}

fn number(kind: MetricKind) -> u64 {
    match kind {
        MetricKind::Untyped => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
        MetricKind::Histogram => 3,
        MetricKind::Summary => 5,
    }
}

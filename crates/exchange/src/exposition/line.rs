//! One line, taken apart.

use std::borrow::Cow;

use stoa_model::{Labels, MetricKind, TimestampMs};

use super::number::{millis_of, seconds_of, value_of};
use super::series::{SeriesText, closing_brace, is_metric_name};
use super::{Format, OPENMETRICS_END};

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// What a family means.
    Help {
        /// The family.
        name: Cow<'a, str>,
        /// One sentence, without its escapes.
        text: Cow<'a, str>,
    },
    /// What a family measures.
    Type {
        /// The family.
        name: Cow<'a, str>,
        /// What it measures.
        kind: MetricType,
    },
    /// What a family is counted in; OpenMetrics only.
    Unit {
        /// The family.
        name: Cow<'a, str>,
        /// The unit, as the name ends with it.
        unit: &'a str,
    },
    /// A reading.
    Sample(Sample<'a>),
    /// A remark for people; text format only.
    Comment(&'a str),
    /// The end; OpenMetrics only.
    End,
}

/// A reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series, not yet understood.
    pub series: SeriesText<'a>,
    /// What was read.
    pub value: f64,
    /// When, if the line says it.
    pub t_ms: Option<TimestampMs>,
    /// An example of what was counted; OpenMetrics only.
    pub exemplar: Option<Exemplar>,
}

/// An example of what a sample counts, most often with the trace it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What names it; no metric's name.
    pub labels: Labels,
    /// What was measured.
    pub value: f64,
    /// When, if it is said.
    pub t_ms: Option<TimestampMs>,
}

/// What a family measures, in the words of both formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Buckets that go up and down; OpenMetrics only.
    GaugeHistogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// Facts as labels, always 1; OpenMetrics only.
    Info,
    /// One of several states; OpenMetrics only.
    StateSet,
    /// Not said: `untyped` in text, `unknown` in OpenMetrics.
    Unknown,
}

impl MetricType {
    /// The word of a format; a type the text format has no word for is `untyped` or `gauge` there.
    #[must_use]
    pub fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) | (Self::Info | Self::StateSet, Format::Text) => "gauge",
            (Self::Histogram, _) => "histogram",
            (Self::Summary, _) => "summary",
            (Self::GaugeHistogram, Format::OpenMetrics) => "gaugehistogram",
            (Self::Info, Format::OpenMetrics) => "info",
            (Self::StateSet, Format::OpenMetrics) => "stateset",
            (Self::Unknown, Format::OpenMetrics) => "unknown",
            (Self::Unknown | Self::GaugeHistogram, Format::Text) => "untyped",
        }
    }

    fn of_word(word: &str, format: Format) -> Option<Self> {
        Some(match (word, format) {
            ("counter", _) => Self::Counter,
            ("gauge", _) => Self::Gauge,
            ("histogram", _) => Self::Histogram,
            ("summary", _) => Self::Summary,
            ("untyped", Format::Text) | ("unknown", Format::OpenMetrics) => Self::Unknown,
            ("gaugehistogram", Format::OpenMetrics) => Self::GaugeHistogram,
            ("info", Format::OpenMetrics) => Self::Info,
            ("stateset", Format::OpenMetrics) => Self::StateSet,
            _ => return None,
        })
    }
}

impl From<MetricType> for MetricKind {
    /// The nearest of the kinds that are kept.
    fn from(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter,
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => Self::Gauge,
            MetricType::Histogram => Self::Histogram,
            MetricType::Summary => Self::Summary,
            MetricType::Unknown | MetricType::GaugeHistogram => Self::Untyped,
        }
    }
}

impl From<MetricKind> for MetricType {
    fn from(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter,
            MetricKind::Gauge => Self::Gauge,
            MetricKind::Histogram => Self::Histogram,
            MetricKind::Summary => Self::Summary,
            MetricKind::Untyped => Self::Unknown,
        }
    }
}

/// Why a line is not in the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: u64,
    /// The byte of the line, from 1.
    pub column: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// A [`SyntaxError`] whose line is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    at: usize,
    expected: &'static str,
}

impl Wrong {
    /// The error, `column` bytes further into line `line`.
    pub(super) fn at(self, line: u64, column: usize) -> SyntaxError {
        SyntaxError { line, column: column + self.at + 1, expected: self.expected }
    }
}

/// Takes a line apart.
pub(super) fn parse_line(text: &str, line: u64, format: Format) -> Result<Line<'_>, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let parsed = match format {
        Format::Text => {
            cursor.skip_space();
            if cursor.take('#') { cursor.text_comment() } else { cursor.sample(line, format) }
        }
        Format::OpenMetrics if text == OPENMETRICS_END => Ok(Line::End),
        Format::OpenMetrics => {
            if cursor.take('#') {
                cursor.openmetrics_comment()
            } else {
                cursor.sample(line, format)
            }
        }
    };
    parsed.map_err(|wrong| wrong.at(line, 0))
}

/// Reads forward through a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn wrong(&self, expected: &'static str) -> Wrong {
        Wrong { at: self.at, expected }
    }

    /// What should have stood where `word`, just taken, stands.
    pub(super) fn wrong_before(&self, word: &str, expected: &'static str) -> Wrong {
        Wrong { at: self.at.saturating_sub(word.len()), expected }
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    pub(super) fn starts_with(&self, c: char) -> bool {
        self.rest().starts_with(c)
    }

    pub(super) fn take(&mut self, c: char) -> bool {
        let taken = self.starts_with(c);
        if taken {
            self.at += c.len_utf8();
        }
        taken
    }

    /// Takes what stands before the first of some characters, or all that is left.
    pub(super) fn until(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let is_end = |byte: &u8| ends.contains(&char::from(*byte)) && byte.is_ascii();
        let len = rest.bytes().position(|byte| is_end(&byte)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        self.until(&[' ', '\t'])
    }

    /// Takes a text in quotes and says it without its escapes.
    pub(super) fn quoted(&mut self) -> Result<Cow<'a, str>, Wrong> {
        if !self.take('"') {
            return Err(self.wrong("a quote"));
        }
        let rest = self.rest();
        let mut end = 0;
        let mut escaped = false;
        loop {
            match rest.as_bytes().get(end) {
                None => return Err(Wrong { at: self.text.len(), expected: "a closing quote" }),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(_) => end += 1,
            }
        }
        let inner = rest.get(..end).unwrap_or_default();
        let text = if escaped {
            Cow::Owned(
                unescaped(inner, true).ok_or_else(|| self.wrong("\\\\, \\n or \\\" after \\"))?,
            )
        } else {
            Cow::Borrowed(inner)
        };
        self.at += end + 1;
        Ok(text)
    }

    /// A family's name, bare or quoted.
    fn family_name(&mut self) -> Result<Cow<'a, str>, Wrong> {
        self.skip_space();
        if self.starts_with('"') {
            let before = *self;
            let name = self.quoted()?;
            return if name.is_empty() { Err(before.wrong("a metric's name")) } else { Ok(name) };
        }
        let name = self.until(&[' ', '\t']);
        if !is_metric_name(name) {
            return Err(self.wrong_before(name, "a metric's name"));
        }
        Ok(Cow::Borrowed(name))
    }

    fn text_comment(&mut self) -> Result<Line<'a>, Wrong> {
        let remark = self.rest();
        match self.word() {
            "HELP" => self.help(false),
            "TYPE" => self.kind(Format::Text),
            _ => Ok(Line::Comment(remark)),
        }
    }

    fn openmetrics_comment(&mut self) -> Result<Line<'a>, Wrong> {
        let before = *self;
        if !self.take(' ') {
            return Err(before.wrong("a space"));
        }
        match self.word() {
            "HELP" => self.help(true),
            "TYPE" => self.kind(Format::OpenMetrics),
            "UNIT" => {
                let name = self.family_name()?;
                self.skip_space();
                let unit = self.rest();
                Ok(Line::Unit { name, unit })
            }
            word => Err(self.wrong_before(word, "HELP, TYPE, UNIT or EOF")),
        }
    }

    fn help(&mut self, quotes_escaped: bool) -> Result<Line<'a>, Wrong> {
        let name = self.family_name()?;
        self.skip_space();
        let rest = self.rest();
        let text = if rest.contains('\\') {
            let expected =
                if quotes_escaped { "\\\\, \\n or \\\" after \\" } else { "\\\\ or \\n after \\" };
            Cow::Owned(unescaped(rest, quotes_escaped).ok_or_else(|| self.wrong(expected))?)
        } else {
            Cow::Borrowed(rest)
        };
        Ok(Line::Help { name, text })
    }

    fn kind(&mut self, format: Format) -> Result<Line<'a>, Wrong> {
        let name = self.family_name()?;
        let word = self.word();
        let kind = MetricType::of_word(word, format)
            .ok_or_else(|| self.wrong_before(word, "a type of metric"))?;
        self.end()?;
        Ok(Line::Type { name, kind })
    }

    fn end(&mut self) -> Result<(), Wrong> {
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { Err(self.wrong("the end of the line")) }
    }

    /// Cuts out a series, or the labels of an exemplar.
    fn series(&mut self, line: u64) -> Result<SeriesText<'a>, Wrong> {
        let start = self.at;
        if !self.starts_with('{') {
            let name = self.until(&['{', ' ', '\t']);
            if name.is_empty() {
                return Err(self.wrong("a metric's name"));
            }
        }
        let bare = *self;
        self.skip_space();
        if self.starts_with('{') {
            let rest = self.rest();
            let len = closing_brace(rest.as_bytes())
                .ok_or(Wrong { at: self.text.len(), expected: "} after the labels" })?;
            self.at += len;
        } else {
            *self = bare;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        Ok(SeriesText { text, line, column: start })
    }

    fn value(&mut self) -> Result<f64, Wrong> {
        let word = self.word();
        value_of(word).ok_or_else(|| self.wrong_before(word, "a number"))
    }

    fn sample(&mut self, line: u64, format: Format) -> Result<Line<'a>, Wrong> {
        let series = self.series(line)?;
        let value = self.value()?;
        let mut t_ms = None;
        self.skip_space();
        if !self.rest().is_empty() && !self.starts_with('#') {
            t_ms = Some(self.timestamp(format)?);
            self.skip_space();
        }
        let mut exemplar = None;
        if format == Format::OpenMetrics && self.take('#') {
            self.skip_space();
            if !self.starts_with('{') {
                return Err(self.wrong("{ before the exemplar's labels"));
            }
            let text = self.series(line)?;
            let labels =
                text.read(false).map_err(|wrong| Wrong { at: wrong.at + text.column, ..wrong })?;
            let value = self.value()?;
            self.skip_space();
            let t_ms = if self.rest().is_empty() { None } else { Some(self.timestamp(format)?) };
            exemplar = Some(Exemplar { labels, value, t_ms });
        }
        self.end()?;
        Ok(Line::Sample(Sample { series, value, t_ms, exemplar }))
    }

    fn timestamp(&mut self, format: Format) -> Result<TimestampMs, Wrong> {
        let word = self.word();
        match format {
            Format::Text => millis_of(word)
                .ok_or_else(|| self.wrong_before(word, "a timestamp in milliseconds")),
            Format::OpenMetrics => {
                seconds_of(word).ok_or_else(|| self.wrong_before(word, "a timestamp in seconds"))
            }
        }
    }
}

/// A text without its escapes; `None` for an escape that is not one.
fn unescaped(text: &str, quoted: bool) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                '"' if quoted => '"',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

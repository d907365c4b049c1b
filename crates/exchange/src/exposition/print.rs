//! Lines, written.
//!
//! Values are written as Go's `strconv` writes them (`1.234e+09`), so that output compares byte for
//! byte with an exporter's. Nothing is buffered here: hand in a buffered writer.

use std::io::{self, Write};

use stoa_model::{Labels, METRIC_NAME, TimestampMs, is_stale};

use super::line::{Exemplar, MetricType};
use super::number::{STALE, seconds_text, value_text};
use super::series::{is_label_name, is_metric_name};
use super::{Format, OPENMETRICS_END};

/// Writes a text line by line; the caller keeps each family's lines together.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    format: Format,
}

impl<W: Write> Printer<W> {
    /// A printer of a format.
    pub fn new(out: W, format: Format) -> Self {
        Self { out, format }
    }

    /// What a family means.
    ///
    /// # Errors
    /// Whatever the writer returns; so do all others.
    pub fn help(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.comment("HELP", name)?;
        write_escaped(text, self.format == Format::OpenMetrics, &mut self.out)?;
        self.out.write_all(b"\n")
    }

    /// What a family measures.
    ///
    /// # Errors
    /// As above.
    pub fn kind(&mut self, name: &str, kind: MetricType) -> io::Result<()> {
        self.comment("TYPE", name)?;
        writeln!(self.out, "{}", kind.word(self.format))
    }

    /// What a family is counted in; nothing in the text format.
    ///
    /// # Errors
    /// As above.
    pub fn unit(&mut self, name: &str, unit: &str) -> io::Result<()> {
        if self.format == Format::Text {
            return Ok(());
        }
        self.comment("UNIT", name)?;
        writeln!(self.out, "{unit}")
    }

    /// A reading of the series `name` with `labels`, whose `__name__` is not looked at. An exemplar
    /// is left out of the text format, which has none.
    ///
    /// # Errors
    /// As above.
    pub fn sample(
        &mut self,
        name: &str,
        labels: &Labels,
        value: f64,
        t_ms: Option<TimestampMs>,
        exemplar: Option<&Exemplar>,
    ) -> io::Result<()> {
        write_series(name, pairs(labels), &mut self.out)?;
        self.point(value, t_ms)?;
        if let (Some(exemplar), Format::OpenMetrics) = (exemplar, self.format) {
            self.out.write_all(b" # {")?;
            write_labels(pairs(&exemplar.labels), &mut false, &mut self.out)?;
            self.out.write_all(b"}")?;
            self.point(exemplar.value, exemplar.t_ms)?;
        }
        self.out.write_all(b"\n")
    }

    /// A reading of a series given as pairs in the order in which they are to stand; values may be empty.
    ///
    /// # Errors
    /// As above.
    pub fn sample_of_pairs<'p>(
        &mut self,
        name: &str,
        pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
        value: f64,
        t_ms: Option<TimestampMs>,
    ) -> io::Result<()> {
        write_series(name, pairs, &mut self.out)?;
        self.point(value, t_ms)?;
        self.out.write_all(b"\n")
    }

    /// A reading of a series whose front, as [`Self::series_text`] makes it, is at hand. A stale
    /// marker is written as `StaleNaN`, which Stoa reads; for others leave it out.
    ///
    /// # Errors
    /// As above.
    pub fn sample_of(&mut self, series: &[u8], value: f64, t_ms: TimestampMs) -> io::Result<()> {
        self.out.write_all(series)?;
        if is_stale(value) {
            write!(self.out, " {STALE}")?;
            self.time(Some(t_ms))?;
        } else {
            self.point(value, Some(t_ms))?;
        }
        self.out.write_all(b"\n")
    }

    /// The front of a series' lines.
    #[must_use]
    pub fn series_text(labels: &Labels) -> Vec<u8> {
        let mut text = Vec::new();
        // A vector takes all that is written.
        drop(write_series(labels.metric_name().unwrap_or_default(), pairs(labels), &mut text));
        text
    }

    /// Ends the text and gives the writer back.
    ///
    /// # Errors
    /// As above.
    pub fn finish(mut self) -> io::Result<W> {
        if self.format == Format::OpenMetrics {
            writeln!(self.out, "{OPENMETRICS_END}")?;
        }
        Ok(self.out)
    }

    fn comment(&mut self, keyword: &str, name: &str) -> io::Result<()> {
        write!(self.out, "# {keyword} ")?;
        if is_metric_name(name) {
            self.out.write_all(name.as_bytes())?;
        } else {
            write_quoted(name, &mut self.out)?;
        }
        self.out.write_all(b" ")
    }

    fn point(&mut self, value: f64, t_ms: Option<TimestampMs>) -> io::Result<()> {
        write!(self.out, " {}", value_text(value))?;
        self.time(t_ms)
    }

    fn time(&mut self, t_ms: Option<TimestampMs>) -> io::Result<()> {
        match (t_ms, self.format) {
            (None, _) => Ok(()),
            (Some(t_ms), Format::Text) => write!(self.out, " {t_ms}"),
            (Some(t_ms), Format::OpenMetrics) => write!(self.out, " {}", seconds_text(t_ms)),
        }
    }
}

/// The labels but for the metric's name.
fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    let rest = labels.iter().filter(|label| label.name.as_ref() != METRIC_NAME);
    rest.map(|label| (&*label.name, &*label.value))
}

fn write_series<'p>(
    name: &str,
    pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let is_bare = is_metric_name(name);
    let mut opened = !is_bare;
    if is_bare {
        out.write_all(name.as_bytes())?;
    } else {
        out.write_all(b"{")?;
        if !name.is_empty() {
            write_quoted(name, out)?;
        }
    }
    let mut pairs = pairs.into_iter().peekable();
    if pairs.peek().is_some() && !opened {
        out.write_all(b"{")?;
        opened = true;
    }
    write_labels(pairs, &mut (!is_bare && !name.is_empty()), out)?;
    if opened { out.write_all(b"}") } else { Ok(()) }
}

/// The labels without braces; `after` says whether something stands before them.
fn write_labels<'p>(
    pairs: impl Iterator<Item = (&'p str, &'p str)>,
    after: &mut bool,
    out: &mut impl Write,
) -> io::Result<()> {
    for (name, value) in pairs {
        if std::mem::replace(after, true) {
            out.write_all(b",")?;
        }
        if is_label_name(name) {
            out.write_all(name.as_bytes())?;
        } else {
            write_quoted(name, out)?;
        }
        out.write_all(b"=")?;
        write_quoted(value, out)?;
    }
    Ok(())
}

fn write_quoted(text: &str, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    write_escaped(text, true, out)?;
    out.write_all(b"\"")
}

/// Backslash and newline are escaped in both places, quotes only where the text is quoted.
fn write_escaped(text: &str, quoted: bool, out: &mut impl Write) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n', '"']) {
        let (plain, tail) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let mut chars = tail.chars();
        out.write_all(match chars.next() {
            Some('\\') => b"\\\\",
            Some('\n') => b"\\n",
            _ if quoted => b"\\\"",
            _ => b"\"",
        })?;
        rest = chars.as_str();
    }
    out.write_all(rest.as_bytes())
}

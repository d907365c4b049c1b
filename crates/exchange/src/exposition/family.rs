//! A whole page: families, as an exporter serves them.
//!
//! Strict: a page is understood whole or not at all, as half a family is worse than none. The caller
//! bounds the page's size; what is made of it is at most some multiples of that.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::{self, Write};

use stoa_model::{Family, METRIC_NAME, MetricKind};

use super::Format;
use super::line::{Line, MetricType, Sample, SyntaxError};
use super::print::Printer;
use super::read::{ReadError, Reader};

/// What a page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The families in the order of their first lines; help is empty where none is given.
    pub families: Vec<Family>,
    /// Whether any reading carries a timestamp of its own; timestamps are not kept.
    pub has_timestamps: bool,
}

/// Reads a page in the text format.
///
/// # Errors
/// [`ReadError`] at the first line that is not in the format.
pub fn parse(text: &str) -> Result<Parsed, ReadError> {
    let mut families = Families::default();
    let mut has_timestamps = false;
    let mut reader = Reader::new(text.as_bytes(), Format::Text);
    loop {
        match reader.next_line()? {
            None => break,
            Some(Line::Help { name, text }) => {
                if let Some(family) = families.get(&name) {
                    family.help = text.into_owned();
                }
            }
            Some(Line::Type { name, kind }) => {
                let family = families.get(&name);
                drop(name);
                if let Some(family) = family {
                    if !family.metrics.is_empty() {
                        let line = reader.line();
                        let expected = "the type before the first reading";
                        return Err(SyntaxError { line, column: 1, expected }.into());
                    }
                    family.kind = kind.into();
                }
            }
            Some(Line::Sample(sample)) => {
                has_timestamps |= sample.t_ms.is_some();
                families.sample(&sample)?;
            }
            Some(Line::Comment(_) | Line::Unit { .. } | Line::End) => {}
        }
    }
    families.list.retain(|family| !family.metrics.is_empty());
    Ok(Parsed { families: families.list, has_timestamps })
}

/// Writes families in the text format, in the order given; nothing is buffered here, hand in a
/// buffered writer.
///
/// # Errors
/// Whatever `out` returns.
pub fn write<'a>(
    families: impl IntoIterator<Item = &'a Family>,
    out: &mut impl Write,
) -> io::Result<()> {
    write_as(families, Format::Text, out)
}

/// The same in either format.
///
/// # Errors
/// Whatever `out` returns.
pub fn write_as(
    families: impl IntoIterator<Item: Borrow<Family>>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut printer = Printer::new(out, format);
    for family in families {
        let family = family.borrow();
        if format == Format::OpenMetrics {
            write_openmetrics(family, &mut printer)?;
            continue;
        }
        printer.help(&family.name, &family.help)?;
        printer.kind(&family.name, family.kind.into())?;
        for metric in &family.metrics {
            let name = metric.labels.metric_name().unwrap_or(&family.name);
            // Exporters write a negative zero as zero.
            printer.sample(name, &metric.labels, metric.value + 0.0, None, None)?;
        }
    }
    printer.finish().map(drop)
}

/// What a counter's samples are called beyond its family, in OpenMetrics.
const TOTAL: &str = "_total";

/// Writes a family as OpenMetrics wants it: a counter's family goes without `_total` and its samples with
/// it (one that is not called so is of unknown type), bounds of buckets are written as doubles.
fn write_openmetrics(family: &Family, printer: &mut Printer<impl Write>) -> io::Result<()> {
    let is_counter = family.kind == MetricKind::Counter;
    let counted = family.name.strip_suffix(TOTAL).filter(|_| is_counter);
    let kind = match counted {
        None if is_counter => MetricType::Unknown,
        _ => family.kind.into(),
    };
    let name = counted.unwrap_or(&family.name);
    printer.help(name, &family.help)?;
    printer.kind(name, kind)?;
    for metric in &family.metrics {
        let name = metric.labels.metric_name().unwrap_or(&family.name);
        let value = metric.value + 0.0;
        let is_part = matches!(family.kind, MetricKind::Histogram | MetricKind::Summary);
        let bound = ["le", "quantile"].into_iter().filter(|_| is_part).find_map(|label| {
            let double = openmetrics_double(metric.labels.get(label)?)?;
            Some(metric.labels.with(label, &double))
        });
        printer.sample(name, bound.as_ref().unwrap_or(&metric.labels), value, None, None)?;
    }
    Ok(())
}

/// A whole number as OpenMetrics writes a double: `1.0`; `None` for what stands as it is.
fn openmetrics_double(text: &str) -> Option<String> {
    text.parse::<i64>().ok().map(|whole| format!("{whole}.0"))
}

/// The families so far, found by name.
#[derive(Default)]
struct Families {
    list: Vec<Family>,
    by_name: HashMap<String, usize>,
}

impl Families {
    fn get(&mut self, name: &str) -> Option<&mut Family> {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.list.len());
                self.list.push(Family::new(name, "", MetricKind::Untyped));
                self.list.len() - 1
            }
        };
        self.list.get_mut(at)
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), SyntaxError> {
        let labels = sample.series.labels()?;
        let name = labels.metric_name().unwrap_or_default();
        let family = self.family_of(name);
        let kept = if family == name { labels.without(METRIC_NAME) } else { labels.clone() };
        let family = family.to_owned();
        if let Some(family) = self.get(&family) {
            family.push(kept, sample.value);
        }
        Ok(())
    }

    /// The family a reading belongs to: `x` for `x_sum` where `x` is a histogram or summary.
    fn family_of<'n>(&self, name: &'n str) -> &'n str {
        let kind = |name: &str| {
            self.by_name.get(name).and_then(|at| self.list.get(*at)).map(|family| family.kind)
        };
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(base) = name.strip_suffix(suffix) {
                match kind(base) {
                    Some(MetricKind::Histogram) => return base,
                    Some(MetricKind::Summary) if suffix != "_bucket" => return base,
                    _ => {}
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests;

//! Answers as comma-separated values (RFC 4180): a header, then a line per sample.
//!
//! Columns: `time` (RFC 3339), a column per label by name, then `value`; where there are native
//! histograms `count`, `sum` and `buckets` (`(0.5,1]:3 (1,2]:4`) beside it, empty for numbers.

use std::collections::BTreeSet;

use super::answer::{Labels, Sample};
use super::when::shown;

/// One sample of one series.
pub(super) struct Line<'a> {
    pub(super) labels: &'a Labels,
    pub(super) t: i64,
    pub(super) sample: Sample<'a>,
}

/// The whole text.
pub(super) fn csv(lines: &[Line<'_>]) -> String {
    let names: BTreeSet<&str> =
        lines.iter().flat_map(|line| line.labels.keys()).map(String::as_str).collect();
    let with_histograms = lines.iter().any(|line| matches!(line.sample, Sample::Histogram(_)));
    let mut out = String::new();
    let of_histograms: &[&str] = if with_histograms { &["count", "sum", "buckets"] } else { &[] };
    let header = ["time"].into_iter().chain(names.iter().copied()).chain(["value"]);
    record(&mut out, header.chain(of_histograms.iter().copied()));
    for line in lines {
        let time = shown(line.t);
        let mut fields = vec![time.as_str()];
        fields.extend(names.iter().map(|name| line.labels.get(*name).map_or("", String::as_str)));
        let field;
        match line.sample {
            Sample::Number(value) => {
                fields.push(value);
                fields.extend(of_histograms.iter().map(|_| ""));
            }
            Sample::Histogram(histogram) => {
                field = histogram.field();
                fields.extend(["", &histogram.count, &histogram.sum, &field]);
            }
        }
        record(&mut out, fields.into_iter());
    }
    out
}

fn record<'a>(out: &mut String, fields: impl Iterator<Item = &'a str>) {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            out.push(',');
        }
        let needs_quotes = field.contains(['"', ',', '\n', '\r'])
            || field.starts_with(' ')
            || field.ends_with(' ');
        if needs_quotes {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push_str("\r\n");
}

//! An answer as text, for the screen or a program.
//!
//! Bounds: lines and bars as [`chart`] draws them; at most [`BARS_MAX`] bars and [`BLOCKS_MAX`]
//! histograms in full, what is left out is counted in a line.

use std::io::IsTerminal as _;

use super::answer::{Data, Instant, Labels, Range, Sample, millis, number};
use super::bars::{Bar, bars};
use super::csv::{self, csv};
use super::heatmap::heatmap;
use super::histogram::Histogram;
use super::when::shown;
use super::{Format, Question};
use crate::chart::{Canvas, Line, chart};
use crate::table::{Row, figure, printable, series_name, table};

/// The most bars drawn, one per series.
const BARS_MAX: usize = 60;

/// The most histograms drawn in full.
const BLOCKS_MAX: usize = 4;

/// What is drawn on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    pub(crate) colours: bool,
    pub(crate) is_terminal: bool,
}

impl Screen {
    /// The terminal's size; 100 × 24 without one. Colours only on a terminal whose person has not
    /// set `NO_COLOR`.
    pub(crate) fn of(out: &std::io::Stdout) -> Self {
        let size = rustix::termios::tcgetwinsize(out).ok().filter(|size| size.ws_col > 0);
        let (columns, rows) =
            size.map_or((100, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let colours = super::are_coloured(out);
        Self {
            columns: columns.min(240),
            rows: rows.clamp(12, 28) - 8,
            colours,
            is_terminal: out.is_terminal(),
        }
    }
}

/// The text of an answer.
pub(super) fn drawn(
    data: Data,
    question: Question,
    expr: &str,
    format: Format,
    screen: Screen,
) -> String {
    match (data, question, format) {
        (Data::Scalar((t, value)) | Data::String((t, value)), _, Format::Csv) => {
            let sample = Sample::Number(&value);
            csv(&[csv::Line { labels: &Labels::new(), t: millis(t), sample }])
        }
        (Data::Scalar((_, value)) | Data::String((_, value)), ..) => printable(&value) + "\n",
        (Data::Vector(list), _, Format::Csv) => {
            csv(&list.iter().filter_map(line).collect::<Vec<_>>())
        }
        (Data::Vector(list), _, Format::Chart) => instant_chart(&list, expr, screen),
        (Data::Vector(list), ..) => instant_table(&list, screen),
        (Data::Matrix(list), _, Format::Csv) => {
            let lines = list.iter().flat_map(|item| {
                let line = |(t, sample)| csv::Line { labels: &item.metric, t, sample };
                item.samples().into_iter().map(line)
            });
            csv(&lines.collect::<Vec<_>>())
        }
        (Data::Matrix(list), Question::Range { start, end, step }, Format::Chart) => {
            range_chart(&list, expr, (start, end, step), screen)
        }
        (Data::Matrix(list), Question::Instant { .. }, Format::Chart) => {
            let times = list.iter().flat_map(Range::samples).map(|(t, _)| t);
            let (start, end) =
                times.fold((i64::MAX, i64::MIN), |(low, high), t| (low.min(t), high.max(t)));
            range_chart(&list, expr, (start, end, i64::MAX / 4), screen)
        }
        (Data::Matrix(list), ..) => samples(&list, screen),
    }
}

fn line(item: &Instant) -> Option<csv::Line<'_>> {
    item.sample().map(|(t, sample)| csv::Line { labels: &item.metric, t, sample })
}

/// A series' name; one without labels is named by what was asked.
fn name(labels: &Labels, expr: &str) -> String {
    if labels.is_empty() { printable(expr.trim()) } else { series_name(labels) }
}

fn instant_table(list: &[Instant], screen: Screen) -> String {
    let row = |item: &Instant| {
        let (_, sample) = item.sample()?;
        let value = match sample {
            Sample::Number(value) => figure(value),
            Sample::Histogram(histogram) => histogram.summary(),
        };
        Some(Row { labels: item.metric.clone(), value })
    };
    let rows: Vec<Row> = list.iter().filter_map(row).collect();
    let mut out = table(&rows, screen.colours);
    let histograms =
        list.iter().filter_map(|item| Some((&item.metric, &item.histogram.as_ref()?.1)));
    let histograms: Vec<(&Labels, &Histogram)> = histograms.collect();
    if histograms.len() <= BLOCKS_MAX {
        for (labels, histogram) in histograms {
            out.push_str(&format!("\n{}\n", series_name(labels)));
            out.push_str(&histogram.drawn(screen.columns, 2));
        }
    }
    out
}

fn instant_chart(list: &[Instant], expr: &str, screen: Screen) -> String {
    if list.is_empty() {
        return "no series match\n".to_owned();
    }
    let of_numbers = list.iter().filter_map(|item| Some((&item.metric, &item.value.as_ref()?.1)));
    let all: Vec<Bar> = of_numbers
        .map(|(labels, value)| Bar {
            name: name(labels, expr),
            value: value.clone(),
            size: number(value),
        })
        .collect();
    let mut out = bars(all.get(..all.len().min(BARS_MAX)).unwrap_or_default(), screen.columns, 0);
    out.push_str(&more(all.len().saturating_sub(BARS_MAX)));
    let histograms =
        list.iter().filter_map(|item| Some((&item.metric, &item.histogram.as_ref()?.1)));
    let histograms: Vec<(&Labels, &Histogram)> = histograms.collect();
    for (labels, histogram) in histograms.iter().take(BLOCKS_MAX) {
        out.push_str(&format!("{}  {}\n", name(labels, expr), histogram.summary()));
        out.push_str(&histogram.drawn(screen.columns, 2));
    }
    out.push_str(&more(histograms.len().saturating_sub(BLOCKS_MAX)));
    out
}

fn range_chart(
    list: &[Range],
    expr: &str,
    (start, end, step): (i64, i64, i64),
    screen: Screen,
) -> String {
    if list.is_empty() {
        return "no series match\n".to_owned();
    }
    let of_numbers = list.iter().filter(|item| !item.values.is_empty());
    let lines: Vec<Line> = of_numbers
        .map(|item| Line { name: name(&item.metric, expr), points: item.points() })
        .collect();
    let canvas = Canvas { columns: screen.columns, rows: screen.rows, colours: screen.colours };
    let mut out = String::new();
    if !lines.is_empty() {
        out.push_str(&chart(&lines, start, end, step, canvas));
    }
    let histograms: Vec<&Range> = list.iter().filter(|item| !item.histograms.is_empty()).collect();
    for item in histograms.iter().take(BLOCKS_MAX) {
        let points = item.histograms.iter().map(|(t, found)| (millis(*t), found));
        let points: Vec<(i64, &Histogram)> = points.collect();
        let last = points.last().map_or_else(String::new, |(_, found)| found.summary());
        out.push_str(&format!("{}  last: {last}\n", name(&item.metric, expr)));
        out.push_str(&heatmap(&points, start, end, screen.columns, screen.rows));
    }
    out.push_str(&more(histograms.len().saturating_sub(BLOCKS_MAX)));
    out
}

fn more(left_out: usize) -> String {
    if left_out == 0 {
        return String::new();
    }
    format!("and {left_out} more series, not drawn\n")
}

/// Every sample with its time.
fn samples(list: &[Range], screen: Screen) -> String {
    let mut rows = Vec::new();
    for item in list {
        for (t, sample) in item.samples() {
            let value = match sample {
                Sample::Number(value) => figure(value),
                Sample::Histogram(histogram) => histogram.summary(),
            };
            rows.push(Row {
                labels: item.metric.clone(),
                value: format!("{value} @ {}", shown(t)),
            });
        }
    }
    table(&rows, screen.colours)
}

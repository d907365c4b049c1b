//! `stoa export`: what is stored, in formats that others read.
//!
//! Memory: the labels of all series that match, and one series' samples of one day.

mod blocks;
mod source;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stoa_collector::http::prometheus::{duration, rfc3339, time};
use stoa_daemon::{Misuse, unix_ms};
use stoa_exchange::exposition::{Format, Printer, value_text};
use stoa_model::{Labels, is_stale};

use self::source::Source;
use crate::client::ServerArgs;
use crate::query::say;
use crate::table::counted;

/// Hand out what is stored: OpenMetrics, Prometheus's blocks, CSV
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa export '{host=\"pve1\"}' --start -7d > pve1.om
  stoa export '{__name__=~\"node_.+\"}' --start 2026-01-01T00:00:00Z --format prometheus-block --out data
  stoa export 'node_load1' --start -1d --format csv --out load.csv

promtool tsdb create-blocks-from openmetrics reads the first, Prometheus the second: put the blocks
into its data directory and restart it. Text has no word for staleness markers and native histograms:
they are left out and counted at the end. Blocks have both with --data-dir, and neither over HTTP.
Where samples are kept no longer, what comes over HTTP are aggregates, and a note says so; with
--data-dir these are left out.
Exits with 1 when it failed or could not read everything, with 2 when used wrongly.")]
pub(crate) struct ExportArgs {
    /// Which series, as a PromQL selector
    matchers: String,
    /// From when: seconds since 1970, RFC 3339, or how long ago (-7d)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: String,
    /// Until when, that instant included [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// In which format
    #[arg(long, value_enum, default_value_t = ExportFormat::Openmetrics)]
    format: ExportFormat,
    /// Where to: a file, or for blocks the directory to put them in [default: standard output]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Read this data directory, whose collector must be stopped, instead of asking over HTTP
    #[arg(long, value_name = "DIR", conflicts_with_all = ["server", "token", "token_file", "ca"])]
    data_dir: Option<PathBuf>,
    /// The collector to ask.
    #[command(flatten)]
    server: ServerArgs,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// OpenMetrics text
    Openmetrics,
    /// Blocks of two hours as Prometheus keeps them
    PrometheusBlock,
    /// series,time,value
    Csv,
}

/// What was handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Exported {
    samples: u64,
    series: u64,
    blocks: u64,
    /// Markers left out.
    stale: u64,
    /// Native histograms left out.
    histograms: u64,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, series, blocks, stale, histograms } = self;
        write!(f, "exported {} of {series} series", counted(*samples, "sample"))?;
        if *blocks > 0 {
            write!(f, " in {}", counted(*blocks, "block"))?;
        }
        for (left_out, what) in [(*stale, "staleness marker"), (*histograms, "native histogram")] {
            if left_out > 0 {
                write!(f, "; left out {}", counted(left_out, what))?;
            }
        }
        Ok(())
    }
}

/// Runs `stoa export`; writes to standard output or `--out`, a summary to standard error.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when something was not handed out.
pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<()> {
    let now_ms = unix_ms();
    let start = moment("--start", &args.start, now_ms)?;
    let end = args.end.as_deref().map_or(Ok(now_ms), |text| moment("--end", text, now_ms))?;
    if end < start {
        return Err(Misuse("--end is before --start".to_owned()).into());
    }
    let source = Source::open(args.data_dir.as_deref(), &args.server, &args.matchers)?;
    // Years before the first sample are not asked for day by day.
    let start = source.begins(start, end).await?;
    let exported = if args.format == ExportFormat::PrometheusBlock {
        let out = args.out.as_deref().ok_or_else(|| {
            Misuse("blocks are directories; say where to put them with --out DIR".to_owned())
        })?;
        blocks::write(&source, start, end, out, now_ms).await?
    } else {
        let mut out = open(args.out.as_deref())?;
        let exported = text(&source, start, end, args.format, &mut out).await?;
        match out.flush() {
            // A reader that has gone away (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            flushed => flushed.context("write the output")?,
        }
        exported
    };
    say(&exported.to_string());
    anyhow::ensure!(
        !source.is_short(),
        "not everything that was asked for could be read: the warnings above say what is missing"
    );
    Ok(())
}

fn open(path: Option<&Path>) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
    let out: Box<dyn Write + Send> = match path {
        None => Box::new(io::stdout()),
        Some(path) => {
            let misuse =
                |error| Misuse(format!("--out: cannot create {}: {error}", path.display()));
            Box::new(File::create(path).map_err(misuse)?)
        }
    };
    Ok(BufWriter::new(out))
}

async fn text(
    source: &Source,
    start: i64,
    end: i64,
    format: ExportFormat,
    out: &mut (impl Write + Send),
) -> anyhow::Result<Exported> {
    let mut exported = Exported::default();
    let mut series = source.series(start, end).await?;
    // A family's lines stand together in OpenMetrics.
    series.sort_by(|a, b| (a.metric_name(), a).cmp(&(b.metric_name(), b)));
    if format == ExportFormat::Csv {
        line(writeln!(out, "series,time,value"))?;
    }
    for labels in series {
        let front = Printer::<Vec<u8>>::series_text(&labels);
        let mut count = 0u64;
        for (from, to) in source::windows(start, end) {
            let samples = source.samples(&labels, from, to).await?;
            let stale = samples.histograms.iter().filter(|(_, found)| found.is_stale()).count();
            let found = (samples.histograms.len() - stale) as u64;
            exported.histograms += found + samples.histograms_unread;
            exported.stale += stale as u64;
            for (t, v) in samples.floats {
                if is_stale(v) {
                    exported.stale += 1;
                    continue;
                }
                count += 1;
                let written = match format {
                    ExportFormat::Csv => csv(&mut *out, &labels, t, v),
                    _ => Printer::new(&mut *out, Format::OpenMetrics).sample_of(&front, v, t),
                };
                if !line(written)? {
                    return Ok(exported);
                }
            }
        }
        exported.samples += count;
        exported.series += u64::from(count > 0);
    }
    if format == ExportFormat::Openmetrics {
        line(Printer::new(out, Format::OpenMetrics).finish().map(drop))?;
    }
    Ok(exported)
}

/// Whether somebody still reads what is written.
fn line(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("write the output"),
    }
}

/// RFC 4180: the series is quoted, its quotes doubled.
fn csv(out: &mut impl Write, labels: &Labels, t_ms: i64, value: f64) -> io::Result<()> {
    let series = labels.to_string().replace('"', "\"\"");
    writeln!(out, "\"{series}\",{},{}", rfc3339(t_ms), value_text(value))
}

/// An instant: RFC 3339, Unix seconds, or `-AGE` before now.
pub(crate) fn moment(flag: &str, text: &str, now_ms: i64) -> Result<i64, Misuse> {
    if let Some(ago) = text.strip_prefix('-')
        && let Ok(ago) = duration(ago)
        && ago >= 0
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        return Ok(now_ms.saturating_sub(ago));
    }
    time(text).map_err(|error| Misuse(format!("{flag}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_in_csv_is_one_field() {
        let labels = Labels::from_pairs([("__name__", "x"), ("a", "b,\"c\"")]).unwrap();
        let mut out = Vec::new();
        csv(&mut out, &labels, 1_700_000_000_000, 0.5).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"x{a=\"\"b,\\\"\"c\\\"\"\"\"}\",2023-11-14T22:13:20Z,0.5\n"
        );
    }

    #[test]
    fn what_was_left_out_is_said() {
        let exported = Exported { samples: 3, series: 2, ..Exported::default() };
        assert_eq!(exported.to_string(), "exported 3 samples of 2 series");
        let exported = Exported { blocks: 1, stale: 1, histograms: 2, ..exported };
        let expected = "exported 3 samples of 2 series in 1 block; left out 1 staleness marker; \
                        left out 2 native histograms";
        assert_eq!(exported.to_string(), expected);
    }

    #[test]
    fn histograms_of_a_directory_are_in_blocks_and_counted_where_text_has_none() {
        use std::sync::Arc;

        use stoa_model::histogram::{Counts, Histogram};
        use stoa_tsdb::{Batch, Db, GroupId, HistogramSample, Options, Row};
        use stoa_wal::disk::RealDisk;

        let dir = tempfile::tempdir().unwrap();
        let metrics = dir.path().join("metrics");
        let (db, _) = Db::open(Arc::new(RealDisk), &metrics, Options::default(), 0).unwrap();
        let labels = Labels::from_pairs([("__name__", "a")]).unwrap();
        let series = db.resolve(GroupId(1), &labels).unwrap();
        let empty = Histogram { sum: 0.0, ..Histogram::stale() };
        assert!(matches!(empty.counts, Counts::Integer(_)));
        let given = [empty.clone(), empty, Histogram::stale()];
        let histograms: Vec<_> = (2000..)
            .zip(given)
            .map(|(t_ms, h)| HistogramSample { t_ms, series, histogram: Arc::new(h) })
            .collect();
        let rows = vec![Row { t_ms: 1000, samples: vec![(series, 0.5)] }];
        let batch = Batch { group: GroupId(1), rows, marks: vec![] };
        assert_eq!(db.append_with(&batch, &histograms).unwrap().stored, 4);
        db.close().unwrap();
        let server = ServerArgs::default();
        let source = Source::open(Some(dir.path()), &server, "a").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counts = |exported: Exported| {
            let Exported { samples, series, stale, histograms, .. } = exported;
            [samples, series, stale, histograms]
        };
        let mut out = Vec::new();
        let done = runtime.block_on(text(&source, 0, 9000, ExportFormat::Csv, &mut out)).unwrap();
        assert_eq!(counts(done), [1, 1, 1, 2]);
        let done = runtime.block_on(blocks::write(&source, 0, 9000, &dir.path().join("out"), 0));
        assert_eq!(counts(done.unwrap()), [4, 1, 0, 0]);
        // What lies before the first sample is found empty without a walk through it.
        let began = runtime.block_on(source.begins(-1 << 42, 9000)).unwrap();
        assert!((-86_400_000..=1000).contains(&began), "{began}");
        assert_eq!(runtime.block_on(source.begins(-1 << 42, -1 << 41)).unwrap(), -1 << 41);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_misuse() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(Some(&dir.path().join("absent/x.om"))).err().unwrap().is::<Misuse>());
        assert!(open(Some(&dir.path().join("x.om"))).is_ok());
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("--start", "-1h", 7_200_000).unwrap(), 3_600_000);
        assert_eq!(moment("--start", "1700000000", 0).unwrap(), 1_700_000_000_000);
        assert!(moment("--start", "soon", 0).unwrap_err().0.starts_with("--start: "));
    }
}

//! `stoa import`: history from elsewhere into Stoa's storage, over HTTP or into a directory.

mod input;
mod progress;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use stoa_collector::config::FREE_BYTES_MIN;
use stoa_collector::http::prometheus::{duration, rfc3339};
use stoa_collector::import::{Descriptions, Import, ImportSummary};
use stoa_collector::store::Metadata;
use stoa_daemon::{DataDir, Misuse, unix_ms};
use stoa_tsdb::{Db, Options};
use stoa_wal::disk::RealDisk;
use tokio::time::Instant;

use self::input::{Choice, Input};
use self::progress::{Counted, Progress, short, whole};
use crate::client::{Client, ServerArgs};
use crate::local;
use crate::query::{print, say};
use crate::table::counted;

/// Bring in history: exposition text, OpenMetrics, Prometheus's blocks
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa import /var/lib/prometheus/metrics2
  stoa import --label site=home dump.om.gz
  promtool tsdb dump-openmetrics data | stoa import --format openmetrics -
  stoa import --data-dir ~/.local/share/stoa --retention 2y old/*.prom

A FILE is text (Prometheus's format or OpenMetrics, also .gz; - for standard input), a block of
Prometheus's, or the whole of its data directory. Without --data-dir it goes to the collector at
--server, which needs a token with the scope write unless it is open on loopback.
Exits with 1 when it failed, with 2 when used wrongly.")]
pub(crate) struct ImportArgs {
    /// What to bring in
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write into this data directory, whose collector must be stopped, instead of over HTTP
    #[arg(long, value_name = "DIR", conflicts_with_all = ["server", "token", "token_file", "ca"])]
    data_dir: Option<PathBuf>,
    /// With --data-dir: leave out what is older, e.g. 90d [default: nothing]
    #[arg(long, value_name = "DURATION", requires = "data_dir")]
    retention: Option<String>,
    /// Set a label on every series (may be given several times)
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// What text is in
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    format: Choice,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// The collector to send to.
    #[command(flatten)]
    server: ServerArgs,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Runs `stoa import`; prints a summary to standard output, progress to standard error.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when something was not imported.
pub(crate) async fn run(args: ImportArgs) -> anyhow::Result<()> {
    let inputs = input::find(&args.files, args.format)?;
    let started = Instant::now();
    let json = args.json;
    let summary = match args.data_dir.clone() {
        Some(dir) => {
            let work = move || into_directory(&dir, &inputs, &args);
            tokio::task::spawn_blocking(work).await.context("import")??
        }
        None => {
            let client = Client::new(&args.server)?;
            upload::to_collector(&client, inputs, &args.labels).await?
        }
    };
    if json {
        return print(&(serde_json::to_string(&summary)? + "\n"));
    }
    print(&told(&summary, started.elapsed().as_secs_f64()))
}

fn into_directory(
    dir: &Path,
    inputs: &[Input],
    args: &ImportArgs,
) -> anyhow::Result<ImportSummary> {
    let retention_ms = match &args.retention {
        Some(text) => duration(text).map_err(|error| Misuse(format!("--retention: {error}")))?,
        None => i64::MAX,
    };
    let dir = local::collector_dir(dir)?;
    let _held = DataDir::open(&dir)?;
    let now_ms = unix_ms();
    let options = Options { retention_ms, ..Options::default() };
    let default_ms = Options::default().retention_ms;
    let (db, recovery) = Db::open(Arc::new(RealDisk), &dir.join("metrics"), options, now_ms)?;
    for damage in &recovery.damage {
        say(&format!("warning: {damage}"));
    }
    let mut bulk = db.bulk(now_ms, FREE_BYTES_MIN);
    let mut summary = ImportSummary::default();
    let mut descriptions = Descriptions::default();
    let mut progress = Progress::new(inputs.iter().map(Input::bytes).sum());
    for input in inputs {
        let mut import =
            Import::new(&mut bulk, &args.labels, &mut summary).describing(&mut descriptions);
        let place = || format!("import {}", input.path().display());
        match input {
            Input::Text { path, format, is_gzip, .. } => {
                let counted = Counted::new(input::open(path)?);
                let read = counted.count();
                let tell = |samples| progress.tell(samples, read.bytes());
                let result = if *is_gzip {
                    import.text(MultiGzDecoder::new(counted), *format, now_ms, tell)
                } else {
                    import.text(counted, *format, now_ms, tell)
                };
                result.with_context(place)?;
            }
            Input::Block { dir, samples: all, bytes } => {
                let mut block = input::open_block(dir).with_context(place)?;
                let part = |samples: u64| bytes.saturating_mul(samples) / (*all).max(1);
                let tell = |samples| progress.tell(samples, part(samples));
                import.block(&mut block, tell).with_context(place)?;
            }
        }
        progress.end_of_input(input.bytes());
    }
    let old = bulk.counts().first_t < now_ms.saturating_sub(default_ms);
    if args.retention.is_none() && bulk.counts().taken > 0 && old {
        say("note: some of it is older than the default retention of 14 d; set storage.retention \
             before you start the collector, or it is deleted then");
    }
    let written = db.write_bulk(bulk, now_ms, |done, all| progress.writing(done, all))?;
    progress.clear();
    db.close()?;
    let metadata = Metadata::open(Arc::new(RealDisk), &dir.join("metrics"));
    descriptions.add_to(&metadata);
    metadata.save();
    summary.add_written(&written);
    Ok(summary)
}

/// The summary for a person.
fn told(summary: &ImportSummary, seconds: f64) -> String {
    let mut text =
        format!("imported {} samples of {} series", short(summary.samples), summary.series);
    if let (Some(first), Some(last)) = (summary.first_ms, summary.last_ms) {
        text.push_str(&format!(", from {} to {}", rfc3339(first), rfc3339(last)));
    }
    let rate = summary.samples as f64 / seconds.max(0.001);
    let bytes_each = summary.block_bytes as f64 / summary.samples.max(1) as f64;
    text.push_str(&format!(
        "\n{}, {bytes_each:.2} B/sample, in {seconds:.1} s ({} samples/s)\n",
        counted(summary.blocks, "block"),
        short(whole(rate)),
    ));
    for (count, what) in [
        (summary.duplicate, "samples: there were two of their instant"),
        (summary.too_old, "samples: older than the retention keeps"),
        (summary.too_new, "samples: more than five minutes in the future"),
        (summary.over_limits, "samples: their series has over 64 labels, or one over 1 KiB"),
        (summary.exemplars, "exemplars: Stoa keeps none"),
        (summary.histogram_chunks, "chunks of native histograms"),
        (summary.damaged_chunks, "chunks: damaged, or of an unknown kind"),
    ] {
        if count > 0 {
            text.push_str(&format!("left out {count} {what}\n"));
        }
    }
    text
}

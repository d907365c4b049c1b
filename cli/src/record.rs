//! `stoa record`: this machine's readings, taken by the agent's own sources, into a corpus.
//!
//! Nothing is sent and no collector is needed. What is recorded holds this host's name, mounts and
//! devices: it is a file to measure with, not one to publish unread.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use stoa_agent::batch::{Batcher, SourceReading};
use stoa_agent::config::Config;
use stoa_agent::sampler::{self, Sampler, TICKS_MAX, Taken};
use stoa_agent::sources::registry;
use stoa_daemon::{Misuse, signal, unix_ms};
use stoa_model::Family;
use stoa_proto::tick::Tick;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::bench::interval;
use crate::corpus::{About, CorpusWriter};

/// How often progress is told when nobody watches a terminal.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Record this machine's readings into a file, to measure with
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa record --seconds 3600 host.corpus
  stoa bench compress --corpus host.corpus

A corpus is replayed, never looped: record for as long as you want to measure. Ctrl-C ends it early
and keeps what there is. It holds names of this host's devices and mounts.")]
pub(crate) struct RecordArgs {
    /// How long to record
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    seconds: u32,
    /// How often to read, 100ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs `stoa record`.
///
/// # Errors
/// When the file is there already or cannot be written, or the sources cannot be started.
pub(crate) async fn run(args: RecordArgs) -> anyhow::Result<()> {
    let path = args.file.display().to_string();
    let file = match OpenOptions::new().write(true).create_new(true).open(&args.file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Misuse(format!("{path} is there already; name another file")).into());
        }
        made => made.with_context(|| format!("create {path}"))?,
    };
    let ticks_max = u64::from(args.seconds) * 1000 / millis(args.interval).max(1);
    say(&format!("recording {} s of this machine to {path}; Ctrl-C ends it early", args.seconds));
    let mut recording = Recording::begin(file, args.interval, ticks_max.max(1))?;

    let config = Config::defaults()?;
    let sources = registry::sources(&config.sources)?;
    let (ticks, mut sampled) = mpsc::channel(TICKS_MAX);
    let mut batcher = Batcher::new();
    let take = move |t, _took, families: &[&Family]| {
        let place = match ticks.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(())) => return Taken::Full,
            Err(TrySendError::Closed(())) => return Taken::Gone,
        };
        place.send(batcher.tick(t, &[SourceReading { source: "host", families }]).tick);
        Taken::Yes
    };
    let sampler = Sampler::new(sources, config.roots, args.interval);
    let sampler = sampler::spawn(sampler, take).context("start the sampler")?;
    let mut stop = std::pin::pin!(signal::stop());
    while recording.left > 0 {
        let tick = tokio::select! {
            why = &mut stop => {
                say(&format!("stopped by {}", why?));
                break;
            }
            tick = sampled.recv() => tick.context("the sampler broke")?,
        };
        recording.take(&tick).with_context(|| format!("write {path}"))?;
    }
    drop(sampled);
    tokio::task::spawn_blocking(move || sampler.stop()).await?;
    let text = recording.end().with_context(|| format!("write {path}"))?;
    say(&text);
    Ok(())
}

/// A recording under way.
struct Recording {
    writer: CorpusWriter<File>,
    interval: Duration,
    /// Ticks still to be recorded.
    left: u64,
    ticks: u64,
    samples: u64,
    /// Readings of all ticks but the first, and those of them that are as before, bit by bit.
    compared: u64,
    same: u64,
    /// Grid points without a tick.
    missed: u64,
    last: Option<Tick>,
    told: Instant,
}

impl Recording {
    fn begin(file: File, interval: Duration, ticks: u64) -> anyhow::Result<Self> {
        let about = About {
            interval_ms: millis(interval),
            recorded_by: concat!("stoa ", env!("CARGO_PKG_VERSION")).to_owned(),
            began_ms: unix_ms(),
        };
        Ok(Self {
            writer: CorpusWriter::new(file, &about).context("begin the recording")?,
            interval,
            left: ticks,
            ticks: 0,
            samples: 0,
            compared: 0,
            same: 0,
            missed: 0,
            last: None,
            told: Instant::now(),
        })
    }

    fn take(&mut self, tick: &Tick) -> std::io::Result<()> {
        self.writer.push(tick)?;
        self.ticks += 1;
        self.left -= 1;
        self.samples += tick.samples.len() as u64;
        if let Some(last) = &self.last {
            self.compared += tick.samples.len() as u64;
            self.same += same(last, tick);
            let passed = u64::try_from(tick.t - last.t).unwrap_or(0);
            self.missed += (passed / millis(self.interval).max(1)).saturating_sub(1);
        }
        self.last = Some(tick.clone());
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let watched = std::io::stderr().is_terminal();
        if !watched && self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let left = self.interval.saturating_mul(u32::try_from(self.left).unwrap_or(u32::MAX));
        let series = self.last.as_ref().map_or(0, |tick| tick.samples.len());
        let line = format!("{} ticks of {series} series, {} s left", self.ticks, left.as_secs());
        if watched { redraw(&line) } else { say(&line) }
    }

    /// Ends the file; says what is in it.
    fn end(self) -> std::io::Result<String> {
        let file = self.writer.finish()?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        if std::io::stderr().is_terminal() {
            redraw("");
        }
        Ok(format!(
            "{} ticks, {} samples, {bytes} bytes ({:.2} B/sample); {:.0} % of readings equal the one before; {} ticks missed",
            self.ticks,
            self.samples,
            bytes as f64 / (self.samples.max(1)) as f64,
            self.same as f64 / self.compared.max(1) as f64 * 100.0,
            self.missed,
        ))
    }
}

/// Series with the same bits in both; both ascend by number.
fn same(before: &Tick, now: &Tick) -> u64 {
    let mut old = before.samples.iter().peekable();
    let mut same = 0;
    for (series, value) in &now.samples {
        while old.next_if(|(other, _)| other.id < series.id).is_some() {}
        let is_same = old
            .peek()
            .is_some_and(|(other, was)| other.id == series.id && was.to_bits() == value.to_bits());
        same += u64::from(is_same);
    }
    same
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stderr, reason = "what is being done")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Writes over the line under the cursor.
fn redraw(text: &str) {
    let mut terminal = std::io::stderr();
    // A terminal that is gone is no reason to stop recording.
    let _written = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoa_model::{Labels, MetricKind};
    use stoa_proto::tick::{FamilyInfo, Series};

    use super::*;
    use crate::corpus::{CorpusReader, Cursor};

    #[tokio::test]
    async fn a_recording_reads_back_and_says_what_it_holds() {
        let family = Arc::new(FamilyInfo {
            name: "a".into(),
            help: "A.".into(),
            unit: String::new(),
            kind: MetricKind::Gauge,
        });
        let series = |id: u32| {
            let labels = Labels::from_pairs([("__name__", "a"), ("n", &*id.to_string())]).unwrap();
            Arc::new(Series { id, family: Arc::clone(&family), labels })
        };
        let all: Vec<_> = (0..4).map(series).collect();
        let tick = |t: i64, values: &[(usize, f64)]| Tick {
            t,
            samples: values.iter().map(|&(at, value)| (Arc::clone(&all[at]), value)).collect(),
        };
        let ticks = [
            tick(1000, &[(0, 1.0), (1, 2.0), (2, 4.0)]),
            tick(2000, &[(0, 1.0), (1, 2.5), (2, 4.0), (3, 4.0)]),
            // One tick was missed.
            tick(4000, &[(1, 2.5), (3, 5.0)]),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        let interval = Duration::from_secs(1);
        let mut recording = Recording::begin(file.reopen().unwrap(), interval, 5).unwrap();
        for tick in &ticks {
            recording.take(tick).unwrap();
        }
        let said = recording.end().unwrap();
        assert!(said.starts_with("3 ticks, 9 samples, "), "{said}");
        assert!(said.ends_with("50 % of readings equal the one before; 1 ticks missed"), "{said}");
        let mut reader = CorpusReader::open(file.path()).unwrap();
        let mut cursor = Cursor::default();
        for want in &ticks {
            let changes = reader.next_tick().unwrap().unwrap();
            cursor.step(&changes);
            assert!(cursor.tick(reader.series(), changes.t) == *want);
        }
        assert_eq!(reader.next_tick().unwrap(), None);
    }
}

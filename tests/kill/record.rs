//! What an agent writes down before it acts on it: one file per process, one line per fact.
//!
//! Format, words parted by spaces; LEG is the epoch's hex digits, a slash and the leg's number:
//! `P TIME N` produced (before the uplink gets it); `K TIME` acknowledged out of memory;
//! `W LEG SEQ TIME…` handed to the spool, numbered from SEQ; `S LEG SEQ` durable there through SEQ;
//! `A LEG SEQ` acknowledged through SEQ; `R SAMPLES` the collector has less than it acknowledged;
//! `D REASON SAMPLES` dropped; `Z` nothing waits any more.
//! A last line without its end was cut by a kill and says nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stoa_agent::uplink::event::{SpoolDone, SpoolJob, SpoolWorker};
use stoa_model::TimestampMs;
use stoa_proto::delivery::{DropReason, DropRecord, Leg, Stream};

/// Series of one reading that are there in every process.
pub(crate) const SERIES: u64 = 4;

/// Readings of one process, at most; the values depend on it.
const READINGS_MAX: u64 = 1_000_000;

/// The metric of the series that stay.
pub(crate) const VALUE: &str = "kill_value";
/// The metric of the series that each process begins anew.
pub(crate) const GENERATION: &str = "kill_generation";

/// The samples of the `n`th reading of a process: metric, label's value, value.
pub(crate) fn samples(generation: u64, n: u64) -> Vec<(&'static str, u64, f64)> {
    let of_all = generation * READINGS_MAX + n;
    let mut samples: Vec<_> =
        (0..SERIES).map(|series| (VALUE, series, (of_all * SERIES + series) as f64)).collect();
    samples.push((GENERATION, generation, n as f64));
    samples
}

/// The file of a process.
fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("record.{generation}"))
}

/// Where an agent writes.
#[derive(Debug)]
pub(crate) struct Recorder(File);

impl Recorder {
    pub(crate) fn open(dir: &Path, generation: u64) -> anyhow::Result<Self> {
        let path = path(dir, generation);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        Ok(Self(file.with_context(|| format!("create {}", path.display()))?))
    }

    pub(crate) fn another(&self) -> anyhow::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Writes a line; without it the run would prove nothing, so a failure ends the process.
    pub(crate) fn line(&mut self, mut text: String) {
        text.push('\n');
        if let Err(error) = self.0.write_all(text.as_bytes()) {
            eprintln!("error: write the record: {error}");
            std::process::exit(1);
        }
    }

    pub(crate) fn drops(&mut self, records: &[DropRecord]) {
        for record in records {
            self.line(format!("D {} {}", record.reason.as_str(), record.samples));
        }
    }
}

/// A spool that writes down what it is asked, and what became of it.
pub(crate) struct Recorded<S> {
    pub(crate) spool: S,
    pub(crate) recorder: Recorder,
}

impl<S: SpoolWorker> SpoolWorker for Recorded<S> {
    fn work(&mut self, job: SpoolJob, now: TimestampMs) -> Option<SpoolDone> {
        match &job {
            SpoolJob::Keep { tick, .. } => self.recorder.line(format!("K {}", tick.t)),
            SpoolJob::Append { leg, seq_first, ticks } => {
                let mut line = format!("W {} {seq_first}", name(*leg));
                for tick in ticks {
                    let _infallible = write!(line, " {}", tick.t);
                }
                self.recorder.line(line);
            }
            SpoolJob::Survey { marks, .. } => {
                for mark in marks.iter().filter(|mark| mark.leg.stream == Stream::Metrics) {
                    self.recorder.line(format!("A {} {}", name(mark.leg), mark.seq));
                }
            }
            SpoolJob::Acknowledge { leg, seq } if leg.stream == Stream::Metrics => {
                self.recorder.line(format!("A {} {seq}", name(*leg)));
            }
            SpoolJob::Acknowledge { .. } | SpoolJob::AppendDrops(_) | SpoolJob::Next { .. } => {}
        }
        let done = self.spool.work(job, now);
        match &done {
            Some(SpoolDone::Appended { leg, through, dropped }) => {
                if let Some(through) = through {
                    self.recorder.line(format!("S {} {through}", name(*leg)));
                }
                self.recorder.drops(dropped);
            }
            Some(SpoolDone::Surveyed { returned, dropped, .. }) => {
                if *returned > 0 {
                    self.recorder.line(format!("R {returned}"));
                }
                self.recorder.drops(dropped);
            }
            Some(SpoolDone::Next { dropped, .. }) => self.recorder.drops(dropped),
            Some(SpoolDone::DropsAppended { .. } | SpoolDone::Acknowledged { .. }) | None => {}
        }
        done
    }

    fn end(self) {
        self.spool.end();
    }
}

fn name(leg: Leg) -> String {
    let mut name = String::new();
    for byte in leg.epoch.0 {
        let _infallible = write!(name, "{byte:02x}");
    }
    let _infallible = write!(name, "/{}", leg.number);
    name
}

/// What is known of one reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) generation: u64,
    pub(crate) n: u64,
    /// The agent was told that the collector has it.
    pub(crate) acknowledged: bool,
    /// It was durable in the spool.
    pub(crate) spooled: bool,
}

/// All records together.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// By their time.
    pub(crate) readings: BTreeMap<TimestampMs, Reading>,
    /// Samples dropped by agents, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Samples sent again because the collector had less than it acknowledged.
    pub(crate) returned: u64,
    /// Whether the last process ended with nothing waiting.
    pub(crate) drained: bool,
}

/// The reason of a drop that says that a process was killed, not which samples.
pub(crate) fn crashed() -> &'static str {
    DropReason::Crashed.as_str()
}

/// Reads the records of the processes 1 to `generations`.
pub(crate) fn read(dir: &Path, generations: u64) -> anyhow::Result<Account> {
    let mut account = Account::default();
    let mut legs: HashMap<String, HandedOver> = HashMap::new();
    let mut out_of_memory = Vec::new();
    for generation in 1..=generations {
        let path = path(dir, generation);
        // Killed before it came to write.
        if !path.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        account.drained = false;
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let bad = || format!("{}: {line}", path.display());
            match words.as_slice() {
                ["P", time, n] => {
                    let n = n.parse().with_context(bad)?;
                    let reading = Reading { generation, n, acknowledged: false, spooled: false };
                    let before = account.readings.insert(time.parse().with_context(bad)?, reading);
                    anyhow::ensure!(before.is_none(), "one time twice: {}", bad());
                }
                ["K", time] => out_of_memory.push(time.parse().with_context(bad)?),
                ["W", leg, first, times @ ..] => {
                    let first: u64 = first.parse().with_context(bad)?;
                    let leg = legs.entry((*leg).to_owned()).or_default();
                    for (seq, time) in (first..).zip(times) {
                        leg.times.insert(seq, time.parse().with_context(bad)?);
                    }
                }
                ["S", leg, seq] => {
                    let leg = legs.entry((*leg).to_owned()).or_default();
                    leg.durable = leg.durable.max(seq.parse().with_context(bad)?);
                }
                ["A", leg, seq] => {
                    let leg = legs.entry((*leg).to_owned()).or_default();
                    leg.acknowledged = leg.acknowledged.max(seq.parse().with_context(bad)?);
                }
                ["R", samples] => account.returned += samples.parse::<u64>().with_context(bad)?,
                ["D", reason, samples] => {
                    let samples: u64 = samples.parse().with_context(bad)?;
                    *account.dropped.entry((*reason).to_owned()).or_default() += samples;
                }
                ["Z"] => account.drained = true,
                _ => anyhow::bail!("not a record: {}", bad()),
            }
        }
    }
    for time in out_of_memory {
        let reading = account.readings.get_mut(&time);
        reading.with_context(|| format!("kept, not produced: {time}"))?.acknowledged = true;
    }
    for leg in legs.values() {
        for (seq, time) in &leg.times {
            let reading = account.readings.get_mut(time);
            let reading = reading.with_context(|| format!("spooled, not produced: {time}"))?;
            reading.acknowledged |= *seq <= leg.acknowledged;
            reading.spooled |= *seq <= leg.durable;
        }
    }
    Ok(account)
}

/// What the spool was given of a leg, and how far it got.
#[derive(Debug, Default)]
struct HandedOver {
    times: BTreeMap<u64, TimestampMs>,
    durable: u64,
    acknowledged: u64,
}

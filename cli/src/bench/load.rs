//! Where a bench's readings come from: a corpus, or hosts that are made up.
//!
//! Nothing is ever looped: a store that compresses over long stretches finds a loop and looks
//! better than it is. A corpus shorter than the run shortens the run. Several hosts from one corpus
//! begin at different ticks of it; they are replicas all the same, which is said with the figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stoa_agent::batch::{Batcher, SourceReading};
use stoa_agent::config::Config;
use stoa_agent::sampler::Sampler;
use stoa_agent::sources::{Now, registry};
use stoa_daemon::{Misuse, unix_ms};
use stoa_model::TimestampMs;
use stoa_proto::tick::{Series, Tick};

use super::say;
use super::simulated::{Host, Shape};
use crate::corpus::{Changes, CorpusReader, Cursor};

/// Made-up hosts move once in this time, however seldom they are read.
const MOVE_MS: u64 = 1000;

/// Ticks that are looked at to say what readings are like.
const LOOK_TICKS: TimestampMs = 60;

/// How much is wanted of what.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// A recording; without one hosts are made up.
    pub(super) corpus: Option<PathBuf>,
    pub(super) hosts: u16,
    /// Series of each host that is made up.
    pub(super) names: Names,
    pub(super) interval: Duration,
    /// Ticks of each host.
    pub(super) ticks: u64,
    pub(super) seed: u64,
}

/// Where readings come from, as it is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Readings {
    /// A recording made with `stoa record`; without one, hosts are made up
    #[arg(long, value_name = "FILE")]
    pub(super) corpus: Option<PathBuf>,
    /// Series of each host, when made up
    #[arg(long, value_name = "SERIES", default_value_t = 550, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(super) series: u16,
    /// What made-up values follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
}

impl Readings {
    /// So many ticks of so many hosts.
    pub(super) fn asked(&self, hosts: u16, interval: Duration, ticks: u64) -> Asked {
        let Self { ref corpus, series, seed } = *self;
        Asked { corpus: corpus.clone(), hosts, names: Names::MadeUp(series), interval, ticks, seed }
    }
}

/// Which series hosts have that are made up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names {
    /// So many, of made-up names.
    MadeUp(u16),
    /// Those of this machine's own sources, so that a dashboard finds its names.
    OfThisMachine,
}

/// The readings of some hosts.
#[derive(Clone)]
pub(super) struct Load {
    kind: Kind,
    pub(super) hosts: u16,
    pub(super) interval: Duration,
    /// Ticks of each host; fewer than were asked for when the corpus has no more.
    pub(super) ticks: u64,
    seed: u64,
    series: usize,
    /// Readings of the first host's first ticks that equal the one before, percent.
    equal_percent: f64,
}

#[derive(Clone)]
enum Kind {
    MadeUp(Shape),
    Recorded { corpus: Arc<Recorded>, thin: u64, shift: u64 },
}

/// A corpus in memory: what changed in each tick.
struct Recorded {
    name: String,
    series: Vec<Arc<Series>>,
    ticks: Vec<Changes>,
}

impl Load {
    /// Reads the corpus, or this machine once, if need be.
    ///
    /// # Errors
    /// When the corpus cannot be read, or is too short for this many hosts.
    pub(super) fn open(asked: &Asked) -> anyhow::Result<Self> {
        let Asked { hosts, interval, ticks, seed, .. } = *asked;
        let (kind, series, ticks) = match (&asked.corpus, asked.names) {
            (Some(path), _) => recorded(path, asked)?,
            (None, Names::MadeUp(count)) => {
                (Kind::MadeUp(Shape::made_up(count.into())), count.into(), ticks)
            }
            (None, Names::OfThisMachine) => {
                let shape = Shape::of(&this_machine()?);
                let series = shape.len();
                (Kind::MadeUp(shape), series, ticks)
            }
        };
        let mut load = Self { kind, hosts, interval, ticks, seed, series, equal_percent: 0.0 };
        load.equal_percent = equal_percent(load.replica(0));
        Ok(load)
    }

    /// Series of one host.
    pub(super) fn series(&self) -> usize {
        self.series
    }

    /// Series of all hosts.
    pub(super) fn all_series(&self) -> usize {
        self.series * usize::from(self.hosts)
    }

    /// What the readings are, for whoever reads the figures.
    pub(super) fn said(&self) -> String {
        let equal = format!("{:.0} % of readings equal the one before", self.equal_percent);
        match &self.kind {
            Kind::MadeUp(_) => format!(
                "made up from seed {}, never looped: integer counters and gauges, {equal}",
                self.seed
            ),
            Kind::Recorded { corpus, shift, .. } if self.hosts > 1 => format!(
                "{}, not looped, {equal}; {} replicas of one recording, {shift} ticks apart: B/sample is that of one replica and says nothing of hosts that differ",
                corpus.name, self.hosts
            ),
            Kind::Recorded { corpus, .. } => format!("{}, not looped, {equal}", corpus.name),
        }
    }

    /// Host number `number`, at its first tick.
    pub(super) fn replica(&self, number: u16) -> Replica {
        match &self.kind {
            Kind::MadeUp(shape) => {
                let passing = millis(self.interval) / MOVE_MS;
                let host = Host::new(shape, self.seed, number.into());
                Replica(Position::MadeUp { host, passing: passing.max(1) - 1 })
            }
            Kind::Recorded { corpus, thin, shift } => Replica(Position::Recorded {
                corpus: Arc::clone(corpus),
                cursor: Cursor::default(),
                next: 0,
                from: usize::try_from(shift * u64::from(number)).unwrap_or(usize::MAX),
                thin: usize::try_from(*thin).unwrap_or(usize::MAX),
            }),
        }
    }
}

/// One host's readings.
pub(super) struct Replica(Position);

enum Position {
    MadeUp {
        host: Host,
        /// Moves between two readings.
        passing: u64,
    },
    Recorded {
        corpus: Arc<Recorded>,
        cursor: Cursor,
        next: usize,
        from: usize,
        thin: usize,
    },
}

impl Replica {
    /// The next reading, told as of `t`; `None` when the corpus is over.
    pub(super) fn tick(&mut self, t: TimestampMs) -> Option<Tick> {
        match &mut self.0 {
            Position::MadeUp { host, passing } => {
                for _ in 0..*passing {
                    host.pass();
                }
                Some(host.tick(t))
            }
            Position::Recorded { corpus, cursor, next, from, thin } => {
                let until = *from;
                while *next <= until {
                    cursor.step(corpus.ticks.get(*next)?);
                    *next += 1;
                }
                *from = until.saturating_add(*thin);
                Some(cursor.tick(&corpus.series, t))
            }
        }
    }
}

fn recorded(path: &Path, asked: &Asked) -> anyhow::Result<(Kind, usize, u64)> {
    let mut reader = CorpusReader::open(path).map_err(|error| {
        let why = stoa_daemon::error_chain(&error);
        Misuse(format!("--corpus: not a recording made with `stoa record`: {why}"))
    })?;
    let mut ticks = Vec::new();
    while let Some(tick) = reader.next_tick()? {
        ticks.push(tick);
    }
    if reader.torn {
        say(&format!("the corpus was cut off; using the {} ticks that are whole", ticks.len()));
    }
    let (asked_ms, has_ms) = (millis(asked.interval), reader.about.interval_ms);
    if asked_ms < has_ms || !asked_ms.is_multiple_of(has_ms) {
        let text = format!("the corpus was read every {has_ms} ms; ask for a multiple of it");
        return Err(Misuse(text).into());
    }
    let thin = asked_ms / has_ms;
    let has = ticks.len() as u64;
    let others = u64::from(asked.hosts.saturating_sub(1));
    let fits = has.saturating_sub(others) / thin;
    if fits < 2 {
        let text = format!(
            "the corpus has {has} ticks, too few for {} hosts that begin at different ones",
            asked.hosts
        );
        return Err(Misuse(text).into());
    }
    let run = asked.ticks.min(fits);
    if run < asked.ticks {
        say(&format!(
            "the corpus has {has} ticks and is not looped: the run is shortened from {} ticks a host to {run}",
            asked.ticks
        ));
    }
    let shift = (has - run * thin).checked_div(others).unwrap_or(0);
    let series = reader.series().to_vec();
    let count = series.len();
    let name = path.file_name().unwrap_or_default().display().to_string();
    let corpus = Arc::new(Recorded { name, series, ticks });
    Ok((Kind::Recorded { corpus, thin, shift }, count, run))
}

/// Of the first ticks of a host, how many readings equal the one before, percent.
fn equal_percent(mut replica: Replica) -> f64 {
    let ticks: Vec<Tick> = (0..LOOK_TICKS).map_while(|t| replica.tick(t)).collect();
    let (mut equal, mut all) = (0_u32, 0_u32);
    for (before, now) in ticks.iter().zip(ticks.iter().skip(1)) {
        let mut old = before.samples.iter().peekable();
        for (series, value) in &now.samples {
            while old.next_if(|(other, _)| other.id < series.id).is_some() {}
            if let Some((_, was)) = old.next_if(|(other, _)| other.id == series.id) {
                all += 1;
                equal += u32::from(was.to_bits() == value.to_bits());
            }
        }
    }
    f64::from(equal) / f64::from(all.max(1)) * 100.0
}

/// One reading of this machine by the agent's own sources.
fn this_machine() -> anyhow::Result<Tick> {
    let config = Config::defaults()?;
    let sources = registry::sources(&config.sources)?;
    let now_ms = unix_ms();
    let mut sampler = Sampler::new(sources, config.roots, Duration::from_secs(1))
        .with_patience(Duration::from_secs(5));
    sampler.read_once(Now { unix_micros: now_ms * 1000 }, |_waiting| {});
    let families = sampler.told();
    let reading = SourceReading { source: "host", families: &families };
    let tick = Batcher::new().tick(now_ms, &[reading]).tick;
    anyhow::ensure!(!tick.samples.is_empty(), "this machine's sources say nothing");
    Ok(tick)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ticks of an interval in so many minutes.
///
/// # Errors
/// [`Misuse`] when there is none.
pub(super) fn ticks_in(minutes: u32, interval: Duration) -> anyhow::Result<u64> {
    let ticks = u64::from(minutes) * 60_000 / millis(interval).max(1);
    let enough = (ticks >= 2).then_some(ticks);
    Ok(enough.ok_or_else(|| Misuse("fewer than two ticks in that time".to_owned()))?)
}

#[cfg(test)]
mod tests {
    use stoa_model::{Labels, MetricKind};
    use stoa_proto::tick::FamilyInfo;

    use super::*;
    use crate::corpus::{About, CorpusWriter};

    /// A corpus whose one series counts its ticks from 0.
    fn corpus(ticks: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let about = About { interval_ms: 1000, recorded_by: String::new(), began_ms: 0 };
        let mut writer = CorpusWriter::new(file.reopen().unwrap(), &about).unwrap();
        let family = Arc::new(FamilyInfo {
            name: "n".into(),
            help: String::new(),
            unit: String::new(),
            kind: MetricKind::Counter,
        });
        let labels = Labels::from_pairs([("__name__", "n")]).unwrap();
        let series = Arc::new(Series { id: 0, family, labels });
        for n in 0..ticks {
            let samples = vec![(Arc::clone(&series), f64::from(n))];
            writer.push(&Tick { t: i64::from(n) * 1000, samples }).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn a_corpus_that_is_none_is_misuse() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no corpus\n").unwrap();
        let error = Load::open(&asked(file.path(), 1, 1, 2)).err().unwrap();
        assert!(error.is::<Misuse>(), "{error}");
        assert!(error.to_string().contains("not a recording made with `stoa record`"), "{error}");
    }

    fn asked(corpus: &Path, hosts: u16, interval_s: u64, ticks: u64) -> Asked {
        Asked {
            corpus: Some(corpus.to_owned()),
            hosts,
            names: Names::MadeUp(1),
            interval: Duration::from_secs(interval_s),
            ticks,
            seed: 1,
        }
    }

    fn values(load: &Load, number: u16) -> Vec<f64> {
        let mut replica = load.replica(number);
        let ticks = (0..load.ticks).map(|t| replica.tick(i64::try_from(t).unwrap()).unwrap());
        ticks.map(|tick| tick.samples[0].1).collect()
    }

    #[test]
    fn a_corpus_is_shifted_and_thinned_and_never_looped() {
        let file = corpus(20);
        let load = Load::open(&asked(file.path(), 3, 1, 10)).unwrap();
        assert_eq!(values(&load, 0), (0..10).map(f64::from).collect::<Vec<_>>());
        assert!(load.equal_percent.abs() < 1e-9, "a count never stays");
        assert_eq!(values(&load, 2), (10..20).map(f64::from).collect::<Vec<_>>());
        let load = Load::open(&asked(file.path(), 1, 5, 100)).unwrap();
        assert_eq!(values(&load, 0), [0.0, 5.0, 10.0, 15.0]);
        let load = Load::open(&asked(file.path(), 5, 1, 100)).unwrap();
        assert_eq!(load.ticks, 16, "shortened");
        assert_eq!(values(&load, 4).last(), Some(&19.0));
        let mut replica = load.replica(4);
        assert_eq!((0..20).filter_map(|t| replica.tick(t)).count(), 16, "it ends with the corpus");
    }

    #[test]
    fn what_is_made_up_says_how_much_of_it_stays() {
        let mut asked = asked(Path::new(""), 1, 1, 10);
        (asked.corpus, asked.names) = (None, Names::MadeUp(550));
        let load = Load::open(&asked).unwrap();
        assert!((70.0..80.0).contains(&load.equal_percent), "{}", load.equal_percent);
        assert!(load.said().contains("seed 1, never looped"));
    }

    #[test]
    fn what_a_corpus_cannot_give_is_refused() {
        let file = corpus(20);
        for (hosts, interval_s) in [(20, 1), (1, 15)] {
            assert!(Load::open(&asked(file.path(), hosts, interval_s, 4)).is_err(), "{hosts}");
        }
        let mut finer = asked(file.path(), 1, 1, 4);
        finer.interval = Duration::from_millis(500);
        assert!(Load::open(&finer).is_err());
    }
}

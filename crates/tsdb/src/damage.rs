//! What is not as it was written, in words for a person: what, where, what it costs, where it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stoa_model::{TimestampMs, rfc3339};

/// Damage that is listed at most in one go; the rest is counted.
pub(crate) const LISTED_MAX: usize = 1000;

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or the directory when it is all of it or not known which.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
    /// What it costs.
    pub cost: Cost,
    /// Where it was moved or copied to.
    pub kept: Option<PathBuf>,
    /// Whether [`fsck`](crate::fsck()) repaired it; what was taken out is under `quarantine/`.
    pub repaired: bool,
}

/// What damage costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: the bytes are not needed, or something else has all of it.
    Nothing,
    /// So many samples at most, of a stretch of time, both ends included.
    Samples {
        /// How many.
        most: u64,
        /// The first and the last that may be among them, ms; `None` when that is not known.
        times: Option<(TimestampMs, TimestampMs)>,
    },
    /// So many chunks, of how many samples is not known.
    Chunks {
        /// How many.
        chunks: u64,
        /// As of samples.
        times: Option<(TimestampMs, TimestampMs)>,
    },
    /// All samples of a block; how many, and of when, it cannot say any more.
    Block,
    /// So many aggregates of a tier, of a stretch of time; they are made again of samples while
    /// these are there.
    Aggregates {
        /// How many, if that is known.
        most: Option<u64>,
        /// As of samples.
        times: Option<(TimestampMs, TimestampMs)>,
    },
    /// Records of the log, or what a checkpoint has of them.
    Records {
        /// The newest sample before them, ms, if there is one: what they had came after, but for late
        /// samples.
        after: Option<TimestampMs>,
    },
    /// A block, until it can be read.
    Unread,
    /// Some of what was deleted is seen again.
    Deletions,
}

impl Damage {
    /// Of all of a file or directory.
    pub(crate) fn new(path: impl Into<PathBuf>, what: impl Into<String>, cost: Cost) -> Self {
        let (path, what) = (path.into(), what.into());
        Self { path, offset: 0, bytes: 0, what, cost, kept: None, repaired: false }
    }

    pub(crate) fn at(self, offset: u64, bytes: u64) -> Self {
        Self { offset, bytes, ..self }
    }

    pub(crate) fn kept(self, kept: Option<PathBuf>) -> Self {
        Self { kept, ..self }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, what, cost, kept, .. } = self;
        write!(f, "{}", path.display())?;
        if *bytes > 0 || *offset > 0 {
            write!(f, " at {offset}")?;
        }
        write!(f, ": {what}; costs {cost}")?;
        match kept {
            Some(kept) => write!(f, "; kept as {}", kept.display()),
            None => Ok(()),
        }
    }
}

impl Cost {
    /// The stretch of time in which answers lack something, both ends included.
    #[must_use]
    pub fn times(&self) -> Option<(TimestampMs, TimestampMs)> {
        match *self {
            Self::Samples { times, .. }
            | Self::Chunks { times, .. }
            | Self::Aggregates { times, .. } => times,
            Self::Nothing | Self::Block | Self::Records { .. } | Self::Unread | Self::Deletions => {
                None
            }
        }
    }

    /// The same where only the end is known: what is there now.
    fn times_until(self, end: End) -> Option<(TimestampMs, TimestampMs)> {
        match self {
            Self::Records { after } => Some((after.unwrap_or(TimestampMs::MIN), end.now_ms)),
            Self::Block => Some((TimestampMs::MIN, end.now_ms)),
            // Of what came later there are samples to make them of.
            Self::Aggregates { times: None, .. } => Some((TimestampMs::MIN, end.whole_since_ms)),
            cost => cost.times(),
        }
    }

    /// What both cost together, if they are of one kind.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Samples { most: a, times: s }, Self::Samples { most: b, times: t }) => {
                Some(Self::Samples { most: a.saturating_add(b), times: joined(s, t) })
            }
            (Self::Chunks { chunks: a, times: s }, Self::Chunks { chunks: b, times: t }) => {
                Some(Self::Chunks { chunks: a.saturating_add(b), times: joined(s, t) })
            }
            (one, other) => (one == other).then_some(one),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing: it is not needed, or made again"),
            Self::Samples { most, .. } => write!(f, "at most {}", counted(*most, "sample")),
            Self::Chunks { chunks, .. } => {
                write!(f, "the samples of {}", counted(*chunks, "chunk"))
            }
            Self::Block => f.write_str("the block; how many samples it had is not known"),
            Self::Aggregates { most: Some(most), .. } => {
                write!(f, "at most {}", counted(*most, "aggregate"))
            }
            Self::Aggregates { most: None, .. } => f.write_str("the block of aggregates"),
            Self::Records { .. } => f.write_str("its records"),
            Self::Unread => f.write_str("the block, until it can be read"),
            Self::Deletions => f.write_str("some samples that were deleted are seen again"),
        }?;
        if let Some((first, last)) = self.times() {
            write!(f, " from {} to {}", rfc3339(first), rfc3339(last))?;
        }
        match self {
            Self::Aggregates { .. } => {
                f.write_str("; they are made again of samples that are still there")
            }
            Self::Records { after } => {
                if let Some(after) = after {
                    write!(f, ", of samples after {}", rfc3339(*after))?;
                }
                f.write_str("; who sent them and still has them sends them again")
            }
            _ => Ok(()),
        }
    }
}

/// `1 sample`, `2 samples`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Chunks that could not be read, for one block and one query.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) chunks: u64,
    samples: u64,
    times: Option<(TimestampMs, TimestampMs)>,
}

impl Lost {
    pub(crate) fn add(&mut self, samples: u64, times: Option<(TimestampMs, TimestampMs)>) {
        self.join(Self { chunks: 1, samples, times });
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.samples = self.samples.saturating_add(other.samples);
        self.times = joined(self.times, other.times);
    }

    pub(crate) fn cost(&self) -> Cost {
        Cost::Samples { most: self.samples, times: self.times }
    }
}

fn joined(
    one: Option<(TimestampMs, TimestampMs)>,
    other: Option<(TimestampMs, TimestampMs)>,
) -> Option<(TimestampMs, TimestampMs)> {
    match (one, other) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

/// Something answers lack, or may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The file or directory because of which.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// The first and the last time that may be missing, ms.
    pub times: (TimestampMs, TimestampMs),
}

/// How far what is lost may go that does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// For samples: what the clock says.
    pub(crate) now_ms: TimestampMs,
    /// For aggregates: since when all samples are there.
    pub(crate) whole_since_ms: TimestampMs,
}

/// Damage met since the database was opened: to be told once, and to be remembered by queries. Each list
/// is bounded by [`LISTED_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Not taken yet.
    new: Vec<Damage>,
    /// Not listed for want of room.
    unlisted: u64,
    told: BTreeSet<(PathBuf, String)>,
    /// Of blocks that are to be set aside, by their directory.
    waiting: BTreeMap<PathBuf, Damage>,
    missing: BTreeMap<PathBuf, Missing>,
    /// How often there was more missing than before, or less.
    changes: u64,
}

impl Notes {
    /// What the start met, which is told by the start.
    pub(crate) fn of_start(found: &[Damage], end: End) -> Self {
        let notes = Self::default();
        let mut noted = notes.noted();
        for damage in found {
            noted.miss(&damage.path, &damage.what, damage.cost.times_until(end));
        }
        drop(noted);
        notes
    }

    /// To be told, unless it was.
    pub(crate) fn tell(&self, damage: Damage) {
        let mut noted = self.noted();
        noted.miss(&damage.path, &damage.what, damage.cost.times());
        noted.tell(damage);
    }

    /// Something that could not be read until now is damaged: to be told, and missing from then on of the
    /// time it may have been of.
    pub(crate) fn found_damaged(&self, damage: Damage, end: End) {
        let mut noted = self.noted();
        noted.found(&damage.path);
        noted.miss(&damage.path, &damage.what, damage.cost.times_until(end));
        noted.tell(damage);
    }

    /// A block cannot be read now: answers lack it, and nobody knows of when it is.
    pub(crate) fn unread(&self, path: &Path, what: &str) {
        let all = (TimestampMs::MIN, TimestampMs::MAX);
        self.noted().miss(path, what, Some(all));
    }

    /// Something can be read again.
    pub(crate) fn found(&self, path: &Path) {
        self.noted().found(path);
    }

    /// How often what answers lack has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.noted().changes
    }

    /// A block was found damaged; it is told when it has been set aside.
    pub(crate) fn wait(&self, block: &Path, damage: Damage) {
        let mut noted = self.noted();
        noted.miss(block, &damage.what, damage.cost.times());
        if noted.waiting.len() < LISTED_MAX {
            noted.waiting.entry(block.to_owned()).or_insert(damage);
        }
    }

    /// A block was set aside. Where something else has all it had, nothing is missing from now on.
    pub(crate) fn set_aside(&self, block: &Path, cost: Cost, kept: PathBuf, is_missed: bool) {
        let mut noted = self.noted();
        let damage = noted.waiting.remove(block);
        let damage = damage.unwrap_or_else(|| Damage::new(block, "the block is damaged", cost));
        if !is_missed {
            noted.found(block);
        }
        noted.tell(damage.kept(Some(kept)));
    }

    /// What was not taken yet, and how much more there was than is listed.
    pub(crate) fn take(&self) -> (Vec<Damage>, u64) {
        let mut noted = self.noted();
        (std::mem::take(&mut noted.new), std::mem::take(&mut noted.unlisted))
    }

    pub(crate) fn missing(&self, start: TimestampMs, end: TimestampMs) -> Vec<Missing> {
        let noted = self.noted();
        let is_asked = |missing: &&Missing| missing.times.0 <= end && missing.times.1 >= start;
        noted.missing.values().filter(is_asked).cloned().collect()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn tell(&mut self, damage: Damage) {
        let name = (damage.path.clone(), damage.what.clone());
        if self.told.contains(&name) {
            return;
        }
        if self.told.len() >= LISTED_MAX || self.new.len() >= LISTED_MAX {
            self.unlisted += 1;
            return;
        }
        self.told.insert(name);
        self.new.push(damage);
    }

    fn miss(&mut self, path: &Path, what: &str, times: Option<(TimestampMs, TimestampMs)>) {
        // Of nobody knows when it is not known either whether it was missing before.
        let Some(times) = times else {
            self.changes += 1;
            return;
        };
        let is_full = self.missing.len() >= LISTED_MAX && !self.missing.contains_key(path);
        // One for all that have no room.
        let path = if is_full { Path::new("") } else { path };
        let missing = || Missing { path: path.to_owned(), what: what.to_owned(), times };
        let is_new = !self.missing.contains_key(path);
        let known = self.missing.entry(path.to_owned()).or_insert_with(missing);
        let all = joined(Some(known.times), Some(times)).unwrap_or(times);
        self.changes += u64::from(is_new || all != known.times);
        known.times = all;
    }

    fn found(&mut self, path: &Path) {
        self.changes += u64::from(self.missing.remove(path).is_some());
    }
}

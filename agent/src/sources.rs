//! What the agent can read on a host, one source per noun.
//!
//! A [`Source`] turns kernel text into [`Family`]s under the names node_exporter gives them. It never
//! fails the agent: what could not be read is left out and said in [`Reading::problems`]; a reading
//! the host does not support is absent, never zero. A source knows no clock (it is told [`Now`]), no
//! thread (it may block; the sampler waits for it no longer than its patience) and no absolute path
//! (all paths start at one of the [`Roots`]).
//!
//! Label sets stay the same allocation from reading to reading, so that what comes after can tell
//! a known series without comparing texts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use stoa_model::{Family, Labels, MetricKind};

mod attributes;
mod cgroup;
mod container;
mod containers;
mod file;
mod kept;
mod kernel;
mod lanes;
mod loose;
mod netlink;
mod program;
mod reading;
mod sheet;

pub mod settings;

pub mod registry;

pub mod host;

mod disks;

mod processes;
mod units;

mod house;

mod guests;

mod proxmox;

pub mod gpu;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inventory;

pub(crate) use file::{KeptFile, read_number, read_small};
pub(crate) use kept::Kept;
pub(crate) use lanes::Lanes;
pub use program::ProgramError;
pub use reading::Reading;

/// How often what costs more to ask for than it changes is read, unless configured otherwise.
pub(crate) const SLOW: Duration = Duration::from_secs(5);

/// Linux knows at most so many CPUs.
pub(crate) const CPUS_MAX: usize = 8192;

/// Something that can be read on this host.
pub trait Source: fmt::Debug + Send {
    /// The source's name; what node_exporter calls the collector.
    fn name(&self) -> &'static str;

    /// How often reading is worth its cost; `None`: on every tick.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// `None`: cheap, the tick waits for it; it must read files of the kernel only. Otherwise it may
    /// wait for a program, a socket or a device: it is read beside the ticks, on a thread of its own,
    /// and told as failed when it has not come back after so long.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Whether the families' names come from outside and may be those of other sources; such a
    /// family is left out of the tick then.
    fn tells_foreign_families(&self) -> bool {
        false
    }

    /// Reads once, appending to `reading`. Must be given the same `roots` each time: open files are
    /// kept from one reading to the next.
    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading);
}

/// The time of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Wall clock, microseconds since the Unix epoch.
    pub unix_micros: i64,
}

impl Now {
    /// Whether at least `span` has passed since `earlier`; a clock set back counts as passed.
    #[must_use]
    pub(crate) fn is_past(self, earlier: Self, span: Duration) -> bool {
        u128::from(self.unix_micros.abs_diff(earlier.unix_micros)) >= span.as_micros()
            || self < earlier
    }

    /// So many microseconds later, or earlier.
    pub(crate) fn moved(self, micros: i64) -> Self {
        Self { unix_micros: self.unix_micros.saturating_add(micros) }
    }
}

/// Where the host's files are found: other than `/proc` and so on in containers and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The host's `/proc`.
    pub procfs: PathBuf,
    /// The host's `/sys`.
    pub sysfs: PathBuf,
    /// The host's `/`; file systems are looked at under it.
    pub rootfs: PathBuf,
    /// The host's `/run/udev/data`.
    pub udev: PathBuf,
    /// A directory of `*.prom` files to expose as they are; `None`: none.
    pub textfile: Option<PathBuf>,
    /// The agent's own certificate, as seen from here.
    pub identity: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            rootfs: "/".into(),
            udev: "/run/udev/data".into(),
            textfile: None,
            identity: None,
        }
    }
}

/// One of the trees in [`Roots`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tree {
    /// `Roots::procfs`
    Proc,
    /// `Roots::sysfs`
    Sys,
}

impl Roots {
    pub(crate) fn path(&self, tree: Tree, relative: impl AsRef<Path>) -> PathBuf {
        match tree {
            Tree::Proc => self.procfs.join(relative),
            Tree::Sys => self.sysfs.join(relative),
        }
    }

    /// Those a person may set elsewhere, and what the keys are called.
    pub(crate) fn named(&self) -> [(&'static str, &Path); 3] {
        [
            ("paths.procfs", &self.procfs),
            ("paths.sysfs", &self.sysfs),
            ("paths.rootfs", &self.rootfs),
        ]
    }

    /// Whether the kernel's own threads are among the processes: no container shows them, whatever
    /// marks it carries (a machine made out of a container's image has `/.dockerenv`).
    pub(crate) fn shows_kernel_threads(&self) -> bool {
        read_small(&self.procfs.join("2/comm")).is_ok_and(|name| name == "kthreadd")
    }

    /// A path as the host's processes see it, such as a mount point, as seen from here.
    pub(crate) fn on_host(&self, path: &str) -> PathBuf {
        self.rootfs.join(path.trim_start_matches('/'))
    }
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("cannot understand {}: {wrong}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// The host does not have what would be told.
    #[error("there is no {0}")]
    Lacks(&'static str),
    /// A family cannot be told under the name that was read.
    #[error("cannot tell the family {name:?}: {wrong}")]
    Family {
        /// The name.
        name: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// All threads that ask mounts are waiting for dead ones.
    #[error("no thread is free to ask {}", path.display())]
    NoThread {
        /// The mount that was not asked.
        path: PathBuf,
    },
    /// A program that is to be asked gave no answer.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Something that was asked, such as a daemon, gave no answer, or a wrong one.
    #[error("{asked}: {wrong}")]
    Answer {
        /// What was asked.
        asked: &'static str,
        /// What is wrong.
        wrong: String,
    },
    /// The source broke; a bug.
    #[error("source {0} panicked")]
    Panicked(&'static str),
}

impl Problem {
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    pub(crate) fn parse(path: impl Into<PathBuf>, wrong: &'static str) -> Self {
        Self::Parse { path: path.into(), wrong }
    }

    /// Whether the file is simply not there: the host does not have what it would say.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Lacks(_) => true,
            // A program by its path is one that a person named.
            Self::Program(ProgramError::Absent { program }) => !program.contains('/'),
            _ => false,
        }
    }
}

/// A family that is known beforehand.
#[derive(Debug)]
pub(crate) struct Desc {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricKind,
}

impl Desc {
    pub(crate) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Counter }
    }

    pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Gauge }
    }

    pub(crate) fn family(&self) -> Family {
        Family::new(self.name, self.help, self.kind)
    }
}

/// The empty label set, always the same allocation.
pub(crate) fn no_labels() -> Labels {
    static EMPTY: LazyLock<Labels> = LazyLock::new(Labels::empty);
    EMPTY.clone()
}

/// A set of one label.
pub(crate) fn label(name: &'static str, value: &str) -> Labels {
    Labels::from_pairs_last_wins([(name, value)])
}

/// The largest number taken, and one divided by the smallest: what a unit makes of one, and the product or
/// the ratio of two, can still be told.
const NUMBER_MAX: f64 = 1e100;

/// Whether a number is taken.
pub(crate) fn is_plausible(number: f64) -> bool {
    number == 0.0 || (1.0 / NUMBER_MAX..=NUMBER_MAX).contains(&number.abs())
}

/// A number as the kernel writes one; not `inf`, `nan` or the like, nor one that is not plausible.
pub(crate) fn number(text: &str) -> Option<f64> {
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole as f64);
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e'));
    if !plain {
        return None;
    }
    text.parse().ok().filter(|number| is_plausible(*number))
}

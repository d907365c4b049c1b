//! The source `lvm`: volumes, groups and physical volumes as `lvs`, `vgs` and `pvs` tell them.
//!
//! These programs read the metadata on the disks, and need root. They are run only on hosts that use
//! LVM, and only when a volume was read or written since: the disks of volumes that nobody uses sleep
//! on. Where the agent has no such right, a job that does leaves their answers in a directory
//! (docs/operating/disks.md), and the programs are tried ever more rarely.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::backoff::Backoff;
use super::dated::Dated;
use super::lvm_report::KINDS;
use super::reports;
use crate::sources::program::{Program, ProgramError};
use crate::sources::registry::{Configured, Shared};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

/// What changes of itself is how full thin pools are.
const INTERVAL: Duration = Duration::from_secs(300);
const DEADLINE: Duration = Duration::from_secs(100);
/// One program; they wait for each other's locks.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest report: some 1,000 volumes.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Devices looked at, at most.
const DEVICES_MAX: usize = 4096;

const DENIED: Desc = Desc::gauge(
    "stoa_lvm_denied",
    "Whether the agent may not ask LVM; see docs/operating/disks.md for what it needs.",
);
const READ_AT: Desc = Desc::gauge(
    "stoa_lvm_read_timestamp_seconds",
    "When the program last said how LVM is, in unixtime; what it said is told for an hour after it was \
     last known to hold.",
);

/// `[sources.lvm]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where `lvs`, `vgs` and `pvs` are; empty: in the usual places.
    programs: String,
    /// Where a job leaves the programs' answers; they are read instead of asking when there are any.
    reports: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { programs: String::new(), reports: reports::DIRECTORY.into() }
    }
}

/// The source `lvm`.
#[derive(Debug)]
pub(crate) struct Lvm {
    settings: Settings,
    /// What volumes had done when the programs were asked; empty when a job asks.
    done: String,
    /// In the order of [`KINDS`].
    answers: [Option<Dated<Vec<u8>>>; KINDS.len()],
    backoff: Backoff,
    /// What became of asking last, unless it went well.
    refusal: Option<Refusal>,
    sheet: Sheet,
}

/// Why a program gave no answer.
#[derive(Clone, Debug)]
enum Refusal {
    /// It is not installed.
    Absent {
        program: String,
    },
    /// It lacked the right to.
    Denied {
        asked: &'static str,
        wrong: String,
    },
    Failed {
        asked: &'static str,
        wrong: String,
    },
}

impl Refusal {
    fn problem(&self) -> Problem {
        match self {
            Self::Absent { program } => ProgramError::Absent { program: program.clone() }.into(),
            Self::Denied { asked, wrong } => {
                let wrong = format!("{wrong}: docs/operating/disks.md tells what is needed");
                Problem::Answer { asked, wrong }
            }
            Self::Failed { asked, wrong } => Problem::Answer { asked, wrong: wrong.clone() },
        }
    }
}

impl Configured for Lvm {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::with(settings)
    }
}

impl Lvm {
    fn with(settings: Settings) -> Self {
        Self {
            settings,
            done: String::new(),
            answers: Default::default(),
            backoff: Backoff::default(),
            refusal: None,
            sheet: Sheet::new(),
        }
    }

    /// Has the newest answers ready, or says why there are no new ones.
    fn refresh(&mut self, roots: &Roots, now: Now, reading: &mut Reading) -> Result<(), Problem> {
        if self.read_left(now, reading) {
            return Ok(());
        }
        let done = match volumes_done(roots) {
            Ok(done) => done,
            Err(problem) => {
                *self = Self::with(self.settings.clone());
                return Err(problem);
            }
        };
        if done == self.done {
            self.answers.iter_mut().flatten().for_each(|answer| answer.hold(now));
            return Ok(());
        }
        if self.backoff.is_due(now) {
            match self.ask(now) {
                Ok(answers) => {
                    self.answers = answers;
                    self.done = done;
                    self.refusal = None;
                    self.backoff.answered();
                    return Ok(());
                }
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.backoff.refused(now);
                }
            }
        }
        self.refusal.as_ref().map_or(Ok(()), |refusal| Err(refusal.problem()))
    }

    /// Takes what a job left; `false` when it left nothing lately.
    fn read_left(&mut self, now: Now, reading: &mut Reading) -> bool {
        let left = KINDS.each_ref().map(|kind| {
            let files = reports::read(&self.settings.reports, kind.program, reading);
            let file = files.into_iter().find(|file| file.name.is_empty())?;
            Some(Dated::new(file.text, file.at))
        });
        for (kind, answer) in KINDS.iter().zip(&left) {
            if answer.as_ref().is_some_and(|answer| !answer.is_held(now)) {
                let wrong = reports::OLD.to_owned();
                reading.note(Problem::Answer { asked: kind.program, wrong });
            }
        }
        let is_lately = left.iter().flatten().any(|answer| answer.is_held(now));
        let has_own = !self.done.is_empty();
        if is_lately || (!has_own && left.iter().any(Option::is_some)) {
            self.answers = left;
            self.done.clear();
        }
        if is_lately {
            self.refusal = None;
            self.backoff.answered();
        }
        is_lately
    }

    fn ask(&self, now: Now) -> Result<[Option<Dated<Vec<u8>>>; KINDS.len()], Refusal> {
        let mut answers: [Option<Dated<Vec<u8>>>; KINDS.len()] = Default::default();
        for (kind, answer) in KINDS.iter().zip(&mut answers) {
            *answer = Some(Dated::new(self.run(kind.program, &kind.args())?, now));
        }
        Ok(answers)
    }

    fn run(&self, asked: &'static str, args: &[String]) -> Result<Vec<u8>, Refusal> {
        let path = match self.settings.programs.as_str() {
            "" => asked.to_owned(),
            directory => format!("{directory}/{asked}"),
        };
        let program = Program::new(&path).args(args).timeout(TIMEOUT);
        let output = match program.bytes_max(REPORT_BYTES_MAX).run() {
            Ok(output) => output,
            Err(ProgramError::Absent { program }) => return Err(Refusal::Absent { program }),
            Err(error) => return Err(Refusal::Failed { asked, wrong: error.to_string() }),
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = output.stderr.lines().find(|line| !line.contains("WARNING"));
        let wrong = complaint.unwrap_or("failed").trim().to_owned();
        let denials = ["Permission denied", "Operation not permitted", "non-root user"];
        let is_denial = denials.iter().any(|words| output.stderr.contains(words));
        Err(if is_denial {
            Refusal::Denied { asked, wrong }
        } else {
            Refusal::Failed { asked, wrong }
        })
    }

    fn tell(&mut self, now: Now, reading: &mut Reading) {
        let is_denied = matches!(self.refusal, Some(Refusal::Denied { .. }));
        self.sheet.push(&DENIED, &[], f64::from(u8::from(is_denied)));
        for (kind, answer) in KINDS.iter().zip(&self.answers) {
            let Some(answer) = answer else { continue };
            answer.tell_time(&READ_AT, &[("program", kind.program)], &mut self.sheet);
            let Some(text) = answer.get(now) else { continue };
            if kind.tell(text, &mut self.sheet).is_none() {
                let wrong = "not the report that was asked for".to_owned();
                reading.note(Problem::Answer { asked: kind.program, wrong });
            }
        }
    }
}

impl Source for Lvm {
    fn name(&self) -> &'static str {
        "lvm"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        match self.refresh(roots, now, reading) {
            Ok(()) => self.tell(now, reading),
            Err(problem) => {
                let has_none = self.answers.iter().all(Option::is_none);
                let is_absence = problem.is_absence() && has_none;
                reading.fail(problem);
                if !is_absence {
                    self.tell(now, reading);
                }
            }
        }
        self.sheet.tell(reading);
    }
}

/// Tells any bytes as the report of one of the programs: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_report<const KIND: usize>(bytes: &[u8], _: Now, reading: &mut Reading) {
    let mut sheet = Sheet::new();
    // What is no report is not told.
    let _is_report = KINDS.get(KIND).and_then(|kind| kind.tell(bytes, &mut sheet));
    sheet.tell(reading);
}

/// What the host's logical volumes have read and written so far, with their sizes: while this stands,
/// so does what LVM says. Of a host whose groups have no active volume, its physical volumes. An absent
/// file when the host has neither.
fn volumes_done(roots: &Roots) -> Result<String, Problem> {
    let path = roots.path(Tree::Sys, "block");
    let entries = std::fs::read_dir(&path).map_err(|source| Problem::read(&path, source))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("dm-")).take(DEVICES_MAX).collect();
    names.sort_unstable();
    let mut done = String::new();
    for name in names {
        let read = |file: &str| read_small(&path.join(&name).join(file)).unwrap_or_default();
        let id = read("dm/uuid");
        if id.starts_with("LVM-") {
            done.extend([&id, " ", &read("size"), " ", &read("stat"), "\n"]);
        }
    }
    if done.is_empty() {
        done = physical_volumes(roots);
    }
    if done.is_empty() {
        return Err(Problem::Lacks("volume of LVM's"));
    }
    Ok(done)
}

/// Block devices on which udev found LVM.
fn physical_volumes(roots: &Roots) -> String {
    let Ok(entries) = std::fs::read_dir(&roots.udev) else { return String::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_of_lvm = |name: &String| {
        let text = std::fs::read(roots.udev.join(name)).unwrap_or_default();
        text.split(|byte| *byte == b'\n').any(|line| line == b"E:ID_FS_TYPE=LVM2_member")
    };
    let names = names.filter(|name| name.starts_with('b')).take(DEVICES_MAX);
    let mut names: Vec<String> = names.filter(is_of_lvm).collect();
    names.sort_unstable();
    names.join("\n")
}

#[cfg(test)]
mod tests;

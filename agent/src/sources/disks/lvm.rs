//! The source `lvm`: volumes, groups and physical volumes as `lvs`, `vgs` and `pvs` tell them.
//!
//! These programs read the metadata on the disks, and need root. They are run only on hosts that use
//! LVM, and only when a volume was read or written since: the disks of volumes that nobody uses sleep
//! on. Where the agent has no such right, a job that does leaves their answers in a directory
//! (docs/operating/disks.md).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::lvm_report::KINDS;
use super::reports;
use super::sheet::Sheet;
use crate::sources::program::Program;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

const INTERVAL: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(100);
/// One program; they wait for each other's locks.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest report: some 1,000 volumes.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Devices of the device mapper looked at, at most.
const DEVICES_MAX: usize = 4096;

const DENIED: Desc = Desc::gauge(
    "stoa_lvm_denied",
    "Whether the agent may not ask LVM; see docs/operating/disks.md for what it needs.",
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
    /// What volumes had done when the answers were had.
    done: String,
    answers: Vec<Vec<u8>>,
    /// Whether the programs lacked the right to answer.
    is_denied: bool,
    sheet: Sheet,
}

impl Configured for Lvm {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::with(settings)
    }
}

impl Lvm {
    fn with(settings: Settings) -> Self {
        let (done, answers) = (String::new(), Vec::new());
        Self { settings, done, answers, is_denied: false, sheet: Sheet::new() }
    }

    /// Has the programs' answers ready in the order of [`KINDS`].
    fn refresh(&mut self, roots: &Roots, reading: &mut Reading) -> Result<(), Problem> {
        let left: Vec<Vec<u8>> = KINDS
            .iter()
            .filter_map(|kind| {
                let files = reports::read(&self.settings.reports, kind.program, reading);
                files.into_iter().find(|(rest, _)| rest.is_empty()).map(|(_, text)| text)
            })
            .collect();
        if left.len() == KINDS.len() {
            self.answers = left;
            return Ok(());
        }
        let done = volumes_done(roots)?;
        if done == self.done {
            return Ok(());
        }
        self.answers.clear();
        for kind in &KINDS {
            let answer = self.run(kind.program, &kind.args())?;
            self.answers.push(answer);
        }
        self.done = done;
        Ok(())
    }

    fn run(&mut self, name: &'static str, args: &[String]) -> Result<Vec<u8>, Problem> {
        let path = match self.settings.programs.as_str() {
            "" => name.to_owned(),
            directory => format!("{directory}/{name}"),
        };
        let program = Program::new(&path).args(args).timeout(TIMEOUT);
        let output = program.bytes_max(REPORT_BYTES_MAX).run()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = output.stderr.lines().find(|line| !line.contains("WARNING"));
        let wrong = complaint.unwrap_or("failed").trim().to_owned();
        let denied = ["Permission denied", "Operation not permitted", "non-root user"];
        self.is_denied = denied.iter().any(|words| output.stderr.contains(words));
        let advice =
            if self.is_denied { ": docs/operating/disks.md tells what is needed" } else { "" };
        Err(Problem::Answer { asked: name, wrong: format!("{wrong}{advice}") })
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

    fn read(&mut self, roots: &Roots, _: Now, reading: &mut Reading) {
        self.is_denied = false;
        match self.refresh(roots, reading) {
            Ok(()) => {
                self.sheet.push(&DENIED, &[], 0.0);
                for (kind, text) in KINDS.iter().zip(&self.answers) {
                    if kind.tell(text, &mut self.sheet).is_none() {
                        let wrong = "not the report that was asked for".to_owned();
                        reading.note(Problem::Answer { asked: kind.program, wrong });
                    }
                }
            }
            Err(problem) => {
                if self.is_denied {
                    self.sheet.push(&DENIED, &[], 1.0);
                }
                reading.fail(problem);
            }
        }
        self.sheet.tell(reading);
    }
}

/// What the host's logical volumes have read and written so far, with their sizes: while this stands,
/// so does what LVM says. An absent file when the host has none.
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
        return Err(Problem::read(path, io::ErrorKind::NotFound.into()));
    }
    Ok(done)
}

#[cfg(test)]
mod tests;

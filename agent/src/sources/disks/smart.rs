//! The source `smart`: what disks say of themselves, as `smartctl` tells it, under
//! smartctl_exporter's names; how worn they are, and whether they are about to fail.
//!
//! Devices are found by `smartctl --scan-open` and asked one after another. To find them opens them,
//! which may wake one, so that is done only where `--scan`, which opens none, names others than before.
//! One that sleeps is left to sleep: its last readings are told again, with their age. Asking a disk
//! needs root; where the agent has no such right, a job that does leaves smartctl's answers in a
//! directory (docs/operating/disks.md), which are read instead; without, the disks are tried ever more
//! rarely. Of several ways to the same disk, the first is judged.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use self::device::Known;
use self::report::Outcome;
use super::backoff::Backoff;
use super::dated;
use super::emmc;
use super::reports;
use crate::sources::program::{Program, ProgramError};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

mod device;
mod health;
mod report;
mod series;

/// How often disks are asked.
const INTERVAL: Duration = Duration::from_secs(600);
/// All disks together.
const DEADLINE: Duration = Duration::from_secs(300);
/// One disk; one that spins up takes some ten seconds.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for disks, besides when the kernel's list of them changes.
const DISCOVERY: Duration = Duration::from_secs(3600);
/// Disks told at most.
const DEVICES_MAX: usize = 128;
/// Disks that may hang in one reading; the rest is asked in the next.
const HANGING_MAX: usize = 3;
/// The longest answer; one about a disk with full logs is some 200 KiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What the names of left answers begin with.
const REPORT_PREFIX: &str = "smart-";

const DENIED: Desc = Desc::gauge(
    "stoa_smart_denied",
    "Disks the agent may not open; see docs/operating/disks.md for what it needs.",
);

/// `[sources.smart]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The program to run.
    program: String,
    /// Where a job leaves smartctl's answers; they are read instead of asking when there are any.
    reports: PathBuf,
    device_include: Pattern,
    device_exclude: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: "smartctl".to_owned(),
            reports: reports::DIRECTORY.into(),
            device_include: Pattern::default(),
            device_exclude: Pattern::default(),
        }
    }
}

/// The source `smart`.
#[derive(Debug)]
pub(crate) struct Smart {
    program: String,
    reports: PathBuf,
    filter: Filter,
    known: Vec<Known>,
    /// When it was last looked for disks, and what disks the kernel knew then.
    discovered: Option<(Now, BTreeSet<String>)>,
    /// What `smartctl --scan` named then.
    scanned: Vec<u8>,
    /// The disk to begin with, where the last reading could not ask all.
    begin_at: usize,
    /// When it asks for disks none of which it may open.
    backoff: Backoff,
    /// How long one disk may take.
    timeout: Duration,
    sheet: Sheet,
}

impl Configured for Smart {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::with(settings)
    }
}

impl Smart {
    fn with(settings: Settings) -> Self {
        Self {
            program: settings.program,
            reports: settings.reports,
            filter: Filter::new(settings.device_include, settings.device_exclude),
            known: Vec::new(),
            discovered: None,
            scanned: Vec::new(),
            begin_at: 0,
            backoff: Backoff::default(),
            timeout: DEVICE_TIMEOUT,
            sheet: Sheet::new(),
        }
    }

    /// Reads the answers that a job left; `false` when it left none lately.
    fn read_reports(&mut self, now: Now, reading: &mut Reading) -> bool {
        let left = reports::read(&self.reports, REPORT_PREFIX, reading);
        let is_lately = left.iter().any(|left| dated::holds(left.at, now));
        if !left.is_empty() && !is_lately {
            let wrong = format!("{REPORT_PREFIX}*.json: {}", reports::OLD);
            reading.note(Problem::Answer { asked: "smartctl", wrong });
        }
        if left.is_empty() || (!is_lately && self.discovered.is_some()) {
            return false;
        }
        let mut there = BTreeSet::new();
        for left in left.into_iter().take(DEVICES_MAX) {
            let Some(report) = report::parse(&left.text) else {
                let wrong =
                    format!("{REPORT_PREFIX}{}.json is not what smartctl -j prints", left.name);
                reading.note(Problem::Answer { asked: "smartctl", wrong });
                continue;
            };
            let told = report.asked().label();
            let is_usable = !told.is_empty() && !there.contains(&told);
            let label = if is_usable { told } else { left.name };
            if !self.filter.keeps(&label) {
                continue;
            }
            let known = self.known_as(&label);
            if dated::holds(left.at, now) {
                known.take(report, left.at);
            } else {
                known.take_old(report, left.at);
            }
            there.insert(label);
        }
        self.known.retain(|known| there.contains(&known.label));
        self.discovered = None;
        if is_lately {
            self.backoff.answered();
        }
        is_lately
    }

    fn known_as(&mut self, label: &str) -> &mut Known {
        let at = self.known.iter().position(|known| known.label == label);
        let at = at.unwrap_or_else(|| {
            self.known.push(Known::new(label));
            self.known.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or added in the lines before")]
        &mut self.known[at]
    }

    fn run(&self, args: &[&str]) -> Result<Vec<u8>, Problem> {
        let program = Program::new(&self.program).args(args.iter().copied());
        let program = program.timeout(self.timeout).bytes_max(ANSWER_BYTES_MAX);
        // smartctl says in the document how it ended.
        Ok(program.run()?.stdout)
    }

    /// Looks for disks when there may be others than before.
    fn discover(&mut self, roots: &Roots, now: Now) -> Result<(), Problem> {
        let blocks = block_devices(roots);
        if blocks.is_empty() {
            return Err(Problem::Lacks("disk"));
        }
        let same = self.discovered.as_ref().filter(|(_, before)| *before == blocks);
        let found_at = same.map(|(at, _)| *at);
        if found_at.is_some_and(|at| !now.is_past(at, DISCOVERY)) {
            return Ok(());
        }
        let scanned = self.run(&["--scan"])?;
        let is_same = self.scanned == scanned && self.known.iter().all(Known::was_opened);
        if found_at.is_some() && is_same {
            self.discovered = Some((now, blocks));
            return Ok(());
        }
        let text = self.run(&["-j", "--scan-open"])?;
        let Some(scan) = report::parse_scan(&text) else {
            let wrong = "no list of devices; smartctl 7.0 or later is needed".to_owned();
            return Err(Problem::Answer { asked: "smartctl", wrong });
        };
        let mut known = Vec::new();
        for device in scan.devices.0.into_iter().map(|device| device.0).take(DEVICES_MAX) {
            let label = device.label();
            let is_new = known.iter().all(|known: &Known| known.label != label);
            // A name is an argument of smartctl.
            let is_device = device.name.as_str().starts_with("/dev/");
            if !is_device || !is_new || !self.filter.keeps(&label) {
                continue;
            }
            let at = self.known.iter().position(|known| known.label == label);
            let before = at.map(|at| self.known.swap_remove(at));
            known.push(before.unwrap_or_else(|| Known::new(&label)).found_as(device));
        }
        self.known = known;
        self.scanned = scanned;
        self.discovered = Some((now, blocks));
        Ok(())
    }

    /// Asks the disks, one after another.
    fn ask(&mut self, now: Now) {
        let count = self.known.len();
        let mut hanging = 0;
        let begin_at = std::mem::take(&mut self.begin_at);
        for turn in 0..count {
            let at = (begin_at + turn) % count;
            if hanging == HANGING_MAX {
                self.begin_at = at;
                break;
            }
            let Some(args) = self.known.get(at).and_then(Known::arguments) else { continue };
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let answer = self.run(&args);
            let Some(known) = self.known.get_mut(at) else { continue };
            match answer.as_deref().map(report::parse) {
                Ok(Some(report)) => known.take(report, now),
                Ok(None) => known.fail("smartctl's answer cannot be understood"),
                Err(problem) => {
                    // What is known to hang takes no time.
                    let is_known = matches!(problem, Problem::Program(ProgramError::Hangs { .. }));
                    hanging += usize::from(!is_known);
                    known.fail(&problem.to_string());
                }
            }
        }
    }

    /// Whether it may open none of the disks.
    fn is_denied(&self) -> bool {
        let is_denied = |known: &Known| known.outcome == Some(Outcome::Denied);
        !self.known.is_empty() && self.known.iter().all(is_denied)
    }

    fn tell(&mut self, now: Now, reading: &mut Reading) {
        let denied = self.known.iter().filter(|known| known.outcome == Some(Outcome::Denied));
        let denied = u32::try_from(denied.count()).unwrap_or(u32::MAX);
        let count = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.sheet.push(&series::DEVICES, &[], f64::from(count));
        self.sheet.push(&DENIED, &[], f64::from(denied));
        if let Some(report) = self.known.iter().rev().find_map(Known::last) {
            series::tell_program(report, &mut self.sheet);
        }
        let mut told: HashMap<String, &str> = HashMap::new();
        for known in &self.known {
            known.tell(now, &mut self.sheet);
            if let Some(problem) = known.failure() {
                reading.note(problem);
            }
            let identity = known.identity(now);
            match identity.as_ref().and_then(|identity| told.get(identity)) {
                Some(other) => known.tell_same(other, &mut self.sheet),
                None => known.judge(now, &mut self.sheet),
            }
            if let Some(identity) = identity {
                told.entry(identity).or_insert(&known.label);
            }
        }
        if denied > 0 {
            let wrong = format!(
                "{denied} disks may not be opened by this user: docs/operating/disks.md tells what \
                 is needed"
            );
            let problem = Problem::Answer { asked: "smartctl", wrong };
            if denied == count { reading.fail(problem) } else { reading.note(problem) }
        }
    }
}

impl Source for Smart {
    fn name(&self) -> &'static str {
        "smart"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        emmc::tell(roots, &mut self.sheet);
        if !self.read_reports(now, reading) && self.backoff.is_due(now) {
            match self.discover(roots, now) {
                Ok(()) => self.ask(now),
                Err(problem) => reading.fail(problem),
            }
            if self.is_denied() {
                self.backoff.refused(now);
            } else {
                self.backoff.answered();
            }
        }
        if !self.known.is_empty() || !reading.failed {
            self.tell(now, reading);
        }
        self.sheet.tell(reading);
    }
}

/// Tells any bytes as what `smartctl` says of a disk: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_report(bytes: &[u8], now: Now, reading: &mut Reading) {
    let Some(report) = report::parse(bytes) else { return };
    let (mut known, mut sheet) = (Known::new(&report.device.label()), Sheet::new());
    series::tell_program(&report, &mut sheet);
    known.take(report, now);
    known.tell(now, &mut sheet);
    sheet.tell(reading);
}

/// As its list of disks. Nothing of it becomes an option of a question to one.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_scan(bytes: &[u8], _: Now, _: &mut Reading) {
    let Some(scan) = report::parse_scan(bytes) else { return };
    for device in scan.devices.0.into_iter().map(|device| device.0) {
        let arguments = Known::new(&device.label()).found_as(device).arguments();
        assert!(arguments.iter().all(|argument| argument.len() <= 4 * 256), "{arguments:?}");
    }
}

/// The kernel's names of disks, each with which it is of all that were ever there.
fn block_devices(roots: &Roots) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(roots.path(Tree::Sys, "block")) else {
        return BTreeSet::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_virtual = |name: &str| {
        ["loop", "ram", "zram", "dm-", "md", "zd", "nbd", "rbd"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let with_sequence = |name: String| {
        let sequence = roots.path(Tree::Sys, format!("block/{name}/diskseq"));
        format!("{name} {}", read_small(&sequence).unwrap_or_default())
    };
    names.filter(|name| !is_virtual(name)).take(DEVICES_MAX).map(with_sequence).collect()
}

#[cfg(test)]
mod tests;

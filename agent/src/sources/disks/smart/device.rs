//! A disk that was found: what it said last, and what is remembered of it.

use super::health::health;
use super::report::{ASLEEP_STATUS, Device, Outcome, Report};
use super::series;
use crate::sources::disks::risk::{self, Memory};
use crate::sources::disks::sheet::Sheet;
use crate::sources::disks::wear;
use crate::sources::{Desc, Now, Problem, Reading};

const ASLEEP: Desc = Desc::gauge(
    "stoa_smart_asleep",
    "Whether the disk slept and was left alone; its other readings are those of before.",
);
const FAILED: Desc =
    Desc::gauge("stoa_smart_failed", "Whether smartctl could not talk to the disk.");
const READ_AT: Desc = Desc::gauge(
    "stoa_smart_read_timestamp_seconds",
    "When the disk last said how it is, in unixtime.",
);
const RISK: Desc = Desc::gauge(
    "stoa_disk_failure_risk",
    "What to do about the disk [0: nothing, 1: watch it, 2: replace it].",
);
const REASON: Desc = Desc::gauge(
    "stoa_disk_failure_reason",
    "What speaks against the disk [1: watch it, 2: replace it].",
);
const YEARS_LEFT: Desc = Desc::gauge(
    "stoa_disk_wear_left_years",
    "Years until the disk's rated endurance is used up, if it goes on as until now.",
);

/// A disk.
#[derive(Debug)]
pub(super) struct Known {
    /// What `device` says.
    pub(super) label: String,
    /// How smartctl found it.
    device: Device,
    /// What it said last when it said something.
    pub(super) report: Option<Box<Report>>,
    /// What came of asking it last.
    pub(super) outcome: Option<Outcome>,
    /// Seconds since the Unix epoch.
    read_at: f64,
    memory: Memory,
}

impl Known {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            device: Device::default(),
            report: None,
            outcome: None,
            read_at: 0.0,
            memory: Memory::default(),
        }
    }

    /// The same disk, found as `device` is.
    pub(super) fn found_as(mut self, device: Device) -> Self {
        if device.is_denied() {
            self.outcome = Some(Outcome::Denied);
        }
        self.device = device;
        self
    }

    /// What smartctl is to be asked. `-n` keeps it from waking the disk, and only does so surely when
    /// it is also told of what type the disk is.
    pub(super) fn arguments(&self) -> Vec<String> {
        let asleep = format!("standby,{ASLEEP_STATUS}");
        let mut args = vec!["-j", "-a", "-l", "devstat", "-l", "scttempsts", "-l", "scterc"];
        args.extend(["-l", "sataphy", "-n", asleep.as_str()]);
        let kind = self.device.r#type.as_str();
        if !kind.is_empty() {
            args.extend(["-d", kind]);
        }
        args.push(self.device.name.as_str());
        args.into_iter().map(str::to_owned).collect()
    }

    /// Takes in what smartctl said.
    pub(super) fn take(&mut self, report: Report, now: Now, reading: &mut Reading) {
        let outcome = report.outcome();
        match outcome {
            Outcome::Told => {
                let is_other = |before: &Report| before.serial_number != report.serial_number;
                if self.report.as_deref().is_some_and(is_other) {
                    self.memory = Memory::default();
                }
                self.memory.take(&health(&report).counts, now);
                self.read_at = report.local_time.time_t.0.unwrap_or_else(|| seconds(now));
                self.report = Some(Box::new(report));
            }
            Outcome::Failed => return self.fail(report.complaint(), reading),
            Outcome::Asleep | Outcome::Denied => {}
        }
        self.outcome = Some(outcome);
    }

    /// It gave no answer; said once.
    pub(super) fn fail(&mut self, wrong: &str, reading: &mut Reading) {
        if self.outcome != Some(Outcome::Failed) {
            let wrong = format!("{}: {wrong}", self.label);
            reading.note(Problem::Answer { asked: "smartctl", wrong });
        }
        self.outcome = Some(Outcome::Failed);
    }

    pub(super) fn tell(&self, now: Now, sheet: &mut Sheet) {
        let pairs = [("device", self.label.as_str())];
        let is = |outcome| f64::from(u8::from(self.outcome == Some(outcome)));
        sheet.push(&ASLEEP, &pairs, is(Outcome::Asleep));
        sheet.push(&FAILED, &pairs, is(Outcome::Failed));
        let Some(report) = &self.report else { return };
        sheet.push(&READ_AT, &pairs, self.read_at);
        series::tell(report, &self.label, sheet);
        let health = health(report);
        sheet.push_some(&wear::RATIO, &pairs, health.wear);
        sheet.push_some(&YEARS_LEFT, &pairs, risk::years_left(&health));
        let findings = risk::findings(&health, &self.memory, now);
        sheet.push(&RISK, &pairs, risk::level(&findings).number());
        for finding in findings {
            let pairs = [("device", self.label.as_str()), ("reason", finding.reason)];
            sheet.push(&REASON, &pairs, finding.level.number());
        }
    }
}

fn seconds(now: Now) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let seconds = (now.unix_micros / 1_000_000) as f64;
    seconds
}

//! A disk that was found: what it said last, and what is remembered of it.

use super::health::health;
use super::report::{ASLEEP_STATUS, Device, Outcome, Report};
use super::series;
use crate::sources::disks::dated::Dated;
use crate::sources::disks::reports;
use crate::sources::disks::risk::{self, Memory};
use crate::sources::disks::wear;
use crate::sources::sheet::Sheet;
use crate::sources::{Desc, Now, Problem};

const ASLEEP: Desc = Desc::gauge(
    "stoa_smart_asleep",
    "Whether the disk slept and was left alone; its other readings are those of before.",
);
const FAILED: Desc =
    Desc::gauge("stoa_smart_failed", "Whether smartctl could not talk to the disk.");
const READ_AT: Desc = Desc::gauge(
    "stoa_smart_read_timestamp_seconds",
    "When the disk last said how it is, in unixtime; what it said is told for an hour after it was last \
     known to hold.",
);
const RISK: Desc = Desc::gauge(
    "stoa_disk_failure_risk",
    "What to do about the disk [0: nothing, 1: watch it, 2: replace it]; by the rules for its kind (hdd, \
     ssd, nvme, sas_hdd, sas_ssd).",
);
const REASON: Desc = Desc::gauge(
    "stoa_disk_failure_reason",
    "What speaks against the disk [1: watch it, 2: replace it], and what it means.",
);
const SAME: Desc = Desc::gauge(
    "stoa_smart_same_disk",
    "Always 1; the device is another way to the disk that is told as the other.",
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
    report: Option<Dated<Box<Report>>>,
    /// What came of asking it last.
    pub(super) outcome: Option<Outcome>,
    /// Why, where that was no answer.
    failure: Option<String>,
    memory: Memory,
}

impl Known {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            device: Device::default(),
            report: None,
            outcome: None,
            failure: None,
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

    /// Whether it could be opened when it was found.
    pub(super) fn was_opened(&self) -> bool {
        self.device.open_error.as_str().is_empty()
    }

    /// What smartctl is to be asked. `-n` keeps it from waking the disk, and only does so surely when
    /// it is also told of what type the disk is. `None` of one that may not be opened.
    pub(super) fn arguments(&self) -> Option<Vec<String>> {
        if self.device.is_denied() {
            return None;
        }
        let asleep = format!("standby,{ASLEEP_STATUS}");
        let mut args = vec!["-j", "-a", "-l", "devstat", "-l", "scttempsts", "-l", "scterc"];
        args.extend(["-l", "sataphy", "-n", asleep.as_str()]);
        let kind = self.device.r#type.as_str();
        if !kind.is_empty() {
            args.extend(["-d", kind]);
        }
        args.push(self.device.name.as_str());
        Some(args.into_iter().map(str::to_owned).collect())
    }

    /// Takes in what smartctl said at `at`.
    pub(super) fn take(&mut self, report: Report, at: Now) {
        self.failure = None;
        let outcome = report.outcome();
        match outcome {
            Outcome::Told => {
                if self.last().is_some_and(|before| before.serial_number != report.serial_number) {
                    self.memory = Memory::default();
                }
                let health = health(&report);
                self.memory.take(health.kind, &health.signs, at);
                self.report = Some(Dated::new(Box::new(report), at));
            }
            Outcome::Asleep => {
                if let Some(report) = &mut self.report {
                    report.hold(at);
                }
            }
            Outcome::Failed => return self.fail(report.complaint()),
            Outcome::Denied => {}
        }
        self.outcome = Some(outcome);
    }

    /// Takes in what smartctl said too long ago to be told.
    pub(super) fn take_old(&mut self, report: Report, at: Now) {
        if self.report.is_none() && report.outcome() == Outcome::Told {
            self.report = Some(Dated::new(Box::new(report), at));
        }
        self.fail(reports::OLD);
    }

    /// It gave no answer.
    pub(super) fn fail(&mut self, wrong: &str) {
        self.failure = Some(format!("{}: {wrong}", self.label));
        self.outcome = Some(Outcome::Failed);
    }

    /// Why it gave no answer when it was asked last.
    pub(super) fn failure(&self) -> Option<Problem> {
        let wrong = self.failure.clone().filter(|_| self.outcome == Some(Outcome::Failed))?;
        Some(Problem::Answer { asked: "smartctl", wrong })
    }

    /// What it said last, however old.
    pub(super) fn last(&self) -> Option<&Report> {
        self.report.as_ref().map(|report| report.whatever_its_age().as_ref())
    }

    /// Which disk this is a way to.
    pub(super) fn identity(&self, now: Now) -> Option<String> {
        self.report.as_ref()?.get(now)?.identity()
    }

    /// Tells what the device says.
    pub(super) fn tell(&self, now: Now, sheet: &mut Sheet) {
        let pairs = [("device", self.label.as_str())];
        let is = |outcome| f64::from(u8::from(self.outcome == Some(outcome)));
        sheet.push(&ASLEEP, &pairs, is(Outcome::Asleep));
        sheet.push(&FAILED, &pairs, is(Outcome::Failed));
        let Some(report) = &self.report else { return };
        report.tell_time(&READ_AT, &pairs, sheet);
        if let Some(report) = report.get(now) {
            series::tell(report, &self.label, sheet);
        }
    }

    /// Tells what becomes of the disk.
    pub(super) fn judge(&self, now: Now, sheet: &mut Sheet) {
        let Some(report) = self.report.as_ref().and_then(|report| report.get(now)) else { return };
        let device = ("device", self.label.as_str());
        let health = health(report);
        sheet.push_some(&wear::RATIO, &[device], health.wear);
        let years = risk::years_left(health.wear, health.power_on_hours);
        sheet.push_some(&YEARS_LEFT, &[device], years);
        if health.signs.is_empty() {
            return;
        }
        let kind = ("kind", health.kind.name());
        sheet.push(&RISK, &[device, kind], self.memory.level().number());
        for rule in self.memory.findings() {
            let pairs = [device, ("reason", rule.reason), ("meaning", rule.meaning)];
            sheet.push(&REASON, &pairs, rule.level.number());
        }
    }

    /// Tells that the device leads to the disk that is told as `other`.
    pub(super) fn tell_same(&self, other: &str, sheet: &mut Sheet) {
        sheet.push(&SAME, &[("device", &self.label), ("other", other)], 1.0);
    }
}

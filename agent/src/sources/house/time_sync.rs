//! Whether the clock is kept, by whom, and how far it is off.
//!
//! Asks what there is of chrony (`chronyc`, `chrony_exporter`'s names), systemd-timesyncd (its files under
//! `/run` and `timedatectl`) and ntpd (`ntpq`). All three need no privileges. Offsets are positive when
//! this host's clock is behind. What the kernel knows of its clock is `node_timex_*`; asking a server of
//! one's own choice is the source `ntp`.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use stoa_model::{Family, Labels};

use crate::sources::program::{Output, Program};
use crate::sources::registry::{Configured, Shared};
use crate::sources::{
    Desc, Kept, Now, Problem, ProgramError, Reading, Roots, Source, label, number,
};

mod chrony;

const SYNC: Desc = Desc::gauge(
    "stoa_time_sync",
    "Whether what keeps the clock says that it is synchronized, by what that is.",
);
const OFFSET: Desc = Desc::gauge(
    "stoa_time_sync_offset_seconds",
    "How far the clock is behind, as far as what keeps it knows.",
);
const STRATUM: Desc =
    Desc::gauge("stoa_time_sync_stratum", "How many servers lie between the clock and its source.");
const LAST: Desc = Desc::gauge(
    "stoa_time_sync_timestamp_seconds",
    "When the clock was last compared with its source.",
);

/// How often it is asked; daemons poll each 64 seconds or less often.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long each program may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What each program may say.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Where chrony is installed or runs, one of these is.
const CHRONY: [&str; 4] = ["/run/chrony", "/run/chronyd.pid", "/etc/chrony", "/etc/chrony.conf"];
/// The same of ntpd.
const NTPD: [&str; 3] = ["/etc/ntpsec", "/etc/ntp.conf", "/etc/ntp"];
/// There while timesyncd runs.
const TIMESYNCD: &str = "/run/systemd/timesync";
/// Touched when it has set the clock.
const TIMESYNCD_DONE: &str = "/run/systemd/timesync/synchronized";

/// What one keeper of the clock says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Keeper {
    is_synchronized: bool,
    offset: Option<f64>,
    stratum: Option<f64>,
    last: Option<f64>,
}

/// `[sources.time_sync]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where chronyd answers; none: this host's, if chrony is installed.
    chrony_address: Option<SocketAddr>,
}

/// The source `time_sync`.
#[derive(Debug)]
pub(crate) struct TimeSync {
    chrony_address: Option<SocketAddr>,
    /// Before chrony's `tracking sources`.
    chronyc: Vec<String>,
    labels: Kept<Labels>,
}

impl Configured for TimeSync {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::of(settings, &["chronyc"])
    }
}

impl TimeSync {
    pub(super) fn of(settings: Settings, chronyc: &[&str]) -> Self {
        let mut chronyc: Vec<String> = chronyc.iter().map(ToString::to_string).collect();
        let Settings { chrony_address } = settings;
        if let Some(address) = chrony_address {
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            chronyc.extend(["-h".to_owned(), host, "-p".to_owned(), port]);
        }
        Self { chrony_address, chronyc, labels: Kept::new() }
    }

    /// `None` where there is no chrony; families besides.
    fn chrony(&mut self, roots: &Roots, reading: &mut Reading) -> Option<Keeper> {
        if self.chrony_address.is_none() && !has_any(roots, &CHRONY) {
            return None;
        }
        let (name, first) = self.chronyc.split_first()?;
        let program =
            Program::new(name).args(first).args(["-c", "-n", "-m", "tracking", "sources"]);
        let report = match run(program) {
            Ok(output) if output.status.success() => {
                chrony::parse(&String::from_utf8_lossy(&output.stdout))
            }
            // It is installed, and its daemon does not answer.
            Ok(_) => None,
            Err(error @ ProgramError::Absent { .. }) => {
                if self.chrony_address.is_some() {
                    reading.note_named(error.into());
                }
                return None;
            }
            Err(error) => {
                reading.note(error.into());
                None
            }
        };
        chrony::tell(report.as_ref(), &mut self.labels, reading);
        Some(report.map_or_else(Keeper::default, |report| report.keeper()))
    }
}

fn has_any(roots: &Roots, paths: &[&str]) -> bool {
    paths.iter().any(|path| roots.on_host(path).exists())
}

/// Runs a program with this source's bounds.
fn run(program: Program) -> Result<Output, ProgramError> {
    program.timeout(TIMEOUT).bytes_max(OUTPUT_BYTES_MAX).run()
}

/// `None` where timesyncd does not run.
fn timesyncd(roots: &Roots, reading: &mut Reading) -> Option<Keeper> {
    if !roots.on_host(TIMESYNCD).is_dir() {
        return None;
    }
    let done = std::fs::metadata(roots.on_host(TIMESYNCD_DONE)).and_then(|m| m.modified());
    let last = done.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let stratum = match run(Program::new("timedatectl").args(["show-timesync"])) {
        Ok(output) => parse_timesyncd(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => {
            reading.note(error.into());
            None
        }
    };
    let last = last.map(|last| last.as_secs_f64());
    Some(Keeper { is_synchronized: last.is_some(), offset: None, stratum, last })
}

/// The stratum of `NTPMessage={ Leap=0, …, Stratum=2, … }`.
fn parse_timesyncd(text: &str) -> Option<f64> {
    let message = text.lines().find_map(|line| line.strip_prefix("NTPMessage={"))?;
    let mut fields = message.trim_end_matches('}').split(',');
    fields.find_map(|field| number(field.trim().strip_prefix("Stratum=")?))
}

/// `None` where there is no ntpd or it does not answer: `ntpq` may be installed for its own sake.
fn ntpd(roots: &Roots) -> Option<Keeper> {
    if !has_any(roots, &NTPD) {
        return None;
    }
    let output = run(Program::new("ntpq").args(["-n", "-c", "rv 0"])).ok()?;
    parse_ntpd(&String::from_utf8_lossy(&output.stdout))
}

/// `associd=0 status=0615 leap_none, sync_ntp, …, stratum=2, …, offset=-0.154, …`, in milliseconds.
fn parse_ntpd(text: &str) -> Option<Keeper> {
    let fields = || text.split([',', '\n']).map(str::trim);
    let field = |name: &str| {
        number(fields().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?)
    };
    let stratum = field("stratum")?;
    let has_leap = fields().any(|field| field.contains(" leap_"));
    let is_alarmed = fields().any(|field| field.ends_with("leap_alarm"));
    Some(Keeper {
        is_synchronized: has_leap && !is_alarmed && stratum < 16.0,
        offset: field("offset").map(|milliseconds| milliseconds / 1000.0),
        stratum: Some(stratum),
        last: None,
    })
}

/// Tells any bytes as chrony's answer: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_chrony(bytes: &[u8], _: Now, reading: &mut Reading) {
    let report = chrony::parse(&String::from_utf8_lossy(bytes));
    chrony::tell(report.as_ref(), &mut Kept::new(), reading);
}

/// As timesyncd's and ntpd's.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_others(bytes: &[u8], _: Now, _: &mut Reading) {
    let text = String::from_utf8_lossy(bytes);
    let (stratum, keeper) = (parse_timesyncd(&text), parse_ntpd(&text));
    let numbers = [stratum, keeper.and_then(|k| k.offset), keeper.and_then(|k| k.stratum)];
    assert!(numbers.into_iter().flatten().all(f64::is_finite));
}

impl Source for TimeSync {
    fn name(&self) -> &'static str {
        "time_sync"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(4 * TIMEOUT)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let keepers = [
            ("chrony", self.chrony(roots, reading)),
            ("timesyncd", timesyncd(roots, reading)),
            ("ntpd", ntpd(roots)),
        ];
        let [mut sync, mut offset, mut stratum, mut last]: [Family; 4] =
            [&SYNC, &OFFSET, &STRATUM, &LAST].map(Desc::family);
        for (name, keeper) in keepers {
            let Some(keeper) = keeper else { continue };
            let labels = self.labels.get(name, |name| label("source", name));
            sync.push(labels.clone(), f64::from(u8::from(keeper.is_synchronized)));
            for (family, value) in [
                (&mut offset, keeper.offset),
                (&mut stratum, keeper.stratum),
                (&mut last, keeper.last),
            ] {
                if let Some(value) = value {
                    family.push(labels.clone(), value);
                }
            }
        }
        self.labels.end_round();
        if sync.metrics.is_empty() {
            let program = "chronyc, systemd-timesyncd and ntpq".to_owned();
            return reading.fail(Problem::Program(ProgramError::Absent { program }));
        }
        for family in [sync, offset, stratum, last] {
            reading.family(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NTPQ: &str = "associd=0 status=0615 leap_none, sync_ntp, 1 event, clock_sync,
version=\"ntpd ntpsec-1.2.2\", processor=\"x86_64\", system=\"Linux/6.1.0\",
leap=00, stratum=2, precision=-22, rootdelay=11.29, rootdisp=31.052, refid=192.0.2.1,
reftime=eb0b7d21.a, peer=20215, tc=10, mintc=0, offset=-0.154, frequency=-4.3, sys_jitter=0.08";

    #[test]
    fn ntpd_tells_milliseconds() {
        let keeper = Keeper {
            is_synchronized: true,
            offset: Some(-0.000154),
            stratum: Some(2.0),
            last: None,
        };
        assert_eq!(parse_ntpd(NTPQ), Some(keeper));
        let alarmed = NTPQ.replace("leap_none", "leap_alarm").replace("stratum=2", "stratum=16");
        assert!(!parse_ntpd(&alarmed).unwrap().is_synchronized);
        assert_eq!(parse_ntpd("ntpq: read: Connection refused"), None);
    }

    #[test]
    fn timesyncd_tells_a_stratum() {
        let text = "ServerName=ntp.lan\nPollIntervalUSec=34min 8s\nNTPMessage={ Leap=0, Version=4, \
                    Mode=4, Stratum=2, Precision=-24, Ignored=no, PacketCount=7, Jitter=1.2ms }\n";
        assert_eq!(parse_timesyncd(text), Some(2.0));
        assert_eq!(parse_timesyncd("NTPMessage={ Leap=0"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(text in "(leap_|stratum=|offset=|NTPMessage=\\{|Stratum=|,|\n|[0-9.]| ){0,60}") {
            parse_ntpd(&text);
            parse_timesyncd(&text);
        }
    }
}

//! This boot, and whether the one before was ended in order.
//!
//! How often the host was booted is what `stoa_boot_info` and `node_boot_time_seconds` say over time:
//! the collector remembers, so nothing is kept here. Whether the shutdown was clean is read from
//! `/var/log/wtmp`, where an ordered shutdown leaves a record, or, where there is none, from the journal:
//! journald sets aside, under a name that ends with `~`, a file that it finds left open. A wtmp that
//! nobody has written to since this boot (newer systems keep none, and leave the old one behind) says
//! nothing of it. Where neither is kept it is not told.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, Tree, read_small};

const INFO: Desc = Desc::gauge("stoa_boot_info", "Always 1; the labels name this boot.");
const RECORDED: Desc =
    Desc::gauge("stoa_boots_recorded", "Boots that the host's own log, wtmp, holds now.");
const CLEAN: Desc = Desc::gauge(
    "stoa_last_shutdown_clean",
    "Whether the system was shut down in order before this boot.",
);

const WTMP: &str = "/var/log/wtmp";
const JOURNAL: &str = "/var/log/journal";
/// Of wtmp, the end is read; logrotate begins a new one each month.
const WTMP_BYTES_MAX: u64 = 4 << 20;
/// Entries of the journal's directories looked at.
const JOURNAL_ENTRIES_MAX: usize = 10_000;
/// A file set aside so soon after the boot was left open by the boot before.
const JOURNAL_WINDOW_SECONDS: i64 = 600;
/// The clock may have been set a little since.
const SLACK_SECONDS: i64 = 60;
const INTERVAL: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(10);

/// A record's size: glibc's `struct utmp`, which has wider fields on 64-bit ARM.
const RECORD_BYTES: usize = if cfg!(target_arch = "aarch64") { 400 } else { 384 };
const KIND_RUN_LEVEL: u16 = 1;
const KIND_BOOT: u16 = 2;
/// Where `ut_user` begins.
const USER_AT: usize = 44;
const SHUTDOWN: &[u8] = b"shutdown\0";

/// What wtmp tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    boots: u32,
    /// Whether a shutdown stands before the last boot; `None` if nothing of the boot before is left.
    is_clean: Option<bool>,
}

/// The whole records of a wtmp, or of its end.
pub(super) fn parse(bytes: &[u8]) -> Log {
    let mut log = Log::default();
    let mut has_shutdown = false;
    let (records, _cut) = bytes.as_chunks::<RECORD_BYTES>();
    for record in records {
        let [low, high, ..] = record;
        let user = record.get(USER_AT..).unwrap_or_default();
        match u16::from_le_bytes([*low, *high]) {
            KIND_RUN_LEVEL if user.starts_with(SHUTDOWN) => has_shutdown = true,
            KIND_BOOT => {
                let is_known = has_shutdown || log.boots > 0;
                log.is_clean = is_known.then_some(has_shutdown);
                log.boots += 1;
                has_shutdown = false;
            }
            _ => {}
        }
    }
    log
}

/// Reads any bytes as a wtmp: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(bytes: &[u8], _: Now, _: &mut Reading) {
    let log = parse(bytes);
    assert!(usize::try_from(log.boots).is_ok_and(|boots| boots <= bytes.len() / RECORD_BYTES));
    assert!(log.boots > 0 || log.is_clean.is_none());
}

/// The source `boots`.
#[derive(Debug)]
pub(crate) struct Boots {
    /// What does not change until the next boot.
    boot: Option<Labels>,
}

impl Configured for Boots {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { boot: None }
    }
}

impl Source for Boots {
    fn name(&self) -> &'static str {
        "boots"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        if self.boot.is_none() {
            let path = roots.path(Tree::Proc, "sys/kernel/random/boot_id");
            let id = match read_small(&path) {
                Ok(id) => id,
                Err(error) => return reading.fail(Problem::read(path, error)),
            };
            let kernel = roots.path(Tree::Proc, "sys/kernel/osrelease");
            let kernel = read_small(&kernel).unwrap_or_default();
            self.boot = Some(Labels::from_pairs_last_wins([("boot_id", id), ("kernel", kernel)]));
        }
        if let Some(boot) = &self.boot {
            reading.one(&INFO, boot.clone(), 1.0);
        }
        let log = match tail(&roots.on_host(WTMP)) {
            Ok((bytes, written)) => {
                let log = parse(&bytes);
                // What was not written to since the boot tells of an earlier one.
                let is_of_now =
                    booted(roots).is_none_or(|at| written >= at.saturating_sub(SLACK_SECONDS));
                Log { is_clean: log.is_clean.filter(|_| is_of_now), ..log }
            }
            Err(error) => {
                reading.note(Problem::read(roots.on_host(WTMP), error));
                Log::default()
            }
        };
        if log.boots > 0 {
            reading.single(&RECORDED, f64::from(log.boots));
        }
        if let Some(is_clean) = log.is_clean.or_else(|| journal_is_clean(roots)) {
            reading.single(&CLEAN, f64::from(u8::from(is_clean)));
        }
    }
}

/// The end of a file of records, from the beginning of a record, and when it was last written to.
fn tail(path: &Path) -> io::Result<(Vec<u8>, i64)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    let record = RECORD_BYTES as u64;
    let from = length.saturating_sub(WTMP_BYTES_MAX).div_ceil(record) * record;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(WTMP_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.mtime()))
}

/// When this boot was, in seconds since the epoch.
fn booted(roots: &Roots) -> Option<i64> {
    let stat = std::fs::read_to_string(roots.path(Tree::Proc, "stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

/// Whether journald found its file closed at this boot; `None` where it keeps none or cannot be asked.
fn journal_is_clean(roots: &Roots) -> Option<bool> {
    let booted = booted(roots)?;
    let from = booted.saturating_sub(SLACK_SECONDS);
    let window = from..booted.saturating_add(JOURNAL_WINDOW_SECONDS);
    let (mut entries, mut is_kept) = (0, false);
    for machine in std::fs::read_dir(roots.on_host(JOURNAL)).ok()?.flatten() {
        let Ok(files) = std::fs::read_dir(machine.path()) else { continue };
        for file in files.flatten() {
            entries += 1;
            if entries > JOURNAL_ENTRIES_MAX {
                return None;
            }
            let name = file.file_name();
            let name = name.to_string_lossy();
            is_kept |= name == "system.journal";
            let is_aside = name.starts_with("system@") && name.ends_with(".journal~");
            if is_aside && file.metadata().is_ok_and(|m| window.contains(&m.ctime())) {
                return Some(false);
            }
        }
    }
    is_kept.then_some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u16, user: &[u8]) -> Vec<u8> {
        let mut record = vec![0; RECORD_BYTES];
        record[..2].copy_from_slice(&kind.to_le_bytes());
        record[USER_AT..][..user.len()].copy_from_slice(user);
        record
    }

    #[track_caller]
    fn check(records: &[Vec<u8>], boots: u32, is_clean: Option<bool>) {
        assert_eq!(parse(&records.concat()), Log { boots, is_clean });
    }

    #[test]
    fn a_boot_without_a_shutdown_before_it_follows_a_crash() {
        let boot = || record(KIND_BOOT, b"reboot");
        let shutdown = || record(KIND_RUN_LEVEL, b"shutdown");
        let level = || record(KIND_RUN_LEVEL, b"runlevel");
        let login = || record(7, b"shutdown");
        check(&[], 0, None);
        check(&[boot(), level()], 1, None);
        check(&[boot(), level(), shutdown(), boot(), login()], 2, Some(true));
        check(&[boot(), shutdown(), boot(), login(), boot()], 3, Some(false));
        check(&[shutdown(), boot()], 1, Some(true));
    }

    #[test]
    fn the_end_of_a_long_log_begins_with_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wtmp");
        std::fs::write(&path, record(KIND_BOOT, b"reboot").repeat(20_000)).unwrap();
        let log = parse(&tail(&path).unwrap().0);
        assert_eq!(u64::from(log.boots), WTMP_BYTES_MAX / RECORD_BYTES as u64);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(parse(&bytes).boots <= 5);
        }
    }
}

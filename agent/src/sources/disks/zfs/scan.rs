//! Scrubs and resilvers: how far the one under way is, or how the last one ended.

use crate::sources::sheet::Sheet;
use crate::sources::{Desc, number};

const STATE: Desc = Desc::gauge(
    "zfs_pool_scrub_state",
    "State code for the most recent scrub or resilver [0: none, 1: scrub in progress, \
     2: scrub finished, 3: scrub canceled, 4: scrub paused, 5: resilver in progress, \
     6: resilver finished].",
);
const ERRORS: Desc = Desc::gauge(
    "zfs_pool_scrub_errors",
    "Number of errors detected during the most recent scrub or resilver.",
);
const REPAIRED: Desc = Desc::gauge(
    "zfs_pool_scrub_repaired_bytes",
    "Bytes repaired during the most recent scrub or resilver.",
);
const COMPLETED: Desc = Desc::gauge(
    "zfs_pool_scrub_last_completed_timestamp_seconds",
    "Unix timestamp of the most recently completed scrub or resilver, or 0 if none.",
);
const TOTAL: Desc = Desc::gauge(
    "zfs_pool_scrub_total_bytes",
    "Total bytes to scan in the in-progress scrub or resilver, 0 if no scan is running.",
);
const SCANNED: Desc = Desc::gauge(
    "zfs_pool_scrub_scanned_bytes",
    "Bytes read so far by the in-progress scrub or resilver, 0 if no scan is running.",
);
const ISSUED: Desc = Desc::gauge(
    "zfs_pool_scrub_issued_bytes",
    "Bytes verified so far by the in-progress scrub or resilver, 0 if no scan is running.",
);
const RATE: Desc = Desc::gauge(
    "zfs_pool_scrub_rate_bytes_per_second",
    "Current scan rate of the in-progress scrub or resilver, 0 if no scan is running.",
);
const PROGRESS: Desc = Desc::gauge(
    "stoa_zfs_scrub_progress_ratio",
    "Part of the running scrub or resilver that is done.",
);
const SECONDS_LEFT: Desc = Desc::gauge(
    "stoa_zfs_scrub_left_seconds",
    "Time until the running scrub or resilver is expected to end.",
);

/// The last scrub or resilver of a pool; what is not said is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scan {
    pub(super) state: State,
    pub(super) errors: Option<f64>,
    pub(super) repaired_bytes: Option<f64>,
    /// Unix time.
    pub(super) completed: Option<f64>,
    pub(super) total_bytes: Option<f64>,
    pub(super) scanned_bytes: Option<f64>,
    pub(super) issued_bytes: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    /// From 0 to 1.
    pub(super) done: Option<f64>,
    pub(super) seconds_left: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There was none.
    #[default]
    None,
    Scrubbing,
    Scrubbed,
    Canceled,
    Paused,
    Resilvering,
    Resilvered,
}

impl State {
    fn code(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Scrubbing => 1.0,
            Self::Scrubbed => 2.0,
            Self::Canceled => 3.0,
            Self::Paused => 4.0,
            Self::Resilvering => 5.0,
            Self::Resilvered => 6.0,
        }
    }

    pub(super) fn is_running(self) -> bool {
        matches!(self, Self::Scrubbing | Self::Paused | Self::Resilvering)
    }
}

impl Scan {
    /// Works out what follows from the rest.
    pub(super) fn completed_by_sums(mut self) -> Self {
        let left = self.total_bytes.zip(self.issued_bytes).map(|(total, issued)| total - issued);
        if self.done.is_none() {
            let total = self.total_bytes.filter(|total| *total > 0.0);
            self.done = total.zip(self.issued_bytes).map(|(total, issued)| issued / total);
        }
        if self.seconds_left.is_none() {
            let rate = self.bytes_per_second.filter(|rate| *rate > 0.0);
            self.seconds_left = left.zip(rate).map(|(left, rate)| (left / rate).max(0.0));
        }
        self.done = self.done.map(|done| done.clamp(0.0, 1.0));
        self
    }
}

/// Tells a pool's scan; numbers of one that does not run are 0, as zfs_exporter has them.
/// `completed` is when one was last seen to be complete, if the scan itself does not say.
pub(super) fn tell(pool: &str, scan: &Scan, completed: Option<f64>, sheet: &mut Sheet) {
    let pairs = [("pool", pool)];
    let completed = scan.completed.or(completed).unwrap_or_default();
    sheet.push(&STATE, &pairs, scan.state.code());
    sheet.push(&ERRORS, &pairs, scan.errors.unwrap_or_default());
    sheet.push(&REPAIRED, &pairs, scan.repaired_bytes.unwrap_or_default());
    sheet.push(&COMPLETED, &pairs, completed);
    let is_running = scan.state.is_running();
    for (desc, value) in [
        (&TOTAL, scan.total_bytes),
        (&SCANNED, scan.scanned_bytes),
        (&ISSUED, scan.issued_bytes),
        (&RATE, scan.bytes_per_second.filter(|_| scan.state != State::Paused)),
    ] {
        sheet.push(desc, &pairs, value.filter(|_| is_running).unwrap_or_default());
    }
    sheet.push_some(&PROGRESS, &pairs, scan.done.filter(|_| is_running));
    let is_moving = is_running && scan.state != State::Paused;
    sheet.push_some(&SECONDS_LEFT, &pairs, scan.seconds_left.filter(|_| is_moving));
}

/// Bytes as ZFS writes them: `640G`, `1.20T`, `0B`.
pub(super) fn bytes(word: &str) -> Option<f64> {
    let word = word.trim_end_matches(',').trim_end_matches("/s");
    let word = word.strip_suffix('B').unwrap_or(word);
    let word = word.strip_suffix('i').unwrap_or(word);
    let power = "KMGTPEZ".chars().position(|unit| word.ends_with(unit));
    let digits = if power.is_some() { word.get(..word.len() - 1)? } else { word };
    let exponent = i32::try_from(power.map_or(0, |power| power + 1)).ok()?;
    number(digits).map(|number| number * 1024_f64.powi(exponent))
}

/// Unix time of a date in UTC as C writes one: `Sun Jan 11 00:34:35 2026`.
pub(super) fn date(text: &str) -> Option<f64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_ascii_whitespace().skip(1);
    let (month, day, time, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let day: i64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let year: i64 = year.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut parts = time.split(':').map(str::parse::<i64>);
    let mut part = || parts.next()?.ok().filter(|part| (0..=60).contains(part));
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    // Days since 1970, counted in years that begin with March.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = days * 86_400 + hours * 3600 + minutes * 60 + seconds;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Some(seconds as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_read_with_their_unit() {
        assert_eq!(bytes("0"), Some(0.0));
        assert_eq!(bytes("0B"), Some(0.0));
        assert_eq!(bytes("512B,"), Some(512.0));
        assert_eq!(bytes("1.50K"), Some(1536.0));
        assert_eq!(bytes("433M/s"), Some(433.0 * 1024.0 * 1024.0));
        assert_eq!(bytes("2T"), Some(2.0 * 1024_f64.powi(4)));
        assert_eq!(bytes("2GiB"), Some(2.0 * 1024_f64.powi(3)));
        assert_eq!(bytes("T"), None);
        assert_eq!(bytes(""), None);
        assert_eq!(bytes("many"), None);
    }

    #[test]
    fn dates_are_read_as_utc() {
        assert_eq!(date("Thu Jan  1 00:00:00 1970"), Some(0.0));
        assert_eq!(date("Mon Feb  2 02:40:00 2026"), Some(1_770_000_000.0));
        assert_eq!(date("Thu Feb 29 12:00:01 2024"), Some(1_709_208_001.0));
        assert_eq!(date("Sun Dec 31 23:59:59 2000"), Some(978_307_199.0));
        assert_eq!(date("Sun Foo 31 23:59:59 2000"), None);
        assert_eq!(date("Sun Dec 32 23:59:59 2000"), None);
        assert_eq!(date("Sun Dec 31 23:59 2000"), None);
        assert_eq!(date(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC{0,40}", word in "[0-9.]{0,9}[KMGTPEZBi/s,é]{0,4}") {
            let _bytes = (bytes(&text), bytes(&word));
            let _date = date(&text);
        }
    }
}

//! `os-release`: which operating system this is.

use std::collections::BTreeMap;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source};

const INFO: Desc = Desc::gauge(
    "node_os_info",
    "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, \
     name, pretty_name, variant, variant_id, version, version_codename, version_id.",
);
const VERSION: Desc =
    Desc::gauge("node_os_version", "Metric containing the major.minor part of the OS version.");
const SUPPORT_END: Desc = Desc::gauge(
    "node_os_support_end_timestamp_seconds",
    "Metric containing the end-of-life date timestamp of the OS.",
);
const INTERVAL: Duration = Duration::from_secs(60);
/// The first that is there counts.
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Longer files are not read.
const FILE_BYTES_MAX: u64 = 64 << 10;
const SECONDS_PER_DAY: i64 = 86_400;

const INFO_LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];
const VERSION_LABELS: [&str; 3] = ["id", "id_like", "name"];

/// What is assigned, by key in lower case, as a shell would read it.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.trim().split_once('=')
            && !key.starts_with('#')
        {
            values.insert(key.to_ascii_lowercase(), unquoted(value));
        }
    }
    values
}

/// A value without its quotes; what a backslash guards stands for itself.
fn unquoted(value: &str) -> String {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let mut plain = String::with_capacity(value.len());
    let mut rest = value.chars().skip(usize::from(quote.is_some()));
    while let Some(c) = rest.next() {
        if Some(c) == quote {
            break;
        }
        let is_guard = c == '\\' && quote != Some('\'');
        plain.extend(if is_guard { rest.next() } else { Some(c) });
    }
    plain
}

/// `20.04.2` is 20.04.
fn version(text: &str) -> Option<f64> {
    let mut parts = text.split('.');
    let digits = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    let major = parts.next().filter(digits)?;
    let minor = parts.next().filter(digits).unwrap_or("0");
    format!("{major}.{minor}").parse().ok().filter(|version: &f64| version.is_finite())
}

/// A date, `2029-05-31`, as seconds since the Unix epoch.
pub(crate) fn date(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_date =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date {
        return None;
    }
    // Years begin with March here, so that the day that may lack is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day - 1;
    const EPOCH_DAYS: i64 = 719_468;
    Some(((days - EPOCH_DAYS) * SECONDS_PER_DAY) as f64)
}

/// The source `os`.
#[derive(Debug)]
pub(crate) struct OsRelease {
    labels: Kept<Labels>,
}

impl Configured for OsRelease {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl OsRelease {
    fn keep(&mut self, values: &BTreeMap<String, String>, names: &[&'static str]) -> Labels {
        let pairs = names.iter().map(|name| (*name, values.get(*name).map_or("", String::as_str)));
        let labels = Labels::from_pairs_last_wins(pairs);
        self.labels.get(&labels.to_string(), |_| labels.clone())
    }
}

impl Source for OsRelease {
    fn name(&self) -> &'static str {
        "os"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut missing = None;
        let mut text = None;
        for file in FILES {
            let path = roots.on_host(file);
            match read_whole(&path, FILE_BYTES_MAX) {
                Ok(found) => {
                    text = Some(found);
                    break;
                }
                Err(error) => missing = Some(Problem::read(path, error)),
            }
        }
        let Some(text) = text else {
            if let Some(problem) = missing {
                reading.fail(problem);
            }
            return;
        };
        let values = parse(&text);
        let mut info = INFO.family();
        info.push(self.keep(&values, &INFO_LABELS), 1.0);
        reading.family(info);
        if let Some(value) = values.get("version_id").and_then(|text| version(text)) {
            let mut family = VERSION.family();
            family.push(self.keep(&values, &VERSION_LABELS), value);
            reading.family(family);
        }
        if let Some(value) = values.get("support_end").and_then(|text| date(text)) {
            reading.single(&SUPPORT_END, value);
        }
        self.labels.end_round();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_lose_their_quotes() {
        let values = parse("# PRETTY\nNAME=\"A \\\"B\\\" $C\"\nID='d\\e'\nVERSION_ID=12\nX\n=\n");
        let get = |key| values.get(key).map(String::as_str);
        assert_eq!(get("name"), Some("A \"B\" $C"));
        assert_eq!(get("id"), Some("d\\e"));
        assert_eq!(get("version_id"), Some("12"));
    }

    #[test]
    fn versions_and_dates_are_numbers() {
        assert_eq!(version("20.04.2"), Some(20.04));
        assert_eq!(version("12"), Some(12.0));
        assert_eq!(version("sid"), None);
        assert_eq!(date("1970-01-01"), Some(0.0));
        assert_eq!(date("2000-03-01"), Some(951_868_800.0));
        assert_eq!(date("2029-05-31"), Some(1_874_880_000.0));
        assert_eq!(date("2029-13-31"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[A-Z=\"'\\\\\n#é0-9.-]*") {
            for (_, value) in parse(&text) {
                prop_assert!(value.len() <= text.len());
                let _ = (version(&value), date(&value));
            }
        }
    }
}

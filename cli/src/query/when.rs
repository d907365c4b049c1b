//! Times and durations as people write them: `14:30`, `2h ago`, `yesterday`, `5 minutes`, and all
//! that Prometheus's API takes.
//!
//! A time without a zone is UTC, as every time that is printed is.

use stoa_collector::http::prometheus::{duration, rfc3339, time};
use stoa_daemon::Misuse;

const DAY_MS: i64 = 86_400_000;

/// What a text means as a time, now being `now`; milliseconds since 1970.
///
/// # Errors
/// [`Misuse`], naming `flag`.
pub(crate) fn moment(flag: &str, text: &str, now: i64) -> Result<i64, Misuse> {
    let text = text.trim();
    relative(text, now).or_else(|| of_calendar(text, now)).or_else(|| time(text).ok()).ok_or_else(
        || {
            Misuse(format!(
                "{flag}: {text:?} is no time; such are: 14:30, yesterday, 2h ago, \
                 2026-01-31 14:30, 2026-01-31T14:30:00Z, 1769869800"
            ))
        },
    )
}

/// What a text means as a duration, in milliseconds; more than none.
///
/// # Errors
/// [`Misuse`], naming `flag`.
pub(crate) fn span(flag: &str, text: &str) -> Result<i64, Misuse> {
    let text = text.trim();
    let millis = duration(text).ok().or_else(|| in_words(text)).ok_or_else(|| {
        Misuse(format!("{flag}: {text:?} is no duration; such are: 90s, 1h30m, 5 minutes"))
    })?;
    if millis > 0 { Ok(millis) } else { Err(Misuse(format!("{flag}: {text:?} is not above zero"))) }
}

/// `now`, `-2h`, `2 hours ago`. Bare numbers are no durations here: `-5` is a time before 1970.
fn relative(text: &str, now: i64) -> Option<i64> {
    if text.eq_ignore_ascii_case("now") {
        return Some(now);
    }
    let lower = text.to_ascii_lowercase();
    let ago = match lower.strip_suffix("ago") {
        Some(ago) => ago.trim(),
        None => lower.strip_prefix('-').filter(|ago| ago.ends_with(char::is_alphabetic))?,
    };
    let ago = duration(ago).ok().or_else(|| in_words(ago)).filter(|ago| *ago >= 0)?;
    Some(now.saturating_sub(ago))
}

/// `today` and `yesterday` are their midnights; `14:30` the last that was; dates without a zone.
fn of_calendar(text: &str, now: i64) -> Option<i64> {
    let midnight = now - now.rem_euclid(DAY_MS);
    match text.to_ascii_lowercase().as_str() {
        "today" => return Some(midnight),
        "yesterday" => return Some(midnight - DAY_MS),
        _ => {}
    }
    if let Some(clock) = of_clock(text) {
        let at = midnight + clock;
        return Some(if at > now { at - DAY_MS } else { at });
    }
    let (date, clock) = match text.split_once([' ', 'T', 't']) {
        Some((date, clock)) => (date, of_clock(clock)?),
        None => (text, 0),
    };
    // Only a whole date has ten bytes and passes.
    let day = Some(date).filter(|date| date.len() == 10)?;
    Some(time(&format!("{day}T00:00:00Z")).ok()? + clock)
}

/// `14:30` or `14:30:05` as milliseconds of a day.
fn of_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(|part| {
        let is_number = !part.is_empty() && part.len() <= 2;
        part.parse::<u8>().ok().filter(|_| is_number && !part.starts_with('+'))
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let is_one = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    is_one.then_some(seconds * 1000)
}

/// `5 minutes`, `1.5h`, `1 hour, 30 minutes`, `2 days and 4 hours`.
fn in_words(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut millis = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = cut(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = cut(after.trim_start(), |c| c.is_ascii_alphabetic());
        millis += number.parse::<f64>().ok()? * unit_ms(unit)?;
        rest = after.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    // Up to a few hundred years.
    #[expect(clippy::cast_possible_truncation, reason = "bounded in the same expression")]
    (millis < 1e13).then(|| millis.round() as i64)
}

/// The characters at the beginning for which `is` holds, and the rest.
fn cut(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is(c)).unwrap_or(text.len()))
}

fn unit_ms(unit: &str) -> Option<f64> {
    let unit = unit.to_ascii_lowercase();
    let is = |names: &[&str]| names.contains(&unit.as_str());
    Some(if is(&["ms", "milli", "millis", "millisecond", "milliseconds"]) {
        1.0
    } else if is(&["s", "sec", "secs", "second", "seconds"]) {
        1e3
    } else if is(&["m", "min", "mins", "minute", "minutes"]) {
        6e4
    } else if is(&["h", "hr", "hrs", "hour", "hours"]) {
        3.6e6
    } else if is(&["d", "day", "days"]) {
        8.64e7
    } else if is(&["w", "week", "weeks"]) {
        7.0 * 8.64e7
    } else if is(&["y", "year", "years"]) {
        365.0 * 8.64e7
    } else {
        return None;
    })
}

/// A time as it is shown beside a value.
pub(super) fn shown(ms: i64) -> String {
    rfc3339(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14T22:13:20Z
    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, want) in [
            ("now", Some("2023-11-14T22:13:20Z")),
            ("2h ago", Some("2023-11-14T20:13:20Z")),
            ("1 hour 30 minutes ago", Some("2023-11-14T20:43:20Z")),
            ("-90s", Some("2023-11-14T22:11:50Z")),
            ("-1.5h", Some("2023-11-14T20:43:20Z")),
            ("-1", Some("1969-12-31T23:59:59Z")),
            ("today", Some("2023-11-14T00:00:00Z")),
            ("Yesterday", Some("2023-11-13T00:00:00Z")),
            ("14:30", Some("2023-11-14T14:30:00Z")),
            ("23:30:01", Some("2023-11-13T23:30:01Z")),
            ("2023-02-28", Some("2023-02-28T00:00:00Z")),
            ("2023-02-28 4:05", Some("2023-02-28T04:05:00Z")),
            ("2023-02-28T04:05:06", Some("2023-02-28T04:05:06Z")),
            ("2023-02-28T04:05:06+01:00", Some("2023-02-28T03:05:06Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("2023-02-30", None),
            ("24:00", None),
            ("1:2:3:4", None),
            (":", None),
            ("+1:00", None),
            ("ago", None),
            ("--1h", None),
            ("-h", None),
            ("", None),
        ] {
            let read = moment("--time", text, NOW).ok();
            assert_eq!(read.map(rfc3339).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, want) in [
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("5 minutes", Some(300_000)),
            ("1 hour, 30 min", Some(5_400_000)),
            ("2 days and 4 hours", Some(187_200_000)),
            ("1w", Some(604_800_000)),
            ("250 ms", Some(250)),
            ("5 fortnights", None),
            ("minutes", None),
            ("1..5h", None),
            ("9e99 years", None),
            ("999999999 years", None),
            ("0 minutes", None),
            ("", None),
        ] {
            assert_eq!(span("--range", text).ok(), want, "{text:?}");
        }
    }
}

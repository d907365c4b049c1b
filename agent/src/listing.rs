//! `stoa-agent sources`: which sources there are, when each is read, and what it reads here or why not.
//!
//! Reads each source that is on once, as the user who asks: what the agent may read as its own can be more
//! or less. Knows nothing of any source.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use stoa_daemon::Span;

use crate::join::printable;
use crate::print::{self, PrintError};
use crate::sampler::{Seen, State};
use crate::sources::registry::{self, Listed};
use crate::sources::settings::Settings;
use crate::sources::{Now, Roots};

/// A source, and what it read.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Whether it is read.
    pub is_on: bool,
    /// How often, in seconds; of one that is off, how often it would be.
    pub interval_seconds: f64,
    /// How long it may take, in seconds, where it is read beside the ticks.
    pub deadline_seconds: Option<f64>,
    /// What it tells, in a line.
    pub about: &'static str,
    /// What it read; `None` where it was not asked.
    pub here: Option<Seen>,
}

/// All sources as `settings` have them; not read.
///
/// # Errors
/// [`PrintError::Settings`].
pub fn rows(settings: &Settings, sampling: Duration) -> Result<Vec<Row>, PrintError> {
    let row = |Listed { name, is_on, interval, deadline, about }| Row {
        name,
        is_on,
        interval_seconds: interval.unwrap_or(sampling).max(sampling).as_secs_f64(),
        deadline_seconds: deadline.map(|deadline: Duration| deadline.as_secs_f64()),
        about,
        here: None,
    };
    Ok(registry::list(settings)?.into_iter().map(row).collect())
}

/// Keeps those of the names given, all if none is.
///
/// # Errors
/// [`PrintError::UnknownSource`].
pub fn keep(rows: &mut Vec<Row>, names: &[String]) -> Result<(), PrintError> {
    let is_known = |name: &&String| rows.iter().any(|row| row.name == name.as_str());
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        return Err(PrintError::UnknownSource { name: name.clone() });
    }
    rows.retain(|row| names.is_empty() || names.iter().any(|name| name == row.name));
    Ok(())
}

/// Reads those that are on once; `waiting` hears each second who has not answered.
///
/// # Errors
/// [`PrintError::Settings`].
pub fn look(
    rows: &mut [Row],
    roots: &Roots,
    settings: &Settings,
    now: Now,
    waiting: impl FnMut(&[&'static str]),
) -> Result<(), PrintError> {
    let mut wanted = settings.clone();
    for name in registry::names() {
        wanted.enable(name, rows.iter().any(|row| row.is_on && row.name == name));
    }
    for seen in print::read(roots, &wanted, now, waiting)?.seen() {
        if let Some(row) = rows.iter_mut().find(|row| row.name == seen.name) {
            row.here = Some(seen);
        }
    }
    Ok(())
}

/// Writes a table for a person; what is missing or wrong stands below its source.
///
/// # Errors
/// Those of `out`.
pub fn write(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let wide = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let line = |name: &str, every: &str, deadline: &str, here: &str, about: &str| {
        format!("{name:wide$}  {every:6}  {deadline:8}  {here:>6}  {about}\n")
    };
    let span = |seconds: f64| Span(Duration::from_secs_f64(seconds)).to_string();
    let mut text = line("SOURCE", "EVERY", "DEADLINE", "SERIES", "WHAT IT TELLS");
    for row in rows {
        let every = if row.is_on { span(row.interval_seconds) } else { "off".to_owned() };
        let deadline = row.deadline_seconds.map_or("-".to_owned(), span);
        let here = match &row.here {
            None => "-".to_owned(),
            Some(Seen { state: State::Fails | State::Late, .. }) => "fails".to_owned(),
            Some(Seen { series: 0, .. }) => "none".to_owned(),
            Some(Seen { series, .. }) => series.to_string(),
        };
        text.push_str(&line(row.name, &every, &deadline, &here, row.about));
        for why in row.here.iter().flat_map(|here| &here.why) {
            text.push_str(line("", "", "", "", &format!("  {}", printable(why))).as_str());
        }
    }
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stands_below_its_source() {
        let row = |name, is_on, here: Option<(State, usize, &str)>| Row {
            name,
            is_on,
            interval_seconds: 5.0,
            deadline_seconds: is_on.then_some(120.0),
            about: "what it tells",
            here: here.map(|(state, series, why)| Seen {
                name,
                state,
                series,
                took: Some(Duration::from_millis(1500)),
                why: why.lines().map(str::to_owned).collect(),
            }),
        };
        let rows = [
            row("cpu", true, Some((State::Read, 42, ""))),
            row("smart", true, Some((State::Absent, 0, "smartctl is not installed"))),
            row("textfile", true, Some((State::Part, 1, "/x is broken\nand 3 more"))),
            row("nut", true, Some((State::Fails, 0, "no answer"))),
            row("slabinfo", false, None),
        ];
        let mut out = Vec::new();
        write(&rows, &mut out).unwrap();
        let expected = "\
SOURCE    EVERY   DEADLINE  SERIES  WHAT IT TELLS
cpu       5s      2m            42  what it tells
smart     5s      2m          none  what it tells
                                      smartctl is not installed
textfile  5s      2m             1  what it tells
                                      /x is broken
                                      and 3 more
nut       5s      2m         fails  what it tells
                                      no answer
slabinfo  off     -              -  what it tells
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let json = serde_json::to_value(rows.first()).unwrap();
        let here = serde_json::json!(
            {"name": "cpu", "state": "read", "series": 42, "took_seconds": 1.5, "why": []}
        );
        assert_eq!(json["here"], here);
    }

    #[test]
    fn all_are_listed_and_those_that_are_on_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("loadavg"), "0.21 0.37 0.39 1/719 19737\n").unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut settings = Settings::default();
        for name in registry::names() {
            settings.enable(name, matches!(name, "loadavg" | "entropy"));
        }
        let mut rows = rows(&settings, Duration::from_secs(1)).unwrap();
        look(&mut rows, &roots, &settings, Now { unix_micros: 0 }, |_| {}).unwrap();
        assert_eq!(rows.len(), registry::names().len());
        let read: Vec<&Seen> = rows.iter().filter_map(|row| row.here.as_ref()).collect();
        let states: Vec<_> = read.iter().map(|seen| (seen.name, seen.state)).collect();
        assert_eq!(states, [("loadavg", State::Read), ("entropy", State::Absent)]);
        assert!(read[1].why[0].contains("entropy_avail"), "{:?}", read[1]);
    }
}

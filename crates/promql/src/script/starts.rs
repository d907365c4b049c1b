//! Start timestamps of loaded samples: `metric{label="value"}@st -1m 0s+10sx3 _ *` on the line before
//! the samples, one offset from the sample's time for each of them, or `@st -1m` alone for all lines
//! after it that have none of their own, from its beginning again where it is shorter.
//!
//! `_` and `_x3`: one or three samples without; `-1mx3` the same offset four times, `-1m+10sx3` four that
//! grow; `*` and `*x3` the offset before, once more or four times.

use stoa_model::Labels;

use super::series::{ITEMS_MAX, Sequence, parse_series};
use crate::parse::parse_duration_ms;

/// Offsets from the times of samples; none where the start is unknown.
pub(super) type Offsets = Vec<Option<i64>>;

/// What lines said so far of the lines that follow.
#[derive(Default)]
pub(super) struct Announced {
    default: Offsets,
    next: Option<(Labels, Offsets)>,
}

impl Announced {
    /// Takes in a line; true when it is one of start timestamps.
    pub(super) fn take(&mut self, line: &str) -> Result<bool, String> {
        let Some((word, offsets)) = line.split_once(char::is_whitespace) else { return Ok(false) };
        let Some(series) = word.strip_suffix("@st") else { return Ok(false) };
        self.finish()?;
        let offsets =
            sequence(offsets).map_err(|error| format!("invalid @st sequence: {error}"))?;
        if series.is_empty() {
            self.default = offsets;
        } else {
            let (labels, _) = parse_series(series)?;
            self.next = Some((labels, offsets));
        }
        Ok(true)
    }

    /// The offsets of the samples of a line.
    pub(super) fn of(&mut self, labels: &Labels, items: &Sequence) -> Result<Offsets, String> {
        let Some((announced, offsets)) = self.next.take() else {
            let default = self.default.iter().copied().cycle();
            return Ok(default.take(items.len()).collect());
        };
        if announced != *labels {
            return Err("@st metric does not match the following sample line metric".into());
        }
        if offsets.len() != items.len() {
            let (starts, samples) = (offsets.len(), items.len());
            return Err(format!("@st line has {starts} values but sample line has {samples}"));
        }
        Ok(offsets)
    }

    pub(super) fn finish(&self) -> Result<(), String> {
        match self.next {
            Some(_) => Err("@st line has no following sample line".into()),
            None => Ok(()),
        }
    }
}

fn sequence(text: &str) -> Result<Offsets, String> {
    let mut offsets = Offsets::new();
    for word in text.split_whitespace() {
        let before = offsets.iter().rev().find_map(|offset| *offset).unwrap_or(0);
        item(word, before, &mut offsets).map_err(|error| format!("{word:?}: {error}"))?;
        if offsets.len() > ITEMS_MAX {
            return Err(format!("more than {ITEMS_MAX} values"));
        }
    }
    Ok(offsets)
}

fn item(word: &str, before: i64, offsets: &mut Offsets) -> Result<(), String> {
    if let Some(rest) = word.strip_prefix('_') {
        let times = if rest.is_empty() { 1 } else { times(rest)? };
        if times == 0 {
            return Err("invalid repeat count".into());
        }
        offsets.extend(std::iter::repeat_n(None, times));
        return Ok(());
    }
    let (offset, rest) = match word.strip_prefix('*') {
        Some(rest) => (before, rest),
        None => offset(word)?,
    };
    let (step, rest) = match rest.strip_prefix('+') {
        Some(step) => offset_of(step, 1)?,
        None => match rest.strip_prefix('-') {
            Some(step) => offset_of(step, -1)?,
            None => (0, rest),
        },
    };
    let times = if rest.is_empty() && step == 0 { 0 } else { times(rest)? };
    let mut next = offset;
    for _ in 0..=times {
        offsets.push(Some(next));
        next = next.saturating_add(step);
    }
    Ok(())
}

/// `x3`
fn times(text: &str) -> Result<usize, String> {
    let digits = text.strip_prefix('x').ok_or("expected \"x\" and a repeat count")?;
    let times: usize = digits.parse().map_err(|_any| "invalid repeat count".to_owned())?;
    if times > ITEMS_MAX { Err(format!("more than {ITEMS_MAX} values")) } else { Ok(times) }
}

/// A duration with a sign, and what follows it.
fn offset(text: &str) -> Result<(i64, &str), String> {
    match text.strip_prefix('-') {
        Some(text) => offset_of(text, -1),
        None => offset_of(text.strip_prefix('+').unwrap_or(text), 1),
    }
}

/// A number and a unit, which is none of `x`.
fn offset_of(text: &str, sign: i64) -> Result<(i64, &str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let after = text.get(digits..).unwrap_or("");
    let unit = after.find(|c: char| !c.is_ascii_lowercase() || c == 'x').unwrap_or(after.len());
    let (duration, rest) = text.split_at_checked(digits + unit).unwrap_or((text, ""));
    let ms = if duration == "0" { Some(0) } else { parse_duration_ms(duration) };
    let ms = ms.ok_or_else(|| format!("invalid duration {duration:?}"))?;
    Ok((sign * ms, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_expand() {
        let check = |text: &str, expect: &[i64]| {
            // 1 stands for none, which no offset here is.
            let got = sequence(text).unwrap();
            let got: Vec<i64> = got.into_iter().map(|offset| offset.unwrap_or(1)).collect();
            assert_eq!(got, expect, "{text}");
        };
        check("-1m 0s +30s _", &[-60_000, 0, 30_000, 1]);
        check("_x2 -5sx2", &[1, 1, -5000, -5000, -5000]);
        check("-10s-10sx2 0s+1sx1", &[-10_000, -20_000, -30_000, 0, 1000]);
        check("-1m _ * *x1", &[-60_000, 1, -60_000, -60_000, -60_000]);
        check("*", &[0]);
        check("-100ms", &[-100]);
        for bad in ["1", "1mx", "_x0", "x3", "1m+1s", "1m30s", "1mx9999999", "--1s", "_3"] {
            assert!(sequence(bad).is_err(), "{bad}");
        }
    }
}

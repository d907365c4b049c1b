//! The time zone, from `/etc/localtime` (`TZif`, RFC 9636): which offset holds when.

/// A time zone's rules. The default is UTC.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Zone {
    /// From when on, in seconds since the epoch, which of `kinds` holds; ascending.
    transitions: Vec<(i64, usize)>,
    kinds: Vec<Kind>,
    /// What holds after the last transition.
    rule: Option<Rule>,
}

/// An offset to UTC with its abbreviation.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    offset_seconds: i32,
    name: String,
}

/// A POSIX `TZ` text: the standard time, and the summer time with its beginning and end.
#[derive(Debug, PartialEq)]
struct Rule {
    standard: Kind,
    summer: Option<(Kind, Turn, Turn)>,
}

/// A moment of the year in local time: seconds since midnight of a day.
#[derive(Debug, PartialEq)]
struct Turn {
    day: Day,
    seconds: i64,
}

#[derive(Debug, PartialEq)]
enum Day {
    /// Month 1 to 12, week 1 to 5 (5 is the last), weekday 0 to 6 (0 is Sunday).
    Weekday { month: i64, week: i64, weekday: i64 },
    /// Day 1 to 365, without February 29.
    Julian(i64),
    /// Day 0 to 365, with February 29.
    Plain(i64),
}

const DAY_SECONDS: i64 = 86_400;

impl Zone {
    /// `None` when the bytes are no `TZif` file.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = Self::block(bytes, false)?;
        if *bytes.get(4)? < b'2' {
            return Some(first);
        }
        // From version 2 on everything stands again with times of 64 bits, then the rule.
        let (mut zone, rest) = Self::block(rest, true)?;
        let footer = std::str::from_utf8(rest).ok()?;
        zone.rule = Rule::parse(footer.trim_matches('\n'));
        Some(zone)
    }

    /// One block with its header; returns what follows it.
    fn block(bytes: &[u8], wide: bool) -> Option<(Self, &[u8])> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != b"TZif" {
            return None;
        }
        reader.take(16)?;
        let mut count = || usize::try_from(reader.u32()?).ok();
        let [utc, standard, leaps] = [count()?, count()?, count()?];
        let [times, kinds, chars] = [count()?, count()?, count()?];
        let width = if wide { 8 } else { 4 };
        let moments = reader.take(times.checked_mul(width)?)?;
        let indexes = reader.take(times)?;
        let entries = reader.take(kinds.checked_mul(6)?)?;
        let names = reader.take(chars)?;
        reader.take(leaps.checked_mul(width + 4)?.checked_add(standard)?.checked_add(utc)?)?;
        let moment = |bytes: &[u8]| match bytes.try_into() {
            Ok(eight) => Some(i64::from_be_bytes(eight)),
            Err(_) => bytes.try_into().ok().map(|four| i64::from(i32::from_be_bytes(four))),
        };
        let kind = |bytes: &[u8]| {
            let (offset, rest) = bytes.split_first_chunk::<4>()?;
            let name = names.get(usize::from(*rest.get(1)?)..)?.split(|b| *b == 0).next()?;
            let name = String::from_utf8_lossy(name).into_owned();
            Some(Kind { offset_seconds: i32::from_be_bytes(*offset), name })
        };
        let zone = Self {
            transitions: moments
                .chunks_exact(width)
                .zip(indexes)
                .map(|(bytes, index)| Some((moment(bytes)?, usize::from(*index))))
                .collect::<Option<_>>()?,
            kinds: entries.chunks_exact(6).map(kind).collect::<Option<_>>()?,
            rule: None,
        };
        Some((zone, reader.0))
    }

    /// The offset to UTC in seconds, east positive, and its abbreviation.
    pub(super) fn at(&self, unix_seconds: i64) -> (i32, &str) {
        let past = self.transitions.partition_point(|(from, _)| *from <= unix_seconds);
        let kind = match &self.rule {
            Some(rule) if past == self.transitions.len() => Some(rule.at(unix_seconds)),
            _ => {
                let index = past.checked_sub(1).and_then(|last| self.transitions.get(last));
                self.kinds.get(index.map_or(0, |(_, kind)| *kind))
            }
        };
        kind.map_or((0, "UTC"), |kind| (kind.offset_seconds, kind.name.as_str()))
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut text = Text(text);
        let standard = text.kind(None)?;
        if text.0.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let summer = text.kind(Some(standard.offset_seconds + 3600))?;
        let begin = text.turn()?;
        let end = text.turn()?;
        Some(Self { standard, summer: Some((summer, begin, end)) })
    }

    fn at(&self, unix_seconds: i64) -> &Kind {
        let Some((summer, begin, end)) = &self.summer else { return &self.standard };
        let local = unix_seconds + i64::from(self.standard.offset_seconds);
        let year = year_of(local.div_euclid(DAY_SECONDS));
        let begins = begin.in_year(year) - i64::from(self.standard.offset_seconds);
        let ends = end.in_year(year) - i64::from(summer.offset_seconds);
        let is_summer = if begins < ends {
            (begins..ends).contains(&unix_seconds)
        } else {
            !(ends..begins).contains(&unix_seconds)
        };
        if is_summer { summer } else { &self.standard }
    }
}

impl Turn {
    /// Seconds since the epoch, as if local time were UTC.
    fn in_year(&self, year: i64) -> i64 {
        let day = match self.day {
            Day::Plain(day) => days_before(year, 1) + day,
            Day::Julian(day) => {
                let leap = i64::from(is_leap(year) && day >= 60);
                days_before(year, 1) + day - 1 + leap
            }
            Day::Weekday { month, week, weekday } => {
                let first = days_before(year, month);
                // The epoch was a Thursday.
                let to_weekday = (weekday - (first + 4)).rem_euclid(7);
                let day = first + to_weekday + 7 * (week - 1);
                let next_month = if month == 12 {
                    days_before(year + 1, 1)
                } else {
                    days_before(year, month + 1)
                };
                if day < next_month { day } else { day - 7 }
            }
        };
        day * DAY_SECONDS + self.seconds
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from the epoch to the first of a month (1 to 12).
fn days_before(year: i64, month: i64) -> i64 {
    let years = year - 1;
    let leaps = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400) - 477;
    let months: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let within = usize::try_from(month - 1).ok().and_then(|m| months.get(m)).unwrap_or(&0);
    (year - 1970) * 365 + leaps + within + i64::from(month > 2 && is_leap(year))
}

fn year_of(days_since_epoch: i64) -> i64 {
    // At most one off, as a year has 365.2425 days on average.
    let guess = 1970 + days_since_epoch.saturating_mul(10_000).div_euclid(3_652_425);
    if days_before(guess + 1, 1) <= days_since_epoch {
        guess + 1
    } else if days_before(guess, 1) > days_since_epoch {
        guess - 1
    } else {
        guess
    }
}

/// Bytes still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }
}

/// The rest of a POSIX `TZ` text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn eat(&mut self, prefix: char) -> Option<()> {
        self.0 = self.0.strip_prefix(prefix)?;
        Some(())
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.0.split_at(self.0.find(|c| !keep(c)).unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A name, and the offset west of UTC that follows it; `missing` stands for one left out.
    fn kind(&mut self, missing: Option<i32>) -> Option<Kind> {
        let name = if self.eat('<').is_some() {
            let name = self.take_while(|c| c != '>');
            self.eat('>')?;
            name
        } else {
            self.take_while(|c| c.is_ascii_alphabetic())
        };
        let has_offset = self.0.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
        let offset_seconds = match missing {
            Some(offset) if !has_offset => offset,
            _ => i32::try_from(-self.time()?).ok()?,
        };
        (!name.is_empty()).then(|| Kind { offset_seconds, name: name.to_owned() })
    }

    /// `hh[:mm[:ss]]` with a sign, in seconds; hours up to 167.
    fn time(&mut self) -> Option<i64> {
        let sign = if self.eat('-').is_some() {
            -1
        } else {
            self.eat('+');
            1
        };
        let mut seconds = self.number(167)? * 3600;
        if self.eat(':').is_some() {
            seconds += self.number(59)? * 60;
            if self.eat(':').is_some() {
                seconds += self.number(59)?;
            }
        }
        Some(sign * seconds)
    }

    fn number(&mut self, most: i64) -> Option<i64> {
        let number = self.take_while(|c| c.is_ascii_digit()).parse().ok()?;
        (number <= most).then_some(number)
    }

    /// `,date[/time]`
    fn turn(&mut self) -> Option<Turn> {
        self.eat(',')?;
        let day = if self.eat('M').is_some() {
            let month = self.number(12)?.max(1);
            self.eat('.')?;
            let week = self.number(5)?.max(1);
            self.eat('.')?;
            Day::Weekday { month, week, weekday: self.number(6)? }
        } else if self.eat('J').is_some() {
            Day::Julian(self.number(365)?)
        } else {
            Day::Plain(self.number(365)?)
        };
        let seconds = if self.eat('/').is_some() { self.time()? } else { 2 * 3600 };
        Some(Turn { day, seconds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-15, 2026-07-15 12:00 UTC.
    const WINTER: i64 = 1_768_478_400;
    const SUMMER: i64 = 1_784_116_800;

    #[track_caller]
    fn check(rule: &str, moment: i64, expected: (i32, &str)) {
        let rule = Rule::parse(rule).unwrap();
        let kind = rule.at(moment);
        assert_eq!((kind.offset_seconds, kind.name.as_str()), expected);
    }

    #[test]
    fn rules_say_when_summer_is() {
        check("UTC0", SUMMER, (0, "UTC"));
        check("CET-1CEST,M3.5.0,M10.5.0/3", WINTER, (3600, "CET"));
        check("CET-1CEST,M3.5.0,M10.5.0/3", SUMMER, (7200, "CEST"));
        // 2026-03-29 01:00 UTC and 2026-10-25 01:00 UTC.
        check("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_745_999, (3600, "CET"));
        check("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_746_000, (7200, "CEST"));
        check("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_889_999, (7200, "CEST"));
        check("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_890_000, (3600, "CET"));
        check("EST5EDT,M3.2.0,M11.1.0", SUMMER, (-14_400, "EDT"));
        check("AEST-10AEDT,M10.1.0,M4.1.0/3", WINTER, (39_600, "AEDT"));
        check("AEST-10AEDT,M10.1.0,M4.1.0/3", SUMMER, (36_000, "AEST"));
        check("<+0330>-3:30", SUMMER, (12_600, "+0330"));
        check("X0Y,J60/0,J61/0", 951_868_800, (3600, "Y")); // 2000-03-01
        check("X0Y,59/0,60/0", 951_782_400, (3600, "Y")); // 2000-02-29
    }

    #[test]
    fn a_file_has_transitions_and_then_its_rule() {
        let header = |version: u8, times: u8, kinds: u8, chars: u8| {
            let mut bytes = b"TZif".to_vec();
            bytes.push(version);
            bytes.extend([0; 15]);
            for count in [0, 0, 0, times, kinds, chars] {
                bytes.extend([0, 0, 0, count]);
            }
            bytes
        };
        let mut bytes = header(b'2', 0, 0, 0);
        bytes.extend(header(b'2', 1, 2, 8));
        bytes.extend(1_000_i64.to_be_bytes());
        bytes.push(1);
        for (offset, name) in [(600_i32, 0), (3600, 4)] {
            bytes.extend(offset.to_be_bytes());
            bytes.extend([0, name]);
        }
        bytes.extend(b"LMT\0CET\0\nUTC0\n");
        let zone = Zone::parse(&bytes).unwrap();
        assert_eq!(zone.at(999), (600, "LMT"));
        assert_eq!(zone.at(1000), (0, "UTC"));
        let without_rule = Zone { rule: None, ..zone };
        assert_eq!(without_rule.at(1000), (3600, "CET"));
        assert_eq!(Zone::default().at(0), (0, "UTC"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(tail in prop::collection::vec(0_u8..8, 0..200), text in any::<String>(), t in any::<i32>()) {
            let bytes = [b"TZif2", tail.as_slice()].concat();
            if let Some(zone) = Zone::parse(&bytes) {
                zone.at(i64::from(t));
            }
            if let Some(rule) = Rule::parse(&text) {
                rule.at(i64::from(t));
            }
        }

        #[test]
        fn days_and_years_agree(day in -700_000_i64..700_000) {
            let year = year_of(day);
            prop_assert!(days_before(year, 1) <= day && day < days_before(year + 1, 1));
        }
    }
}

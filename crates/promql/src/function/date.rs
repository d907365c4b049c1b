//! Dates of the proleptic Gregorian calendar, in UTC.

/// One second of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1..=12
    pub(crate) month: i64,
    /// 1..=31
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// Sunday is 0.
    pub(crate) weekday: i64,
    /// 1..=366
    pub(crate) year_day: i64,
}

impl Date {
    /// The date so many seconds after 1970 began.
    pub(crate) fn of_seconds(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = stoa_model::civil(days);
        let before: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
        Self {
            year,
            month,
            day,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (days + 4).rem_euclid(7),
            year_day: before + day,
        }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The function of that name over dates.
pub(crate) fn find(name: &str) -> Option<fn(&Date) -> i64> {
    Some(match name {
        "year" => |date| date.year,
        "month" => |date| date.month,
        "day_of_month" => |date| date.day,
        "day_of_week" => |date| date.weekday,
        "day_of_year" => |date| date.year_day,
        "days_in_month" => |date| days_in_month(date.year, date.month),
        "hour" => |date| date.hour,
        "minute" => |date| date.minute,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expect) in [
            (0, (1970, 1, 1, 4, 1)),
            (1_456_790_399, (2016, 2, 29, 1, 60)),
            (1_483_191_420, (2016, 12, 31, 6, 366)),
            (-1, (1969, 12, 31, 3, 365)),
            (4_107_542_400, (2100, 3, 1, 1, 60)),
        ] {
            let d = Date::of_seconds(seconds);
            assert_eq!((d.year, d.month, d.day, d.weekday, d.year_day), expect, "{seconds}");
        }
    }
}

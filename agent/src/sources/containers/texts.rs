//! Texts of an engine as they are told: of bounded length, in the alphabet of labels, or as a time.

/// Longer names, images and values of labels are cut.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// The text, or as much of it as is told.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// A label of a container as a label of its series, as cAdvisor writes it.
pub(super) fn label_name(name: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("container_label_{}", name.chars().map(sign).collect::<String>())
}

/// Whether it is an id as engines give them.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Seconds since the Unix epoch; `None`: no time, or the year 1, which stands for none.
pub(crate) fn seconds(rfc3339: &str) -> Option<f64> {
    let (date, time) = rfc3339.split_once(['T', ' '])?;
    let mut date = date.split('-');
    let mut part = || date.next()?.parse::<i64>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let mut clock = clock.split(':');
    let hour: f64 = clock.next()?.parse().ok()?;
    let minute: f64 = clock.next()?.parse().ok()?;
    let second: f64 = clock.next()?.parse().ok()?;
    let in_range = (0.0..24.0).contains(&hour) && (0.0..60.0).contains(&minute);
    if !in_range || !(0.0..61.0).contains(&second) {
        return None;
    }
    // Days since 1970-03-01 with March as the first month, so that leap days come last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second - offset(zone)?)
}

/// `Z`, `+01:00`: seconds before universal time.
fn offset(zone: &str) -> Option<f64> {
    let sign = match zone.chars().next()? {
        '+' => 1.0,
        '-' => -1.0,
        _ => return (zone.len() == 1).then_some(0.0),
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(sign * (f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_and_the_year_one_is_none() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0.0)),
            ("2026-11-23T00:47:21Z", Some(1_795_394_841.0)),
            ("2024-02-29T12:00:00.5+01:00", Some(1_709_204_400.5)),
            ("2024-03-01 00:00:00-00:30", Some(1_709_253_000.0)),
            ("0001-01-01T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T25:00:00Z", None),
            ("2024-01-01T00:00:00+é", None),
            ("2024-01-01", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_bounded_and_labels_in_their_alphabet() {
        assert_eq!(cut(&"é".repeat(500)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut("short"), "short");
        assert_eq!(label_name("com.docker.compose-x"), "container_label_com_docker_compose_x");
        assert!(is_id(&"0f".repeat(32)) && !is_id("0f") && !is_id(&"0g".repeat(32)));
    }
}

//! The format, written.
//!
//! Values are written as Go's `strconv` writes them (`1.234e+09`), so that output compares byte for
//! byte with an exporter's. Families and readings are written in the order given.

use std::io::{self, Write};

use stoa_model::{Family, Labels, METRIC_NAME};

/// Writes families; nothing is buffered here, hand in a buffered writer.
///
/// # Errors
/// Whatever `out` returns.
pub fn write<'a>(
    families: impl IntoIterator<Item = &'a Family>,
    out: &mut impl Write,
) -> io::Result<()> {
    for family in families {
        write_family(family, out)?;
    }
    Ok(())
}

fn write_family(family: &Family, out: &mut impl Write) -> io::Result<()> {
    write!(out, "# HELP {} ", family.name)?;
    write_escaped(&family.help, false, out)?;
    writeln!(out, "\n# TYPE {} {}", family.name, family.kind.as_str())?;
    for metric in &family.metrics {
        let name = metric.labels.metric_name().unwrap_or(&family.name);
        out.write_all(name.as_bytes())?;
        write_labels(&metric.labels, out)?;
        writeln!(out, " {}", value_text(metric.value))?;
    }
    Ok(())
}

fn write_labels(labels: &Labels, out: &mut impl Write) -> io::Result<()> {
    let mut opened = false;
    for label in labels.iter().filter(|label| label.name.as_ref() != METRIC_NAME) {
        out.write_all(if opened { b"," } else { b"{" })?;
        opened = true;
        write!(out, "{}=\"", label.name)?;
        write_escaped(&label.value, true, out)?;
        out.write_all(b"\"")?;
    }
    if opened { out.write_all(b"}") } else { Ok(()) }
}

/// Backslash and newline are escaped in both places, quotes only where the text is quoted.
fn write_escaped(text: &str, quoted: bool, out: &mut impl Write) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n', '"']) {
        let (plain, tail) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let mut chars = tail.chars();
        out.write_all(match chars.next() {
            Some('\\') => b"\\\\",
            Some('\n') => b"\\n",
            _ if quoted => b"\\\"",
            _ => b"\"",
        })?;
        rest = chars.as_str();
    }
    out.write_all(rest.as_bytes())
}

/// A value as Go writes it: shortest digits that read back equal, an exponent of at least two digits
/// below 1e-04 and from 1e+06 on (`strconv.FormatFloat(v, 'g', -1, 64)`).
#[must_use]
pub fn value_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stoa_model::MetricKind;

    use super::*;

    fn text(families: &[Family]) -> String {
        let mut out = Vec::new();
        write(families, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.21, "0.21"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_418_183_276.0, "1.418183276e+09"),
            (343_796.328_169_361, "343796.328169361"),
            (2_045_936.778_163_039, "2.045936778163039e+06"),
            (9_653.880_000_000_001, "9653.880000000001"),
            (0.000_1, "0.0001"),
            (0.000_01, "1e-05"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (-125_000.0, "-125000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(value_text(value), expected);
        }
    }

    #[test]
    fn a_family_has_help_type_and_lines() {
        let mut family = Family::new("x_total", "a \\ \"b\"\nc", MetricKind::Counter);
        family.push(Labels::empty(), 1.0);
        family.push(Labels::from_pairs([("a", "q\"\\\n"), ("b", "ä")]).unwrap(), 2e9);
        family.push(Labels::from_pairs([("__name__", "x_bucket"), ("le", "1")]).unwrap(), 3.0);
        assert_eq!(
            text(&[family]),
            "# HELP x_total a \\\\ \"b\"\\nc\n# TYPE x_total counter\nx_total 1\n\
             x_total{a=\"q\\\"\\\\\\n\",b=\"ä\"} 2e+09\nx_bucket{le=\"1\"} 3\n"
        );
    }

    proptest! {
        #[test]
        fn a_written_value_reads_back_equal(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(value_text(value).parse::<f64>().unwrap(), value);
        }

        #[test]
        fn a_written_label_stays_on_its_line(value in any::<String>()) {
            let mut family = Family::new("x", "", MetricKind::Gauge);
            family.push(Labels::from_pairs_last_wins([("a", value.as_str())]), 1.0);
            prop_assert_eq!(text(&[family]).lines().count(), 3);
        }
    }
}

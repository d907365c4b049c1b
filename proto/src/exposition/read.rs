//! The format, read.
//!
//! Strict: a text is understood whole or not at all, as half a family is worse than none. The caller
//! bounds the text's size; what is made of it is at most some multiples of that.

use std::collections::HashMap;

use stoa_model::{Family, Labels, METRIC_NAME, MetricKind};

/// What a text says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The families in the order of their first lines; help is empty where none is given.
    pub families: Vec<Family>,
    /// Whether any reading carries a timestamp of its own; timestamps are not kept.
    pub has_timestamps: bool,
}

/// Why a text is not in the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: &'static str,
}

/// Reads a text.
///
/// # Errors
/// [`SyntaxError`] at the first line that is not in the format.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let mut families = Families::default();
    let mut has_timestamps = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        let result = match line.strip_prefix('#') {
            Some(comment) => families.comment(comment),
            None if line.is_empty() => Ok(()),
            None => families.sample(line).map(|has_timestamp| has_timestamps |= has_timestamp),
        };
        result.map_err(|wrong| SyntaxError { line: index + 1, wrong })?;
    }
    families.list.retain(|family| !family.metrics.is_empty());
    Ok(Parsed { families: families.list, has_timestamps })
}

/// The families so far, found by name.
#[derive(Default)]
struct Families {
    list: Vec<Family>,
    by_name: HashMap<String, usize>,
}

impl Families {
    fn get(&mut self, name: &str) -> Option<&mut Family> {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.list.len());
                self.list.push(Family::new(name, "", MetricKind::Untyped));
                self.list.len() - 1
            }
        };
        self.list.get_mut(at)
    }

    fn comment(&mut self, comment: &str) -> Result<(), &'static str> {
        let (keyword, rest) = word(comment);
        let (name, rest) = word(rest);
        match keyword {
            "HELP" if is_name(name) => {
                if let Some(family) = self.get(name) {
                    family.help = unescaped(rest, false).ok_or("the help has a wrong escape")?;
                }
            }
            "TYPE" if is_name(name) => {
                let kind = match rest {
                    "counter" => MetricKind::Counter,
                    "gauge" => MetricKind::Gauge,
                    "histogram" => MetricKind::Histogram,
                    "summary" => MetricKind::Summary,
                    "untyped" => MetricKind::Untyped,
                    _ => return Err("there is no such type"),
                };
                if let Some(family) = self.get(name) {
                    if !family.metrics.is_empty() {
                        return Err("the type stands after a reading");
                    }
                    family.kind = kind;
                }
            }
            "HELP" | "TYPE" => return Err("no metric is named"),
            _ => {}
        }
        Ok(())
    }

    /// Adds a reading; returns whether it had a timestamp.
    fn sample(&mut self, line: &str) -> Result<bool, &'static str> {
        let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if !is_name(name) {
            return Err("the metric's name is not valid");
        }
        let rest = rest.trim_start_matches([' ', '\t']);
        let (mut pairs, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let (value, rest) = word(rest);
        let value = value_of(value).ok_or("the value is no number")?;
        let (timestamp, rest) = word(rest);
        if !timestamp.is_empty() && timestamp.parse::<i64>().is_err() || !rest.is_empty() {
            return Err("there is more than a value and a timestamp");
        }
        let family = self.family_of(name);
        if family != name {
            pairs.push((METRIC_NAME.to_owned(), name.to_owned()));
        }
        let labels = Labels::from_pairs(pairs).map_err(|_twice| "a label stands twice")?;
        let family = family.to_owned();
        if let Some(family) = self.get(&family) {
            family.push(labels, value);
        }
        Ok(!timestamp.is_empty())
    }

    /// The family a reading belongs to: `x` for `x_sum` where `x` is a histogram or summary.
    fn family_of<'n>(&self, name: &'n str) -> &'n str {
        let kind = |name: &str| {
            self.by_name.get(name).and_then(|at| self.list.get(*at)).map(|family| family.kind)
        };
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(base) = name.strip_suffix(suffix) {
                match kind(base) {
                    Some(MetricKind::Histogram) => return base,
                    Some(MetricKind::Summary) if suffix != "_bucket" => return base,
                    _ => {}
                }
            }
        }
        name
    }
}

/// The first word and what follows it, without the white space between.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let (word, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    (word, rest.trim_start_matches([' ', '\t']))
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Names and values of labels.
type Pairs = Vec<(String, String)>;

/// Labels from after the opening brace; returns what follows the closing one.
fn labels(text: &str) -> Result<(Pairs, &str), &'static str> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t']);
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((pairs, rest));
        }
        let (name, value) = rest.split_once('=').ok_or("the labels do not end")?;
        let name = name.trim_matches([' ', '\t']);
        if !is_name(name) || name.contains(':') || name == METRIC_NAME {
            return Err("a label's name is not valid");
        }
        let value = value.trim_start_matches([' ', '\t']);
        let value = value.strip_prefix('"').ok_or("a label's value is not quoted")?;
        let end = closing_quote(value).ok_or("a label's value does not end")?;
        let (quoted, after) = value.split_at(end);
        let quoted = unescaped(quoted, true).ok_or("a label's value has a wrong escape")?;
        pairs.push((name.to_owned(), quoted));
        rest = after.trim_start_matches('"').trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by a comma"),
        }
    }
}

/// Where the first quote stands that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })
}

/// A text without its escapes; `None` for an escape that is not one.
fn unescaped(text: &str, quoted: bool) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                '"' if quoted => '"',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

fn value_of(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    match digits.to_ascii_lowercase().as_str() {
        "inf" | "nan" => text.parse().ok(),
        _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::write;

    fn written(families: &[Family]) -> String {
        let mut out = Vec::new();
        write(families, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(written(&parse(text).unwrap().families), expected);
    }

    #[test]
    fn what_an_exporter_serves_is_read() {
        check(
            "# a comment\n# HELP x A \\\\ \"help\"\\n.\n# TYPE x counter\nx 1\n\n\
             x{a=\"q\\\"\\\\\\n\",b = \"{,}\" ,} 2.5e3\r\n\ty\t+Inf\n",
            "# HELP x A \\\\ \"help\"\\n.\n# TYPE x counter\nx 1\n\
             x{a=\"q\\\"\\\\\\n\",b=\"{,}\"} 2500\n# HELP y \n# TYPE y untyped\ny +Inf\n",
        );
        let histogram =
            "# HELP h \n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n";
        check(histogram, histogram);
        let summary = "# HELP s \n# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 1\ns_count 3\n\
                       # HELP s_bucket \n# TYPE s_bucket untyped\ns_bucket 1\n";
        check(summary, summary);
        assert!(parse("x 1 1441205977284").unwrap().has_timestamps);
        assert!(!parse("x 1").unwrap().has_timestamps);
        assert!(parse("x NaN").unwrap().families[0].metrics[0].value.is_nan());
        assert_eq!(parse("# TYPE x gauge\n").unwrap(), Parsed::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("x 1\n1x 2", "line 2: the metric's name is not valid"),
            ("x", "line 1: the value is no number"),
            ("x infinity", "line 1: the value is no number"),
            ("x 1 2 3", "line 1: there is more than a value and a timestamp"),
            ("x{a=\"1\" 1", "line 1: labels are not separated by a comma"),
            ("x{a=\"1} 1", "line 1: a label's value does not end"),
            ("x{a=1} 1", "line 1: a label's value is not quoted"),
            ("x{a", "line 1: the labels do not end"),
            ("x{a=\"\\x\"} 1", "line 1: a label's value has a wrong escape"),
            ("x{a=\"1\",a=\"2\"} 1", "line 1: a label stands twice"),
            ("x{__name__=\"y\"} 1", "line 1: a label's name is not valid"),
            ("# TYPE x number", "line 1: there is no such type"),
            ("# HELP", "line 1: no metric is named"),
            ("x 1\n# TYPE x gauge", "line 2: the type stands after a reading"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), tail in "[a-z{}=\", #\\\\\n1]{0,60}") {
            let _either = parse(&text).is_ok();
            let _either = parse(&tail).is_ok();
        }

        #[test]
        fn what_is_written_reads_back_equal(
            help in any::<String>(), value in any::<String>(), number in any::<u64>().prop_map(f64::from_bits),
        ) {
            prop_assume!(!number.is_nan() && number != 0.0);
            // Lines end with LF alone in this format; a CR before it, or white space at the ends of a
            // help, is not kept.
            prop_assume!(help.trim() == help && !help.contains('\r') && !value.contains('\r'));
            let mut family = Family::new("x", help, MetricKind::Gauge);
            family.push(Labels::from_pairs_last_wins([("a", value)]), number);
            let families = vec![family];
            prop_assert_eq!(parse(&written(&families)).unwrap().families, families);
        }
    }
}

//! Names and units of OTLP as Prometheus has them.
//!
//! The rules are Prometheus's (prometheus/otlptranslator), so that dashboards made for its OTLP
//! endpoint find what they ask for; its way of finding a suffix that is there already too, by whole
//! words, which `per_second` is not.

use std::borrow::Cow;

use super::{Kind, Metric};

/// What becomes of names, by the values of Prometheus's `translation_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Characters that Prometheus did not know before version 3 become underscores; units and kinds
    /// are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Characters become underscores.
    UnderscoreEscapingWithoutSuffixes,
    /// Units and kinds are appended.
    NoUTF8EscapingWithSuffixes,
    /// Nothing.
    NoTranslation,
}

impl Strategy {
    pub(super) fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }

    fn has_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }

    /// The name of a metric; `None` where nothing of it is left.
    pub(super) fn metric_name(self, metric: &Metric<'_>) -> Option<String> {
        let name = match (self.escapes(), self.has_suffixes()) {
            (true, true) => escaped_with_suffixes(metric),
            (true, false) => {
                let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
                not_a_digit_first(words(metric.name, valid).join("_"))
            }
            (false, true) => with_suffixes(metric),
            (false, false) => metric.name.to_owned(),
        };
        let says = name == metric.name || name.bytes().any(|byte| byte != b'_');
        (says && !name.is_empty()).then_some(name)
    }

    /// A unit as a metric's metadata says it.
    pub(super) fn unit_name(self, unit: &str) -> String {
        let (mut main, mut per) = unit_words(unit);
        if self.escapes() {
            (main, per) = (cleaned(&main), cleaned(&per));
        }
        let both = if main.is_empty() || per.is_empty() { "" } else { "_" };
        let name = [&main, both, &per].concat();
        let name = name.strip_prefix('_').unwrap_or(&name);
        name.strip_suffix('_').unwrap_or(name).to_owned()
    }
}

/// UCUM's units in Prometheus's words; others stay as they are.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    // As Prometheus writes it.
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// The same below the line, of which there is one.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// A unit's word and, with `per_` before it, that of what it is divided by. Remarks (`{request}`) are
/// no units.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |unit: &str, known: &[(&str, &str)]| {
        if unit.contains(['{', '}']) {
            return String::new();
        }
        known.iter().find(|(ucum, _)| *ucum == unit).map_or(unit, |(_, word)| word).to_owned()
    };
    let per = word(per.trim(), &PER_UNITS);
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    (word(main.trim(), &UNITS), per)
}

fn escaped_with_suffixes(metric: &Metric<'_>) -> String {
    let mut tokens = words(metric.name, |c| c.is_ascii_alphanumeric() || c == ':');
    let (main, per) = unit_words(metric.unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let (mut main, mut per) = (main.as_str(), per.as_str());
    per = per.strip_suffix('_').unwrap_or(per);
    if per == "per" || tokens.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    let is_there = tokens.contains(&main);
    tokens.extend([if is_there { "" } else { main }, per]);
    tokens.retain(|token| !token.is_empty());
    if let Some(suffix) = kind_suffix(metric) {
        tokens.retain(|token| *token != suffix);
        tokens.push(suffix);
    }
    not_a_digit_first(tokens.join("_"))
}

/// With names as they are, what is appended is looked for at the end of the name only.
fn with_suffixes(metric: &Metric<'_>) -> String {
    let (main, per) = unit_words(metric.unit);
    let kind = kind_suffix(metric).unwrap_or_default();
    let mut name = without(without(metric.name, kind), &per).to_owned();
    let main = if name.ends_with(&main) { "" } else { &main };
    for suffix in [main, &per, kind] {
        if !suffix.is_empty() {
            name.push('_');
            name.push_str(suffix);
        }
    }
    name
}

/// What a counter's name ends with, and that of a gauge without dimension; not of others, as many
/// senders give their counts the unit 1.
fn kind_suffix(metric: &Metric<'_>) -> Option<&'static str> {
    match metric.kind {
        Kind::Sum if metric.monotonic => Some("total"),
        Kind::Gauge if metric.unit == "1" => Some("ratio"),
        _ => None,
    }
}

/// The name without a suffix and the character before it, whatever it is.
fn without<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix).filter(|_| !suffix.is_empty()) else {
        return name;
    };
    let mut chars = rest.chars();
    match (chars.next_back(), chars.as_str()) {
        (None, _) | (_, "") => name,
        (_, rest) => rest,
    }
}

/// What stands between characters that are not valid.
fn words(name: &str, valid: impl Fn(char) -> bool) -> Vec<&str> {
    name.split(|c| !valid(c)).filter(|word| !word.is_empty()).collect()
}

/// A unit's word with an underscore for all that is not valid in a name, and none first.
fn cleaned(word: &str) -> String {
    let word = word.replace(|c: char| !c.is_ascii_alphanumeric() && c != ':', "_");
    let single = single_underscores(&word);
    single.strip_prefix('_').map(str::to_owned).unwrap_or(single)
}

fn single_underscores(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

fn not_a_digit_first(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The name of a label; `None` where nothing of it is left. `sanitize` puts `key` before a single
/// underscore, `multiple` leaves several in a row.
pub(super) fn label_name(
    strategy: Strategy,
    sanitize: bool,
    multiple: bool,
    name: &str,
) -> Option<Cow<'_, str>> {
    if !strategy.escapes() {
        let says = name.bytes().any(|byte| byte != b'_');
        return says.then_some(Cow::Borrowed(name));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut escaped = Cow::Borrowed(name);
    if !name.chars().all(valid) {
        escaped = name.replace(|c| !valid(c), "_").into();
    }
    if !multiple && escaped.contains("__") {
        let inner = escaped.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
        escaped = match inner.filter(|inner| !inner.is_empty()) {
            // Names that are reserved keep what says so.
            Some(inner) => format!("__{}__", single_underscores(inner)).into(),
            None => single_underscores(&escaped).into(),
        };
    }
    if escaped.bytes().all(|byte| byte == b'_') {
        return None;
    }
    if escaped.starts_with(|c: char| c.is_ascii_digit()) {
        escaped = format!("key_{escaped}").into();
    } else if sanitize && escaped.starts_with('_') && !escaped.starts_with("__") {
        escaped = format!("key{escaped}").into();
    }
    Some(escaped)
}

#[cfg(test)]
mod tests;

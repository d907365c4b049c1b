//! Which sources are read, when, and what of each: `[sources.NAME]` of the configuration.
//!
//! Every table takes `enabled`, `interval` and `deadline`; its other keys are the source's own and
//! stand in the source's file. They are named as node_exporter's flags are:
//! `--collector.diskstats.device-exclude=X` is `device_exclude = "X"` under `[sources.diskstats]`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use regex::Regex;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use stoa_daemon::{Span, without_value};
use toml::{Table, Value};

use super::registry;

/// The longest a source may be left alone.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest a source that is read beside the ticks may take.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// The keys that every source has.
const SCHEDULE: [&str; 3] = ["enabled", "interval", "deadline"];
/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A setting that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct SettingsError {
    /// Where, dotted: `sources.diskstats.device_exclude`.
    pub key: String,
    /// What is wrong. Never the value, which may be a password.
    pub message: String,
}

/// The tables under `[sources]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Settings {
    tables: BTreeMap<String, Table>,
}

/// What every source's table may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) enabled: Option<bool>,
    pub(crate) interval: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
}

impl Settings {
    /// Reads the text of a configuration that has nothing but sources.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(default)]
            sources: Settings,
        }
        let written: Written = toml::from_str(text).map_err(|error| SettingsError {
            key: "sources".to_owned(),
            message: error.message().to_owned(),
        })?;
        Ok(written.sources)
    }

    /// Whether a source is read unless its table says otherwise.
    pub fn enable(&mut self, source: &str, enabled: bool) {
        self.set(source, "enabled", Value::Boolean(enabled));
    }

    /// Sets a key of a source.
    pub fn set(&mut self, source: &str, key: &str, value: impl Into<Value>) {
        let table = self.tables.entry(source.to_owned()).or_default();
        table.insert(key.to_owned(), value.into());
    }

    /// Sets a key of a source unless it is set.
    pub fn set_default(&mut self, source: &str, key: &str, value: impl Into<Value>) {
        let table = self.tables.entry(source.to_owned()).or_default();
        table.entry(key).or_insert_with(|| value.into());
    }

    /// Whether a source has keys and none of them says whether it is on.
    pub(crate) fn is_undecided(&self, source: &str) -> bool {
        self.tables.get(source).is_some_and(|table| !table.contains_key("enabled"))
    }

    /// A table for what is no source.
    pub(crate) fn unknown(&self) -> Option<&str> {
        let names = registry::names();
        self.tables.keys().map(String::as_str).find(|name| !names.contains(name))
    }

    /// When `source` is to be read.
    pub(crate) fn schedule(&self, source: &str) -> Result<Schedule, SettingsError> {
        let Some(table) = self.tables.get(source) else { return Ok(Schedule::default()) };
        let wrong = |key, message: String| SettingsError {
            key: format!("sources.{source}.{key}"),
            message,
        };
        let no_duration = || "expected a duration with its unit, such as \"10s\"".to_owned();
        let span = |key, max: Duration| match table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => match Span::parse(text) {
                Some(Span(span)) if span > max => {
                    Err(wrong(key, format!("it is longer than {}", Span(max))))
                }
                Some(Span(span)) if !span.is_zero() => Ok(Some(span)),
                Some(_) => {
                    Err(wrong(key, "expected more than nothing, such as \"10s\"".to_owned()))
                }
                None => Err(wrong(key, no_duration())),
            },
            Some(_) => Err(wrong(key, no_duration())),
        };
        let enabled = match table.get("enabled") {
            None => None,
            Some(Value::Boolean(enabled)) => Some(*enabled),
            Some(_) => return Err(wrong("enabled", "expected true or false".to_owned())),
        };
        Ok(Schedule {
            enabled,
            interval: span("interval", INTERVAL_MAX)?,
            deadline: span("deadline", DEADLINE_MAX)?,
        })
    }

    /// A source's own keys.
    pub(crate) fn of<T: DeserializeOwned>(&self, source: &str) -> Result<T, SettingsError> {
        let mut table = self.tables.get(source).cloned().unwrap_or_default();
        for key in SCHEDULE {
            table.remove(key);
        }
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let path = error.path().to_string();
            let message = error.inner().message();
            let own = path.strip_prefix(['.', '?']).map_or(path.as_str(), |_| "");
            match unknown_key(own, message) {
                Some((own, message)) => SettingsError { key: dotted(source, &own), message },
                None => {
                    SettingsError { key: dotted(source, own), message: without_value(message, "") }
                }
            }
        })
    }
}

/// `sources.disk.port`; `own` is what follows the source's name.
fn dotted(source: &str, own: &str) -> String {
    let dot = if own.is_empty() { "" } else { "." };
    format!("sources.{source}{dot}{own}")
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": which key that is and what to say of it.
/// `path` ends with it where the table is known.
fn unknown_key(path: &str, message: &str) -> Option<(String, String)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let key = quoted.next()?;
    let above = match path == key {
        true => "",
        false => path.strip_suffix(key).unwrap_or(path).trim_end_matches('.'),
    };
    let mut known: Vec<&str> = quoted.collect();
    if above.is_empty() {
        known.extend(SCHEDULE);
    }
    let meant = stoa_daemon::did_you_mean(key, known.iter().copied());
    let dot = if above.is_empty() { "" } else { "." };
    let message = format!("there is no such key{meant}; there are: {}", known.join(", "));
    Some((format!("{above}{dot}{key}"), message))
}

/// What is wrong with a pattern, without the pattern.
pub(crate) fn wrong_pattern(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("not a pattern: {last}")
}

/// A pattern found anywhere in a text unless anchored, as node_exporter's are; an empty one says
/// nothing.
#[derive(Clone, Default)]
pub(crate) struct Pattern(Option<Regex>);

impl Pattern {
    /// A default. Every one is compiled by a test of the registry.
    pub(crate) fn fixed(text: &'static str) -> Self {
        Self(compile(text).ok())
    }

    /// Whether it says anything.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is found in `text`; never when it says nothing.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_ref().map_or("", Regex::as_str))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let compiled = compile(&text);
        compiled
            .map(|pattern| Self(Some(pattern)))
            .map_err(|error| D::Error::custom(wrong_pattern(&error)))
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build()
}

/// What to keep and what to leave out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    include: Pattern,
    exclude: Pattern,
}

impl Filter {
    /// Keeps only what `include` matches, if it says anything, and leaves out what `exclude` matches.
    pub(crate) fn new(include: Pattern, exclude: Pattern) -> Self {
        Self { include, exclude }
    }

    pub(crate) fn keeps(&self, name: &str) -> bool {
        (!self.include.is_set() || self.include.matches(name)) && !self.exclude.matches(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        device_exclude: Pattern,
        password: u16,
        more: Vec<More>,
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct More {
        port: u16,
    }

    #[track_caller]
    fn refused(text: &str, key: &str, message: &str) {
        let settings = Settings::parse(text).unwrap();
        let error = match settings.schedule("disk") {
            Ok(_) => settings.of::<Own>("disk").unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.key, key);
        assert!(error.message.contains(message), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_wrong_key_is_named_and_its_value_is_not_told() {
        refused("[sources.disk]\ndevice = 1", "sources.disk.device", "there is no such key");
        refused(
            "[sources.disk]\ndevice_exlude = 1",
            "sources.disk.device_exlude",
            "\"device_exclude\"?",
        );
        refused(
            "[[sources.disk.more]]\nport = 1\n[[sources.disk.more]]\nprt = 1",
            "sources.disk.more[1].prt",
            "there is no such key (did you mean \"port\"?); there are: port",
        );
        refused("[sources.disk]\nmore = [1]", "sources.disk.more[0]", "expected a table");
        refused(
            "[sources.disk]\ndevice_exclude = \"(\"",
            "sources.disk.device_exclude",
            "unclosed",
        );
        refused(
            "[sources.disk]\npassword = \"secret\"",
            "sources.disk.password",
            "expected a whole number",
        );
        refused("[sources.disk]\nkind = \"secret\"", "sources.disk.kind", "unknown variant, exp");
        refused(
            "[sources.disk]\nkind = \"secret, expected secret\"",
            "sources.disk.kind",
            "unknown",
        );
        refused("[sources.disk]\ninterval = \"2 h\"", "sources.disk.interval", "with its unit");
        refused("[sources.disk]\nenabled = 1", "sources.disk.enabled", "true or false");
        refused("[sources.disk]\ninterval = \"0s\"", "sources.disk.interval", "such as \"10s\"");
        refused(
            "[sources.disk]\ndeadline = \"9d\"",
            "sources.disk.deadline",
            "it is longer than 1h",
        );
    }

    #[test]
    fn a_table_says_when_and_what() {
        let text = "[sources.disk]\nenabled = false\ninterval = \"1m\"\ndevice_exclude = \"^loop\"";
        let settings = Settings::parse(text).unwrap();
        let schedule = settings.schedule("disk").unwrap();
        assert_eq!(schedule.enabled, Some(false));
        assert_eq!(schedule.interval, Some(Duration::from_secs(60)));
        let own: Own = settings.of("disk").unwrap();
        let filter = Filter::new(Pattern::default(), own.device_exclude);
        assert!(filter.keeps("sda") && !filter.keeps("loop0"));
        let only = Filter::new(Pattern::fixed("^lo$"), Pattern::default());
        assert!(only.keeps("lo") && !only.keeps("lo0"));
        assert_eq!(settings.unknown(), Some("disk"));
        assert_eq!(settings.schedule("other").unwrap(), Schedule::default());
    }
}

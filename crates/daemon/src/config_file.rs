//! A TOML configuration file as written, or where exactly it is wrong.
//!
//! Each program describes its file as a serde type with `deny_unknown_fields`; here the text becomes
//! that type, or an error with the file, the line, the key, what is wrong there, and the nearest known key.
//! Never with the value: it may be a password, and the error ends in a log or on a screen.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::DeTable;

/// The largest file read, in bytes: a configuration is written by hand.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration is no good. Always the person's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error(
        "{path}:{line}: {key}{message}{hint}",
        path = path.display(), key = prefix(key), hint = hint(suggestion.as_deref())
    )]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, dotted; empty where there is none.
        key: String,
        /// What is wrong there.
        message: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A value is understood but cannot be meant.
    #[error("{path}{at}: {key}: {message}", path = path.display(), at = at(*line))]
    Meaning {
        /// Which file.
        path: PathBuf,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// The key, dotted.
        key: Cow<'static, str>,
        /// What is wrong with it and what would be right.
        message: String,
    },
}

impl ConfigError {
    /// The same, with the line of its key in the text that was read.
    #[must_use]
    pub fn in_text(self, text: &str) -> Self {
        match self {
            Self::Meaning { path, line: _, key, message } => {
                let line = line_of(text, &key);
                Self::Meaning { path, line, key, message }
            }
            other => other,
        }
    }
}

/// The line of a dotted key, from 1; `None` where it does not stand in the text.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let file = DeTable::parse(text).ok()?;
    let mut table = Some(file.get_ref());
    let mut at = 0;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index.trim_end_matches(']').parse::<usize>().ok()?)),
            None => (part, None),
        };
        let (key, mut value) = table?.iter().find(|(key, _)| key.get_ref() == name)?;
        at = key.span().start;
        if let Some(index) = index {
            value = value.get_ref().as_array()?.get(index)?;
            at = value.span().start;
        }
        table = value.get_ref().as_table();
    }
    Some(text.get(..at)?.matches('\n').count() + 1)
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|key| format!(" (did you mean {key:?}?)")).unwrap_or_default()
}

/// Reads a file as written.
///
/// # Errors
/// [`ConfigError::Read`] when it cannot be read or is over 1 MiB, [`ConfigError::Syntax`] when it is
/// not understood.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    read_str(path, &text_of(path)?)
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    let wrap = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(wrap)?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(wrap(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("{size} bytes, a configuration has at most {CONFIG_BYTES_MAX}"),
        )));
    }
    std::fs::read_to_string(path).map_err(wrap)
}

/// Reads the file named; with none named, the one at `usual` if it is there, else the defaults.
/// Beside it stand the path that errors about its values should name, and the text.
///
/// # Errors
/// As [`read`].
pub fn read_or_default<T: DeserializeOwned + Default>(
    named: Option<&Path>,
    usual: &Path,
) -> Result<(PathBuf, String, T), ConfigError> {
    let path = named.unwrap_or(usual);
    if named.is_none() && !path.exists() {
        return Ok((path.to_path_buf(), String::new(), T::default()));
    }
    let text = text_of(path)?;
    let written = read_str(path, &text)?;
    Ok((path.to_path_buf(), text, written))
}

/// Reads a text as written; `path` is only named in errors.
///
/// # Errors
/// [`ConfigError::Syntax`] when it is not understood.
pub fn read_str<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let wrong = |error: toml::de::Error, key: Option<String>| {
        let span = error.span().unwrap_or_default();
        let before = text.get(..span.start).unwrap_or(text);
        let message = error.message().replace('\n', ", ");
        ConfigError::Syntax {
            path: path.to_path_buf(),
            line: before.matches('\n').count() + 1,
            key: key.or_else(|| written_key(text, before)).unwrap_or_default(),
            suggestion: nearest_key(&message),
            message: without_value(&message, text.get(span).unwrap_or_default()),
        }
    };
    let file = toml::Deserializer::parse(text).map_err(|error| wrong(error, None))?;
    serde_path_to_error::deserialize(file).map_err(|error| {
        let key = error.path().to_string();
        // A key that is not known is named by the message.
        let is_known = error.path().iter().len() > 0 && !key.contains('?');
        let is_key = error.inner().message().starts_with("unknown field");
        wrong(error.into_inner(), Some(if is_known && !is_key { key } else { String::new() }))
    })
}

/// The key of the line at the end of `before`, where the text is not understood as a whole: only what
/// can be nothing else, neither a part of a text of several lines nor one that was forgotten to be ended.
fn written_key(text: &str, before: &str) -> Option<String> {
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let head = text.get(..start)?;
    let (key, _value) = text.get(start..)?.lines().next()?.split_once('=')?;
    let key = key.trim();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
    let is_apart = !["\"\"\"", "\'\'\'"].iter().any(|quotes| head.contains(quotes));
    (is_apart && !key.is_empty() && key.chars().all(is_plain)).then(|| key.to_owned())
}

/// What is wrong, without the value of which that is said, in a person's words; `value` as written, or
/// empty where that is not known.
#[must_use]
pub fn without_value(message: &str, value: &str) -> String {
    let (what, expected) = message.rfind(", expected ").map_or((message, ""), |at| {
        (message.get(..at).unwrap_or(message), message.get(at..).unwrap_or_default())
    });
    let before =
        |text: &str| text.split(['`', '"']).next().unwrap_or_default().trim_end().to_owned();
    if what.starts_with("unknown variant") {
        return format!("unknown variant{expected}");
    }
    if what.starts_with("invalid type: ") || what.starts_with("invalid value: ") {
        let expected =
            expected.strip_prefix(", expected ").map(|it| format!(", expected {}", in_words(it)));
        return format!("{}{}", before(what), expected.unwrap_or_default());
    }
    if ["unknown field ", "missing field ", "duplicate field "].iter().any(|s| what.starts_with(s))
    {
        return message.to_owned();
    }
    let value = value.trim_matches(|c: char| c.is_whitespace() || "\"\'".contains(c));
    let message = without_quoted(message);
    if value.is_empty() { message } else { message.replace(value, "it") }
}

/// What was expected, where serde says it as Rust does.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

/// A text with `it` in the place of what stands in double quotes.
fn without_quoted(text: &str) -> String {
    let parts: Vec<&str> = text.split('"').collect();
    match parts.as_slice() {
        [first, .., last] if parts.len() > 2 => format!("{first}it{last}"),
        _ => text.to_owned(),
    }
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the nearest of the expected.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let given = message.starts_with("unknown ").then(|| quoted.next()).flatten()?;
    nearest(given, quoted).map(str::to_owned)
}

/// ` (did you mean "…"?)` with the one of the words that was probably meant; empty where none was.
#[must_use]
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    hint(nearest(given, known))
}

fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, word) =
        known.into_iter().map(|word| (edit_distance(given, word), word)).min()?;
    (distance <= given.len().max(word.len()) / 2).then_some(word)
}

/// Levenshtein's distance, in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != *to)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct File {
        data_dir: Option<String>,
        interval: Option<u32>,
    }

    fn check(text: &str, expected: &str) {
        let error = read_str::<File>(Path::new("a.toml"), text).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_error_names_file_line_and_the_nearest_key() {
        check(
            "interval = 1\ndatadir = \"x\"\n",
            "a.toml:2: unknown field `datadir`, expected `data_dir` or `interval` (did you mean \"data_dir\"?)",
        );
        check(
            "\n\ninterval = \"x\"",
            "a.toml:3: interval: invalid type: string, expected a whole number of 0 or more",
        );
        check("zzz = 1", "a.toml:1: unknown field `zzz`, expected `data_dir` or `interval`");
        let ok: File = read_str(Path::new("a"), "interval = 3").unwrap();
        assert_eq!(ok, File { data_dir: None, interval: Some(3) });
    }

    #[test]
    fn no_error_tells_a_value() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Secrets {
            #[serde(default)]
            targets: Vec<Target>,
            listen: Option<std::net::SocketAddr>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Target {
            password: Option<String>,
            port: Option<u16>,
            kind: Option<Kind>,
            checked: Option<Checked>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            One,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(try_from = "String")]
        struct Checked;
        impl TryFrom<String> for Checked {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Err(format!("{text:?} ({text}) is nothing"))
            }
        }
        let check = |line: &str, expected: &str| {
            let text = format!("[[targets]]\n{line}\n");
            let error = read_str::<Secrets>(Path::new("a.toml"), &text).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{line}: {shown}");
            }
            let error = error.to_string();
            assert!(error.starts_with("a.toml:2: ") && error.contains(expected), "{line}: {error}");
        };
        check(
            "password = 4711",
            "targets[0].password: invalid type: integer, expected a text in quotes",
        );
        check(
            "port = \"hunter2\"",
            "targets[0].port: invalid type: string, expected a whole number of 0 or more",
        );
        check(
            "port = 47114711",
            "targets[0].port: invalid value: integer, expected a whole number of 0 or more",
        );
        check(
            "port = \"a, expected `hunter2\"",
            "port: invalid type: string, expected a whole number of 0 or more",
        );
        check("kind = \"hunter2\"", "targets[0].kind: unknown variant, expected `one`");
        check("checked = \"hunter2\"", "targets[0].checked: it (it) is nothing");
        check("checked = \"a\\\"hunter2\\\"b\"", "is nothing");
        check("pasword = \"hunter2\"", "unknown field `pasword`");
        check("password = [\"hunter2\"]", "targets[0].password: invalid type: sequence");
        check("password = { hunter2 = 4711 }", "targets[0].password: invalid type: map");
        // What is no TOML.
        check("password = hunter2", "password: ");
        check("password = \"hunter2", "password: ");
        check("password = 'hunter2\"", "password: ");
        check("password = \"hunter2\" hunter2", "password: ");
        check("password = \"hun\\qhunter2\"", "password: ");
        check("password = 4711x4711", "password: ");
        check("password hunter2", "");
        check("hunter2", "");
        check("\"hunter2\"", "");
        check("Hunter2hunter2= = 3", "");
        check("password = \"\"\"\"\"\" hunter2", "");
        let text = "listen = \"hunter2\"";
        let error = read_str::<Secrets>(Path::new("a.toml"), text).unwrap_err().to_string();
        assert_eq!(error, "a.toml:1: listen: invalid socket address syntax");
        // In a text of several lines nothing is taken for a key.
        let text = "[[targets]]\npassword = \"\"\"\nhunter2=\n\"\"\"\nhunter2=x";
        let error = read_str::<Secrets>(Path::new("a.toml"), text).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_has_the_line_of_its_key() {
        let text = "a = 1\n[b.c]\nd = 2\n\n[[b.e]]\nf = 3\n[[b.e]]\ng = 'x'\nh = [1,\n 2]\n";
        for (key, line) in [
            ("a", Some(1)),
            ("b", Some(2)),
            ("b.c", Some(2)),
            ("b.c.d", Some(3)),
            ("b.c.other", None),
            ("b.c.d.e", None),
            ("b.e[1].g", Some(8)),
            ("b.e[1].h[1]", Some(10)),
            ("b.e[7].g", None),
            ("b.e[x].g", None),
            ("z.y", None),
        ] {
            let wrong = ConfigError::Meaning {
                path: "a.toml".into(),
                line: None,
                key: key.into(),
                message: "no".to_owned(),
            };
            let at = line.map(|line| format!(":{line}")).unwrap_or_default();
            assert_eq!(wrong.in_text(text).to_string(), format!("a.toml{at}: {key}: no"));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read::<File>(Path::new("/nonexistent/x.toml")).unwrap_err();
        assert_eq!(error.to_string(), "read configuration /nonexistent/x.toml");
    }

    #[test]
    fn a_file_not_named_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("x.toml");
        let (path, text, file) = read_or_default::<File>(None, &usual).unwrap();
        assert_eq!((path, text, file), (usual.clone(), String::new(), File::default()));
        assert!(read_or_default::<File>(Some(&usual), &usual).is_err());
        std::fs::write(&usual, "interval = 3").unwrap();
        let (_, _, file) = read_or_default::<File>(None, &usual).unwrap();
        assert_eq!(file, File { data_dir: None, interval: Some(3) });
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
        }
    }
}

//! A TOML configuration file as written, or where exactly it is wrong.
//!
//! Each program describes its file as a serde type with `deny_unknown_fields`; here the text becomes
//! that type, or an error with the file, the line, what is wrong there, and the nearest known key.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

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
    #[error("{path}:{line}: {message}{hint}", path = path.display(), hint = hint(suggestion.as_deref()))]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A value is understood but cannot be meant.
    #[error("{path}: {key}: {message}", path = path.display())]
    Meaning {
        /// Which file.
        path: PathBuf,
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
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
    let wrap = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(wrap)?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(wrap(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("{size} bytes, a configuration has at most {CONFIG_BYTES_MAX}"),
        )));
    }
    let text = std::fs::read_to_string(path).map_err(wrap)?;
    read_str(path, &text)
}

/// Reads the file named; with none named, the one at `usual` if it is there, else the defaults.
/// Beside it stands the path that errors about its values should name.
///
/// # Errors
/// As [`read`].
pub fn read_or_default<T: DeserializeOwned + Default>(
    named: Option<&Path>,
    usual: &Path,
) -> Result<(PathBuf, T), ConfigError> {
    let path = named.unwrap_or(usual);
    let written = if named.is_some() || path.exists() { read(path)? } else { T::default() };
    Ok((path.to_path_buf(), written))
}

/// Reads a text as written; `path` is only named in errors.
///
/// # Errors
/// [`ConfigError::Syntax`] when it is not understood.
pub fn read_str<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let message = error.message().replace('\n', ", ");
        ConfigError::Syntax {
            path: path.to_path_buf(),
            line: before.matches('\n').count() + 1,
            suggestion: nearest_key(&message),
            message,
        }
    })
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the nearest of the expected.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let given = message.starts_with("unknown ").then(|| quoted.next()).flatten()?;
    let (distance, key) = quoted.map(|key| (edit_distance(given, key), key)).min()?;
    (distance <= given.len().max(key.len()) / 2).then(|| key.to_owned())
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
        check("\n\ninterval = \"x\"", "a.toml:3: invalid type: string \"x\", expected u32");
        check("zzz = 1", "a.toml:1: unknown field `zzz`, expected `data_dir` or `interval`");
        let ok: File = read_str(Path::new("a"), "interval = 3").unwrap();
        assert_eq!(ok, File { data_dir: None, interval: Some(3) });
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
        let (path, file) = read_or_default::<File>(None, &usual).unwrap();
        assert_eq!((path, file), (usual.clone(), File::default()));
        assert!(read_or_default::<File>(Some(&usual), &usual).is_err());
        std::fs::write(&usual, "interval = 3").unwrap();
        let (_, file) = read_or_default::<File>(None, &usual).unwrap();
        assert_eq!(file, File { data_dir: None, interval: Some(3) });
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
        }
    }
}

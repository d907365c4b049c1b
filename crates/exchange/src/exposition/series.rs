//! The front of a sample's line: a metric's name and labels.
//!
//! It is cut out of its line first and understood later, because a text names the same series over
//! and over: who has seen the same characters before need not look at them again.

use std::borrow::Cow;

use memchr::memchr2;
use stoa_model::{Labels, METRIC_NAME};

use super::line::{Cursor, SyntaxError, Wrong};

/// A series as its line writes it: `name{label="value",…}`.
///
/// Equal texts are equal series; unlike texts may be (spaces, order of labels). Quotes and braces are
/// known to match; names and escapes are looked at by [`Self::labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'a> {
    pub(super) text: &'a str,
    pub(super) line: u64,
    pub(super) column: usize,
}

impl<'a> SeriesText<'a> {
    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The labels, with the metric's name as `__name__`. A name may also be given as a label
    /// (`{__name__="up"}`), as `promtool tsdb dump` prints it.
    ///
    /// # Errors
    /// [`SyntaxError`] on a wrong name or escape, when a label stands twice, or without a name.
    pub fn labels(&self) -> Result<Labels, SyntaxError> {
        self.read(true).map_err(|wrong| wrong.at(self.line, self.column))
    }

    pub(super) fn read(&self, named: bool) -> Result<Labels, Wrong> {
        let mut cursor = Cursor::new(self.text);
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(8);
        let mut has_name = false;
        if !cursor.starts_with('{') {
            let name = cursor.until(&['{', ' ', '\t']);
            if !is_metric_name(name) {
                return Err(cursor.wrong_before(name, "a metric's name"));
            }
            pairs.push((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name)));
            has_name = true;
        }
        cursor.skip_space();
        if cursor.take('{') {
            loop {
                cursor.skip_space();
                if cursor.take('}') {
                    break;
                }
                let before = cursor;
                let name = if cursor.starts_with('"') {
                    cursor.quoted()?
                } else {
                    let name = cursor.until(&['=', ' ', '\t', ',', '}', '"']);
                    if !is_label_name(name) {
                        return Err(before.wrong("a label's name"));
                    }
                    Cow::Borrowed(name)
                };
                cursor.skip_space();
                if cursor.take('=') {
                    cursor.skip_space();
                    if name == METRIC_NAME {
                        if has_name {
                            return Err(before.wrong("one name for the metric"));
                        }
                        has_name = true;
                    }
                    let value = cursor.quoted()?;
                    if !name.is_empty() {
                        pairs.push((name, value));
                    } else {
                        return Err(before.wrong("a label's name"));
                    }
                } else if matches!(name, Cow::Borrowed(_)) && !before.starts_with('"') {
                    return Err(cursor.wrong("= after the label's name"));
                } else if has_name || name.is_empty() {
                    return Err(before.wrong("= after the label's name"));
                } else {
                    pairs.push((Cow::Borrowed(METRIC_NAME), name));
                    has_name = true;
                }
                cursor.skip_space();
                if !cursor.take(',') && !cursor.starts_with('}') {
                    return Err(cursor.wrong("a comma or } after the label"));
                }
            }
        }
        if named && !has_name {
            return Err(cursor.wrong("a metric's name"));
        }
        let end = cursor;
        Labels::from_pairs(pairs).map_err(|_twice| end.wrong("each label once"))
    }
}

/// Where the braces that begin at the front of `bytes` end: just after the closing one.
pub(super) fn closing_brace(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let rest = bytes.get(at..)?;
        let found = memchr2(b'"', b'}', rest)?;
        if rest.get(found) == Some(&b'}') {
            return Some(at + found + 1);
        }
        at += found + 1;
        loop {
            let rest = bytes.get(at..)?;
            let found = memchr2(b'"', b'\\', rest)?;
            at += found + 1;
            if rest.get(found) == Some(&b'"') {
                break;
            }
            at += 1;
        }
    }
}

/// Whether a metric's name needs no quotes.
pub(super) fn is_metric_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    name.bytes().all(legal) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether a label's name needs no quotes.
pub(super) fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':')
}

//! Directories by pattern, as Go's `filepath.Glob` has them: `*`, `?` and `[a-z]` within one part of a
//! path, `\` for a sign as it is. What matches nothing stays as it is written, so that its absence is
//! noticed.

use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Directories a pattern may come to.
const MATCHES_MAX: usize = 256;
/// Entries of one directory looked at.
const ENTRIES_MAX: usize = 10_000;

/// What `pattern` comes to, sorted.
pub(super) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let is_plain = !pattern.to_string_lossy().contains(['*', '?', '[', '\\']);
    if is_plain {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let matcher = match part {
            Component::Normal(text) => text.to_str().and_then(matcher),
            _ => None,
        };
        found = match matcher {
            None => found.into_iter().map(|dir| dir.join(part)).collect(),
            Some(matcher) => found.iter().flat_map(|dir| matching(dir, &matcher)).collect(),
        };
        found.truncate(MATCHES_MAX);
    }
    found.retain(|path| path.exists());
    if found.is_empty() {
        return vec![pattern.to_owned()];
    }
    found.sort_unstable();
    found
}

/// `None` if the part is no pattern.
fn matcher(part: &str) -> Option<Regex> {
    let mut text = String::from("^(?s:");
    let mut is_pattern = false;
    let mut signs = part.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '*' => text.push_str(".*"),
            '?' => text.push('.'),
            '[' => {
                let (class, rest) = signs.as_str().split_once(']')?;
                let (negation, class) = match class.strip_prefix('^') {
                    Some(class) => ("^", class),
                    None => ("", class),
                };
                let class = class.replace('[', "\\[").replace("&&", "&\\&").replace("~~", "~\\~");
                text.extend(["[", negation, &class, "]"]);
                signs = rest.chars();
            }
            '\\' => text.push_str(&regex::escape(signs.next()?.encode_utf8(&mut [0; 4]))),
            other => {
                text.push_str(&regex::escape(other.encode_utf8(&mut [0; 4])));
                continue;
            }
        }
        is_pattern = true;
    }
    text.push_str(")$");
    if is_pattern { Regex::new(&text).ok() } else { None }
}

fn matching(dir: &Path, matcher: &Regex) -> Vec<PathBuf> {
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.take(ENTRIES_MAX).flatten().map(|entry| entry.file_name());
    let mut found: Vec<PathBuf> = names
        .filter(|name| name.to_str().is_some_and(|name| matcher.is_match(name)))
        .map(|name| dir.join(name))
        .collect();
    found.sort_unstable();
    found.truncate(MATCHES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_comes_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a1/x", "a2/x", "b1/x", "b1/[y]", "a3"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = expand(&dir.path().join(pattern));
            let expected: Vec<PathBuf> = expected.iter().map(|e| dir.path().join(e)).collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check("a*/x", &["a1/x", "a2/x"]);
        check("?1/x", &["a1/x", "b1/x"]);
        check("[ab][12]/x", &["a1/x", "a2/x", "b1/x"]);
        check("[^a]1/x", &["b1/x"]);
        check("b1/\\[y\\]", &["b1/[y]"]);
        check("a3", &["a3"]);
        // What is not there is left to be missed.
        check("absent", &["absent"]);
        check("c*/x", &["c*/x"]);
        check("[", &["["]);
    }

    proptest! {
        #[test]
        fn any_part_is_a_pattern_or_none(part in "[*?\\[\\]\\\\^a-c&~-]{0,20}") {
            if let Some(matcher) = matcher(&part) {
                matcher.is_match("abc");
            }
        }
    }
}

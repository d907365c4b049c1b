//! From matchers to the series they hold for, over any index: the head's or a block's.
//!
//! Patterns that are a list of words become look-ups, those that begin with plain text look only at
//! the values that do; the rest tries each value of the label once, never each series.

use roaring::RoaringBitmap;
use stoa_model::{MatchOp, Matcher};

/// What matching asks of an index; series are numbers of the index' own.
pub(crate) trait Index {
    type Error;

    /// Every series.
    fn all(&self) -> Result<RoaringBitmap, Self::Error>;
    /// The series with this label.
    fn equal(&self, name: &str, value: &str) -> Result<Option<RoaringBitmap>, Self::Error>;
    /// The series with the label `name` whose value begins with `prefix` and `keep` says yes to.
    fn union(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, Self::Error>;
    /// The names of all labels.
    fn names(&self, each: &mut dyn FnMut(&str)) -> Result<(), Self::Error>;
    /// The values of one label.
    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) -> Result<(), Self::Error>;
}

/// The series all matchers hold for; all series when there are none.
pub(crate) fn find<I: Index>(index: &I, matchers: &[Matcher]) -> Result<RoaringBitmap, I::Error> {
    let mut found: Option<RoaringBitmap> = None;
    // Conditions that name series come first, those that take series away from the rest after.
    for matcher in matchers.iter().filter(|matcher| !matcher.matches_absent()) {
        let bitmap = with_label(index, matcher)?;
        let both = match found.take() {
            None => bitmap,
            Some(found) => found & bitmap,
        };
        if both.is_empty() {
            return Ok(both);
        }
        found = Some(both);
    }
    let mut found = match found {
        Some(found) => found,
        None => index.all()?,
    };
    for matcher in matchers.iter().filter(|matcher| matcher.matches_absent()) {
        found -= failing(index, matcher)?;
        if found.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The series that have the label with a value that matches.
fn with_label<I: Index>(index: &I, matcher: &Matcher) -> Result<RoaringBitmap, I::Error> {
    let name = matcher.name();
    if matcher.op() == MatchOp::Equal {
        return Ok(index.equal(name, matcher.value())?.unwrap_or_default());
    }
    match (matcher.op(), Pattern::of(matcher)) {
        (MatchOp::Regex, Pattern::Words(words)) => {
            let mut union = RoaringBitmap::new();
            for word in words.iter().filter(|word| !word.is_empty()) {
                union |= index.equal(name, word)?.unwrap_or_default();
            }
            Ok(union)
        }
        (MatchOp::Regex, Pattern::Prefix(prefix)) => {
            index.union(name, &prefix, &mut |value| matcher.matches(value))
        }
        _ => index.union(name, "", &mut |value| matcher.matches(value)),
    }
}

/// The series that have the label with a value that does not match.
fn failing<I: Index>(index: &I, matcher: &Matcher) -> Result<RoaringBitmap, I::Error> {
    let name = matcher.name();
    if matcher.op() == MatchOp::NotEqual {
        return Ok(index.equal(name, matcher.value())?.unwrap_or_default());
    }
    match (matcher.op(), Pattern::of(matcher)) {
        (MatchOp::NotRegex, Pattern::Words(words)) => {
            let mut union = RoaringBitmap::new();
            for word in words.iter().filter(|word| !word.is_empty()) {
                union |= index.equal(name, word)?.unwrap_or_default();
            }
            Ok(union)
        }
        (MatchOp::NotRegex, Pattern::Prefix(prefix)) => {
            index.union(name, &prefix, &mut |value| !matcher.matches(value))
        }
        (MatchOp::Regex, _) if matcher.value() == ".*" => Ok(RoaringBitmap::new()),
        _ => index.union(name, "", &mut |value| !matcher.matches(value)),
    }
}

/// What can be said of a pattern without trying it.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// It matches exactly these.
    Words(Vec<String>),
    /// All it matches begin so.
    Prefix(String),
}

impl Pattern {
    fn of(matcher: &Matcher) -> Self {
        let pattern = matcher.value();
        let inner = pattern.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        if let Some(words) = inner.and_then(words).or_else(|| words(pattern)) {
            return Self::Words(words);
        }
        Self::Prefix(prefix(pattern))
    }
}

/// The words of a pattern that is nothing but words between bars.
fn words(pattern: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '|' => words.push(String::new()),
            c => {
                let literal = literal(c, &mut chars)?;
                words.last_mut()?.push(literal);
            }
        }
    }
    Some(words)
}

/// The plain text a pattern begins with; empty when alternatives could begin otherwise.
fn prefix(pattern: &str) -> String {
    if pattern.contains('|') {
        return String::new();
    }
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match literal(c, &mut chars) {
            Some(c) => text.push(c),
            None => {
                // These make the character before them optional.
                if matches!(c, '?' | '*' | '{') {
                    text.pop();
                }
                break;
            }
        }
    }
    text
}

/// The character a pattern's next one or two stand for, if they stand for one.
fn literal(c: char, rest: &mut std::str::Chars<'_>) -> Option<char> {
    match c {
        '\\' => rest.next().filter(char::is_ascii_punctuation),
        '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => None,
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use stoa_model::{MatchOp, Matcher};

    use super::Pattern;

    fn check(pattern: &str, expected: Pattern) {
        let matcher = Matcher::new("n", MatchOp::Regex, pattern).unwrap();
        assert_eq!(Pattern::of(&matcher), expected, "{pattern}");
    }

    #[test]
    fn patterns_say_what_they_can_match() {
        let words =
            |words: &[&str]| Pattern::Words(words.iter().map(|w| (*w).to_string()).collect());
        let prefix = |text: &str| Pattern::Prefix(text.to_string());
        check("a", words(&["a"]));
        check("", words(&[""]));
        check("a|bc|", words(&["a", "bc", ""]));
        check("(a|b)", words(&["a", "b"]));
        check(r"10\.0\.0\.1:9100|ä", words(&["10.0.0.1:9100", "ä"]));
        check("node.*", prefix("node"));
        check("ab?c", prefix("a"));
        check("ab*", prefix("a"));
        check("ab{0,2}", prefix("a"));
        check("ab+", prefix("ab"));
        check(r"a\d", prefix("a"));
        check("(a)|(b)", prefix(""));
        check("(a|b)c|d.*", prefix(""));
        check("(?i)a", prefix(""));
        check("^a", prefix(""));
        check(".+", prefix(""));
    }
}

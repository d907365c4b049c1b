//! A condition on one label.

use std::fmt;

use regex::Regex;

/// The largest compiled regular expression accepted, in bytes; larger ones are refused.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A condition on one label's value; an absent label has the value `""`.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

/// Why a matcher could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("regular expression {pattern:?} is not valid")]
pub struct MatcherError {
    /// The pattern as given.
    pub pattern: String,
    /// What the compiler said.
    #[source]
    pub source: Box<regex::Error>,
}

impl Matcher {
    /// A matcher; a pattern is compiled anchored, with `.` matching newlines, as Prometheus does.
    ///
    /// # Errors
    /// [`MatcherError`] when a pattern does not compile or compiles to over 4 MiB.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(
                regex::RegexBuilder::new(&format!("^(?s:{value})$"))
                    .size_limit(REGEX_BYTES_MAX)
                    .build()
                    .map_err(|source| MatcherError {
                        pattern: value.clone(),
                        source: Box::new(source),
                    })?,
            ),
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    /// `name="value"`.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern, as given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label value satisfies the condition; pass `""` for an absent label.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, regex) => regex.as_ref().is_some_and(|re| re.is_match(value)),
            (MatchOp::NotRegex, regex) => regex.as_ref().is_some_and(|re| !re.is_match(value)),
        }
    }

    /// Whether a series without the label satisfies the condition.
    #[must_use]
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_absent_labels_are_empty() {
        let re = Matcher::new("a", MatchOp::Regex, "b|c.*").unwrap();
        assert!(re.matches("b") && re.matches("cd\n") && !re.matches("xb") && !re.matches_absent());
        let nre = Matcher::new("a", MatchOp::NotRegex, "b").unwrap();
        assert!(nre.matches_absent() && !nre.matches("b"));
        assert!(Matcher::equal("a", "").matches_absent());
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
    }
}

//! A condition on one label.

use std::fmt;
use std::sync::Arc;

use crate::pattern::{Pattern, PatternBudget, PatternError};

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
    pattern: Option<Arc<Pattern>>,
}

/// Why a matcher could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("regular expression {pattern:?} is not valid")]
pub struct MatcherError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: PatternError,
}

impl Matcher {
    /// A matcher; a pattern must match whole values, with `.` matching newlines, as in Prometheus.
    ///
    /// # Errors
    /// [`MatcherError`] when a pattern is none or too large.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        Self::within(name, op, value, &mut PatternBudget::default())
    }

    /// The same, its pattern on a budget for many.
    ///
    /// # Errors
    /// [`MatcherError`] when a pattern is none or more than the budget allows.
    pub fn within(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
        budget: &mut PatternBudget,
    ) -> Result<Self, MatcherError> {
        let value = value.into();
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let pattern = Pattern::within(&value, budget)
                    .map_err(|source| MatcherError { pattern: value.clone(), source })?;
                Some(Arc::new(pattern))
            }
        };
        Ok(Self { name: name.into(), op, value, pattern })
    }

    /// `name="value"`.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
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
        let pattern = self.pattern.as_ref();
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => pattern.is_some_and(|pattern| pattern.is_match(value)),
            MatchOp::NotRegex => pattern.is_some_and(|pattern| !pattern.is_match(value)),
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

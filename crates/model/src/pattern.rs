//! Patterns of label values: Go's RE2 regular expressions, as Prometheus reads them.
//!
//! A pattern must match a whole value, `.` matches newlines too, and `\d`, `\w`, `\s`, `\b` know ASCII
//! only. What RE2 refuses is refused here in the words of Go's parser: backreferences, lookaround, a
//! repetition of more than 1000, a repetition of a repetition. Patterns that are nothing but words
//! (`a|b`, `node(1|2)`), and text with anything before or after it (`.*`, `eth.+`, `.*:9100`), are answered
//! without a regular expression.
//!
//! Bounds: [`TEXT_BYTES_MAX`] of a pattern, [`PATTERNS_MAX`] regular expressions of one [`PatternBudget`] and [`BUDGET_BYTES`] of compiled
//! program for them together, [`PATTERN_BYTES_MAX`] for each; what one keeps while it matches is at most
//! [`CACHE_BYTES_MAX`]. Matching takes time in proportion to the text.

mod shape;
mod syntax;

use regex::{Regex, RegexBuilder};

use shape::Shape;
pub use syntax::SyntaxError;
use syntax::Translated;

/// Most regular expressions of one budget; patterns answered without one do not count.
pub const PATTERNS_MAX: usize = 256;

/// The longest pattern, in bytes: read for a program it takes many times its length. A list of all hosts of a
/// dashboard's variable is far below.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// The largest compiled program, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4 << 20;

/// All compiled programs of one budget, in bytes.
pub const BUDGET_BYTES: usize = 16 << 20;

/// What one regular expression keeps while it matches, in bytes.
const CACHE_BYTES_MAX: usize = 512 << 10;

/// The sizes a program is taken for: the least of them it fits in.
const SIZES: [usize; 3] = [64 << 10, 512 << 10, PATTERN_BYTES_MAX];

/// What the patterns of one question may cost together.
#[derive(Clone, Debug)]
pub struct PatternBudget {
    patterns: usize,
    bytes: usize,
}

impl Default for PatternBudget {
    fn default() -> Self {
        Self { patterns: PATTERNS_MAX, bytes: BUDGET_BYTES }
    }
}

/// Why a pattern is none, or too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression of RE2.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// It is too long.
    #[error("a regular expression is longer than {max} bytes: use a shorter one")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// Its program is too large, or those of all patterns together.
    #[error("regular expressions compile to more than {max} bytes: use fewer or simpler ones")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// There are too many.
    #[error("more than {max} regular expressions: use fewer")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// A pattern, ready to be matched.
#[derive(Clone, Debug)]
pub struct Pattern(Test);

#[derive(Clone, Debug)]
enum Test {
    Shape(Shape),
    Regex(Regex),
}

impl Pattern {
    /// A pattern with a budget of its own.
    ///
    /// # Errors
    /// [`PatternError`] when it is no regular expression or too large.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::within(pattern, &mut PatternBudget::default())
    }

    /// A pattern on a budget.
    ///
    /// # Errors
    /// [`PatternError`] when it is no regular expression or the budget does not allow it.
    pub fn within(pattern: &str, budget: &mut PatternBudget) -> Result<Self, PatternError> {
        let translated = translated(pattern)?;
        if let Some(shape) = Shape::of(&translated) {
            return Ok(Self(Test::Shape(shape)));
        }
        if budget.patterns == 0 {
            return Err(PatternError::TooMany { max: PATTERNS_MAX });
        }
        budget.patterns -= 1;
        let (regex, bytes) = compiled(pattern, &translated.rust, budget.bytes)?;
        budget.bytes = budget.bytes.saturating_sub(bytes);
        Ok(Self(Test::Regex(regex)))
    }

    /// Whether it matches all of a text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0 {
            Test::Shape(shape) => shape.is_match(text),
            Test::Regex(regex) => regex.is_match(text),
        }
    }

    /// Whether it is answered without a regular expression.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Test::Shape(_))
    }
}

/// A pattern as a regular expression that matches whole texts and tells its groups.
///
/// # Errors
/// [`PatternError`] when it is no regular expression or too large.
pub fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    Ok(compiled(pattern, &translated(pattern)?.rust, PATTERN_BYTES_MAX)?.0)
}

fn translated(pattern: &str) -> Result<Translated, PatternError> {
    if pattern.len() > TEXT_BYTES_MAX {
        return Err(PatternError::TooLong { max: TEXT_BYTES_MAX });
    }
    Ok(syntax::translate(pattern)?)
}

/// A program of at most so many bytes, and what it counts as.
fn compiled(pattern: &str, rust: &str, bytes_max: usize) -> Result<(Regex, usize), PatternError> {
    let mut limits = SIZES.iter().filter(|size| **size <= bytes_max).copied();
    limits
        .find_map(|limit| {
            let built = RegexBuilder::new(&format!("^(?s:{rust})$"))
                .size_limit(limit)
                .dfa_size_limit(CACHE_BYTES_MAX)
                .build();
            match built {
                Ok(regex) => Some(Ok((regex, limit))),
                Err(regex::Error::CompiledTooBig(_)) => None,
                Err(_) => Some(Err(SyntaxError::other(pattern).into())),
            }
        })
        .unwrap_or(Err(PatternError::TooLarge { max: bytes_max.min(PATTERN_BYTES_MAX) }))
}

#[cfg(test)]
mod tests;

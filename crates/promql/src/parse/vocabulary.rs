//! The words of the language, for those who help people write it.

use super::ast::AggregateOp;
use super::signature;

/// Words that are neither functions nor aggregations.
const KEYWORDS: [&str; 14] = [
    "and",
    "atan2",
    "bool",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "nan",
    "offset",
    "on",
    "or",
    "unless",
    "without",
];

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    /// `rate`
    Function,
    /// `sum`
    Aggregation,
    /// `offset`
    Keyword,
}

/// Every word of the language with its kind, those of the experimental parts too.
pub fn vocabulary() -> impl Iterator<Item = (&'static str, WordKind)> {
    let functions = signature::all().iter().map(|signature| (signature.name, WordKind::Function));
    let aggregations = AggregateOp::ALL.iter().map(|op| (op.as_str(), WordKind::Aggregation));
    functions.chain(aggregations).chain(KEYWORDS.iter().map(|word| (*word, WordKind::Keyword)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_with_their_kind() {
        let kind = |wanted: &str| vocabulary().find(|(word, _)| *word == wanted).map(|(_, k)| k);
        assert_eq!(kind("rate"), Some(WordKind::Function));
        assert_eq!(kind("count_values"), Some(WordKind::Aggregation));
        assert_eq!(kind("group_left"), Some(WordKind::Keyword));
        assert_eq!(kind("select"), None);
        let mut words: Vec<&str> = vocabulary().map(|(word, _)| word).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all, "a word stands twice");
    }
}

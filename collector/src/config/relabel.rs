//! `write_relabel_configs`: what of a series is passed on, in Prometheus's words. Of its actions those that
//! choose series and labels: `keep`, `drop`, `replace`, `labelkeep`, `labeldrop`.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// The largest compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// Most rules of one target.
const RULES_MAX: usize = 1000;

/// One rule, ready to be used.
#[derive(Clone, Debug)]
pub struct RelabelRule {
    /// What it does.
    pub action: RelabelAction,
    /// The labels whose values are looked at.
    pub source_labels: Vec<String>,
    /// What stands between these.
    pub separator: String,
    /// What they are compared with, from beginning to end; of `labelkeep` and `labeldrop` the names.
    pub regex: Regex,
    /// The label that is set; may name groups of the expression.
    pub target_label: String,
    /// To what; may name groups of the expression.
    pub replacement: String,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelabelAction {
    /// Sets a label, to nothing to remove it, where the expression matches.
    #[default]
    Replace,
    /// Leaves out series where the expression does not match.
    Keep,
    /// Leaves out series where it does.
    Drop,
    /// Leaves out labels whose name does not match.
    LabelKeep,
    /// Leaves out labels whose name does.
    LabelDrop,
}

/// A rule as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenRelabel {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    separator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
    action: RelabelAction,
}

/// The rules as meant.
///
/// # Errors
/// Which rule, from 1, and what is wrong with it.
pub(super) fn rules(written: Vec<WrittenRelabel>) -> Result<Vec<RelabelRule>, String> {
    if written.len() > RULES_MAX {
        return Err(format!("write_relabel_configs: more than {RULES_MAX}"));
    }
    let rule = |(number, written)| {
        rule(written).map_err(|why| format!("write_relabel_configs, number {number}: {why}"))
    };
    (1..).zip(written).map(rule).collect()
}

fn rule(written: WrittenRelabel) -> Result<RelabelRule, String> {
    use RelabelAction::{Drop, Keep, LabelDrop, LabelKeep, Replace};
    let WrittenRelabel { source_labels, separator, target_label, regex, replacement, action } =
        written;
    match action {
        Replace => match target_label.as_deref() {
            None | Some("") => return Err("replace needs a target_label".into()),
            Some(name) if !may_name(name) => {
                return Err("target_label is letters, digits, _ and groups such as ${1}".into());
            }
            Some(_) => {}
        },
        LabelKeep | LabelDrop => {
            let others = [&separator, &target_label, &replacement];
            if source_labels.is_some() || others.iter().any(|other| other.is_some()) {
                return Err("labelkeep and labeldrop have a regex and nothing else".into());
            }
        }
        Keep | Drop => {}
    }
    // As of matchers, and as Prometheus has it: anchored, and `.` is any character.
    let regex = format!("^(?s:{})$", regex.as_deref().unwrap_or("(.*)"));
    let regex = RegexBuilder::new(&regex).size_limit(REGEX_BYTES_MAX).build();
    Ok(RelabelRule {
        action,
        source_labels: source_labels.unwrap_or_default(),
        separator: separator.unwrap_or_else(|| ";".to_owned()),
        regex: regex.map_err(|_invalid| "regex is not a valid expression, or too large")?,
        target_label: target_label.unwrap_or_default(),
        replacement: replacement.unwrap_or_else(|| "$1".to_owned()),
    })
}

/// Whether a text is the name of a label, groups of an expression in it.
fn may_name(text: &str) -> bool {
    let mut rest = text;
    let mut is_first = true;
    while let Some(next) = rest.chars().next() {
        let taken = if let Some(group) = rest.strip_prefix("${") {
            let (name, _) = group.split_once('}').unwrap_or_default();
            if is_word(name) { name.len() + 3 } else { return false }
        } else if let Some(group) = rest.strip_prefix('$') {
            let end = group.find(|c: char| !is_word_char(c)).unwrap_or(group.len());
            if end > 0 { end + 1 } else { return false }
        } else if is_word_char(next) && !(is_first && next.is_ascii_digit()) {
            1
        } else {
            return false;
        };
        rest = rest.get(taken..).unwrap_or_default();
        is_first = false;
    }
    !text.is_empty()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word_char)
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_valid_as_in_prometheus() {
        for name in
            ["label", "label${1}", "${1}label", "${1}", "$1", "asd$2asd", "_${1}_", "foo${bar}foo"]
        {
            assert!(may_name(name), "{name}");
        }
        for name in ["-label", "${", "$", "${}", "foo${", "-foo${1}bar-", "0${3}", "-${3}", ""] {
            assert!(!may_name(name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, expected: &str| {
            let written: WrittenRelabel = toml::from_str(text).unwrap();
            let error = rules(vec![written]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "number 1: replace needs a target_label");
        check("target_label = \"0${3}\"", "target_label is letters");
        check("regex = \"(\"\naction = \"keep\"", "regex is not a valid expression");
        check("action = \"labeldrop\"\nsource_labels = [\"a\"]", "have a regex and nothing else");
        check("action = \"labelkeep\"\nreplacement = \"a\"", "have a regex and nothing else");
        assert!(toml::from_str::<WrittenRelabel>("action = \"hashmod\"").is_err());
        assert!(toml::from_str::<WrittenRelabel>("modulus = 3").is_err());
    }
}

//! Relabelling as Prometheus does it: which targets and series are taken, and under which labels.
//!
//! Rules are written with Prometheus's keys ([`WrittenRelabel`]), made ready once ([`rules`]) and applied
//! in their order ([`relabel`]): `relabel_configs` of targets, `metric_relabel_configs` of what they tell,
//! `write_relabel_configs` of what is passed on. All of Prometheus's actions; a label set keeps the classic names
//! (letters, digits, `_`): a rule that would set another sets nothing.
//! Source: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>.

mod apply;
mod md5;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

pub use apply::relabel;

/// The largest compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// Most rules of one list.
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
    /// What the hash of `hashmod` is divided by.
    pub modulus: u64,
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
    /// Copies labels whose name matches to another name.
    LabelMap,
    /// Sets a label to a number below the modulus, by the hash of the values.
    HashMod,
    /// Sets a label to the values in small letters.
    Lowercase,
    /// Sets a label to the values in capitals.
    Uppercase,
    /// Leaves out series whose values are not the target label's.
    KeepEqual,
    /// Leaves out series whose values are.
    DropEqual,
}

/// A rule as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenRelabel {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    modulus: Option<u64>,
    #[serde(deserialize_with = "action")]
    action: RelabelAction,
}

/// An action, in whatever letters: Prometheus takes `Replace`, too.
fn action<'de, D: serde::Deserializer<'de>>(from: D) -> Result<RelabelAction, D::Error> {
    use serde::de::IntoDeserializer as _;
    let word = String::deserialize(from)?.to_lowercase();
    RelabelAction::deserialize(word.into_deserializer())
}

/// The rules as meant; `key` is what the list is called where it is written.
///
/// # Errors
/// Which rule, from 1, and what is wrong with it.
pub fn rules(key: &str, written: Vec<WrittenRelabel>) -> Result<Vec<RelabelRule>, String> {
    if written.len() > RULES_MAX {
        return Err(format!("{key}: more than {RULES_MAX}"));
    }
    let rule =
        |(number, written)| rule(written).map_err(|why| format!("{key}, number {number}: {why}"));
    (1..).zip(written).map(rule).collect()
}

fn rule(written: WrittenRelabel) -> Result<RelabelRule, String> {
    use RelabelAction as Act;
    let WrittenRelabel {
        source_labels,
        separator,
        target_label,
        regex,
        replacement,
        modulus,
        action,
    } = written;
    let target = target_label.as_deref().unwrap_or_default();
    match action {
        Act::Replace if target.is_empty() => return Err("replace needs a target_label".into()),
        Act::Replace if !may_name(target) => {
            return Err("target_label is letters, digits, _ and groups such as ${1}".into());
        }
        Act::HashMod | Act::Lowercase | Act::Uppercase | Act::KeepEqual | Act::DropEqual
            if !may_name(target) || target.contains('$') =>
        {
            return Err("this action needs a target_label of letters, digits and _".into());
        }
        Act::LabelKeep | Act::LabelDrop => {
            let others = [&separator, &target_label, &replacement];
            if source_labels.is_some() || others.iter().any(|other| other.is_some()) {
                return Err("labelkeep and labeldrop have a regex and nothing else".into());
            }
        }
        _ => {}
    }
    if action == Act::HashMod && modulus.unwrap_or(0) == 0 {
        return Err("hashmod needs a modulus above 0".into());
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
        modulus: modulus.unwrap_or(1),
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

/// Whether a text is a label's name.
fn is_name(text: &str) -> bool {
    is_word(text) && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word_char)
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use stoa_model::Labels;

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

    fn rule(text: &str) -> Result<Vec<RelabelRule>, String> {
        rules("relabel_configs", vec![serde_json::from_str(text).unwrap()])
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = rule(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("{}", "relabel_configs, number 1: replace needs a target_label");
        check(r#"{"target_label": "0${3}"}"#, "target_label is letters");
        check(r#"{"regex": "(", "action": "keep"}"#, "regex is not a valid expression");
        for action in ["labeldrop", "labelkeep"] {
            let more = format!(r#"{{"action": "{action}", "source_labels": ["a"]}}"#);
            check(&more, "have a regex and nothing else");
        }
        check(r#"{"action": "hashmod", "target_label": "a"}"#, "hashmod needs a modulus");
        check(r#"{"action": "uppercase"}"#, "needs a target_label");
        check(r#"{"action": "keepequal", "target_label": "$1"}"#, "needs a target_label");
        assert!(serde_json::from_str::<WrittenRelabel>(r#"{"action": "shuffle"}"#).is_err());
    }

    /// What becomes of labels by one rule, `-` when they are left out.
    #[track_caller]
    fn check(given: &str, text: &str, expected: &str) {
        let labels = |text: &str| {
            let pairs = text.split('|').filter(|pair| !pair.is_empty());
            Labels::from_pairs(pairs.map(|pair| pair.split_once('=').unwrap())).unwrap()
        };
        let found = relabel(&rule(text).unwrap(), labels(given));
        assert_eq!(found, (expected != "-").then(|| labels(expected)), "{given} by {text}");
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        let map = |regex: &str, to: &str| {
            format!(r#"{{"action": "LabelMap", "regex": "{regex}", "replacement": "{to}"}}"#)
        };
        check(
            "a=foo|b1=bar|b2=baz",
            &map("(b.*)", "bar_${1}"),
            "a=foo|bar_b1=bar|bar_b2=baz|b1=bar|b2=baz",
        );
        check("a=foo|__meta_x=y", &map("__meta_(.+)", "$1"), "a=foo|__meta_x=y|x=y");
        let hash = r#"{"action": "hashmod", "source_labels": ["c"], "target_label": "d", "modulus": 1000}"#;
        check("a=foo|b=bar|c=baz", hash, "a=foo|b=bar|c=baz|d=976");
        check("c=a\nb", hash, "c=a\nb|d=304");
        let cased = |action: &str| {
            format!(r#"{{"action": "{action}", "source_labels": ["foo"], "target_label": "to"}}"#)
        };
        check("foo=bAr123Foo", &cased("lowercase"), "foo=bAr123Foo|to=bar123foo");
        check("foo=bAr123Foo", &cased("uppercase"), "foo=bAr123Foo|to=BAR123FOO");
        let equal = |action: &str| {
            format!(r#"{{"action": "{action}", "source_labels": ["p"], "target_label": "q"}}"#)
        };
        check("p=1|q=1", &equal("keepequal"), "p=1|q=1");
        check("p=1|q=2", &equal("keepequal"), "-");
        check("p=1|q=1", &equal("dropequal"), "-");
        check("p=1|q=2", &equal("dropequal"), "p=1|q=2");
    }
}

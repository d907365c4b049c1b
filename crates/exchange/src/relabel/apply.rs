//! Rules applied to labels.

use std::borrow::Cow;

use stoa_model::Labels;

use super::{RelabelAction, RelabelRule, is_name, md5};

/// The labels after all rules; `None` when they are left out, or nothing of them is left.
#[must_use]
pub fn relabel(rules: &[RelabelRule], labels: Labels) -> Option<Labels> {
    use RelabelAction as Act;
    let mut labels = labels;
    for rule in rules {
        let RelabelRule { regex, target_label, .. } = rule;
        let target = || labels.get(target_label).unwrap_or("");
        match rule.action {
            Act::Keep if !regex.is_match(&value_of(rule, &labels)) => return None,
            Act::Drop if regex.is_match(&value_of(rule, &labels)) => return None,
            Act::KeepEqual if value_of(rule, &labels) != target() => return None,
            Act::DropEqual if value_of(rule, &labels) == target() => return None,
            Act::Keep | Act::Drop | Act::KeepEqual | Act::DropEqual => {}
            Act::LabelKeep => labels = labels.retain(|label| regex.is_match(&label.name)),
            Act::LabelDrop => labels = labels.retain(|label| !regex.is_match(&label.name)),
            Act::LabelMap => labels = mapped(rule, labels),
            Act::Replace => {
                if let Some((name, value)) = replaced(rule, &labels) {
                    labels = labels.with(&name, &value);
                }
            }
            Act::HashMod => {
                let [.., a, b, c, d, e, f, g, h] = md5::digest(value_of(rule, &labels).as_bytes());
                let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % rule.modulus.max(1);
                labels = labels.with(target_label, &hash.to_string());
            }
            Act::Lowercase | Act::Uppercase => {
                let value = value_of(rule, &labels);
                let value = match rule.action {
                    Act::Lowercase => value.to_lowercase(),
                    _ => value.to_uppercase(),
                };
                labels = labels.with(target_label, &value);
            }
        }
    }
    (!labels.is_empty()).then_some(labels)
}

/// The label that a `replace` sets, where it matches and is a label's.
fn replaced(rule: &RelabelRule, labels: &Labels) -> Option<(String, String)> {
    let value = value_of(rule, labels);
    let captures = rule.regex.captures(&value)?;
    let (mut name, mut value) = (String::new(), String::new());
    captures.expand(&rule.target_label, &mut name);
    captures.expand(&rule.replacement, &mut value);
    is_name(&name).then_some((name, value))
}

fn mapped(rule: &RelabelRule, labels: Labels) -> Labels {
    let mut mapped = labels.clone();
    for label in &labels {
        let Some(captures) = rule.regex.captures(&label.name) else { continue };
        let mut name = String::new();
        captures.expand(&rule.replacement, &mut name);
        if is_name(&name) {
            mapped = mapped.with(&name, &label.value);
        }
    }
    mapped
}

/// What a rule looks at: the values of its labels, one after the other.
fn value_of<'a>(rule: &RelabelRule, labels: &'a Labels) -> Cow<'a, str> {
    match rule.source_labels.as_slice() {
        [] => Cow::Borrowed(""),
        [name] => Cow::Borrowed(labels.get(name).unwrap_or("")),
        names => {
            let values: Vec<&str> =
                names.iter().map(|name| labels.get(name).unwrap_or("")).collect();
            Cow::Owned(values.join(&rule.separator))
        }
    }
}

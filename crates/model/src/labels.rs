//! The identity of a series: a sorted set of name and value pairs.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The label's name; unique within a [`Labels`].
    pub name: Arc<str>,
    /// The label's value; never empty within a [`Labels`] (an empty value is an absent label).
    pub value: Arc<str>,
}

/// A series' labels: sorted by name, names unique, no empty value. Cheap to clone.
///
/// Two sets are equal when all pairs are. Order is by pairs, as Prometheus compares label sets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

/// Why pairs are no label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A name stands twice.
    #[error("label name {0:?} stands twice")]
    Duplicate(String),
}

impl Labels {
    /// The empty set.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts pairs into a set; pairs with an empty value are left out.
    ///
    /// # Errors
    /// [`LabelsError::Duplicate`] when a name stands twice.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut labels: Vec<Label> = pairs
            .into_iter()
            .map(|(name, value)| Label { name: name.into(), value: value.into() })
            .filter(|label| !label.value.is_empty())
            .collect();
        labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let twice = labels.windows(2).find_map(|pair| match pair {
            [a, b] if a.name == b.name => Some(a.name.to_string()),
            _ => None,
        });
        match twice {
            Some(name) => Err(LabelsError::Duplicate(name)),
            None => Ok(Self(labels.into())),
        }
    }

    /// Like [`Self::from_pairs`] for pairs written by hand: a later pair replaces an earlier one.
    #[must_use]
    pub fn from_pairs_last_wins<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut labels: Vec<Label> = pairs
            .into_iter()
            .map(|(name, value)| Label { name: name.into(), value: value.into() })
            .collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let mut unique: Vec<Label> = Vec::with_capacity(labels.len());
        for label in labels {
            match unique.last_mut() {
                Some(last) if last.name == label.name => *last = label,
                _ => unique.push(label),
            }
        }
        unique.retain(|label| !label.value.is_empty());
        Self(unique.into())
    }

    /// A set of labels that stand in order of their names. Where they do not, the same as
    /// [`Self::from_pairs_last_wins`].
    #[must_use]
    pub fn from_ordered(labels: Vec<Label>) -> Self {
        let in_order = labels.is_sorted_by(|a, b| a.name < b.name);
        if in_order && labels.iter().all(|label| !label.value.is_empty()) {
            return Self(labels.into());
        }
        Self::from_pairs_last_wins(labels.into_iter().map(|label| (label.name, label.value)))
    }

    /// Whether both are one allocation; sets that are not may be equal all the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
        self.0.get(at).map(|label| label.value.as_ref())
    }

    /// The metric's name, if there is one.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set with only the labels `keep` says yes to.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(&Label) -> bool) -> Self {
        if self.0.iter().all(&mut keep) {
            return self.clone();
        }
        Self(self.0.iter().filter(|label| keep(label)).cloned().collect())
    }

    /// The set without one label.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() {
            return self.clone();
        }
        self.retain(|label| label.name.as_ref() != name)
    }

    /// The set with one label set to `value`; an empty value removes it.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        if self.get(name).unwrap_or("") == value {
            return self.clone();
        }
        if value.is_empty() {
            return self.without(name);
        }
        self.with_label(Label { name: name.into(), value: value.into() })
    }

    /// The set with this label, whose texts are shared with whoever else has them; an empty value
    /// removes it.
    #[must_use]
    pub fn with_label(&self, label: Label) -> Self {
        if label.value.is_empty() {
            return self.without(&label.name);
        }
        let before = self.0.iter().take_while(|it| it.name < label.name).cloned();
        let after = self.0.iter().skip_while(|it| it.name <= label.name).cloned();
        Self(before.chain([label.clone()]).chain(after).collect())
    }

    /// The set with those labels of another of which it has none of the name.
    #[must_use]
    pub fn with_missing(&self, other: &Self) -> Self {
        let missing = other.iter().filter(|label| self.get(&label.name).is_none());
        let mut missing = missing.cloned().peekable();
        if missing.peek().is_none() {
            return self.clone();
        }
        let mut labels: Vec<Label> = self.0.iter().cloned().chain(missing).collect();
        labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self(labels.into())
    }

    /// Bytes of all names and values; what limits on label size count.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.0.iter().map(|label| label.name.len() + label.value.len()).sum()
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for label in self.0.iter() {
            state.write(label.name.as_bytes());
            state.write_u8(0xfe);
            state.write(label.value.as_bytes());
            state.write_u8(0xff);
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// As PromQL prints it: `name{a="b"}`, values escaped; `{}` when empty.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        if let Some(name) = name {
            f.write_str(name)?;
        }
        let mut rest = self.0.iter().filter(|label| label.name.as_ref() != METRIC_NAME).peekable();
        if name.is_some() && rest.peek().is_none() {
            return Ok(());
        }
        f.write_char('{')?;
        for (i, label) in rest.enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}=\"", label.name)?;
            for c in label.value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
        }
        f.write_char('}')
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_set_is_sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]).unwrap();
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(
            Labels::from_pairs([("a", "1"), ("a", "2")]),
            Err(LabelsError::Duplicate("a".into()))
        );
        assert_eq!(Labels::from_pairs_last_wins([("a", "1"), ("a", "2")]).get("a"), Some("2"));
        for pairs in [vec![("a", "1"), ("b", "2")], vec![("b", "2"), ("a", "1"), ("c", "")]] {
            let label =
                |(name, value): (&str, &str)| Label { name: name.into(), value: value.into() };
            let given = pairs.into_iter().map(label).collect();
            assert_eq!(Labels::from_ordered(given).to_string(), r#"{a="1", b="2"}"#);
        }
    }

    #[test]
    fn with_and_without_keep_the_order() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
        assert_eq!(
            labels.with("instance", "a\"b").to_string(),
            r#"up{instance="a\"b", job="node"}"#
        );
        assert_eq!(labels.with("job", "").to_string(), "up");
        assert_eq!(labels.without("__name__").to_string(), r#"{job="node"}"#);
        assert_eq!(labels.without("absent"), labels);
        let other = Labels::from_pairs([("job", "x"), ("a", "1"), ("z", "2")]).unwrap();
        let expected = r#"up{a="1", job="node", z="2"}"#;
        assert_eq!(labels.with_missing(&other).to_string(), expected);
        assert_eq!(labels.with_missing(&Labels::empty()), labels);
    }
}

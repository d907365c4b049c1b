//! Attributes as text, from either form.

use std::borrow::Cow;

use super::{
    ATTRIBUTES_MAX, Attribute, Attributes, AttributesFault, NESTING_MAX, ReadError, TEXT_BYTES_MAX,
};

/// An `AnyValue` that is not read yet. `None` of it is a value that is none.
pub(super) trait AnyValue<'a>: Copy {
    /// What it is.
    fn kind(self) -> Result<Any<'a, Self>, ReadError>;
    /// The values of an `ArrayValue`.
    fn elements(self, each: &mut dyn FnMut(Self) -> Step) -> Step;
    /// The pairs of a `KeyValueList`.
    fn entries(self, each: &mut dyn FnMut(Cow<'a, str>, Option<Self>) -> Step) -> Step;
}

type Step = Result<(), ReadError>;

/// What a value is.
pub(super) enum Any<'a, V> {
    Nothing,
    Text(Cow<'a, str>),
    Boolean(bool),
    Integer(i64),
    Double(f64),
    /// Bytes, in base64.
    Bytes(Cow<'a, str>),
    Array(V),
    Map(V),
}

/// The attributes of a resource, a scope or a point so far.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    list: Vec<Attribute<'a>>,
    left_out: Vec<(Cow<'a, str>, AttributesFault)>,
    too_many: bool,
}

impl<'a> Gathered<'a> {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.left_out.clear();
        self.too_many = false;
    }

    /// All of them, or why not: what is left out may tell a series from others.
    pub(super) fn get(&self) -> Attributes<'_> {
        match self.left_out.first() {
            Some((_, fault)) => Err(*fault),
            None => self.kept(),
        }
    }

    /// Those that can be kept, as long as there are not too many.
    pub(super) fn kept(&self) -> Attributes<'_> {
        if self.too_many { Err(AttributesFault::TooMany) } else { Ok(&self.list) }
    }

    /// All of them, if each can be kept.
    pub(super) fn into_all(self) -> Option<Vec<Attribute<'a>>> {
        (self.left_out.is_empty() && !self.too_many).then_some(self.list)
    }

    /// The names of the others.
    pub(super) fn left_out(&self) -> &[(Cow<'a, str>, AttributesFault)] {
        &self.left_out
    }

    /// Adds one.
    pub(super) fn add<V: AnyValue<'a>>(&mut self, key: Cow<'a, str>, value: Option<V>) -> Step {
        if self.too_many || self.list.len() + self.left_out.len() == ATTRIBUTES_MAX {
            self.too_many = true;
            return Ok(());
        }
        let mut fault = None;
        let value = match value {
            None => Cow::Borrowed(""),
            Some(value) => match value.kind()? {
                Any::Nothing => Cow::Borrowed(""),
                Any::Text(text) | Any::Bytes(text) => text,
                any => {
                    let mut text = Text::default();
                    text.value(any, 0)?;
                    fault = text.fault;
                    text.out.into()
                }
            },
        };
        if key.len().max(value.len()) > TEXT_BYTES_MAX {
            fault = Some(AttributesFault::TooLong);
        }
        match fault {
            None => self.list.push(Attribute { key, value }),
            Some(fault) => self.left_out.push((key, fault)),
        }
        Ok(())
    }
}

/// A value as JSON. It grows little beyond [`TEXT_BYTES_MAX`] whatever the value is.
#[derive(Default)]
struct Text {
    out: String,
    fault: Option<AttributesFault>,
}

impl Text {
    fn value<'a, V: AnyValue<'a>>(&mut self, any: Any<'a, V>, depth: usize) -> Step {
        match any {
            Any::Nothing => self.push("null"),
            Any::Text(text) | Any::Bytes(text) => self.quoted(&text),
            Any::Boolean(value) => self.push(if value { "true" } else { "false" }),
            Any::Integer(value) => self.push(&value.to_string()),
            Any::Double(value) => self.push(&double_text(value)),
            Any::Array(_) | Any::Map(_) if depth == NESTING_MAX => {
                self.fault = Some(AttributesFault::TooDeep);
            }
            Any::Array(array) => {
                self.push("[");
                let mut first = true;
                array.elements(&mut |value| {
                    if self.fault.is_some() {
                        return Ok(());
                    }
                    self.comma(&mut first);
                    self.value(value.kind()?, depth + 1)
                })?;
                self.push("]");
            }
            Any::Map(map) => {
                // Each takes some bytes of the text, so that more of them cannot fit.
                let (mut entries, mut too_many) = (Vec::new(), false);
                map.entries(&mut |key, value| {
                    if entries.len() < TEXT_BYTES_MAX / 8 {
                        entries.push((key, value));
                    } else {
                        too_many = true;
                    }
                    Ok(())
                })?;
                if too_many {
                    self.too_long();
                }
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                self.push("{");
                let mut first = true;
                for (key, value) in entries {
                    if self.fault.is_some() {
                        break;
                    }
                    self.comma(&mut first);
                    self.quoted(&key);
                    self.push(":");
                    match value {
                        Some(value) => self.value(value.kind()?, depth + 1)?,
                        None => self.push("null"),
                    }
                }
                self.push("}");
            }
        }
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.push(",");
        }
    }

    fn quoted(&mut self, text: &str) {
        if text.len() > TEXT_BYTES_MAX {
            return self.too_long();
        }
        // Text always can be written.
        self.push(&serde_json::to_string(text).unwrap_or_default());
    }

    fn push(&mut self, text: &str) {
        if self.out.len() + text.len() > TEXT_BYTES_MAX {
            return self.too_long();
        }
        self.out.push_str(text);
    }

    fn too_long(&mut self) {
        self.fault = Some(AttributesFault::TooLong);
    }
}

/// A double as JavaScript writes it: an exponent only below 1e-6 and from 1e21 on.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        value.to_string()
    } else {
        let text = format!("{value:e}");
        if text.contains("e-") { text } else { text.replace('e', "e+") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_javascript_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (0.000_001, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(double_text(value), expected);
        }
    }
}

//! JSON of programs and servers, read without trust: what has another type than expected is absent, and lists,
//! tables and texts are bounded. Only a document that is no JSON at all is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::sources::is_plausible;

/// Elements read of a list, and entries of a table, at most; the rest is passed over.
pub(crate) const ELEMENTS_MAX: usize = 4096;
/// Characters read of a text at most.
const TEXT_CHARS_MAX: usize = 256;

/// A number, written as one, as a text (`12`, `0x0c`, `12%`), or as an object's `value`; a truth is 1
/// or 0, a text of one too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Number(pub(crate) Option<f64>);

/// A text without the space around it; a number as written. Absent when empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Text(Option<String>);

/// An object; anything else is one without fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part<T>(pub(crate) T);

/// A list of at most `MAX`; anything else is one without elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List<T, const MAX: usize = ELEMENTS_MAX>(pub(crate) Vec<T>);

/// An object whose keys are data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table<T>(pub(crate) BTreeMap<String, T>);

impl Number {
    pub(crate) fn is_true(self) -> bool {
        self.0.is_some_and(|value| value != 0.0)
    }
}

impl Text {
    /// The text, empty when absent.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// The text, or another when absent.
    pub(crate) fn or<'a>(&'a self, other: &'a str) -> &'a str {
        self.0.as_deref().unwrap_or(other)
    }

    fn new(text: &str) -> Self {
        let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
        Self((!text.is_empty()).then_some(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<T> std::ops::Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// What becomes of each kind of JSON value; what is not overridden is absent.
trait Shape<'de>: Default {
    fn number(_: f64) -> Self {
        Self::default()
    }
    fn text(_: &str) -> Self {
        Self::default()
    }
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

struct Reader<S>(PhantomData<S>);

#[expect(clippy::cast_precision_loss, reason = "series are doubles")]
impl<'de, S: Shape<'de>> Visitor<'de> for Reader<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<S, E> {
        Ok(S::number(f64::from(u8::from(value))))
    }
    fn visit_i64<E>(self, value: i64) -> Result<S, E> {
        Ok(S::number(value as f64))
    }
    fn visit_u64<E>(self, value: u64) -> Result<S, E> {
        Ok(S::number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<S, E> {
        Ok(S::number(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<S, E> {
        Ok(S::text(value))
    }
    fn visit_unit<E>(self) -> Result<S, E> {
        Ok(S::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        S::list(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<S, A::Error> {
        S::object(object)
    }
}

impl<'de> Shape<'de> for Number {
    fn number(value: f64) -> Self {
        Self(is_plausible(value).then_some(value))
    }
    fn text(text: &str) -> Self {
        let text = text.trim();
        if let Some(digits) = text.strip_prefix("0x") {
            let value = u32::from_str_radix(digits, 16);
            return Self(value.ok().map(f64::from));
        }
        match text {
            "true" => Self(Some(1.0)),
            "false" => Self(Some(0.0)),
            _ => Self(crate::sources::number(text.trim_end_matches('%'))),
        }
    }
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut number = Self::default();
        while let Some(key) = object.next_key::<String>()? {
            if key == "value" {
                number = object.next_value()?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(number)
    }
}

impl Shape<'_> for Text {
    fn number(value: f64) -> Self {
        Self::new(&value.to_string())
    }
    fn text(text: &str) -> Self {
        Self::new(text)
    }
}

impl<'de, T: Deserialize<'de> + Default> Shape<'de> for Part<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Self)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Shape<'de> for List<T, MAX> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < MAX {
            match list.next_element()? {
                Some(element) => elements.push(element),
                None => return Ok(Self(elements)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self(elements))
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for Table<T> {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut entries = BTreeMap::new();
        while entries.len() < ELEMENTS_MAX {
            match object.next_entry::<String, T>()? {
                Some((key, value)) => {
                    entries.insert(key.chars().take(TEXT_CHARS_MAX).collect(), value);
                }
                None => return Ok(Self(entries)),
            }
        }
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self(entries))
    }
}

macro_rules! deserialized_by_shape {
    ($($shape:ty $(where $bound:ident)?),*) => {$(
        impl<'de, $($bound: Deserialize<'de> + Default)?> Deserialize<'de> for $shape {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Reader(PhantomData))
            }
        }
    )*};
}

deserialized_by_shape!(Number, Text, Part<T> where T, Table<T> where T);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Disk {
        name: Text,
        size: Number,
        ok: Number,
        part: Part<Inner>,
        list: List<Number>,
        table: Table<Number>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Inner {
        a: Number,
    }

    fn parse(text: &str) -> Disk {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_kind_is_read() {
        let disk = parse(
            r#"{"name": " a b ", "size": "12", "ok": true, "part": {"a": -1.5, "more": [{}]},
                "list": [1, "2", null, {"value": 3, "string": "on"}, "0x04", "5%", "true"],
                "table": {"x": 1, "y": []},
                "other": {"deep": [[]]}}"#,
        );
        assert_eq!(disk.name.as_str(), "a b");
        assert_eq!(disk.size, Number(Some(12.0)));
        assert!(disk.ok.is_true());
        assert_eq!(disk.part.a, Number(Some(-1.5)));
        assert_eq!(
            disk.list.0,
            [1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 1.0].map(|n| Number((n > 0.0).then_some(n)))
        );
        let table: Vec<_> = disk.table.0.into_iter().collect();
        assert_eq!(table, [("x".into(), Number(Some(1.0))), ("y".into(), Number(None))]);
    }

    #[test]
    fn another_type_is_absent() {
        let disk = parse(
            r#"{"name": {}, "size": "much", "ok": null, "part": 3, "list": {"a": [1]}, "table": [2]}"#,
        );
        assert_eq!(disk, Disk::default());
        assert_eq!(disk.name.or("unknown"), "unknown");
    }

    #[test]
    fn long_ones_are_cut() {
        let numbers = vec!["1"; ELEMENTS_MAX + 7].join(",");
        let entries: Vec<String> = (0..ELEMENTS_MAX + 7).map(|i| format!("\"{i}\":1")).collect();
        let text = format!(
            r#"{{"list": [{numbers}], "table": {{{}}}, "name": "{}", "size": 4}}"#,
            entries.join(","),
            "n".repeat(1000)
        );
        let disk = parse(&text);
        assert_eq!(disk.list.0.len(), ELEMENTS_MAX);
        assert_eq!(disk.table.0.len(), ELEMENTS_MAX);
        assert_eq!(disk.name.as_str().len(), TEXT_CHARS_MAX);
        assert_eq!(disk.size, Number(Some(4.0)));
    }
}

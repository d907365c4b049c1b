//! JSON's values, each as what it is due to be.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use crate::otlp::attribute::{Any, AnyValue, Gathered};
use crate::otlp::{ReadError, Temporality};

type Done = Result<(), ReadError>;

/// A value and the key it stands under. One that is not there is `null`, which is what proto3's JSON
/// has for it too; read as anything it is that thing's default.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) key: &'static str,
    pub(super) raw: &'a RawValue,
}

impl<'a> Field<'a> {
    pub(super) fn is_there(self) -> bool {
        self.raw.get() != "null"
    }

    fn unexpected(self, expected: &'static str) -> ReadError {
        ReadError::Unexpected { key: self.key, expected }
    }

    /// The values of some keys. Of a key that stands twice the last counts.
    pub(super) fn pick<const N: usize>(
        self,
        keys: [&'static str; N],
    ) -> Result<[Self; N], ReadError> {
        let mut picked = keys.map(|key| Field { key, raw: RawValue::NULL });
        self.walk(Each::Map(&mut |key, raw| {
            if let Some(field) = picked.iter_mut().find(|field| field.key == key) {
                field.raw = raw;
            }
            Ok(())
        }))?;
        Ok(picked)
    }

    pub(super) fn elements(self, mut take: impl FnMut(Self) -> Done) -> Done {
        let key = self.key;
        self.walk(Each::Seq(&mut |raw| take(Field { key, raw })))
    }

    fn walk(self, each: Each<'_, 'a>) -> Done {
        if !self.is_there() {
            return Ok(());
        }
        let expected = match each {
            Each::Map(_) => "an object",
            Each::Seq(_) => "an array",
        };
        each.deserialize(&mut serde_json::Deserializer::from_str(self.raw.get()))
            // It is JSON, so what is wrong is what it is.
            .unwrap_or_else(|_| Err(self.unexpected(expected)))
    }

    /// Text. A number or boolean is its own: who configures an attribute's value by hand may leave
    /// out the quotes, and Proxmox VE passes it on.
    pub(super) fn text(self) -> Result<Cow<'a, str>, ReadError> {
        let raw = self.raw.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw)
                .map(|Text(text)| text)
                .map_err(|_other| self.unexpected("text")),
            Some(b'{' | b'[') => Err(self.unexpected("text")),
            _ if self.is_there() => Ok(Cow::Borrowed(raw)),
            _ => Ok(Cow::Borrowed("")),
        }
    }

    pub(super) fn boolean(self) -> Result<bool, ReadError> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" | "null" => Ok(false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    pub(super) fn unsigned(self) -> Result<u64, ReadError> {
        let text = self.text()?;
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) if text.is_empty() => Ok(0),
            Err(_) => whole(&text)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| self.unexpected("a whole number of 64 bits from 0 on")),
        }
    }

    pub(super) fn integer(self) -> Result<i64, ReadError> {
        let text = self.text()?;
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) if text.is_empty() => Ok(0),
            Err(_) => whole(&text)
                .and_then(|number| i64::try_from(number).ok())
                .ok_or_else(|| self.unexpected("a whole number of 64 bits")),
        }
    }

    pub(super) fn small(self) -> Result<i32, ReadError> {
        i32::try_from(self.integer()?)
            .map_err(|_other| self.unexpected("a whole number of 32 bits"))
    }

    pub(super) fn double(self) -> Result<f64, ReadError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(0.0);
        }
        text.parse().map_err(|_other| self.unexpected("a number"))
    }

    pub(super) fn maybe_double(self) -> Result<Option<f64>, ReadError> {
        if self.is_there() { self.double().map(Some) } else { Ok(None) }
    }

    pub(super) fn temporality(self) -> Result<Temporality, ReadError> {
        match &*self.text()? {
            "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(Temporality::Unspecified),
            "AGGREGATION_TEMPORALITY_DELTA" => Ok(Temporality::Delta),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(Temporality::Cumulative),
            _ => Ok(Temporality::of(self.unsigned()?)),
        }
    }

    /// An array of `KeyValue`.
    pub(super) fn attributes(self, out: &mut Gathered<'a>) -> Done {
        self.elements(|pair| {
            let [key, value] = pair.pick(["key", "value"])?;
            out.add(key.text()?, value.is_there().then_some(value))
        })
    }
}

/// A number with an exponent or a fraction of zero.
fn whole(text: &str) -> Option<i128> {
    let value: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "bounded on the same line")]
    (value.fract() == 0.0 && value.abs() < 1e20).then_some(value as i128)
}

impl<'a> AnyValue<'a> for Field<'a> {
    fn kind(self) -> Result<Any<'a, Self>, ReadError> {
        let [text, boolean, integer, double, array, map, bytes] = self.pick([
            "stringValue",
            "boolValue",
            "intValue",
            "doubleValue",
            "arrayValue",
            "kvlistValue",
            "bytesValue",
        ])?;
        Ok(if text.is_there() {
            Any::Text(text.text()?)
        } else if boolean.is_there() {
            Any::Boolean(boolean.boolean()?)
        } else if integer.is_there() {
            Any::Integer(integer.integer()?)
        } else if double.is_there() {
            Any::Double(double.double()?)
        } else if array.is_there() {
            Any::Array(array)
        } else if map.is_there() {
            Any::Map(map)
        } else if bytes.is_there() {
            // Both alphabets are proto3's, with padding or without; one is what others read.
            let text = bytes.text()?;
            let text = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
            let padding = text.len().next_multiple_of(4) - text.len();
            Any::Bytes((text + "=".repeat(padding).as_str()).into())
        } else {
            Any::Nothing
        })
    }

    fn elements(self, take: &mut dyn FnMut(Self) -> Done) -> Done {
        let [values] = self.pick(["values"])?;
        values.elements(take)
    }

    fn entries(self, take: &mut dyn FnMut(Cow<'a, str>, Option<Self>) -> Done) -> Done {
        let [values] = self.pick(["values"])?;
        values.elements(|pair| {
            let [key, value] = pair.pick(["key", "value"])?;
            take(key.text()?, value.is_there().then_some(value))
        })
    }
}

/// Text without a copy where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Hands over what an object or an array holds, one by one, so that none of it is kept.
enum Each<'f, 'a> {
    Map(&'f mut dyn FnMut(&str, &'a RawValue) -> Done),
    Seq(&'f mut dyn FnMut(&'a RawValue) -> Done),
}

impl<'a> DeserializeSeed<'a> for Each<'_, 'a> {
    type Value = Done;

    fn deserialize<D: serde::Deserializer<'a>>(self, from: D) -> Result<Done, D::Error> {
        match self {
            Self::Map(_) => from.deserialize_map(self),
            Self::Seq(_) => from.deserialize_seq(self),
        }
    }
}

impl<'a> serde::de::Visitor<'a> for Each<'_, 'a> {
    type Value = Done;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Done, A::Error> {
        let Self::Map(take) = self else { return Err(serde::de::Error::custom("an object")) };
        while let Some((Text(key), value)) = map.next_entry()? {
            if let Err(error) = take(&key, value) {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Done, A::Error> {
        let Self::Seq(take) = self else { return Err(serde::de::Error::custom("an array")) };
        while let Some(value) = seq.next_element()? {
            if let Err(error) = take(value) {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

//! Attributes and text of the protobuf form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::each;
use crate::otlp::attribute::{Any, AnyValue, Gathered};
use crate::otlp::{Malformed, ReadError, TEXT_BYTES_MAX};
use crate::wire::Value;

type Done = Result<(), ReadError>;

/// A `KeyValue`.
pub(super) fn attribute<'a>(message: &'a [u8], out: &mut Gathered<'a>) -> Done {
    let (key, value) = pair(message)?;
    out.add(key, value)
}

fn pair(message: &[u8]) -> Result<(Cow<'_, str>, Option<Message<'_>>), ReadError> {
    let (mut key, mut of) = (Cow::Borrowed(""), None);
    each(message, |field, value| {
        match field {
            1 => key = text(value, field)?,
            2 => of = Some(Message(value.bytes(field)?)),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, of))
}

pub(super) fn text(value: Value<'_>, field: u64) -> Result<Cow<'_, str>, Malformed> {
    Ok(String::from_utf8_lossy(value.bytes(field)?))
}

/// An `AnyValue`, an `ArrayValue` or a `KeyValueList`.
#[derive(Clone, Copy)]
struct Message<'a>(&'a [u8]);

impl<'a> AnyValue<'a> for Message<'a> {
    fn kind(self) -> Result<Any<'a, Self>, ReadError> {
        let mut any = Any::Nothing;
        each(self.0, |field, value| {
            any = match field {
                1 => Any::Text(text(value, field)?),
                2 => Any::Boolean(value.number(field)? != 0),
                3 => Any::Integer(value.number(field)?.cast_signed()),
                4 => Any::Double(value.double(field)?),
                5 => Any::Array(Message(value.bytes(field)?)),
                6 => Any::Map(Message(value.bytes(field)?)),
                7 => {
                    let bytes = value.bytes(field)?;
                    // More is too long in any case.
                    let some = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
                    Any::Bytes(BASE64_STANDARD.encode(some).into())
                }
                _ => return Ok(()),
            };
            Ok(())
        })?;
        Ok(any)
    }

    fn elements(self, take: &mut dyn FnMut(Self) -> Done) -> Done {
        each(self.0, |field, value| match field {
            1 => take(Message(value.bytes(field)?)),
            _ => Ok(()),
        })
    }

    fn entries(self, take: &mut dyn FnMut(Cow<'a, str>, Option<Self>) -> Done) -> Done {
        each(self.0, |field, value| match field {
            1 => {
                let (key, value) = pair(value.bytes(field)?)?;
                take(key, value)
            }
            _ => Ok(()),
        })
    }
}

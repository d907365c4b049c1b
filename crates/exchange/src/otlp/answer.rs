//! What a sender is told, and a receiver says: `ExportMetricsServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Serialize;

use super::Form;
use crate::wire::{Fields, Malformed, put_bytes, put_number};

/// The answer to a message that was taken: how many of its points were refused, and why. Nothing
/// refused and nothing to say is the empty response, which is full success.
#[must_use]
pub fn response(form: Form, rejected_points: u64, why: &str) -> Vec<u8> {
    let partial = (rejected_points > 0 || !why.is_empty()).then_some(Partial {
        // An int64, so text in JSON.
        rejected_data_points: rejected_points.to_string(),
        error_message: why,
    });
    match form {
        Form::Protobuf => {
            let mut out = Vec::new();
            if partial.is_some() {
                let mut message = Vec::new();
                put_number(&mut message, 1, rejected_points);
                put_bytes(&mut message, 2, why.as_bytes());
                put_bytes(&mut out, 1, &message);
            }
            out
        }
        Form::Json => json(&Response { partial_success: partial }),
    }
}

/// How many points an answer in protobuf says were refused, and why; 0 where it is full success.
///
/// # Errors
/// [`Malformed`].
pub fn partial_success(answer: &[u8]) -> Result<(u64, String), Malformed> {
    let (mut rejected, mut why) = (0, String::new());
    let mut fields = Fields(answer);
    while let Some((field, value)) = fields.next()? {
        if field != 1 {
            continue;
        }
        let mut said = Fields(value.bytes(field)?);
        while let Some((field, value)) = said.next()? {
            match field {
                // An int64; a negative one says nothing.
                1 => rejected = u64::try_from(value.number(field)?.cast_signed()).unwrap_or(0),
                2 => why = String::from_utf8_lossy(value.bytes(field)?).into_owned(),
                _ => {}
            }
        }
    }
    Ok((rejected, why))
}

/// How long a receiver asks to be left alone, as `grpc-status-details-bin` says it: the delay of a
/// `google.rpc.RetryInfo` among the details of a `google.rpc.Status`, in base64. `None` where there is none.
#[must_use]
pub fn retry_delay(details: &str) -> Option<Duration> {
    let status = BASE64_STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
    let mut fields = Fields(&status);
    while let Some((field, value)) = fields.next().ok()? {
        if field != 3 {
            continue;
        }
        let (mut is_it, mut info) = (false, &[][..]);
        let mut any = Fields(value.bytes(field).ok()?);
        while let Some((field, value)) = any.next().ok()? {
            match field {
                1 => is_it = value.bytes(field).ok()?.ends_with(b"/google.rpc.RetryInfo"),
                2 => info = value.bytes(field).ok()?,
                _ => {}
            }
        }
        if is_it {
            return delay(info).ok();
        }
    }
    None
}

/// The duration of a `RetryInfo`; nothing where none or less is said.
fn delay(info: &[u8]) -> Result<Duration, Malformed> {
    let mut delay = Duration::ZERO;
    let mut fields = Fields(info);
    while let Some((field, value)) = fields.next()? {
        if field != 1 {
            continue;
        }
        let mut said = Fields(value.bytes(field)?);
        while let Some((field, value)) = said.next()? {
            let number = u64::try_from(value.number(field)?.cast_signed()).unwrap_or(0);
            delay = delay.saturating_add(match field {
                1 => Duration::from_secs(number),
                2 => Duration::from_nanos(number),
                _ => Duration::ZERO,
            });
        }
    }
    Ok(delay)
}

/// The answer to a message that was not taken: a code of gRPC and why.
#[must_use]
pub fn status(form: Form, code: u8, why: &str) -> Vec<u8> {
    match form {
        Form::Protobuf => {
            let mut out = Vec::new();
            put_number(&mut out, 1, code.into());
            put_bytes(&mut out, 2, why.as_bytes());
            out
        }
        Form::Json => json(&Status { code, message: why }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_success: Option<Partial<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partial<'a> {
    rejected_data_points: String,
    error_message: &'a str,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    message: &'a str,
}

/// Numbers and text always can be written.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

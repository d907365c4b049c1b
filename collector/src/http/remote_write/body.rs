//! What kind of message a request carries, and the message out of its compression.

use std::io::Read as _;

use http::{HeaderMap, HeaderName, header};
use stoa_exchange::remote_write::Version;

use super::MESSAGE_BYTES_MAX;
use super::answer::Refusal;

/// The message's version and compression, as the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: Version,
    compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// The block format, without framing.
    Snappy,
    /// As vmagent sends it to its kin.
    Zstd,
}

impl Form {
    /// Reads the headers. Absent ones mean version 1 and snappy, as in Prometheus.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name: HeaderName| match headers.get(&name).map(|value| value.to_str()) {
            None => Ok(""),
            Some(Ok(text)) => Ok(text.trim()),
            Some(Err(_)) => Err(Refusal::Unknown(format!("the header {name} is no text"))),
        };
        let version = version(text(header::CONTENT_TYPE)?)?;
        let encoding = text(header::CONTENT_ENCODING)?;
        let compression = match encoding.to_ascii_lowercase().as_str() {
            "" | "snappy" => Compression::Snappy,
            "zstd" => Compression::Zstd,
            _ => {
                let told = format!("content encoding {encoding:?} is neither snappy nor zstd");
                return Err(Refusal::Unknown(told));
            }
        };
        Ok(Self { version, compression })
    }

    /// The message, at most [`MESSAGE_BYTES_MAX`].
    pub(super) fn decompress(self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let too_large = || {
            Refusal::TooLarge(format!("the message is over {MESSAGE_BYTES_MAX} bytes: send less"))
        };
        match self.compression {
            Compression::Snappy => {
                let broken = |error: snap::Error| Refusal::Bad(format!("snappy: {error}"));
                if snap::raw::decompress_len(body).map_err(broken)? > MESSAGE_BYTES_MAX {
                    return Err(too_large());
                }
                snap::raw::Decoder::new().decompress_vec(body).map_err(broken)
            }
            Compression::Zstd => {
                let broken = |error: std::io::Error| Refusal::Bad(format!("zstd: {error}"));
                let mut message = Vec::with_capacity(body.len().saturating_mul(4).min(1 << 20));
                let decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
                let bound = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
                decoder.take(bound + 1).read_to_end(&mut message).map_err(broken)?;
                if message.len() > MESSAGE_BYTES_MAX { Err(too_large()) } else { Ok(message) }
            }
        }
    }
}

fn version(content_type: &str) -> Result<Version, Refusal> {
    let unknown = |why: String| Err(Refusal::Unknown(why));
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return unknown(format!("content type {media:?} is not application/x-protobuf"));
    }
    let mut version = Version::One;
    for parameter in parts.filter(|part| !part.is_empty()) {
        match parameter.split_once('=') {
            Some(("proto", "prometheus.WriteRequest")) => version = Version::One,
            Some(("proto", "io.prometheus.write.v2.Request")) => version = Version::Two,
            Some(("proto", other)) => {
                return unknown(format!(
                    "message {other:?} is neither prometheus.WriteRequest nor \
                     io.prometheus.write.v2.Request"
                ));
            }
            Some(_) => {}
            None => return unknown(format!("content type parameter {parameter:?} has no value")),
        }
    }
    Ok(version)
}

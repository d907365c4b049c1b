//! The bodies of requests that push samples: read within bounds and out of their compression.
//!
//! Bounds: [`BODY_BYTES_MAX`] as sent, [`MESSAGE_BYTES_MAX`] after decompression (a form of message may
//! have a smaller one), [`ZSTD_WINDOW_LOG_MAX`], and the room that all of them share
//! ([`Pusher::room`]), of which a body has what has come of it, doubled, however long it says it is.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use http_body_util::BodyExt as _;

use super::Refusal;
use crate::push::{Pusher, Room};

/// The largest compressed body, in bytes.
pub(in crate::http) const BODY_BYTES_MAX: usize = 32 << 20;

/// The largest message after decompression, in bytes.
pub(in crate::http) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The largest window a zstd frame may ask for, as a power of two: 16 MiB, more than any level below
/// the highest three has.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// The room that a body has before any of it has come, in bytes, where it says that it is so long.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Compression {
    /// Not at all.
    Identity,
    /// As HTTP knows it.
    Gzip,
    /// The block format, without framing.
    Snappy,
    /// Frames.
    Zstd,
}

impl Compression {
    /// The one a header names, of those known; the first of them when it says nothing.
    pub(in crate::http) fn of(
        headers: &HeaderMap,
        name: &HeaderName,
        known: &[Self],
    ) -> Result<Self, Refusal> {
        let given = text(headers, name)?;
        let asked =
            |known: &&Self| given.is_empty() || known.to_string().eq_ignore_ascii_case(given);
        known.iter().find(asked).copied().ok_or_else(|| {
            let known: Vec<String> = known.iter().map(Self::to_string).collect();
            let known = known.join(" nor ");
            let name = name.as_str().replace('-', " ");
            Refusal::Unknown(format!("{name} {given:?} is neither {known}"))
        })
    }

    /// The message, of at most `bytes_max`.
    pub(in crate::http) fn decompress(
        self,
        body: &[u8],
        bytes_max: usize,
    ) -> Result<Cow<'_, [u8]>, Refusal> {
        let message = match self {
            Self::Identity if body.len() > bytes_max => Err(Packed::TooLarge),
            Self::Identity => return Ok(Cow::Borrowed(body)),
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(body), body.len(), bytes_max),
            Self::Snappy => unsnap(body, bytes_max),
            Self::Zstd => unzstd(body, bytes_max),
        };
        message.map(Cow::Owned).map_err(|error| match error {
            Packed::Broken(why) => Refusal::Bad(format!("{self}: {why}")),
            Packed::TooLarge => too_large(bytes_max),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        })
    }
}

/// Why a message does not come out of its compression.
enum Packed {
    Broken(String),
    TooLarge,
}

impl From<std::io::Error> for Packed {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<snap::Error> for Packed {
    fn from(error: snap::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

fn unsnap(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Packed> {
    if snap::raw::decompress_len(body)? > bytes_max {
        return Err(Packed::TooLarge);
    }
    Ok(snap::raw::Decoder::new().decompress_vec(body)?)
}

fn unzstd(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Packed> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read(decoder, body.len(), bytes_max)
}

fn read(decoder: impl Read, packed: usize, bytes_max: usize) -> Result<Vec<u8>, Packed> {
    let mut message = Vec::with_capacity(packed.saturating_mul(4).min(1 << 20));
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut message)?;
    if message.len() > bytes_max { Err(Packed::TooLarge) } else { Ok(message) }
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::TooLarge(format!("the message is over {bytes_max} bytes: send less"))
}

/// A header's value, empty when it is not there.
pub(in crate::http) fn text<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<&'h str, Refusal> {
    match headers.get(name).map(|value| value.to_str()) {
        None => Ok(""),
        Some(Ok(text)) => Ok(text.trim()),
        Some(Err(_)) => Err(Refusal::Unknown(format!("the header {name} is no text"))),
    }
}

/// A request's body, and the room it takes until it is dropped.
pub(in crate::http) async fn receive(
    pusher: &Pusher,
    request: Request,
) -> Result<(Bytes, Room), Refusal> {
    let length = length(request.headers())?;
    let mut room = pusher.room(length.unwrap_or(0).min(AHEAD_BYTES_MAX)).await?;
    let gathering = gather(request.into_body(), length, &mut room);
    match tokio::time::timeout(BODY_WAIT, gathering).await {
        Ok(body) => Ok((body?, room)),
        Err(_elapsed) => Err(Refusal::Later("the body took too long to arrive".to_owned())),
    }
}

/// The whole of a body. Its room is made before it is: twice as much as has come, but no more than is to
/// come.
async fn gather(mut body: Body, length: Option<usize>, room: &mut Room) -> Result<Bytes, Refusal> {
    let bytes_max = length.unwrap_or(BODY_BYTES_MAX);
    let mut gathered = BytesMut::with_capacity(room.bytes().min(bytes_max));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_broken| Refusal::Bad("the body broke off".to_owned()))?;
        // Trailers are no part of it.
        let Ok(part) = frame.into_data() else { continue };
        let bytes = gathered.len() + part.len();
        if bytes > bytes_max {
            return Err(Refusal::TooLarge(format!("the body is over {bytes_max} bytes")));
        }
        if bytes > room.bytes() {
            let wanted = bytes.saturating_mul(2).min(bytes_max);
            room.grow(wanted).await?;
            gathered.reserve(wanted - gathered.len());
        }
        gathered.extend_from_slice(&part);
    }
    Ok(gathered.freeze())
}

/// How long the body is, if the request says it.
fn length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = told.and_then(|text| text.parse().ok());
    match length {
        Some(bytes) if bytes > BODY_BYTES_MAX => {
            Err(Refusal::TooLarge(format!("{bytes} bytes are over {BODY_BYTES_MAX}")))
        }
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    /// A frame of `text` that says it needs a window of so many bits.
    fn zstd_of_window(text: &[u8], log: u32) -> Vec<u8> {
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        packed.window_log(log).unwrap();
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn a_message_is_unpacked_within_its_bound() {
        let text = b"stoa ".repeat(20);
        for (compression, body) in [
            (Compression::Identity, text.clone()),
            (Compression::Gzip, gzip(&text)),
            (Compression::Gzip, [gzip(&text[..5]), gzip(&text[5..])].concat()),
            (Compression::Snappy, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
            (Compression::Zstd, zstd::bulk::compress(&text, 1).unwrap()),
        ] {
            let message = compression.decompress(&body, 100).map(Cow::into_owned);
            assert_eq!(message, Ok(text.clone()), "{compression:?}");
            assert_eq!(compression.decompress(&body, 99), Err(too_large(99)), "{compression:?}");
            if compression != Compression::Identity {
                let cut = compression.decompress(&body[..body.len() - 5], 100);
                assert!(matches!(cut, Err(Refusal::Bad(_))), "{compression:?}: {cut:?}");
            }
        }
    }

    #[test]
    fn a_zstd_frame_does_not_say_how_much_memory_it_takes() {
        let text = b"stoa".repeat(20);
        let unpack = |log| {
            let body = zstd_of_window(&text, log);
            Compression::Zstd.decompress(&body, 1000).map(Cow::into_owned)
        };
        assert_eq!(unpack(ZSTD_WINDOW_LOG_MAX), Ok(text.clone()));
        let refused = unpack(ZSTD_WINDOW_LOG_MAX + 1);
        assert!(matches!(refused, Err(Refusal::Bad(_))), "{refused:?}");
    }
}

//! Bodies, as much of them as is taken.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::{Hop, WebError};

/// A body that came.
pub(super) struct Read {
    pub(super) body: Bytes,
    pub(super) packed_bytes: usize,
    pub(super) trailers: HeaderMap,
}

/// All of it, unless that is more than `bytes_max`.
pub(super) async fn read(
    mut body: Incoming,
    bytes_max: usize,
    hop: &Hop,
) -> Result<Read, WebError> {
    let too_large = || WebError::TooLarge { peer: hop.peer_name(), bytes_max };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut taken = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| WebError::Http {
            phase: hop.phase(),
            peer: hop.peer_name(),
            source,
        })?;
        match frame.into_data() {
            Ok(data) if taken.len() + data.len() > bytes_max => return Err(too_large()),
            Ok(data) => taken.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(followed) = frame.into_trailers() {
                    trailers.extend(followed);
                }
            }
        }
    }
    Ok(Read { packed_bytes: taken.len(), body: taken.freeze(), trailers })
}

/// What a packed body says, unless that is more than `bytes_max`.
pub(super) fn unpack(packed: &[u8], bytes_max: usize, hop: &Hop) -> Result<Bytes, WebError> {
    let mut unpacked = Vec::new();
    let mut decoder = MultiGzDecoder::new(packed).take((bytes_max as u64).saturating_add(1));
    decoder
        .read_to_end(&mut unpacked)
        .map_err(|source| WebError::Unpack { peer: hop.peer_name(), source })?;
    if unpacked.len() > bytes_max {
        return Err(WebError::TooLarge { peer: hop.peer_name(), bytes_max });
    }
    Ok(unpacked.into())
}

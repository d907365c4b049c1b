//! What kind of message a request carries.

use http::{HeaderMap, header};
use stoa_exchange::remote_write::Version;

use crate::http::pushed::Refusal;
use crate::http::pushed::body::{self, Compression};

/// As Prometheus sends it, and as vmagent sends it to its kin.
const COMPRESSIONS: [Compression; 2] = [Compression::Snappy, Compression::Zstd];

/// The message's version and compression, as the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: Version,
    pub(super) compression: Compression,
}

impl Form {
    /// Reads the headers. Absent ones mean version 1 and snappy, as in Prometheus.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let version = version(body::text(headers, &header::CONTENT_TYPE)?)?;
        let compression = Compression::of(headers, &header::CONTENT_ENCODING, &COMPRESSIONS)?;
        Ok(Self { version, compression })
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

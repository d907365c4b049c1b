//! gRPC as far as unary calls need it, so that they are routes like others: one message in a frame of
//! five bytes more, and a status in trailers.
//!
//! Source: `doc/PROTOCOL-HTTP2.md` and `doc/http-grpc-status-mapping.md` of grpc/grpc.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How a call's message is compressed.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// How a call's message may be compressed, and what says so.
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ACCEPTED_LIST: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// The longest reason repeated to a caller, in bytes.
const WHY_BYTES_MAX: usize = 1000;

/// What became of a call (`google.rpc.Code`), as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// As HTTP has it, for who speaks gRPC and was answered without.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::Internal,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// Whether these are the headers of a call, or of the answer to one.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether a call's messages are protobuf, as its content type says.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    matches!(media.trim_ascii(), b"application/grpc" | b"application/grpc+proto")
}

/// What stands before a call's message, in bytes.
pub(super) const FRAME_BYTES: usize = 5;

/// Whether the one message of a call, which is all after the first [`FRAME_BYTES`], is compressed.
pub(super) fn unframe(body: &[u8]) -> Result<bool, String> {
    let Some(([compressed, length @ ..], message)) = body.split_first_chunk::<FRAME_BYTES>() else {
        return Err("a call without a message".to_owned());
    };
    let length = u32::from_be_bytes(*length);
    if usize::try_from(length) != Ok(message.len()) {
        return Err(format!("a message of {length} bytes in a body of {}", message.len()));
    }
    match compressed {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err("a message that is neither compressed nor not".to_owned()),
    }
}

/// The answer to a call that did what it should.
pub(super) fn answer(message: &[u8]) -> Response {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from(Code::Ok as u16))]);
    let body = Full::new(Bytes::from(frame));
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    speak(response.headers_mut());
    response
}

/// The answer to a call that did not.
pub(super) fn refused(code: Code, why: &str) -> Response {
    let mut response = Response::new(Body::empty());
    speak(response.headers_mut());
    ended(response.headers_mut(), code, why);
    response
}

fn speak(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPTED, ACCEPTED_LIST);
}

fn ended(headers: &mut HeaderMap, code: Code, why: &str) {
    headers.insert(STATUS, HeaderValue::from(code as u16));
    let why = why.get(..why.floor_char_boundary(WHY_BYTES_MAX)).unwrap_or_default();
    let mut text = String::with_capacity(why.len());
    for byte in why.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(MESSAGE, text);
    }
}

/// Middleware of the whole router: a call that is answered by HTTP alone, because its caller is not
/// admitted or there is no such method, is told so in gRPC.
pub(super) async fn translate(request: Request, next: Next) -> Response {
    let asked = is_grpc(request.headers());
    let response = next.run(request).await;
    if !asked || is_grpc(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let why = reason(&parts.headers, body).await;
    let code = Code::of(parts.status);
    parts.status = StatusCode::OK;
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        parts.headers.remove(name);
    }
    speak(&mut parts.headers);
    ended(&mut parts.headers, code, &why);
    Response::from_parts(parts, Body::empty())
}

/// The sentence in an answer of ours, where it can be found.
async fn reason(headers: &HeaderMap, body: Body) -> String {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return String::new();
    }
    let body = axum::body::to_bytes(body, 4 * WHY_BYTES_MAX).await.unwrap_or_default();
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(json) => json.get("error").and_then(|why| why.as_str()).unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_message() {
        assert_eq!(unframe(&[0, 0, 0, 0, 2, 8, 9]), Ok(false));
        assert_eq!(unframe(&[1, 0, 0, 0, 1, 8]), Ok(true));
        assert_eq!(unframe(&[0, 0, 0, 0, 0]), Ok(false));
        for (body, why) in [
            (&[][..], "a call without a message"),
            (&[0, 0, 0, 0], "a call without a message"),
            (&[0, 0, 0, 0, 2, 8], "a message of 2 bytes in a body of 1"),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "a message of 0 bytes in a body of 5"),
            (&[0, 255, 255, 255, 255, 8], "a message of 4294967295 bytes in a body of 1"),
            (&[2, 0, 0, 0, 1, 8], "a message that is neither compressed nor not"),
        ] {
            assert_eq!(unframe(body), Err(why.to_owned()), "{body:?}");
        }
    }

    #[test]
    fn a_reason_is_ascii_on_the_wire() {
        let refused = refused(Code::Unavailable, "100 % “full”\n");
        assert_eq!(refused.headers()[STATUS], "14");
        assert_eq!(refused.headers()[MESSAGE], "100 %25 %E2%80%9Cfull%E2%80%9D%0A");
        assert!(is_grpc(refused.headers()));
        assert_eq!(refused.headers()[ACCEPTED], "identity,gzip,zstd");
    }

    #[test]
    fn a_calls_messages_are_protobuf_unless_it_says_otherwise() {
        for (content_type, is_call, is_proto) in [
            ("application/grpc", true, true),
            ("application/grpc+proto", true, true),
            ("application/grpc; charset=utf-8", true, true),
            ("application/grpc+json", true, false),
            ("application/grpc-web", false, false),
            ("application/json", false, false),
        ] {
            let content_type = HeaderValue::from_static(content_type);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
            assert_eq!((is_grpc(&headers), is_protobuf(&headers)), (is_call, is_proto));
        }
    }
}

//! Answers as OTLP's senders understand them.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use stoa_exchange::otlp::{self, Form};

use crate::http::grpc::{self, Code};
use crate::http::pushed::Refusal;
use crate::push::Tally;

/// How long a sender shall wait before it comes again, in seconds.
const RETRY_AFTER_S: &str = "5";

/// What senders of logs and traces are told.
pub(super) const NOT_TAKEN: &str = "Stoa takes metrics by OTLP, no logs and no traces";

/// What a sender is told by HTTP.
pub(super) fn over_http(form: Form, told: &Result<Tally, Refusal>) -> Response {
    let refusal = match told {
        Ok(tally) => return response(form, StatusCode::OK, taken(form, tally)),
        Err(refusal) => refusal,
    };
    let (code, why) = code_of(refusal);
    let status = match refusal {
        Refusal::Unknown(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Bad(_) | Refusal::Unframed(_) => StatusCode::BAD_REQUEST,
        Refusal::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = response(form, status, otlp::status(form, code as u8, why));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

/// What a sender is told by gRPC.
pub(super) fn over_grpc(told: &Result<Tally, Refusal>) -> Response {
    match told {
        Ok(tally) => grpc::answer(&taken(Form::Protobuf, tally)),
        Err(refusal) => {
            let (code, why) = code_of(refusal);
            grpc::refused(code, why)
        }
    }
}

/// What a sender of logs or traces is told by HTTP.
pub(super) fn not_taken(form: Form) -> Response {
    let status = otlp::status(form, Code::Unimplemented as u8, NOT_TAKEN);
    response(form, StatusCode::NOT_IMPLEMENTED, status)
}

/// Without a complaint full success. A point counts as refused where anything of it was; where only a
/// `target_info` was, none is and the complaint is a warning.
fn taken(form: Form, tally: &Tally) -> Vec<u8> {
    otlp::response(form, tally.rejected, &tally.complaint().unwrap_or_default())
}

fn code_of(refusal: &Refusal) -> (Code, &str) {
    match refusal {
        Refusal::Unknown(why) => (Code::Unimplemented, why),
        Refusal::TooLarge(why) => (Code::ResourceExhausted, why),
        Refusal::Bad(why) => (Code::InvalidArgument, why),
        Refusal::Unframed(why) => (Code::Internal, why),
        Refusal::Later(why) => (Code::Unavailable, why),
    }
}

fn response(form: Form, status: StatusCode, body: Vec<u8>) -> Response {
    let content_type = HeaderValue::from_static(match form {
        Form::Protobuf => "application/x-protobuf",
        Form::Json => "application/json",
    });
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

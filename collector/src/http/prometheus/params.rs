//! The parameters of a request: from the query string, and from the form a POST carries.
//!
//! Times, durations and limits are read as Prometheus reads them, with its error texts; what is read
//! is bounded here, before anything is evaluated.

mod duration;
mod time;

use std::num::IntErrorKind;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::{Method, header};
use stoa_model::{Matcher, PatternBudget, TimestampMs};
use stoa_promql::parse_selector_within;

pub use duration::{DurationError, duration};
pub use time::{TIME_MAX_MS, TIME_MIN_MS, TimeError, rfc3339, time};

use super::reply::ApiError;

/// The largest form a POST may carry; the text of any query fits many times.
const FORM_BYTES_MAX: usize = 1 << 20;

/// The most parameters one request may carry; a browser never comes near.
const PARAMS_MAX: usize = 10_000;

/// Most `match[]` selectors in one request.
const SELECTORS_MAX: usize = 100;

/// A request's parameters in the order given: the form's before the query string's, as Go reads them.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `a=1&b=2` text, form first.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` over 10,000 parameters or on text that is not UTF-8 when decoded.
    pub fn parse(form: &[u8], query: &[u8]) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for text in [form, query] {
            for piece in text.split(|&b| b == b'&').filter(|piece| !piece.is_empty()) {
                if pairs.len() == PARAMS_MAX {
                    return Err(ApiError::bad_data(format!(
                        "more than {PARAMS_MAX} parameters in one request"
                    )));
                }
                let mut halves = piece.splitn(2, |&b| b == b'=');
                let name = percent_decoded(halves.next().unwrap_or_default())?;
                let value = percent_decoded(halves.next().unwrap_or_default())?;
                pairs.push((name, value));
            }
        }
        Ok(Self(pairs))
    }

    /// The first value of a name; `None` when absent or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// The series selectors of `match[]`.
    ///
    /// # Errors
    /// What is wrong with the first that is none, or that there are more than 100.
    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let mut selectors = Vec::new();
        let mut budget = PatternBudget::default();
        for text in self.all("match[]") {
            if selectors.len() == SELECTORS_MAX {
                return Err(format!("more than {SELECTORS_MAX} selectors"));
            }
            let selector = parse_selector_within(text, &mut budget);
            selectors.push(selector.map_err(|error| error.to_string())?);
        }
        Ok(selectors)
    }

    /// All of them, in their order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// All values of a name.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A point in time; `default` when absent.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` naming the parameter.
    pub fn time_or(&self, name: &str, default: TimestampMs) -> Result<TimestampMs, ApiError> {
        match self.all(name).next() {
            None | Some("") => Ok(default),
            Some(text) => time(text).map_err(|error| {
                ApiError::invalid(name, format!("invalid time value for '{name}': {error}"))
            }),
        }
    }

    /// A point in time that must be given.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` naming the parameter.
    pub fn time(&self, name: &str) -> Result<TimestampMs, ApiError> {
        let text = self.all(name).next().unwrap_or("");
        time(text).map_err(|error| ApiError::invalid(name, error))
    }

    /// A duration in milliseconds, which may be negative, if it is given.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` naming the parameter.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        duration(text).map(Some).map_err(|error| ApiError::invalid(name, error))
    }

    /// How long the sender is willing to wait, if it says so; never more than `max`.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` when it is no duration.
    pub fn timeout(&self, max: Duration) -> Result<Duration, ApiError> {
        let Some(given_ms) = self.duration_ms("timeout")? else { return Ok(max) };
        Ok(Duration::from_millis(u64::try_from(given_ms).unwrap_or(0)).min(max))
    }

    /// The most results wanted; `None` when absent or 0.
    ///
    /// # Errors
    /// [`ApiError`] `bad_data` when it is no number or negative, in Go's words.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            ApiError::invalid(name, format!("strconv.Atoi: parsing {text:?}: {why}"))
        })?;
        let limit = usize::try_from(number)
            .map_err(|_says_less| ApiError::invalid(name, "limit must be non-negative"))?;
        Ok((limit > 0).then_some(limit))
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let query = request.uri().query().unwrap_or("").as_bytes().to_vec();
        // As Go's ParseForm does.
        let has_form = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
        let form = if has_form && is_form(&request) {
            let limited = axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX);
            let mut request = request;
            limited.apply(&mut request);
            Bytes::from_request(request, state).await.map_err(|rejection| {
                ApiError::bad_data(format!("read the form: {}", rejection.body_text()))
            })?
        } else {
            Bytes::new()
        };
        Self::parse(&form, &query)
    }
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or("").trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

fn percent_decoded(text: &[u8]) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                let byte = hex
                    .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                    .ok_or_else(|| ApiError::bad_data("invalid URL escape in the parameters"))?;
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            plain => bytes.push(plain),
        }
    }
    String::from_utf8(bytes).map_err(|_says_less| ApiError::bad_data("parameters are not UTF-8"))
}

/// A label's name out of a path: names that are no legal old-style name arrive as
/// `U__` + text in which `__` is `_` and `_<hex>_` a code point. Text that only looks so is itself.
#[must_use]
pub(super) fn label_name(text: &str) -> String {
    text.strip_prefix("U__").and_then(unescaped).unwrap_or_else(|| text.to_owned())
}

fn unescaped(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('_') {
        name.push_str(plain);
        if let Some(after) = after.strip_prefix('_') {
            name.push('_');
            rest = after;
        } else {
            let (hex, after) = after.split_once('_')?;
            if hex.len() > 6 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            name.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            rest = after;
        }
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_form_wins() {
        let params = Params::parse(b"a=1%202&b=x+y&c", b"a=3&d=%C3%A4&&e=").unwrap();
        assert_eq!(params.get("a"), Some("1 2"));
        assert_eq!(params.all("a").collect::<Vec<_>>(), ["1 2", "3"]);
        assert_eq!(params.get("b"), Some("x y"));
        assert_eq!((params.get("c"), params.get("e"), params.get("f")), (None, None, None));
        assert_eq!(params.get("d"), Some("ä"));
        for bad in [&b"a=%"[..], b"a=%2", b"a=%zz", b"a=%+1", b"a=%ff"] {
            assert!(Params::parse(b"", bad).is_err(), "{bad:?}");
        }
        assert!(Params::parse(&b"a&".repeat(PARAMS_MAX + 1), b"").is_err());
    }

    #[test]
    fn limits_are_counts() {
        let params = Params::parse(b"", b"limit=5&zero=0&minus=-1&word=x").unwrap();
        assert_eq!(params.limit("limit").unwrap(), Some(5));
        assert_eq!(params.limit("zero").unwrap(), None);
        assert_eq!(params.limit("absent").unwrap(), None);
        assert!(params.limit("minus").is_err() && params.limit("word").is_err());
    }

    #[test]
    fn escaped_label_names_are_decoded() {
        for (path, want) in [
            ("job", "job"),
            ("__name__", "__name__"),
            ("U__http_2e_status__code", "http.status_code"),
            ("U___e4_", "ä"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_", "U__a_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_1234567_", "U__a_1234567_"),
        ] {
            assert_eq!(label_name(path), want);
        }
    }
}

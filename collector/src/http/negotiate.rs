//! Which form of exposition a scraper takes, by its `Accept` header, and how it wants names that are no
//! old-style ones: as Prometheus's own client library decides it (`expfmt.Negotiate`).

use http::{HeaderMap, header};
use stoa_exchange::exposition::{self, Format};
use stoa_exchange::federation;

/// Most media ranges of one header that are looked at.
const RANGES_MAX: usize = 64;

/// A form of exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Protobuf, each family behind its length.
    Protobuf,
}

/// How names are written that are no old-style ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Escaping {
    /// What is not allowed becomes `_`.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`.
    Dots,
    /// `U__` and the code points of what is not allowed.
    Values,
    /// As they are, in quotes.
    AllowUtf8,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) form: Form,
    pub(super) escaping: Escaping,
}

impl Agreed {
    /// The best form that is offered of those that are taken; text when there is none.
    pub(super) fn of(headers: &HeaderMap, offered: &[Form]) -> Self {
        let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges: Vec<Range<'_>> =
            texts.flat_map(|text| text.split(',')).take(RANGES_MAX).map(Range::read).collect();
        // Stable: of equals the first one named.
        ranges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let escaping = ranges.iter().find_map(|range| range.escaping).unwrap_or_default();
        for range in ranges.iter().filter(|range| range.weight > 0.0) {
            if let Some(form) = range.form().filter(|form| offered.contains(form)) {
                return Self { form, escaping: range.escaping.unwrap_or_default() };
            }
        }
        Self { form: Form::Text, escaping }
    }

    /// What the answer says it is.
    pub(super) fn content_type(self) -> String {
        let own = match self.form {
            Form::Text if self.escaping == Escaping::AllowUtf8 => {
                "text/plain; version=1.0.0; charset=utf-8"
            }
            Form::Text => exposition::CONTENT_TYPE,
            Form::OpenMetrics => exposition::OPENMETRICS_CONTENT_TYPE,
            Form::Protobuf => federation::CONTENT_TYPE,
        };
        match self.escaping {
            Escaping::Underscores => own.to_owned(),
            Escaping::Dots => format!("{own}; escaping=dots"),
            Escaping::Values => format!("{own}; escaping=values"),
            Escaping::AllowUtf8 => format!("{own}; escaping=allow-utf-8"),
        }
    }

    /// The text format, where the form is one of its two.
    pub(super) fn format(self) -> Format {
        match self.form {
            Form::OpenMetrics => Format::OpenMetrics,
            Form::Text | Form::Protobuf => Format::Text,
        }
    }
}

/// One media range of the header.
#[derive(Debug)]
struct Range<'h> {
    media: &'h str,
    weight: f64,
    version: Option<&'h str>,
    /// Of protobuf: what message, and how several follow each other.
    message: Option<&'h str>,
    encoding: Option<&'h str>,
    escaping: Option<Escaping>,
}

impl<'h> Range<'h> {
    fn read(text: &'h str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (version, message, encoding) = (None, None, None);
        let mut range = Self { media, weight: 1.0, version, message, encoding, escaping: None };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "q" => range.weight = value.parse().unwrap_or(0.0),
                "version" => range.version = Some(value),
                "proto" => range.message = Some(value),
                "encoding" => range.encoding = Some(value),
                "escaping" => range.escaping = Escaping::named(value),
                _ => {}
            }
        }
        range
    }

    fn form(&self) -> Option<Form> {
        let is = |media: &str| self.media.eq_ignore_ascii_case(media);
        if is("application/vnd.google.protobuf") {
            let is_ours = self.message == Some("io.prometheus.client.MetricFamily")
                && self.encoding == Some("delimited");
            return is_ours.then_some(Form::Protobuf);
        }
        if is("application/openmetrics-text") {
            let is_known = matches!(self.version, None | Some("" | "0.0.1" | "1.0.0"));
            return is_known.then_some(Form::OpenMetrics);
        }
        let is_text = is("text/plain") || is("text/*") || is("*/*");
        let is_known = matches!(self.version, None | Some("" | "0.0.4" | "1.0.0"));
        (is_text && is_known).then_some(Form::Text)
    }
}

impl Escaping {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "underscores" => Self::Underscores,
            "dots" => Self::Dots,
            "values" => Self::Values,
            "allow-utf-8" => Self::AllowUtf8,
            _ => return None,
        })
    }

    /// A metric's or label's name as the scraper wants it.
    pub(super) fn name(self, name: &str) -> std::borrow::Cow<'_, str> {
        let is_legal = |(at, c): (usize, char)| {
            c.is_ascii_alphabetic() || c == '_' || c == ':' || (at > 0 && c.is_ascii_digit())
        };
        let is_old = !name.is_empty() && name.char_indices().all(is_legal);
        if self == Self::AllowUtf8 || (is_old && self != Self::Dots) {
            return name.into();
        }
        let mut out = String::with_capacity(name.len() + 16);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (at, c) in name.char_indices() {
            match (self, c) {
                (Self::Dots, '.') => out.push_str("_dot_"),
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                _ if is_legal((at, c)) => out.push(c),
                (Self::Values, c) => out.push_str(&format!("_{:x}_", u32::from(c))),
                (Self::Dots, _) => out.push_str("__"),
                (Self::Underscores | Self::AllowUtf8, _) => out.push('_'),
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Form; 3] = [Form::Text, Form::OpenMetrics, Form::Protobuf];

    #[test]
    fn the_best_form_that_both_know_is_taken() {
        let check = |accept: &str, form, escaping| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Agreed::of(&headers, &ALL), Agreed { form, escaping }, "{accept}");
        };
        let plain = Escaping::Underscores;
        check("", Form::Text, plain);
        check("*/*", Form::Text, plain);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Form::Text, plain);
        check("application/openmetrics-text; version=1.0.0", Form::OpenMetrics, plain);
        check("application/openmetrics-text; version=2.0.0", Form::Text, plain);
        check("application/openmetrics-text;q=0", Form::Text, plain);
        // Prometheus 2.42, without and with native histograms.
        let openmetrics = "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(openmetrics, Form::OpenMetrics, plain);
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
             encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";
        check(protobuf, Form::Protobuf, plain);
        check(&protobuf.replace("delimited", "text"), Form::OpenMetrics, plain);
        // Prometheus 3.
        let newer = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        check(newer, Form::OpenMetrics, Escaping::AllowUtf8);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, newer.parse().unwrap());
        let agreed = Agreed::of(&headers, &[Form::Text]);
        let expected = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
        assert_eq!((agreed.form, agreed.content_type().as_str()), (Form::Text, expected));
    }

    #[test]
    fn names_are_escaped_as_asked() {
        for (name, underscores, dots, values) in [
            ("up", "up", "up", "up"),
            ("http_total", "http_total", "http__total", "http_total"),
            (
                "http.status_code",
                "http_status_code",
                "http_dot_status__code",
                "U__http_2e_status__code",
            ),
            ("9ä", "__", "____", "U___39__e4_"),
        ] {
            let escaped = |escaping: Escaping| escaping.name(name).into_owned();
            assert_eq!(escaped(Escaping::Underscores), underscores);
            assert_eq!(escaped(Escaping::Dots), dots);
            assert_eq!(escaped(Escaping::Values), values);
            assert_eq!(escaped(Escaping::AllowUtf8), name);
        }
    }
}

//! Which of the two formats an `Accept` asks for (RFC 9110, 12.5.1).

use http::{HeaderMap, header};
use stoa_exchange::exposition::Format;

/// OpenMetrics where it is named and no less wanted than text; else text.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let (mut openmetrics, mut text): (f32, f32) = (0.0, 0.0);
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = 1.0;
        let mut is_known = true;
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => is_known &= is_version(&media, value.trim().trim_matches('"')),
                _ => {}
            }
        }
        if !is_known {
            continue;
        }
        match media.as_str() {
            "application/openmetrics-text" => openmetrics = openmetrics.max(quality),
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= text { Format::OpenMetrics } else { Format::Text }
}

/// The versions that are written. Names of all series fit every version.
fn is_version(media: &str, version: &str) -> bool {
    match media {
        "application/openmetrics-text" => matches!(version, "1.0.0" | "0.0.1"),
        _ => matches!(version, "0.0.4" | "1.0.0"),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_more_wanted_format_is_given() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,\
            */*;q=0.1";
        for (accept, want) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("application/json"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=9.0"), Format::Text),
            (Some("application/openmetrics-text;q=0.2,text/plain;q=0.3"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some(of_prometheus), Format::OpenMetrics),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            }
            assert_eq!(format(&headers), want, "{accept:?}");
        }
    }
}

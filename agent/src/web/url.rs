//! `http://` and `https://` addresses, and where a redirect leads.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Deserializer, de};

use super::WebError;

/// The longest address taken.
const URL_BYTES_MAX: usize = 8192;

/// An address of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether by TLS.
    pub is_tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port, where it is the usual one too.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub target: String,
}

impl FromStr for Url {
    type Err = WebError;

    fn from_str(text: &str) -> Result<Self, WebError> {
        let wrong = |wrong| {
            // What stands before an `@` may be a password.
            let url = text.rsplit('@').next().unwrap_or_default().chars().take(200).collect();
            Err(WebError::Url { url, wrong })
        };
        if text.len() > URL_BYTES_MAX {
            return wrong("it is too long");
        }
        let text = text.split('#').next().unwrap_or_default();
        let Ok(uri) = text.parse::<Uri>() else { return wrong("it cannot be read") };
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return wrong("it begins neither with http:// nor with https://"),
        };
        let Some(authority) = uri.authority() else { return wrong("it names no host") };
        if authority.as_str().contains('@') {
            return wrong("user and password stand elsewhere, as everybody sees an address");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return wrong("it names no host");
        }
        // What is no port the parser leaves out as if nothing stood there.
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match rest.strip_prefix(':').unwrap_or_default() {
            "" => usual_port(is_tls),
            digits => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return wrong("its port is none"),
            },
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { is_tls, host: host.to_owned(), port, target: format!("{slash}{target}") })
    }
}

fn usual_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.absolute(&self.host_header()))
    }
}

impl Url {
    /// What the header `Host` says.
    pub(super) fn host_header(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual_port(self.is_tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// The address, with another authority.
    pub(super) fn absolute(&self, authority: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{authority}{}", self.target)
    }

    /// Whether what is shown to the one may be shown to the other: not by less than it was.
    pub(super) fn is_same_host(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && self.is_tls == other.is_tls
    }

    /// Where `reference` leads from here.
    ///
    /// # Errors
    /// [`WebError::Url`].
    pub fn join(&self, reference: &str) -> Result<Self, WebError> {
        let scheme = if self.is_tls { "https:" } else { "http:" };
        if reference.contains("://") && !reference.starts_with(['/', '?', '.']) {
            return reference.parse();
        }
        if reference.starts_with("//") {
            return format!("{scheme}{reference}").parse();
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.starts_with('?') {
            format!("{path}{reference}")
        } else if reference.is_empty() || reference.starts_with('#') {
            self.target.clone()
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{reference}")
        };
        let target = without_dots(&target);
        let Self { is_tls, host, port, .. } = self.clone();
        let joined = Self { is_tls, host, port, target };
        joined.to_string().parse()
    }
}

/// A path without `.` and `..`.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let is_folder = matches!(path.rsplit('/').next(), Some("." | ".."));
    let mut joined = format!("/{}", parts.join("/"));
    if is_folder && !joined.ends_with('/') {
        joined.push('/');
    }
    match query {
        Some(query) => format!("{joined}?{query}"),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_those_that_are_none_refused() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let read = text.parse::<Url>();
            match (read, expected) {
                (Ok(url), Ok(expected)) => assert_eq!(format!("{url} {}", url.port), expected),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{text}: {error}");
                    assert!(!error.to_string().contains("secret"), "{error}");
                }
                (read, _) => panic!("{text}: {read:?}"),
            }
        };
        check("https://gitea.lan", Ok("https://gitea.lan/ 443"));
        check("http://gitea.lan:80/a?b=c#d", Ok("http://gitea.lan/a?b=c 80"));
        check("https://[::1]:8006/api2?x", Ok("https://[::1]:8006/api2?x 8006"));
        check("http://a.lan?x=1", Ok("http://a.lan/?x=1 80"));
        check("gitea.lan", Err("neither"));
        check("ftp://gitea.lan/", Err("neither"));
        check("https://me:secret@gitea.lan/", Err("elsewhere"));
        check("https://gitea.lan:99999/", Err("no address"));
        check("https://gitea.lan:0/", Err("its port"));
        check("http:///x", Err("no address"));
        check(&format!("http://a/{}", "x".repeat(URL_BYTES_MAX)), Err("too long"));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let check = |from: &str, to: &str, expected: &str| {
            let joined = from.parse::<Url>().unwrap().join(to).unwrap();
            assert_eq!(joined.to_string(), expected, "{from} {to}");
        };
        check("https://a.lan/b/c?d", "https://x.lan:1/y", "https://x.lan:1/y");
        check("https://a.lan/b/c?d", "//x.lan/y", "https://x.lan/y");
        check(
            "https://a.lan:8443/b/c?d",
            "/login?to=http://z/",
            "https://a.lan:8443/login?to=http://z/",
        );
        check("https://a.lan/b/c?d", "e", "https://a.lan/b/e");
        check("https://a.lan/b/c?d", "../e/./f", "https://a.lan/e/f");
        check("https://a.lan/b/c/?d", "..", "https://a.lan/b/");
        check("https://a.lan/b/c?d", "?e", "https://a.lan/b/c?e");
        check("https://a.lan/b/c?d", "", "https://a.lan/b/c?d");
        check("https://a.lan/", "../../../x", "https://a.lan/x");
    }
}

//! The names this server answers to, and whether an origin is its own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::uri::Authority;

use crate::ca::SERVER_NAME;

/// The host part of `Host` headers that are let in.
///
/// A page that rebinds its own DNS name to this address still sends that name; so a name is let in
/// only when it is known to be ours. An address literal cannot be rebound.
#[derive(Clone, Debug)]
pub struct HostNames {
    names: BTreeSet<String>,
    bind: IpAddr,
}

impl HostNames {
    /// The names of a server bound to `bind`: loopback's, `collector.stoa`, and those configured.
    #[must_use]
    pub fn new(bind: IpAddr, configured: &[String]) -> Self {
        let own = ["localhost".to_owned(), SERVER_NAME.to_owned()];
        let configured = configured.iter().map(|name| canonical(name));
        Self { names: own.into_iter().chain(configured).collect(), bind }
    }

    /// Whether a `Host` header (`name`, `name:port`, `[v6]:port`) names this server. The port is
    /// not compared: it may have been mapped on the way.
    #[must_use]
    pub fn allows(&self, authority: &str) -> bool {
        let Some((host, _port)) = split(authority) else { return false };
        match host.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || self.bind.is_unspecified() || ip == self.bind.to_canonical()
            }
            Err(_) => self.names.contains(&host),
        }
    }
}

/// Whether an `Origin` (`scheme://host[:port]`) is the authority the request was sent to. The
/// scheme is not compared: a proxy in front may have ended TLS.
#[must_use]
pub fn same_origin(origin: &str, authority: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    match (split(rest), split(authority)) {
        (Some((from, from_port)), Some((to, to_port))) => {
            from == to && from_port.unwrap_or(default_port) == to_port.unwrap_or(default_port)
        }
        _ => false,
    }
}

/// The canonical host and the port of an authority.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    let parsed: Authority = authority.parse().ok()?;
    if parsed.as_str().contains('@') || parsed.host().is_empty() {
        return None;
    }
    Some((canonical(parsed.host()), parsed.port_u16()))
}

fn canonical(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_let_in() {
        let check = |bind: &str, host: &str, allowed: bool| {
            let names = HostNames::new(bind.parse().unwrap(), &["Stoa.lan".to_owned()]);
            assert_eq!(names.allows(host), allowed, "{host} at {bind}");
        };
        for host in ["localhost", "LOCALHOST:7480", "127.0.0.1:9", "[::1]:7480", "stoa.lan."] {
            check("127.0.0.1", host, true);
            check("192.168.1.5", host, true);
        }
        check("127.0.0.1", "collector.stoa:7480", true);
        check("127.0.0.1", "192.168.1.5", false);
        check("192.168.1.5", "192.168.1.5:7480", true);
        check("192.168.1.5", "192.168.1.6", false);
        check("0.0.0.0", "192.168.1.6", true);
        check("::", "[fd00::1]:7480", true);
        for host in ["evil.example", "localhost.evil.example", "", ":7480", "a b", "x@localhost"] {
            check("127.0.0.1", host, false);
            check("0.0.0.0", host, false);
        }
    }

    #[test]
    fn an_origin_is_ours_when_host_and_port_agree() {
        let check = |origin: &str, host: &str, same: bool| {
            assert_eq!(same_origin(origin, host), same, "{origin} against {host}");
        };
        check("http://localhost:7480", "localhost:7480", true);
        check("https://stoa.lan", "stoa.lan", true);
        check("https://stoa.lan:443", "stoa.lan", true);
        check("http://localhost:3000", "localhost:7480", false);
        check("http://evil.example", "localhost:7480", false);
        check("null", "localhost:7480", false);
        check("file://localhost", "localhost", false);
        check("", "localhost", false);
    }
}

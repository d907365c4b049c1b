//! What a person can do about a dial that failed.

use stoa_transport::{DialError, Refused};

/// The collector's port for people, unless configured otherwise.
const PEOPLE_PORT: u16 = 7480;

/// One sentence for whoever reads the log, when there is something to do. `collector` is the
/// `host:port` that was dialled.
pub(crate) fn advice(error: &DialError, collector: &str) -> Option<String> {
    if is_people_port(collector) {
        return Some(format!("{PEOPLE_PORT} is the collector's port for people; agents use 7443"));
    }
    let again = format!(
        "join again: `stoa token create` beside the collector, then here \
         `stoa-agent join TOKEN --collector {collector}`, and restart the agent"
    );
    Some(match error {
        DialError::Refused { reason: Refused::Revoked, .. } => {
            format!("this host was revoked; {again}")
        }
        DialError::Refused { reason: Refused::Expired | Refused::NotYetValid, .. } => format!(
            "check the clocks of this host and of the collector; if this host was off for longer \
             than its certificate lives, {again}"
        ),
        DialError::Refused {
            reason:
                Refused::UnknownCa
                | Refused::BadCertificate
                | Refused::NoCertificate
                | Refused::NoHostName
                | Refused::PeerRefused,
            ..
        } => format!("the collector does not accept this host's certificate; {again}"),
        DialError::Refused { reason, .. } if !reason.passes() => {
            "the collector's version does not understand this agent's, or it is another service: \
             check the address, then update the older one"
                .to_owned()
        }
        DialError::Listener { reason: Refused::Expired | Refused::NotYetValid, .. } => {
            "check the clocks of this host and of the collector".to_owned()
        }
        DialError::Listener { .. } => format!(
            "it is another collector than the one this host has joined: check the address; if the \
             collector was set up anew, {again}"
        ),
        DialError::Credentials { .. } => {
            format!("this host's certificate or key cannot be used; {again}")
        }
        DialError::NotTls { .. } => {
            "check the port: agents use 7443 unless configured otherwise, people 7480".to_owned()
        }
        _ => return None,
    })
}

/// Whether a `host:port` has the collector's port for people.
pub(crate) fn is_people_port(collector: &str) -> bool {
    let port = collector.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port == Some(PEOPLE_PORT)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn what_a_person_can_mend_comes_with_what_to_do() {
        let addr: SocketAddr = "192.0.2.1:7443".parse().unwrap();
        let refused = |reason| DialError::Refused { addr, reason };
        let listener =
            |reason| DialError::Listener { addr, reason, detail: "as TLS said".to_owned() };
        let timed_out =
            || DialError::TimedOut { addr: "stoa:7443".to_owned(), after: Default::default() };
        for (error, collector, words) in [
            (refused(Refused::Revoked), "stoa:7443", "this host was revoked; join again"),
            (refused(Refused::Revoked), "stoa:7443", "join TOKEN --collector stoa:7443"),
            (refused(Refused::UnknownCa), "stoa:7443", "does not accept this host's certificate"),
            (refused(Refused::Expired), "stoa:7443", "check the clocks"),
            (refused(Refused::Protocol), "stoa:7443", "update the older one"),
            (listener(Refused::UnknownCa), "stoa:7443", "another collector"),
            (listener(Refused::NotYetValid), "stoa:7443", "check the clocks"),
            (timed_out(), "stoa:7480", "7480 is the collector's port for people; agents use 7443"),
        ] {
            let said = advice(&error, collector).unwrap();
            assert!(said.contains(words), "{error:?}: {said}");
        }
        assert_eq!(advice(&refused(Refused::Busy), "stoa:7443"), None);
        assert_eq!(advice(&timed_out(), "stoa:7443"), None);
    }
}

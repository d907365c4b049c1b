//! How many TCP connections there are in each state, and what waits in their queues.
//!
//! Asked of the kernel by netlink: `/proc/net/tcp` is written by walking the whole hash table, many
//! times slower on a host of many connections.

use std::time::Duration;

use stoa_model::Labels;

use crate::sources::netlink::{self, Netlink};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, label};

const STATES: Desc = Desc::gauge("node_tcp_connection_states", "Number of connection states.");
/// The kernel walks all of its sockets.
const DEADLINE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(5);
/// Named in problems.
const WHERE: &str = "netlink sock_diag";

/// By the kernel's number of the state, from 1 on.
const NAMES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const PROTOCOL_TCP: u8 = 6;
const ALL_STATES: [u8; 4] = [0xff, 0x0f, 0, 0];
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
/// Ports, addresses, interface and cookie.
const SOCKET_ID_BYTES: usize = 48;

/// What is known of one socket.
#[derive(Debug, PartialEq)]
pub(super) struct Socket {
    state: u8,
    received_bytes: u32,
    sent_bytes: u32,
}

/// Reads an `inet_diag_msg`.
pub(super) fn parse(body: &[u8]) -> Option<Socket> {
    // Family, state, timer and retransmits, the socket's identity, the timer's end.
    let queues = 4 + SOCKET_ID_BYTES + 4;
    Some(Socket {
        state: *body.get(1)?,
        received_bytes: netlink::u32_at(body, queues)?,
        sent_bytes: netlink::u32_at(body, queues + 4)?,
    })
}

/// The sums over all sockets.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    by_state: [u64; NAMES.len()],
    received_bytes: u64,
    sent_bytes: u64,
}

impl Sums {
    fn add(&mut self, socket: &Socket) {
        let state = usize::from(socket.state).checked_sub(1);
        if let Some(count) = state.and_then(|state| self.by_state.get_mut(state)) {
            *count += 1;
        }
        self.received_bytes += u64::from(socket.received_bytes);
        self.sent_bytes += u64::from(socket.sent_bytes);
    }
}

/// The source `tcpstat`.
#[derive(Debug)]
pub(crate) struct TcpStates {
    /// `None` until the first reading and after a failed one.
    netlink: Option<Netlink>,
    labels: Kept<Labels>,
}

impl Configured for TcpStates {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { netlink: None, labels: Kept::new() }
    }
}

impl TcpStates {
    fn sums(&mut self) -> std::io::Result<Sums> {
        let mut netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => Netlink::open(netlink::Family::SockDiag)?,
        };
        let mut sums = Sums::default();
        for family in [FAMILY_IPV4, FAMILY_IPV6] {
            let mut request = vec![family, PROTOCOL_TCP, 0, 0];
            request.extend(ALL_STATES);
            request.resize(request.len() + SOCKET_ID_BYTES, 0);
            netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
                if message.kind == SOCK_DIAG_BY_FAMILY
                    && let Some(socket) = parse(message.body)
                {
                    sums.add(&socket);
                }
            })?;
        }
        self.netlink = Some(netlink);
        Ok(sums)
    }
}

impl Source for TcpStates {
    fn name(&self) -> &'static str {
        "tcpstat"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        let sums = match self.sums() {
            Ok(sums) => sums,
            Err(error) => return reading.fail(Problem::read(WHERE, error)),
        };
        let mut family = STATES.family();
        let states = NAMES.into_iter().zip(sums.by_state).filter(|(_, count)| *count > 0);
        let queues =
            [("rx_queued_bytes", sums.received_bytes), ("tx_queued_bytes", sums.sent_bytes)];
        for (state, value) in states.chain(queues) {
            family.push(self.labels.get(state, |state| label("state", state)), value as f64);
        }
        reading.family(family);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_socket_is_counted_by_its_state_and_queues() {
        let mut body = vec![0; 72];
        body[1] = 10;
        body[56..58].copy_from_slice(&[2_u8, 0]);
        let socket = parse(&body).unwrap();
        let mut sums = Sums::default();
        sums.add(&socket);
        sums.add(&Socket { state: 200, received_bytes: 1, sent_bytes: 7 });
        assert_eq!(sums.by_state, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(sums.sent_bytes, 7);
        assert_eq!(parse(&body[..60]), None);
    }

    #[test]
    fn a_listening_socket_is_seen() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sums = crate::sources::registry::made::<TcpStates>().sums().unwrap();
        assert!(sums.by_state[9] > 0, "{sums:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(parse(&bytes).is_some(), bytes.len() >= 64);
        }
    }
}

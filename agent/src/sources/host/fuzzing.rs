//! Any bytes as what the kernel answers to questions: for fuzz targets and tests.

use super::{ethtool, qdiscs, routes, tcp_states, wifi};
use crate::sources::netlink::{self, attributes, messages};
use crate::sources::{Reading, inventory};

/// Reads `bytes` as messages of netlink, and each message's body, and `bytes` themselves, as what
/// every source asks for; tells the first body as a driver's. Nothing comes of bytes that are not there.
pub(crate) fn kernel_answer(bytes: &[u8], reading: &mut Reading) {
    let read: Vec<_> = messages(bytes).collect();
    assert!(read.len() <= bytes.len() / 16);
    for body in read.iter().map(|message| message.body).chain([bytes]) {
        let found: Vec<_> = attributes(body).collect();
        assert!(found.len() <= body.len() / 4);
        let texts = found.iter().filter_map(|(_, value)| netlink::text(value));
        assert!(texts.map(str::len).sum::<usize>() <= body.len());
        read_body(body);
    }
    let body = read.first().map_or(bytes, |message| message.body);
    assert!(!ethtool::tell_link(body, reading) || body.len() >= 48);
    let (names, values) = body.split_at(body.len() / 5 * 4);
    let counters = ethtool::tell_statistics(names, values, reading);
    assert!(counters <= (names.len() / 32).min(values.len() / 8));
}

fn read_body(body: &[u8]) {
    let is_whole = |bytes: usize| body.len() >= bytes;
    assert!(routes::parse(body).is_none() || is_whole(12));
    assert!(qdiscs::parse(body).is_none() || is_whole(20));
    assert!(qdiscs::parse_link(body).is_none_or(|(_, name)| name.len() < body.len()));
    assert!(tcp_states::parse(body).is_none() || is_whole(64));
    assert!(ethtool::parse_driver(body).is_none() || is_whole(164));
    assert!(wifi::read_any(body));
    assert!(inventory::address_of(body).is_none_or(|text| is_whole(16) && text.len() <= 64));
}

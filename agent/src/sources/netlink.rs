//! Netlink: questions to the kernel that no file answers, and the parts of its answers.
//!
//! Numbers are in the machine's own order. Answers are read as they come; whatever is cut off, too
//! short or of another question is left out, and the pure functions here ([`messages`],
//! [`attributes`]) take any bytes. Bounded: one answer of at most [`ANSWER_BYTES_MAX`], waited for
//! [`PATIENCE`] a piece.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
    socket_with,
};

/// The kernel answers at once; this is for a kernel that does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a message is read into; the kernel fills at most 32 KiB.
const BUFFER_BYTES: usize = 32 << 10;
/// The longest answer that is read: a million connections.
const ANSWER_BYTES_MAX: usize = 256 << 20;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Nested and byte-order flags share the field of an attribute's kind.
const ATTRIBUTE_KIND: u16 = 0x3fff;

const FLAG_REQUEST: u16 = 0x1;
const FLAG_MULTI: u16 = 0x2;
const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
/// Smaller kinds are netlink's own.
const KIND_FIRST: u16 = 0x10;

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    /// Devices, routes, queueing.
    Route,
    /// Sockets.
    SockDiag,
    /// Families that are found by name.
    Generic,
}

/// A connection to the kernel.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) body: &'a [u8],
}

impl Netlink {
    pub(crate) fn open(family: Family) -> io::Result<Self> {
        let protocol: Option<Protocol> = match family {
            // Routing is family 0, which is what no protocol stands for.
            Family::Route => None,
            Family::SockDiag => Some(netlink::SOCK_DIAG),
            Family::Generic => Some(netlink::GENERIC),
        };
        let (domain, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(domain, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Asks for everything there is of a kind; hands over each message.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        take: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.ask(kind, FLAG_REQUEST | FLAG_DUMP, body, take)
    }

    /// Asks for one thing.
    pub(crate) fn get(
        &mut self,
        kind: u16,
        body: &[u8],
        take: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.ask(kind, FLAG_REQUEST | FLAG_ACK, body, take)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut take: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(kind, flags, self.sequence, body)?;
        send(&self.socket, &request, SendFlags::empty())?;
        let mut answered = 0;
        while answered <= ANSWER_BYTES_MAX {
            let (_, length) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            answered += length;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            // What is left of an earlier question's answer has that one's number.
            for message in messages(bytes).filter(|m| m.sequence == self.sequence) {
                match message.kind {
                    KIND_DONE => return ended(message.body),
                    KIND_ERROR => return outcome(message.body),
                    kind if kind >= KIND_FIRST => {
                        take(message);
                        let is_last = message.flags & FLAG_MULTI == 0 && flags & FLAG_ACK == 0;
                        if is_last {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
        Err(io::Error::new(ErrorKind::FileTooLarge, "the answer has no end"))
    }
}

/// What an error message says: an acknowledgement is error 0.
fn outcome(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.cast_signed().wrapping_neg())),
        None => Err(io::Error::new(ErrorKind::InvalidData, "an error without a number")),
    }
}

/// What the end of a list says: newer kernels put there why it is not whole.
fn ended(body: &[u8]) -> io::Result<()> {
    if body.is_empty() { Ok(()) } else { outcome(body) }
}

#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // Who asks; the kernel knows.
    bytes.extend([0; 4]);
    bytes.extend(body);
    Ok(bytes)
}

/// An attribute as it stands in a request.
#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER_BYTES + value.len();
    let mut bytes = Vec::with_capacity(aligned(length));
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(length), 0);
    bytes
}

/// The messages in what was received, as far as they are whole.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER_BYTES..length)?,
        };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a message behind its own fields, or nested in another, as far as they are whole.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_KIND;
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// The 16-bit number at `offset`.
#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 32-bit number at `offset`.
#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 64-bit number at `offset`.
#[expect(clippy::host_endian_bytes, reason = "netlink speaks in the machine's own order")]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A text that ends at its first zero byte.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|b| *b == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut body = vec![7; 20];
        body.extend(attribute(3, b"eth0\0"));
        body.extend(attribute(0x8001, &attribute(2, &[1, 0, 0, 0])));
        let mut bytes = request(26, FLAG_MULTI, 9, &body).unwrap();
        bytes.extend(request(26, 0, 9, &[]).unwrap());
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (26, FLAG_MULTI, 9));
        let found: Vec<_> = attributes(&read[0].body[20..]).collect();
        assert_eq!(text(found[0].1), Some("eth0"));
        assert_eq!(found[1].0, 1);
        let nested: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(u32_at(nested[0].1, 0), Some(u32::from_le(1)));
    }

    #[test]
    fn a_list_that_the_kernel_broke_off_is_not_taken_for_a_whole_one() {
        assert!(ended(&[]).is_ok());
        assert!(ended(&[0; 4]).is_ok());
        // -1 in any order of bytes.
        assert_eq!(ended(&[0xff; 4]).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn the_kernel_answers() {
        let mut netlink = Netlink::open(Family::Route).unwrap();
        let (get_link, mut devices) = (18, 0);
        netlink.dump(get_link, &[0; 16], |_| devices += 1).unwrap();
        assert!(devices > 0, "not even a loopback device");
        let unknown = netlink.dump(0xfff0, &[0; 16], |_| {}).unwrap_err();
        assert!(unknown.raw_os_error().is_some(), "{unknown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_come_to_an_end(
            bytes in proptest::collection::vec(prop_oneof![3 => 0_u8..20, 1 => any::<u8>()], 0..300),
        ) {
            let read: Vec<_> = messages(&bytes).collect();
            prop_assert!(read.len() <= bytes.len() / HEADER_BYTES);
            for body in read.iter().map(|message| message.body).chain([bytes.as_slice()]) {
                let found = attributes(body).count();
                prop_assert!(found <= body.len() / ATTRIBUTE_HEADER_BYTES);
            }
        }
    }
}

//! An NTP server's opinion of this host's clock: node_exporter's collector `ntp`. Off by default.
//!
//! One SNTP question (RFC 5905) per reading. The question carries a random number instead of the time,
//! and only an answer that repeats it, from the server asked, counts.

use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use stoa_daemon::Span;

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source};

const STRATUM: Desc = Desc::gauge("node_ntp_stratum", "NTPD stratum.");
const LEAP: Desc = Desc::gauge("node_ntp_leap", "NTPD leap second indicator, 2 bits.");
const RTT: Desc = Desc::gauge("node_ntp_rtt_seconds", "RTT to NTPD.");
const OFFSET: Desc =
    Desc::gauge("node_ntp_offset_seconds", "ClockOffset between NTP and local clock.");
const REFERENCE: Desc =
    Desc::gauge("node_ntp_reference_timestamp_seconds", "NTPD ReferenceTime, UNIX timestamp.");
const ROOT_DELAY: Desc = Desc::gauge("node_ntp_root_delay_seconds", "NTPD RootDelay.");
const ROOT_DISPERSION: Desc =
    Desc::gauge("node_ntp_root_dispersion_seconds", "NTPD RootDispersion.");
const SANITY: Desc = Desc::gauge(
    "node_ntp_sanity",
    "NTPD sanity according to RFC5905 heuristics and configured limits.",
);

const PACKET_BYTES: usize = 48;
/// From NTP's epoch, 1900, to ours.
const EPOCH_SECONDS: i64 = 2_208_988_800;
const NANOS: i64 = 1_000_000_000;
/// A reference is this old at most: the longest a daemon may wait between questions.
const REFERENCE_AGE_MAX: i64 = (1 << 17) * NANOS;
const TIMEOUT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(60);
/// Names that do not resolve take a resolver's patience.
const DEADLINE: Duration = Duration::from_secs(15);

/// `[sources.ntp]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name or address; none: nobody is asked.
    server: String,
    server_port: u16,
    protocol_version: Version,
    /// Root distance up to which a server is sane.
    max_distance: Span,
    /// How far a good clock may be off.
    local_offset_tolerance: Span,
}

/// 2, 3 or 4.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u8")]
struct Version(u8);

impl TryFrom<u8> for Version {
    type Error = &'static str;

    fn try_from(version: u8) -> Result<Self, Self::Error> {
        if (2..=4).contains(&version) { Ok(Self(version)) } else { Err("expected 2, 3 or 4") }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: String::new(),
            server_port: 123,
            protocol_version: Version(4),
            max_distance: Span(Duration::from_nanos(3_466_080_000)),
            local_offset_tolerance: Span(Duration::from_millis(1)),
        }
    }
}

/// What a server answered; times are nanoseconds since the Unix epoch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    leap: u8,
    stratum: u8,
    root_delay: i64,
    root_dispersion: i64,
    reference: i64,
    received: i64,
    sent: i64,
}

/// `None` if it is no answer to a question that carried `cookie`.
pub(super) fn parse(packet: &[u8], cookie: u64) -> Option<Answer> {
    let packet: &[u8; PACKET_BYTES] = packet.first_chunk()?;
    let [head, stratum, ..] = *packet;
    let long = |at: usize| Some(u64::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let short = |at: usize| {
        let fixed = i64::from(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        Some((fixed * NANOS) >> 16)
    };
    if head & 7 != 4 || long(24)? != cookie {
        return None;
    }
    Some(Answer {
        leap: head >> 6,
        stratum,
        root_delay: short(4)?,
        root_dispersion: short(8)?,
        reference: unix_nanos(long(16)?),
        received: unix_nanos(long(32)?),
        sent: unix_nanos(long(40)?),
    })
}

/// An NTP timestamp, which begins anew in 2036; zero is no time and stays one.
fn unix_nanos(timestamp: u64) -> i64 {
    if timestamp == 0 {
        return 0;
    }
    let (seconds, fraction) = (timestamp >> 32, timestamp & u64::from(u32::MAX));
    let era = if seconds & (1 << 31) == 0 { 1 << 32 } else { 0 };
    let seconds = i64::try_from(seconds).unwrap_or_default() + era - EPOCH_SECONDS;
    let nanos = i64::try_from((fraction * 1_000_000_000) >> 32).unwrap_or_default();
    seconds * NANOS + nanos
}

/// What four times come to.
#[derive(Debug, PartialEq, Eq)]
struct Measured {
    rtt: i64,
    offset: i64,
    is_sane: bool,
}

impl Answer {
    /// As heard by a clock that said `asked` and `heard`.
    fn measured(&self, asked: i64, heard: i64, settings: &Settings) -> Measured {
        let there = self.received.saturating_sub(asked);
        let back = self.sent.saturating_sub(heard);
        let held = self.sent.saturating_sub(self.received);
        let rtt = heard.saturating_sub(asked).saturating_sub(held).max(0);
        let distance = rtt.saturating_add(self.root_delay) / 2 + self.root_dispersion;
        // An answer from before the question: the least that the clocks must differ by.
        let error = there.saturating_neg().max(back).max(0);
        let age = self.sent.saturating_sub(self.reference);
        let within = |value: i64, span: Span| i128::from(value) <= nanos(span);
        Measured {
            rtt,
            offset: there / 2 + back / 2,
            is_sane: self.leap != 3
                && (1..16).contains(&self.stratum)
                && (0..=REFERENCE_AGE_MAX).contains(&age)
                && within(distance, settings.max_distance)
                && within(error, settings.local_offset_tolerance),
        }
    }
}

fn nanos(Span(span): Span) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)
}

/// The source `ntp`.
#[derive(Debug)]
pub(crate) struct Ntp {
    settings: Settings,
}

impl Configured for Ntp {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings }
    }
}

impl Ntp {
    fn ask(&self) -> io::Result<(Answer, Measured)> {
        let Settings { server, server_port, protocol_version, .. } = &self.settings;
        let mut addresses = (server.as_str(), *server_port).to_socket_addrs()?;
        let address = addresses.next().ok_or(ErrorKind::AddrNotAvailable)?;
        let here = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(here)?;
        // The kernel then drops what others send.
        socket.connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let cookie: u64 = rand::random();
        let mut packet = [0; PACKET_BYTES];
        let mode_client = 3;
        let [head, ..] = &mut packet;
        *head = (protocol_version.0 << 3) | mode_client;
        if let Some(sent) = packet.last_chunk_mut() {
            *sent = cookie.to_be_bytes();
        }
        let asked = clock();
        socket.send(&packet)?;
        let mut buffer = [0; 512];
        // A few answers to other questions may come first.
        for _ in 0..8 {
            let length = socket.recv(&mut buffer).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
                _ => error,
            })?;
            let heard = clock();
            if let Some(answer) = parse(buffer.get(..length).unwrap_or_default(), cookie) {
                let measured = answer.measured(asked, heard, &self.settings);
                return Ok((answer, measured));
            }
        }
        Err(io::Error::new(ErrorKind::InvalidData, "no answer to what was asked"))
    }
}

impl Source for Ntp {
    fn name(&self) -> &'static str {
        "ntp"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        if self.settings.server.is_empty() {
            let wrong = "names nobody to ask".to_owned();
            return reading.fail(Problem::Answer { asked: "sources.ntp.server", wrong });
        }
        let (answer, measured) = match self.ask() {
            Ok(both) => both,
            Err(error) => {
                let wrong = format!("{}: {error}", self.settings.server);
                return reading.fail(Problem::Answer { asked: "NTP server", wrong });
            }
        };
        tell(&answer, &measured, reading);
    }
}

fn tell(answer: &Answer, measured: &Measured, reading: &mut Reading) {
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    for (desc, value) in [
        (&STRATUM, f64::from(answer.stratum)),
        (&LEAP, f64::from(answer.leap)),
        (&RTT, seconds(measured.rtt)),
        (&OFFSET, seconds(measured.offset)),
        (&REFERENCE, seconds(answer.reference.max(0))),
        (&ROOT_DELAY, seconds(answer.root_delay)),
        (&ROOT_DISPERSION, seconds(answer.root_dispersion)),
        (&SANITY, f64::from(u8::from(measured.is_sane))),
    ] {
        reading.single(desc, value);
    }
}

/// Tells any bytes as an answer that was heard at any time: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(bytes: &[u8], _: Now, reading: &mut Reading) {
    let (asked, packet) = bytes.split_first_chunk().unwrap_or((&[0; 8], bytes));
    let asked = i64::from_le_bytes(*asked);
    let cookie = packet.get(24..).and_then(|rest| rest.first_chunk());
    let Some(answer) = parse(packet, cookie.map_or(0, |cookie| u64::from_be_bytes(*cookie))) else {
        return;
    };
    let measured = answer.measured(asked, asked.saturating_add(NANOS), &Settings::default());
    tell(&answer, &measured, reading);
}

/// Nanoseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the clock itself is what is measured")]
fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-02-02 in NTP's seconds.
    const SECONDS: u64 = 1_770_000_000 + EPOCH_SECONDS as u64;

    fn packet(cookie: u64) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = (4 << 3) | 4;
        packet[1] = 2;
        packet[4..8].copy_from_slice(&(1_u32 << 15).to_be_bytes());
        packet[8..12].copy_from_slice(&(1_u32 << 14).to_be_bytes());
        packet[16..24].copy_from_slice(&((SECONDS - 10) << 32).to_be_bytes());
        packet[24..32].copy_from_slice(&cookie.to_be_bytes());
        packet[32..40].copy_from_slice(&((SECONDS << 32) | (1 << 31)).to_be_bytes());
        packet[40..48].copy_from_slice(&((SECONDS << 32) | (1 << 31)).to_be_bytes());
        packet
    }

    #[test]
    fn an_answer_is_measured_against_the_clock() {
        let answer = parse(&packet(7), 7).unwrap();
        assert_eq!((answer.leap, answer.stratum), (0, 2));
        assert_eq!((answer.root_delay, answer.root_dispersion), (NANOS / 2, NANOS / 4));
        assert_eq!(answer.received, 1_770_000_000 * NANOS + NANOS / 2);
        // Asked 20 ms before and heard 10 ms after, by a clock 5 ms behind.
        let (asked, heard) = (answer.received - 20_000_000, answer.received + 10_000_000);
        let measured = answer.measured(asked, heard, &Settings::default());
        assert_eq!(measured, Measured { rtt: 30_000_000, offset: 5_000_000, is_sane: true });
        // Heard before it was said.
        let measured = answer.measured(asked - NANOS, heard - NANOS, &Settings::default());
        assert!(!measured.is_sane && measured.offset == 1_005_000_000);
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        assert_eq!(parse(&packet(7), 8), None);
        assert_eq!(parse(&packet(7)[..47], 7), None);
        let mut question = packet(7);
        question[0] = (4 << 3) | 3;
        assert_eq!(parse(&question, 7), None);
    }

    #[test]
    fn a_server_that_does_not_know_the_time_is_not_sane() {
        for (at, byte) in [(0, (3 << 6) | (4 << 3) | 4), (1, 0), (1, 16), (4, 0x7f), (17, 0)] {
            let mut bytes = packet(7);
            bytes[at] = byte;
            let answer = parse(&bytes, 7).unwrap();
            let now = answer.sent;
            assert!(!answer.measured(now, now, &Settings::default()).is_sane, "{at} {byte}");
        }
    }

    proptest! {
        #[test]
        fn any_packet_and_clock_can_be_measured(
            bytes in proptest::collection::vec(any::<u8>(), 48..60),
            asked in any::<i64>(),
            heard in any::<i64>(),
        ) {
            let mut bytes = bytes;
            bytes[0] = (4 << 3) | 4;
            let cookie = u64::from_be_bytes(bytes[24..32].try_into().unwrap());
            let answer = parse(&bytes, cookie).unwrap();
            prop_assert!(answer.measured(asked, heard, &Settings::default()).rtt >= 0);
        }
    }
}

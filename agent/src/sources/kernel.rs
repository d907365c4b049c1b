//! The two questions to the kernel that no safe crate asks: `adjtimex`, which no file shows, and
//! `SIOCETHTOOL`, the one way to a network driver's own counters (ethtool's netlink family has the
//! standard counters only).
//!
//! This is the only unsafe code of the agent. What it hands out are plain numbers and bytes; what
//! they mean is read elsewhere, by code that takes any bytes.

#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The kernel's clock as `adjtimex` tells it, in the kernel's units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ClockState {
    /// What the call returned: 5 when the clock is not synchronised.
    pub(crate) state: i32,
    pub(crate) status: i32,
    pub(crate) offset: f64,
    pub(crate) frequency: f64,
    pub(crate) error_max_us: f64,
    pub(crate) error_estimated_us: f64,
    pub(crate) time_constant: f64,
    pub(crate) tick_us: f64,
    pub(crate) pps_frequency: f64,
    pub(crate) pps_jitter: f64,
    pub(crate) pps_shift: f64,
    pub(crate) pps_stability: f64,
    pub(crate) pps_jitter_exceeded: f64,
    pub(crate) pps_calibrations: f64,
    pub(crate) pps_errors: f64,
    pub(crate) pps_stability_exceeded: f64,
    pub(crate) tai_offset_s: f64,
}

/// Reads the clock's state, changing nothing.
pub(crate) fn clock_state() -> io::Result<ClockState> {
    // SAFETY: `timex` is plain numbers, for which zeroes are values.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex`; `modes` is 0, so the kernel only writes to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = |long: libc::c_long| long as f64;
    Ok(ClockState {
        state,
        status: timex.status,
        offset: number(timex.offset),
        frequency: number(timex.freq),
        error_max_us: number(timex.maxerror),
        error_estimated_us: number(timex.esterror),
        time_constant: number(timex.constant),
        tick_us: number(timex.tick),
        pps_frequency: number(timex.ppsfreq),
        pps_jitter: number(timex.jitter),
        pps_shift: f64::from(timex.shift),
        pps_stability: number(timex.stabil),
        pps_jitter_exceeded: number(timex.jitcnt),
        pps_calibrations: number(timex.calcnt),
        pps_errors: number(timex.errcnt),
        pps_stability_exceeded: number(timex.stbcnt),
        tai_offset_s: f64::from(timex.tai),
    })
}

/// `SIOCETHTOOL`
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_DRIVER: u32 = 0x3;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const GET_LINK: u32 = 0x4c;
/// The set of the counters' names.
const STRINGS_OF_STATISTICS: u32 = 1;

/// `struct ethtool_drvinfo`
const DRIVER_BYTES: usize = 196;
/// Where `struct ethtool_drvinfo` has the number of counters.
const DRIVER_STATISTICS: usize = 180;
/// `struct ethtool_link_settings` without its masks.
const LINK_BYTES: usize = 48;
/// Where `struct ethtool_link_settings` has the length of a mask.
const LINK_WORDS: usize = 15;
/// The kernel's type for it ends at 127.
const LINK_WORDS_MAX: u8 = 127;
const STRING_BYTES: usize = 32;
const COUNTER_BYTES: usize = 8;
/// Counters of one device that are read; no known driver has as many.
const STATISTICS_MAX: u32 = 65_536;

/// Asks drivers of network devices.
#[derive(Debug)]
pub(crate) struct Ethtool {
    socket: OwnedFd,
}

impl Ethtool {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket })
    }

    /// `struct ethtool_drvinfo`
    pub(crate) fn driver(&self, device: &str) -> io::Result<Vec<u8>> {
        // SAFETY: the kernel writes one `ethtool_drvinfo`.
        unsafe { self.call(device, GET_DRIVER, &[], DRIVER_BYTES) }
    }

    /// The driver's counters: 32 bytes of name each, and 64 bits of value each.
    pub(crate) fn statistics(&self, device: &str) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let driver = self.driver(device)?;
        let count = number_at(&driver, DRIVER_STATISTICS).min(STATISTICS_MAX);
        if count == 0 {
            return Ok(Default::default());
        }
        // The kernel writes as many as the driver has by then. A driver whose queues are changed
        // between two calls may have more; there is room for twice as many, and some.
        let room = usize::try_from(count).unwrap_or(0) * 2 + 1024;
        let set = [STRINGS_OF_STATISTICS, count];
        // SAFETY: head and room for all names there can be.
        let names = unsafe { self.call(device, GET_STRINGS, &set, 12 + room * STRING_BYTES)? };
        // SAFETY: head and room for all counters there can be.
        let values =
            unsafe { self.call(device, GET_STATISTICS, &[count], 8 + room * COUNTER_BYTES)? };
        let part = |bytes: &[u8], count_at: usize, each: usize| {
            let head = count_at + 4;
            let count = usize::try_from(number_at(bytes, count_at)).unwrap_or(0);
            bytes.get(head..head.saturating_add(count.saturating_mul(each))).map(<[u8]>::to_vec)
        };
        let names = part(&names, 8, STRING_BYTES).unwrap_or_default();
        Ok((names, part(&values, 4, COUNTER_BYTES).unwrap_or_default()))
    }

    /// `struct ethtool_link_settings` with its masks.
    pub(crate) fn link(&self, device: &str) -> io::Result<Vec<u8>> {
        // Asked with masks of no length the kernel says, as a negative number, how long they are.
        let room = LINK_BYTES + 3 * 4 * usize::from(LINK_WORDS_MAX);
        // SAFETY: there is room for masks of any length the kernel's type can say.
        let answer = unsafe { self.call(device, GET_LINK, &[], room)? };
        let words = answer.get(LINK_WORDS).map_or(0, |words| words.wrapping_neg());
        if words == 0 || words > LINK_WORDS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut fields = [0_u8; LINK_WORDS - 3];
        if let Some(last) = fields.last_mut() {
            *last = words;
        }
        let fields: Vec<u32> = fields.chunks_exact(4).map(|bytes| number_at(bytes, 0)).collect();
        // SAFETY: as above.
        unsafe { self.call(device, GET_LINK, &fields, room) }
    }

    /// Asks the driver of `device`; `fields` follow the command. Returns what the kernel made of it.
    ///
    /// # Safety
    /// The kernel must write no more than `length` bytes in answer to the command.
    unsafe fn call(
        &self,
        device: &str,
        command: u32,
        fields: &[u32],
        length: usize,
    ) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(length);
        for number in std::iter::once(&command).chain(fields) {
            buffer.extend(bytes_of(*number));
        }
        buffer.resize(length, 0);
        // SAFETY: `ifreq` is plain numbers and a union of such, for which zeroes are values.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = device.as_bytes();
        if name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (place, byte) in request.ifr_name.iter_mut().zip(name) {
            *place = byte.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
        // SAFETY: the request is whole and ends its name with a zero; the data it points to is
        // `length` bytes, which the caller has said to be enough, and outlives the call.
        let outcome =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(buffer) }
    }
}

#[expect(clippy::host_endian_bytes, reason = "the kernel speaks in the machine's own order")]
fn bytes_of(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

fn number_at(bytes: &[u8], offset: usize) -> u32 {
    super::netlink::u32_at(bytes, offset).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_has_a_state() {
        let state = clock_state().unwrap();
        assert!((0..=5).contains(&state.state), "{state:?}");
        assert!(state.tick_us > 0.0, "{state:?}");
    }

    #[test]
    fn a_device_that_is_not_there_has_no_driver() {
        let ethtool = Ethtool::open().unwrap();
        assert!(ethtool.driver("stoa-none").is_err());
        assert!(ethtool.driver("a-name-that-is-too-long-for-a-device").is_err());
    }

    #[test]
    fn every_device_answers_or_says_that_it_cannot() {
        let ethtool = Ethtool::open().unwrap();
        for entry in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
            let device = entry.file_name().into_string().unwrap();
            if let Ok((names, values)) = ethtool.statistics(&device) {
                assert_eq!(names.len() / STRING_BYTES, values.len() / COUNTER_BYTES, "{device}");
            }
            if let Ok(link) = ethtool.link(&device) {
                assert!(link.len() > LINK_BYTES, "{device}");
            }
        }
    }
}

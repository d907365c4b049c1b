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
const STATISTICS_MAX: usize = 65_536;
/// The longest answer.
const ANSWER_BYTES: usize = 12 + STATISTICS_MAX * STRING_BYTES;

/// Asks drivers of network devices.
#[derive(Debug)]
pub(crate) struct Ethtool {
    socket: OwnedFd,
    answer: Fenced,
}

impl Ethtool {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, answer: Fenced::new(ANSWER_BYTES)? })
    }

    /// `struct ethtool_drvinfo`
    pub(crate) fn driver(&mut self, device: &str) -> io::Result<&[u8]> {
        Ok(self
            .call(device, GET_DRIVER, &[], DRIVER_BYTES)?
            .get(..DRIVER_BYTES)
            .unwrap_or_default())
    }

    /// The driver's counters: 32 bytes of name each, and 64 bits of value each. None when there came
    /// to be more or fewer of them between the two questions.
    pub(crate) fn statistics(&mut self, device: &str) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let count = number_at(self.driver(device)?, DRIVER_STATISTICS);
        let expected = usize::try_from(count).unwrap_or(usize::MAX);
        if expected == 0 || expected > STATISTICS_MAX {
            return Ok(Default::default());
        }
        let set = [STRINGS_OF_STATISTICS, count];
        let names = self.call(device, GET_STRINGS, &set, 12 + expected * STRING_BYTES)?;
        let names = counted(names, 8, STRING_BYTES).to_vec();
        let values = self.call(device, GET_STATISTICS, &[count], 8 + expected * COUNTER_BYTES)?;
        let values = counted(values, 4, COUNTER_BYTES).to_vec();
        let is_same = names.len() / STRING_BYTES == values.len() / COUNTER_BYTES;
        Ok(if is_same { (names, values) } else { Default::default() })
    }

    /// `struct ethtool_link_settings` with its masks.
    pub(crate) fn link(&mut self, device: &str) -> io::Result<&[u8]> {
        // Asked with masks of no length the kernel says, as a negative number, how long they are.
        let length = LINK_BYTES + 3 * 4 * usize::from(LINK_WORDS_MAX);
        let answer = self.call(device, GET_LINK, &[], length)?;
        let words = answer.get(LINK_WORDS).map_or(0, |words| words.wrapping_neg());
        if words == 0 || words > LINK_WORDS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut fields = [0_u8; LINK_WORDS - 3];
        if let Some(last) = fields.last_mut() {
            *last = words;
        }
        let fields: Vec<u32> = fields.chunks_exact(4).map(|bytes| number_at(bytes, 0)).collect();
        Ok(self.call(device, GET_LINK, &fields, length)?.get(..length).unwrap_or_default())
    }

    /// Asks the driver of `device`; `fields` follow the command. Returns what the kernel made of it,
    /// which is expected to be `length` bytes long; what it did not write of these is zeroes.
    fn call(
        &mut self,
        device: &str,
        command: u32,
        fields: &[u32],
        length: usize,
    ) -> io::Result<&[u8]> {
        let buffer = self.answer.bytes();
        buffer.get_mut(..length).unwrap_or_default().fill(0);
        let words = std::iter::once(&command).chain(fields);
        for (place, number) in buffer.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&bytes_of(*number));
        }
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
        // SAFETY: the request is whole and ends its name with a zero; the data it points to outlives
        // the call, and a page that cannot be written to stands behind it: whatever the kernel
        // writes, in order from its beginning, it writes there or fails.
        let outcome =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self.answer.bytes())
    }
}

/// What stands in an answer behind the number of it.
fn counted(answer: &[u8], count_at: usize, each: usize) -> &[u8] {
    let head = count_at + 4;
    let count = usize::try_from(number_at(answer, count_at)).unwrap_or(usize::MAX);
    answer.get(head..head.saturating_add(count.saturating_mul(each))).unwrap_or_default()
}

/// Memory with a page behind it that nobody can write to: how much a driver answers is its own
/// choice, and it is not told how much there is room for. Pages untouched cost nothing.
#[derive(Debug)]
struct Fenced {
    begin: *mut libc::c_void,
    bytes: usize,
    mapped: usize,
}

impl Fenced {
    fn new(bytes: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = bytes.next_multiple_of(page);
        let mapped = bytes + page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new memory, anywhere.
        let begin =
            unsafe { libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        if begin == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let fenced = Self { begin, bytes, mapped };
        // SAFETY: all but the last page of what was mapped.
        let outcome = unsafe { libc::mprotect(begin, bytes, libc::PROT_READ | libc::PROT_WRITE) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(fenced) }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes were mapped, are zeroes to begin with, and are this one's alone.
        unsafe { std::slice::from_raw_parts_mut(self.begin.cast(), self.bytes) }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nothing else.
        unsafe { libc::munmap(self.begin, self.mapped) };
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
        let mut ethtool = Ethtool::open().unwrap();
        assert!(ethtool.driver("stoa-none").is_err());
        assert!(ethtool.driver("a-name-that-is-too-long-for-a-device").is_err());
    }

    #[test]
    fn behind_the_room_for_an_answer_the_kernel_writes_nothing() {
        let mut fenced = Fenced::new(5000).unwrap();
        let room = fenced.bytes().len();
        fenced.bytes().fill(7);
        let source = std::fs::File::open("/dev/zero").unwrap();
        // SAFETY: more than there is room for: what is tried here is that the kernel stops before it.
        let read = unsafe { libc::read(source.as_raw_fd(), fenced.begin, room + 4096) };
        let written = usize::try_from(read).unwrap_or(0);
        assert!(written <= room, "{written} of {room}");
    }

    #[test]
    fn an_answer_that_tells_of_more_than_there_is_is_none() {
        let mut answer = vec![0; 12 + 2 * STRING_BYTES];
        for (count, bytes) in [(2, 64), (3, 0), (u32::MAX, 0), (0, 0)] {
            answer[8..12].copy_from_slice(&bytes_of(count));
            assert_eq!(counted(&answer, 8, STRING_BYTES).len(), bytes, "{count}");
        }
    }

    #[test]
    fn every_device_answers_or_says_that_it_cannot() {
        let mut ethtool = Ethtool::open().unwrap();
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

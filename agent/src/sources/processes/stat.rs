//! `/proc/PID/stat`: one line of numbers about a process, with its name in parentheses.
//!
//! The name is the process's own choice: up to 15 bytes of anything, parentheses, spaces, newlines
//! and broken UTF-8 among it. Only the last `)` of the line ends it: what follows holds none.

use std::fmt;

/// Kernel threads have this bit in their flags.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Numbers after the name that are read; the last is the resident pages.
const FIELDS: usize = 21;

/// What one line says. Ticks are `USER_HZ` of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The process's name for itself.
    pub(crate) comm: Comm,
    /// The kernel's letter: `R`, `S`, `D`, `Z`, `T`, `t`, `I`, `X` …
    pub(crate) state: u8,
    /// The parent's pid; 0 when it is outside.
    pub(crate) parent: u32,
    /// Whether this is a thread of the kernel.
    pub(crate) is_kernel: bool,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) threads: u32,
    /// Since boot; tells two processes apart that had the same pid.
    pub(crate) start_ticks: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) resident_pages: u64,
}

/// A process's name: as many bytes as the kernel keeps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Comm {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl Comm {
    /// `TASK_COMM_LEN` without the zero at its end; kernel workers' longer names are cut.
    pub(crate) const BYTES_MAX: usize = 15;

    pub(crate) fn new(name: &[u8]) -> Self {
        let mut comm = Self::default();
        for (place, byte) in comm.bytes.iter_mut().zip(name) {
            *place = *byte;
            comm.length += 1;
        }
        comm
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// What a kernel thread is for, without the CPU, device or number it is for: `kworker/0:1-mm`
    /// and `kworker/3:0` are one.
    pub(crate) fn of_kernel(self) -> Self {
        let name = self.as_bytes();
        if let Some(end) = name.iter().position(|b| matches!(b, b'/' | b':')) {
            return Self::new(name.get(..end).unwrap_or_default());
        }
        let tail = |b: &&u8| b.is_ascii_digit() || matches!(**b, b'_' | b'-' | b'.');
        let kept = name.len() - name.iter().rev().take_while(tail).count();
        Self::new(name.get(..kept).filter(|kept| !kept.is_empty()).unwrap_or(name))
    }
}

/// As `ps` shows it: what is no text and what moves a terminal's cursor is `?`.
impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for char in chunk.valid().chars() {
                fmt::Write::write_char(f, if char.is_control() { '?' } else { char })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// `None`: the line is cut short or is none.
pub(crate) fn parse(line: &[u8]) -> Option<Stat> {
    let opening = line.iter().position(|b| *b == b'(')?;
    let closing = line.iter().rposition(|b| *b == b')')?;
    let comm = Comm::new(line.get(opening + 1..closing)?);
    let mut words =
        line.get(closing + 1..)?.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let state = *words.next()?.first().filter(|state| state.is_ascii_alphabetic())?;
    // The third field of the manual's list is the state, so `numbers[0]` is its fourth.
    let mut numbers = [0_u64; FIELDS];
    for number in &mut numbers {
        *number = whole(words.next()?)?;
    }
    let [
        parent,
        _group,
        _session,
        _terminal,
        _terminal_group,
        flags,
        minor_faults,
        _,
        major_faults,
        _,
        user_ticks,
        system_ticks,
        _,
        _,
        _priority,
        _nice,
        threads,
        _,
        start_ticks,
        virtual_bytes,
        resident_pages,
    ] = numbers;
    Some(Stat {
        comm,
        state,
        parent: u32::try_from(parent).unwrap_or(0),
        is_kernel: flags & KERNEL_THREAD != 0,
        minor_faults,
        major_faults,
        user_ticks,
        system_ticks,
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        start_ticks,
        virtual_bytes,
        resident_pages,
    })
}

/// A whole number; one below zero (a priority, a terminal) is 0.
fn whole(word: &[u8]) -> Option<u64> {
    let (is_negative, digits) = match word.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if is_negative { 0 } else { number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(comm: &[u8], rest: &str) -> Vec<u8> {
        [b"42 (", comm, b") ", rest.as_bytes()].concat()
    }

    const REST: &str = "S 1 42 42 0 -1 4194560 100 200 3 4 500 60 7 8 20 0 9 0 1234 56789 321 \
        18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 3 0 0 0 0 0\n";

    #[test]
    fn the_numbers_are_those_of_the_manual() {
        let stat = parse(&line(b"nginx", REST)).unwrap();
        assert_eq!(
            stat,
            Stat {
                comm: Comm::new(b"nginx"),
                state: b'S',
                parent: 1,
                is_kernel: false,
                minor_faults: 100,
                major_faults: 3,
                user_ticks: 500,
                system_ticks: 60,
                threads: 9,
                start_ticks: 1234,
                virtual_bytes: 56789,
                resident_pages: 321,
            }
        );
    }

    #[test]
    fn a_name_may_look_like_the_rest() {
        for name in [") R 1 1", "(((", ")", "", "a b\n) Z 0", "(sd-pam)"] {
            let stat = parse(&line(name.as_bytes(), REST)).unwrap();
            assert_eq!(stat.comm, Comm::new(name.as_bytes()), "{name:?}");
            assert_eq!((stat.state, stat.parent, stat.start_ticks), (b'S', 1, 1234), "{name:?}");
        }
    }

    #[test]
    fn kernel_threads_are_called_by_what_they_are_for() {
        for (name, kept) in [
            ("kworker/0:1-events", "kworker"),
            ("kworker/R-netns", "kworker"),
            ("ksoftirqd/11", "ksoftirqd"),
            ("jbd2/sda1-8", "jbd2"),
            ("z_rd_int_0", "z_rd_int"),
            ("irq/26-AMD-Vi", "irq"),
            ("kswapd0", "kswapd"),
            ("kdamond.0", "kdamond"),
            ("123", "123"),
            ("rcu_preempt", "rcu_preempt"),
        ] {
            assert_eq!(Comm::new(name.as_bytes()).of_kernel(), Comm::new(kept.as_bytes()));
        }
    }

    #[test]
    fn a_name_is_shown_without_what_moves_a_cursor() {
        assert_eq!(Comm::new(b"a\n\x1b[2J\"\xff\xc3").to_string(), "a??[2J\"??");
        assert_eq!(Comm::new("köln".as_bytes()).to_string(), "köln");
    }

    #[test]
    fn a_line_cut_anywhere_is_none_or_whole() {
        let whole = line(b"nginx", REST);
        let needed = whole.windows(4).position(|w| w == b" 321").unwrap() + 2;
        for end in 0..whole.len() {
            let stat = parse(&whole[..end]);
            assert_eq!(stat.is_some(), end >= needed, "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_name_leaves_the_numbers_as_they_are(
            name in proptest::collection::vec(any::<u8>(), 0..80),
            user in any::<u64>(),
            start in any::<u64>(),
        ) {
            let rest = format!("R 7 1 1 0 -1 2097152 1 2 3 4 {user} 6 7 8 -20 -5 1 0 {start} 5 6\n");
            let stat = parse(&line(&name, &rest)).unwrap();
            prop_assert_eq!(stat.comm, Comm::new(&name));
            prop_assert_eq!((stat.user_ticks, stat.start_ticks), (user, start));
            prop_assert!(stat.is_kernel);
            let shown = stat.comm.to_string();
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}

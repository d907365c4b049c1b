//! How much memory the process keeps that it does not use.
//!
//! glibc gives threads arenas of their own, up to eight for each core, and hands freed memory back only
//! from an arena's end. An agent is many threads that live for one reading, and parts that need much
//! for a moment (an inventory, a handshake), so that would be megabytes which nothing uses. The
//! program's own code is as much again: starting, joining and connecting run through most of it once.
//!
//! Knows nothing of who allocates. Where the allocator or the system is another, nothing is done.

use std::time::Duration;

/// How often what is not used is handed back.
pub const HAND_BACK_EVERY: Duration = Duration::from_secs(60);

/// All threads share one arena, and what is large gets pages of its own. To be called first in `main`.
/// Sharing costs a lock, which here is hardly ever waited for: threads work in turn.
pub fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const PAGES_OF_ITS_OWN_BYTES: libc::c_int = 64 << 10;
        #[expect(unsafe_code, reason = "no safe crate sets the allocator's parameters")]
        // SAFETY: mallopt takes two numbers; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            // Set, it does not grow with what is freed.
            libc::mallopt(libc::M_MMAP_THRESHOLD, PAGES_OF_ITS_OWN_BYTES);
        }
    }
}

/// Hands back whole pages of what was freed, and the process's hold on its code and constants: the kernel
/// keeps those, and what is used again is mapped again from there. A debugger's breakpoints go with it.
pub fn hand_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "no safe crate asks the allocator")]
        // SAFETY: malloc_trim takes a number and locks what it looks at.
        unsafe {
            libc::malloc_trim(0);
        }
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (from, bytes) in maps.lines().filter_map(unwritten) {
        let from = std::ptr::with_exposed_provenance_mut(from);
        #[expect(unsafe_code, reason = "no safe crate forgets a mapping's pages")]
        // SAFETY: the pages are of a file, private, and nobody may write to them, so they are the
        // file's; what is read from them after is what was read before.
        let forgotten =
            unsafe { rustix::mm::madvise(from, bytes, rustix::mm::Advice::LinuxDontNeed) };
        // A kernel that will not has them still.
        forgotten.unwrap_or_default();
    }
}

/// Where code or constants of a file are mapped that nobody may write to, in bytes: a line of
/// `/proc/PID/maps` (proc(5)). Of constants only those at a file's beginning: the loader wrote to some of
/// the others before it closed them.
fn unwritten(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let (may, offset) = (fields.next()?, fields.next()?);
    let is_file = fields.nth(2)?.starts_with('/');
    let is_unwritten = may == "r-xp" || (may == "r--p" && offset.bytes().all(|byte| byte == b'0'));
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (from, to) = (address(from)?, address(to)?);
    let bytes = to.checked_sub(from).filter(|_| is_file && is_unwritten)?;
    Some((from, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_to_is_forgotten() {
        for (line, expected) in [
            ("1000-3000 r-xp 00001000 fe:00 12  /usr/bin/stoa-agent", Some((0x1000, 0x2000))),
            ("1000-3000 r-xp 00001000 fe:00 12  /usr/bin/a (deleted)", Some((0x1000, 0x2000))),
            ("1000-3000 r--p 00000000 fe:00 12  /usr/bin/stoa-agent", Some((0x1000, 0x2000))),
            ("1000-3000 r--p 00001000 fe:00 12  /usr/bin/stoa-agent", None),
            ("1000-3000 rw-p 00000000 fe:00 12  /usr/bin/stoa-agent", None),
            ("1000-3000 r--p 00000000 00:00 0  [vvar]", None),
            ("1000-3000 rwxp 00001000 fe:00 12  /usr/bin/stoa-agent", None),
            ("1000-3000 r-xp 00000000 00:00 0  [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0 ", None),
            ("3000-1000 r-xp 00001000 fe:00 12  /a", None),
            ("nonsense", None),
        ] {
            assert_eq!(unwritten(line), expected, "{line}");
        }
    }

    /// Pages resident that are the process's own, and those that are of files.
    fn pages() -> (usize, usize) {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let mut fields = statm.split(' ').map(|field| field.parse::<usize>().unwrap());
        let (resident, of_files) = (fields.nth(1).unwrap(), fields.next().unwrap());
        (resident - of_files, of_files)
    }

    #[test]
    fn what_lies_between_what_is_used_and_code_are_handed_back() {
        let all: Vec<Vec<u8>> = (0..16_000).map(|_| vec![1; 4000]).collect();
        // What stays pins the ends: only whole pages between are free.
        let kept: Vec<Vec<u8>> = all.into_iter().step_by(100).collect();
        let (own, of_files) = pages();
        hand_back();
        let (own_after, of_files_after) = pages();
        assert!(own_after + 8_000 < own, "{own_after} of {own} pages are still held");
        assert!(of_files_after < of_files, "{of_files_after} of {of_files} pages of files");
        assert!(kept.iter().all(|it| it.iter().all(|byte| *byte == 1)));
    }
}

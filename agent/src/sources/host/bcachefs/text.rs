//! The texts of `/sys/fs/bcachefs`: numbers with binary suffixes, in columns made for people.

use crate::sources::number;

/// Lines of one file looked at.
const LINES_MAX: usize = 1024;

/// A number, possibly with one of the suffixes that stand for powers of 1024; the part of a unit is
/// dropped, as node_exporter does.
pub(in crate::sources::host) fn quantity(text: &str) -> Option<f64> {
    let power = match text.chars().last()? {
        'k' | 'K' => 1,
        'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        _ => return number(text),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Some((number(digits)? * 1024_f64.powi(power)).trunc())
}

/// The second line of a file of `counters`: since the file system was made.
pub(in crate::sources::host) fn counter(text: &str) -> Option<f64> {
    let line = text.lines().take(LINES_MAX).find_map(|line| {
        let (what, number) = line.split_once(':')?;
        (what.trim() == "since filesystem creation").then_some(number)
    })?;
    quantity(line.trim())
}

/// Algorithm, compressed and uncompressed bytes of each line of `compression_stats`.
pub(in crate::sources::host) fn compression(text: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    text.lines().skip(1).take(LINES_MAX).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?, quantity(words.next()?)?, quantity(words.next()?)?))
    })
}

/// What, how often and the average size of each line of `btree_write_stats`.
pub(in crate::sources::host) fn btree_writes(text: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    text.lines().take(LINES_MAX).filter_map(|line| {
        let (what, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        Some((what.trim(), quantity(words.next()?)?, quantity(words.next()?)?))
    })
}

/// Name and count of each line of `errors`. A long count runs into the time after it; node_exporter
/// tells what comes of that, and so do we.
pub(in crate::sources::host) fn errors(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().take(LINES_MAX).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?, number(words.next()?)?))
    })
}

/// Operation, type of data and bytes of each line of a device's `io_done`.
pub(in crate::sources::host) fn io_done(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    let mut operation = "";
    text.lines().take(LINES_MAX).filter_map(move |line| {
        let (what, bytes) = line.split_once(':')?;
        if bytes.trim().is_empty() {
            operation = what.trim();
            return None;
        }
        (!operation.is_empty()).then_some((operation, what.trim(), number(bytes.trim())?))
    })
}

/// Kind and count of each line of a device's `io_errors`, those since the file system was made.
pub(in crate::sources::host) fn io_errors(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines()
        .take(LINES_MAX)
        .skip_while(|line| !line.contains("since filesystem creation"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let (kind, count) = line.split_once(':')?;
            Some((kind.trim(), number(count.trim())?))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_have_binary_suffixes() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("1.26k", Some(1290.0)),
            ("2.00M", Some(2_097_152.0)),
            ("1.69T", Some(1_858_174_650_941.0)),
            ("k", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(quantity(text), expected, "{text}");
        }
    }

    #[test]
    fn columns_have_their_names() {
        let counts = "since mount:    7\nsince filesystem creation:   1.0k\n";
        assert_eq!(counter(counts), Some(1024.0));
        let table = "type compressed uncompressed average\nlz4 1k 2k 3k\nnone 1\n";
        assert_eq!(compression(table).collect::<Vec<_>>(), [("lz4", 1024.0, 2048.0)]);
        let writes = "       nr  size\ninitial:  5  100k\n";
        assert_eq!(btree_writes(writes).collect::<Vec<_>>(), [("initial", 5.0, 102_400.0)]);
        assert_eq!(errors("bad 2 17\nodd x\n").collect::<Vec<_>>(), [("bad", 2.0)]);
        let done = "read:\nsb : 1\nwrite:\nsb : 2\n";
        assert_eq!(io_done(done).collect::<Vec<_>>(), [("read", "sb", 1.0), ("write", "sb", 2.0)]);
        let failed = "IO errors since filesystem creation\n  read:   3\nIO errors since 8 y ago\n  \
            read: 4\n";
        assert_eq!(io_errors(failed).collect::<Vec<_>>(), [("read", 3.0)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_bounded(text in any::<String>(), lines in 0_usize..3000) {
            let long = format!("{text}\n{}", "a: 1 1\n".repeat(lines));
            prop_assert!(btree_writes(&long).count() <= LINES_MAX);
            prop_assert!(errors(&long).count() <= LINES_MAX);
            prop_assert!(compression(&long).count() <= LINES_MAX);
            prop_assert!(io_done(&long).count() <= LINES_MAX);
            prop_assert!(io_errors(&long).count() <= LINES_MAX);
            prop_assert!(counter(&text).is_none_or(|n| !n.is_nan()));
            prop_assert!(quantity(&text).is_none_or(|n| !n.is_nan()));
        }
    }
}

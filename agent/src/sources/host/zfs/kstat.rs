//! The texts of `/proc/spl/kstat/zfs`: named numbers, a table of one row, a pool's state.

use crate::sources::number;

/// Numbers read of one file at most; `arcstats` has about 150.
const FIELDS_MAX: usize = 1024;
/// `KSTAT_DATA_STRING`.
const STRING: &str = "7";
/// The first line says what kind of file it is, the second what the columns are.
const HEADER_LINES: usize = 2;

/// Name and number of each line `name type data` whose type is a whole number.
pub(in crate::sources::host) fn fields(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().skip(HEADER_LINES).take(FIELDS_MAX).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, kind, data) = (words.next()?, words.next()?, words.next()?);
        // `KSTAT_DATA_INT32` to `KSTAT_DATA_ULONG`.
        let is_number = matches!(kind, "1" | "2" | "3" | "4" | "5" | "6");
        Some((name, is_number.then(|| number(data)).flatten()?))
    })
}

/// The text of the line `dataset_name`; it may hold spaces, also several in a row.
pub(in crate::sources::host) fn dataset_name(text: &str) -> Option<&str> {
    text.lines().skip(HEADER_LINES).find_map(|line| {
        let rest = line.strip_prefix("dataset_name")?.trim_start();
        let name = rest.strip_prefix(STRING)?.trim_start();
        (!name.is_empty()).then_some(name)
    })
}

/// Name and number of each column of a file with one row, such as a pool's `io`.
pub(in crate::sources::host) fn columns(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let mut lines = text.lines().skip(1);
    let names = lines.next().unwrap_or_default().split_ascii_whitespace();
    let row = lines.next().unwrap_or_default().split_ascii_whitespace();
    names.zip(row).take(FIELDS_MAX).filter_map(|(name, word)| Some((name, number(word)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_their_names() {
        let text = "23 1 0x01 7 2160 1 2\nname type data\ndataset_name 7    tank/a  b\n\
            writes 4 12\nbelow 3 -9\nodd 4 x\nword 7 5\nshort 4\n";
        assert_eq!(fields(text).collect::<Vec<_>>(), [("writes", 12.0), ("below", -9.0)]);
        assert_eq!(dataset_name(text), Some("tank/a  b"));
        assert_eq!(dataset_name("1\n2\ndataset_name 7 \n"), None);
        let io = "12 3 0x00 1 80 7 3\nnread nwritten odd\n10 20 x\n";
        assert_eq!(columns(io).collect::<Vec<_>>(), [("nread", 10.0), ("nwritten", 20.0)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_bounded(text in any::<String>(), lines in 0_usize..3000) {
            let long = format!("1\n2\n{text}\n{}", "a 4 1\n".repeat(lines));
            prop_assert!(fields(&long).count() <= FIELDS_MAX);
            prop_assert!(columns(&long).count() <= FIELDS_MAX);
            prop_assert!(dataset_name(&long).is_none_or(|name| !name.is_empty()));
        }
    }
}

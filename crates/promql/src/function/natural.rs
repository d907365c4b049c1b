//! Natural order: numbers within text by value, so that `eth2` stands before `eth10`.

use std::cmp::Ordering;

/// Compares text in natural order.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(l), Some(r)) = (next_chunk(&mut left), next_chunk(&mut right)) else {
            return a_rest(left, right).then_with(|| a.cmp(b));
        };
        let order = match (digits(l), digits(r)) {
            (Some(l), Some(r)) => l.len().cmp(&r.len()).then_with(|| l.cmp(r)),
            _ => l.cmp(r),
        };
        if order != Ordering::Equal {
            return order;
        }
        if left.is_empty() || right.is_empty() {
            return a_rest(left, right).then_with(|| a.cmp(b));
        }
    }
}

fn a_rest(left: &str, right: &str) -> Ordering {
    left.is_empty().cmp(&right.is_empty()).reverse()
}

/// The leading run of digits or of anything else.
fn next_chunk<'a>(text: &mut &'a str) -> Option<&'a str> {
    let first = text.chars().next()?.is_ascii_digit();
    let end = text.find(|c: char| c.is_ascii_digit() != first).unwrap_or(text.len());
    let (chunk, rest) = text.split_at_checked(end)?;
    *text = rest;
    Some(chunk)
}

/// Without leading zeros, when it is a number.
fn digits(chunk: &str) -> Option<&str> {
    chunk.starts_with(|c: char| c.is_ascii_digit()).then(|| chunk.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_by_value() {
        let mut names =
            ["4m1000", "4m5", "4m600", "", "a", "1.111.3", "1.11.3", "1.2.3", "10", "9"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            ["", "1.2.3", "1.11.3", "1.111.3", "4m5", "4m600", "4m1000", "9", "10", "a"]
        );
    }
}

//! Which of two versions is newer, by Debian's rules; kernel releases go by the same.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Bytes;

/// Compares two versions or releases; epochs are not looked at.
///
/// Digits are compared as numbers, all else byte by byte, letters before other signs; `~` comes before
/// everything, the end included. See deb-version(7).
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.bytes().peekable(), b.bytes().peekable());
    while a.peek().is_some() || b.peek().is_some() {
        let order = compare_signs(&mut a, &mut b).then_with(|| compare_digits(&mut a, &mut b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn compare_signs(a: &mut Peekable<Bytes<'_>>, b: &mut Peekable<Bytes<'_>>) -> Ordering {
    let is_sign = |byte: &u8| !byte.is_ascii_digit();
    loop {
        let (sign_a, sign_b) = (a.next_if(is_sign), b.next_if(is_sign));
        let order = weight(sign_a).cmp(&weight(sign_b));
        if order.is_ne() || sign_a.is_none() {
            return order;
        }
    }
}

fn weight(sign: Option<u8>) -> i16 {
    match sign {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i16::from(letter),
        Some(other) => i16::from(other) + 256,
    }
}

fn compare_digits(a: &mut Peekable<Bytes<'_>>, b: &mut Peekable<Bytes<'_>>) -> Ordering {
    while a.next_if_eq(&b'0').is_some() {}
    while b.next_if_eq(&b'0').is_some() {}
    let mut first_difference = Ordering::Equal;
    loop {
        match (a.next_if(u8::is_ascii_digit), b.next_if(u8::is_ascii_digit)) {
            (Some(a), Some(b)) => first_difference = first_difference.then(a.cmp(&b)),
            (Some(_), None) => return Ordering::Greater,
            (None, Some(_)) => return Ordering::Less,
            (None, None) => return first_difference,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(older: &str, newer: &str) {
        assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
        assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
        assert_eq!(compare(older, older), Ordering::Equal);
    }

    #[test]
    fn the_order_is_debians() {
        check("6.8.4-2-pve", "6.8.12-1-pve");
        check("6.1.0-9-amd64", "6.1.0-30-amd64");
        check("1.0~rc1", "1.0");
        check("1.0", "1.0+deb12u1");
        check("1.0a", "1.0+");
        check("2.9", "2.10");
        check("", "1");
        check("99999999999999999999998", "99999999999999999999999");
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn any_two_have_an_order_that_turns_around(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}

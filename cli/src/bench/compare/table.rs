//! Figures of several stores beside each other.

/// As wide as a store's name or a figure.
const WIDE: usize = 17;

/// One figure of each, flush right; `–` where there is none.
pub(super) fn line<T>(of: &[T], figure: impl Fn(&T) -> Option<String>) -> String {
    of.iter().map(|one| format!("{:>WIDE$}", figure(one).unwrap_or_else(|| "–".into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_columns() {
        let text = line(&[1, 2], |n| (*n == 1).then(|| "one".to_owned()));
        assert_eq!(text, "              one                –");
    }
}

//! Series lines: `metric{label="value"} 1 2+3x4 _ stale {{schema:1 count:2}}`.

use std::sync::Arc;

use stoa_model::{Labels, METRIC_NAME};

use crate::histogram::{CUSTOM_SCHEMA, Histogram, ResetHint};
use crate::number::parse_number;
use crate::parse::unquote;

/// One value, or a gap.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Gap,
    Float(f64),
    Histogram(HistogramItem),
}

#[derive(Clone, Debug)]
pub(super) struct HistogramItem {
    pub(super) histogram: Arc<Histogram>,
    /// Whether the hint was written, and so is to be compared.
    pub(super) has_hint: bool,
}

/// Values of one series, a step apart.
pub(super) type Sequence = Vec<Item>;

/// Longest sequence a line may stand for.
pub(super) const ITEMS_MAX: usize = 1_000_000;

/// The series and its values.
pub(super) fn parse_series(line: &str) -> Result<(Labels, Sequence), String> {
    let mut cursor = Cursor { rest: line };
    let labels = cursor.labels()?;
    let mut items = Vec::new();
    loop {
        cursor.skip_blank();
        if cursor.rest.is_empty() {
            return Ok((labels, items));
        }
        cursor.item(&mut items)?;
        if items.len() > ITEMS_MAX {
            return Err(format!("a series has more than {ITEMS_MAX} values"));
        }
        if !cursor.rest.is_empty() && !cursor.rest.starts_with(char::is_whitespace) {
            return Err(format!("unexpected {:?} in series values", cursor.rest));
        }
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn labels(&mut self) -> Result<Labels, String> {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let mut pairs: Vec<(String, String)> = Vec::new();
        if !name.is_empty() {
            pairs.push((METRIC_NAME.into(), name.into()));
        }
        self.skip_blank();
        if self.rest.starts_with("{{") || !self.eat("{") {
            return finished(pairs);
        }
        loop {
            self.skip_blank();
            if self.eat("}") {
                return finished(pairs);
            }
            let label = if self.rest.starts_with(['"', '\'', '`']) {
                let quoted = self.quoted()?;
                self.skip_blank();
                if !self.rest.starts_with('=') {
                    // A name in quotes.
                    pairs.push((METRIC_NAME.into(), quoted));
                    self.comma()?;
                    continue;
                }
                quoted
            } else {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()
            };
            self.skip_blank();
            if label.is_empty() || !self.eat("=") {
                return Err(format!("expected a label, found {:?}", self.rest));
            }
            self.skip_blank();
            let value = self.quoted()?;
            pairs.push((label, value));
            self.comma()?;
        }
    }

    fn comma(&mut self) -> Result<(), String> {
        self.skip_blank();
        if self.eat(",") || self.rest.starts_with('}') {
            Ok(())
        } else {
            Err(format!("expected \",\" or \"}}\", found {:?}", self.rest))
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quote = quote.ok_or_else(|| format!("expected a string, found {:?}", self.rest))?;
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote != '`' {
                escaped = true;
            } else if c == quote {
                let (quoted, rest) = self.rest.split_at_checked(i + 1).unwrap_or((self.rest, ""));
                self.rest = rest;
                return Ok(String::from_utf8_lossy(&unquote(quoted)?).into_owned());
            }
        }
        Err("unterminated string".into())
    }

    fn item(&mut self, items: &mut Sequence) -> Result<(), String> {
        if self.eat("_") {
            let times = self.times()?.unwrap_or(1);
            items.extend(std::iter::repeat_n(Item::Gap, times));
            return Ok(());
        }
        if self.rest.starts_with("{{") {
            return self.histograms(items);
        }
        if self.eat("stale") {
            let times = self.times()?.map_or(1, |times| times + 1);
            items.extend(std::iter::repeat_n(Item::Float(stoa_model::stale_nan()), times));
            return Ok(());
        }
        let mut value = self.number()?;
        let step = if self.rest.starts_with(['+', '-']) { self.number()? } else { 0.0 };
        let times = self.times()?.unwrap_or(0);
        items.push(Item::Float(value));
        for _ in 0..times {
            value += step;
            items.push(Item::Float(value));
        }
        Ok(())
    }

    /// `x3`
    fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.eat("x") {
            return Ok(None);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        let times: usize = digits.parse().map_err(|_any| "invalid repetition".to_owned())?;
        if times > ITEMS_MAX {
            return Err(format!("a series has more than {ITEMS_MAX} values"));
        }
        Ok(Some(times))
    }

    /// A decimal number: `0x3` is a 0 three times, not hexadecimal.
    fn number(&mut self) -> Result<f64, String> {
        let bytes = self.rest.as_bytes();
        let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
        let tail = self.rest.get(end..).unwrap_or("").to_ascii_lowercase();
        if let Some(word) = ["inf", "nan"].into_iter().find(|word| tail.starts_with(word)) {
            end += word.len();
        } else {
            while let Some(b) = bytes.get(end) {
                let sign_of_exponent = matches!(b, b'+' | b'-')
                    && matches!(bytes.get(end.wrapping_sub(1)), Some(b'e' | b'E'));
                let is_exponent = matches!(b, b'e' | b'E');
                if !(b.is_ascii_digit() || *b == b'.' || is_exponent || sign_of_exponent) {
                    break;
                }
                end += 1;
            }
        }
        let (text, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        let value = text
            .parse()
            .ok()
            .or_else(|| parse_number(text))
            .ok_or_else(|| format!("expected a number, found {:?}", self.rest))?;
        self.rest = rest;
        Ok(value)
    }

    fn histograms(&mut self, items: &mut Sequence) -> Result<(), String> {
        let first = self.histogram()?;
        let has_hint = first.has_hint;
        let step = match self.rest.chars().next() {
            Some(sign @ ('+' | '-')) => {
                self.rest = self.rest.get(1..).unwrap_or("");
                Some((sign, self.histogram()?.histogram))
            }
            _ => None,
        };
        let times = self.times()?.unwrap_or(0);
        let mut value = first.histogram;
        items.push(Item::Histogram(HistogramItem { histogram: Arc::clone(&value), has_hint }));
        for _ in 0..times {
            if let Some((sign, step)) = &step {
                let next = if *sign == '+' { value.plus(step) } else { value.minus(step) };
                value = Arc::new(next.map_err(|error| error.to_string())?.0);
            }
            items.push(Item::Histogram(HistogramItem { histogram: Arc::clone(&value), has_hint }));
        }
        Ok(())
    }

    fn histogram(&mut self) -> Result<HistogramItem, String> {
        if !self.eat("{{") {
            return Err(format!("expected a histogram, found {:?}", self.rest));
        }
        let mut histogram = Histogram::default();
        let mut has_hint = false;
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        let (mut offset, mut negative_offset) = (0, 0);
        loop {
            self.skip_blank();
            self.eat(",");
            self.skip_blank();
            if self.eat("}}") {
                break;
            }
            let key = self.take_while(|c| c.is_ascii_lowercase() || c == '_');
            if !self.eat(":") {
                return Err(format!("expected a histogram field, found {:?}", self.rest));
            }
            match key {
                "schema" => histogram.schema = self.integer()?,
                "sum" => histogram.sum = self.number()?,
                "count" => histogram.count = self.number()?,
                "z_bucket" => histogram.zero_count = self.number()?,
                "z_bucket_w" => histogram.zero_threshold = self.number()?,
                "offset" => offset = self.integer()?,
                "n_offset" => negative_offset = self.integer()?,
                "buckets" => positive = self.numbers()?,
                "n_buckets" => negative = self.numbers()?,
                "custom_values" => histogram.custom_bounds = self.numbers()?,
                "counter_reset_hint" => {
                    has_hint = true;
                    histogram.reset_hint =
                        match self.take_while(|c| c.is_ascii_lowercase() || c == '_') {
                            "gauge" => ResetHint::Gauge,
                            "reset" => ResetHint::Reset,
                            "not_reset" => ResetHint::NotReset,
                            "unknown" => ResetHint::Unknown,
                            other => return Err(format!("bad counter reset hint {other:?}")),
                        };
                }
                other => return Err(format!("bad histogram descriptor found: {other:?}")),
            }
        }
        histogram.positive = (offset..).zip(positive).collect();
        histogram.negative = (negative_offset..).zip(negative).collect();
        if histogram.schema != CUSTOM_SCHEMA && !(-4..=8).contains(&histogram.schema) {
            return Err(format!("histogram with unsupported schema {}", histogram.schema));
        }
        Ok(HistogramItem { histogram: Arc::new(histogram), has_hint })
    }

    fn integer(&mut self) -> Result<i32, String> {
        let text = self.take_while(|c| c.is_ascii_digit() || c == '-' || c == '+');
        text.parse().map_err(|_any| format!("invalid integer {text:?}"))
    }

    /// `[1 2 3]`
    fn numbers(&mut self) -> Result<Vec<f64>, String> {
        if !self.eat("[") {
            return Err(format!("expected \"[\", found {:?}", self.rest));
        }
        let mut numbers = Vec::new();
        loop {
            self.skip_blank();
            if self.eat("]") {
                return Ok(numbers);
            }
            numbers.push(self.number()?);
        }
    }
}

fn finished(pairs: Vec<(String, String)>) -> Result<Labels, String> {
    Labels::from_pairs(pairs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &str) {
        let got = match parse_series(line) {
            Err(error) => error,
            Ok((labels, items)) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| match item {
                        Item::Gap => "_".into(),
                        Item::Float(v) => v.to_string(),
                        Item::Histogram(item) => item.histogram.to_string(),
                    })
                    .collect();
                format!("{labels} {}", items.join(" "))
            }
        };
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn sequences_expand() {
        check("a 1 2+3x2 _ -1", "a 1 2 5 8 _ -1");
        check(r#"a{b="c", d = 'e'} 0x2 1e2-1x1"#, r#"a{b="c", d="e"} 0 0 0 100 99"#);
        check("{} _x2 Inf NaN", "{} _ _ inf NaN");
        check(r#"{"a.b", c="d"} .5"#, r#"a.b{c="d"} 0.5"#);
        check("a {{sum:1 count:1}}+{{sum:2 count:1}}x1", "a {count:1, sum:1} {count:2, sum:3}");
        check("a 1x", "invalid repetition");
        check("a x", "expected a number, found \"x\"");
    }
}

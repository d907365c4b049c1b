//! What stands at the cursor of an expression that is being written: the part of PromQL that is
//! needed to complete a word, and to tell whether more is to come. It never refuses anything.

/// Where the cursor is; `from` is the byte where the word that is completed begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The name of a metric or function, or a keyword.
    Name { from: usize },
    /// A label's name in the braces of a metric.
    Matcher { from: usize, metric: Option<String> },
    /// A label's name in the list of a `by` or an `on`.
    Label { from: usize },
    /// A label's value, in the quotes that began before it.
    Value { from: usize, metric: Option<String>, label: String, quote: char },
    /// How long a range is.
    Duration { from: usize },
    /// Where nothing is known to fit.
    Unknown,
}

/// What is open.
#[derive(Clone, Debug)]
enum Open {
    Braces { metric: Option<String>, label: Option<String> },
    Parens { are_labels: bool },
    Brackets,
}

/// The text read up to somewhere.
#[derive(Debug, Default)]
struct Scan {
    open: Vec<Open>,
    /// The quote of the string that is open, and where its text begins.
    string: Option<(char, usize)>,
    /// The byte where the word that is open begins.
    word: Option<usize>,
    /// The word before, as long as only blanks followed.
    before: String,
    /// The last character that is no blank, outside of comments.
    last: Option<char>,
    is_comment: bool,
}

/// Words after which a list of labels stands.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that end no expression.
const DANGLING: [&str; 10] =
    ["by", "without", "on", "ignoring", "and", "or", "unless", "atan2", "offset", "bool"];

fn scanned(text: &str) -> Scan {
    let mut scan = Scan::default();
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if scan.is_comment {
            scan.is_comment = c != '\n';
            continue;
        }
        if let Some((quote, _)) = scan.string {
            if is_escaped {
                is_escaped = false;
            } else if c == '\\' && quote != '`' {
                is_escaped = true;
            } else if c == quote {
                scan.string = None;
                scan.last = Some(c);
            }
            continue;
        }
        if c.is_alphanumeric() || matches!(c, '_' | ':' | '.') {
            scan.word.get_or_insert(at);
            scan.last = Some(c);
            continue;
        }
        scan.end_word(text, at);
        if c.is_whitespace() {
            continue;
        }
        scan.sign(c, at);
    }
    scan
}

impl Scan {
    fn end_word(&mut self, text: &str, at: usize) {
        if let Some(from) = self.word.take() {
            self.before = text.get(from..at).unwrap_or_default().to_owned();
        }
    }

    /// A character that is neither of a word nor blank.
    fn sign(&mut self, c: char, at: usize) {
        if c == '#' {
            self.is_comment = true;
            return;
        }
        self.last = Some(c);
        let before = std::mem::take(&mut self.before);
        match c {
            '"' | '\'' | '`' => self.string = Some((c, at + c.len_utf8())),
            '{' => {
                let metric = Some(before).filter(|name| !name.is_empty());
                self.open.push(Open::Braces { metric, label: None });
            }
            '(' => {
                let is_list = |word: &str| word.eq_ignore_ascii_case(&before);
                let are_labels = BEFORE_LABELS.iter().any(|word| is_list(word));
                self.open.push(Open::Parens { are_labels });
            }
            '[' => self.open.push(Open::Brackets),
            '}' | ')' | ']' => {
                self.open.pop();
            }
            ',' => {
                if let Some(Open::Braces { label, .. }) = self.open.last_mut() {
                    *label = None;
                }
            }
            '=' | '!' => {
                if let Some(Open::Braces { label, .. }) = self.open.last_mut()
                    && !before.is_empty()
                {
                    *label = Some(before);
                }
            }
            _ => {}
        }
    }
}

/// The place at the end of a text.
pub(super) fn place(text: &str) -> Place {
    let scan = scanned(text);
    if scan.is_comment {
        return Place::Unknown;
    }
    if let Some((quote, from)) = scan.string {
        return match scan.open.last() {
            Some(Open::Braces { metric, label: Some(label) }) => {
                Place::Value { from, metric: metric.clone(), label: label.clone(), quote }
            }
            _ => Place::Unknown,
        };
    }
    let from = scan.word.unwrap_or(text.len());
    match scan.open.last() {
        Some(Open::Braces { label: Some(_), .. }) => Place::Unknown,
        Some(Open::Braces { metric, label: None }) => {
            Place::Matcher { from, metric: metric.clone() }
        }
        Some(Open::Parens { are_labels: true }) => Place::Label { from },
        Some(Open::Brackets) => Place::Duration { from },
        Some(Open::Parens { are_labels: false }) | None => Place::Name { from },
    }
}

/// Whether an expression is not at its end: something is open, or it ends with an operator.
pub(super) fn is_unfinished(text: &str) -> bool {
    let mut scan = scanned(text);
    if scan.string.is_some() || !scan.open.is_empty() {
        return true;
    }
    scan.end_word(text, text.len());
    let is_operator = |c: char| "+-*/%^=<>!,@".contains(c);
    scan.last.is_some_and(is_operator)
        || DANGLING.iter().any(|word| word.eq_ignore_ascii_case(&scan.before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_told_by_what_is_open() {
        let some = |text: &str| Some(text.to_owned());
        let value = |from, metric: Option<String>, label: &str, quote| Place::Value {
            from,
            metric,
            label: label.to_owned(),
            quote,
        };
        for (text, want) in [
            ("", Place::Name { from: 0 }),
            ("node_c", Place::Name { from: 0 }),
            ("sum(rat", Place::Name { from: 4 }),
            ("a + job:b", Place::Name { from: 4 }),
            ("up{", Place::Matcher { from: 3, metric: some("up") }),
            ("up {jo", Place::Matcher { from: 4, metric: some("up") }),
            ("{", Place::Matcher { from: 1, metric: None }),
            ("up{job=\"a\", in", Place::Matcher { from: 12, metric: some("up") }),
            ("up{job=", Place::Unknown),
            ("up{job=\"no", value(8, some("up"), "job", '"')),
            ("up{job!~'a|b", value(9, some("up"), "job", '\'')),
            ("up{job=~\"a\\\"b", value(9, some("up"), "job", '"')),
            ("up{\"quoted", Place::Unknown),
            ("sum by (", Place::Label { from: 8 }),
            ("sum by(a, mo", Place::Label { from: 10 }),
            ("a * on (x) group_left (y", Place::Label { from: 23 }),
            ("rate(a[", Place::Duration { from: 7 }),
            ("rate(a[5", Place::Duration { from: 7 }),
            ("a # by (", Place::Unknown),
            ("a # x\n+ b", Place::Name { from: 8 }),
            ("\"a string", Place::Unknown),
            (")))}]", Place::Name { from: 5 }),
        ] {
            assert_eq!(place(text), want, "{text:?}");
        }
    }

    #[test]
    fn more_is_to_come_where_something_is_open() {
        for (text, want) in [
            ("up", false),
            ("sum(up", true),
            ("sum(up)", false),
            ("sum(up) by", true),
            ("sum(up) by (job)", false),
            ("up{job=\"a", true),
            ("up{job=\"a)\"}", false),
            ("up[5m", true),
            ("up +", true),
            ("up + # ab (", true),
            ("up and ", true),
            ("up offset", true),
            ("`a", true),
            ("brand", false),
            ("up)", false),
        ] {
            assert_eq!(is_unfinished(text), want, "{text:?}");
        }
    }
}

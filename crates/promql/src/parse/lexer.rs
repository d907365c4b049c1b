//! Text to tokens.
//!
//! Keywords are identifiers here: what one means depends on where it stands, which the grammar
//! knows. Inside brackets a `:` is a token of its own; outside it belongs to names. Inside braces stand
//! names, texts and matching operators, inside brackets durations and what they are computed of; what does
//! not belong there is a token that says so, the last one: it is told when the grammar comes to it, after
//! what is wrong before it. The words are those of Prometheus's lexer.

use super::ast::{AggregateOp, Span, Text};
use super::string::unquote;
use super::{DEPTH_MAX, ParseError};
use crate::number::{parse_number, quote};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A name or keyword, as written.
    Identifier(String),
    /// A name in braces, where there are no keywords.
    Label(String),
    Number(f64),
    /// In seconds.
    Duration(f64),
    Text(Text),
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    NotMatchRegex,
    At,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    TrimUpper,
    TrimLower,
    End,
    /// What is no token, and why.
    Bad(String),
}

impl TokenKind {
    /// As error messages name it.
    pub(crate) fn describe(&self, written: &str) -> String {
        match self {
            Self::Identifier(name) if AggregateOp::from_keyword(name).is_some() => {
                format!("<aggr:{name}>")
            }
            Self::Identifier(name) if is_one_of(&OPERATORS, name) => format!("<op:{name}>"),
            Self::Identifier(name) if is_one_of(&KEYWORDS, name) => format!("<{name}>"),
            Self::Identifier(name) if name.contains(':') => format!("metric identifier {name:?}"),
            Self::Identifier(name) | Self::Label(name) => format!("identifier {name:?}"),
            Self::Number(_) => format!("number {}", shortened(written)),
            Self::Duration(_) => format!("duration {}", shortened(written)),
            Self::Text(_) => format!("string {}", shortened(written)),
            Self::End => "end of input".into(),
            Self::LeftParen
            | Self::RightParen
            | Self::LeftBrace
            | Self::RightBrace
            | Self::LeftBracket
            | Self::RightBracket
            | Self::Comma
            | Self::Assign
            | Self::Colon => format!("{written:?}"),
            _ => format!("<op:{written}>"),
        }
    }
}

/// Quoted; of a long one the beginning.
fn shortened(written: &str) -> String {
    const SHOWN: usize = 10;
    if written.len() <= SHOWN {
        return quote(written);
    }
    format!("{}...", quote(&written.chars().take(SHOWN).collect::<String>()))
}

const OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];

/// Whether a word is none that functions have, because the grammar gives it a meaning.
pub(crate) fn is_keyword(name: &str) -> bool {
    is_one_of(&OPERATORS, name) || is_one_of(&KEYWORDS, name)
}

/// Words the grammar gives a meaning to, operators and aggregations aside.
const KEYWORDS: [&str; 13] = [
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "fill_right",
];

/// Words that stand in brackets.
const DURATION_WORDS: [&str; 6] = ["step", "range", "min", "max", "min_of", "max_of"];

fn is_one_of(words: &[&str], name: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Whether `name` needs no quotes as a label name.
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Most tokens of a query.
const TOKENS_MAX: usize = 1 << 17;

/// All tokens, the last one [`TokenKind::End`] or [`TokenKind::Bad`].
pub(crate) fn tokenize(query: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { query, at: 0, parens: 0, within: Within::Nothing };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token().unwrap_or_else(|error| Token {
            kind: TokenKind::Bad(error.message),
            span: error.span,
        });
        // Each is within others, of which the grammar takes fewer.
        if lexer.parens > 2 * DEPTH_MAX {
            return Err(ParseError::new(token.span, "expression is nested too deeply"));
        }
        if tokens.len() >= TOKENS_MAX {
            let message = format!("expression has more than {TOKENS_MAX} words and operators");
            return Err(ParseError::new(token.span, message));
        }
        let ended = matches!(token.kind, TokenKind::End | TokenKind::Bad(_));
        tokens.push(token);
        if ended {
            return Ok(tokens);
        }
    }
}

/// What has been opened last and not closed, parentheses aside.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Braces,
    Brackets,
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    /// Open parentheses.
    parens: usize,
    within: Within,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.query.get(self.at..).unwrap_or("")
    }

    fn error(&self, length: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(Span { start: self.at, end: self.at + length }, message)
    }

    fn take(&mut self, kind: TokenKind, length: usize) -> Token {
        let span = Span { start: self.at, end: self.at + length };
        self.at += length;
        Token { kind, span }
    }

    fn next_token(&mut self) -> Result<Token, ParseError> {
        self.skip_blank();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return self.end();
        };
        match self.within {
            Within::Nothing => {}
            Within::Braces => return self.in_braces(first),
            Within::Brackets => return self.in_brackets(first),
        }
        match first {
            '"' | '\'' | '`' => return self.text(first),
            'a'..='z' | 'A'..='Z' | '_' | ':' => return Ok(self.identifier()),
            '0'..='9' => return self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => return self.number(),
            _ => {}
        }
        let two = rest.get(..2).and_then(|two| {
            Some(match two {
                "==" => TokenKind::Equal,
                "!=" => TokenKind::NotEqual,
                ">=" => TokenKind::GreaterOrEqual,
                "<=" => TokenKind::LessOrEqual,
                "</" => TokenKind::TrimUpper,
                ">/" => TokenKind::TrimLower,
                _ => return None,
            })
        });
        if let Some(kind) = two {
            return Ok(self.take(kind, 2));
        }
        let kind = match first {
            '(' | ')' => return self.paren(first),
            '{' => {
                self.within = Within::Braces;
                TokenKind::LeftBrace
            }
            '[' => {
                self.within = Within::Brackets;
                TokenKind::LeftBracket
            }
            ']' => return Err(self.error(1, "unexpected right bracket ']'")),
            ',' => TokenKind::Comma,
            '=' if rest.starts_with("=~") => {
                return Err(self.error(2, "unexpected character after '=': '~'"));
            }
            '=' => TokenKind::Assign,
            '!' => return Err(self.lone("unexpected character after '!'")),
            '@' => TokenKind::At,
            '>' => TokenKind::Greater,
            '<' => TokenKind::Less,
            other => match arithmetic(other) {
                Some(kind) => kind,
                None => {
                    let message = format!("unexpected character: {other:?}");
                    return Err(self.error(other.len_utf8(), message));
                }
            },
        };
        Ok(self.take(kind, 1))
    }

    fn end(&mut self) -> Result<Token, ParseError> {
        match self.within {
            Within::Braces => Err(self.error(0, "unexpected end of input inside braces")),
            Within::Brackets => {
                Err(self.error(0, "unexpected end of input in duration expression"))
            }
            Within::Nothing if self.parens > 0 => Err(self.error(0, "unclosed left parenthesis")),
            Within::Nothing => Ok(self.take(TokenKind::End, 0)),
        }
    }

    /// Matchers.
    fn in_braces(&mut self, first: char) -> Result<Token, ParseError> {
        let second = self.rest().chars().nth(1);
        let (kind, length) = match (first, second) {
            ('"' | '\'' | '`', _) => return self.text(first),
            ('a'..='z' | 'A'..='Z' | '_', _) => {
                let name = self.word().to_owned();
                let length = name.len();
                return Ok(self.take(TokenKind::Label(name), length));
            }
            (',', _) => (TokenKind::Comma, 1),
            ('}', _) => {
                self.within = Within::Nothing;
                (TokenKind::RightBrace, 1)
            }
            ('=', Some('~')) => (TokenKind::MatchRegex, 2),
            ('=', _) => (TokenKind::Assign, 1),
            ('!', Some('~')) => (TokenKind::NotMatchRegex, 2),
            ('!', Some('=')) => (TokenKind::NotEqual, 2),
            ('!', _) => return Err(self.lone("unexpected character after '!' inside braces")),
            ('{', _) => return Err(self.error(1, "unexpected left brace '{'")),
            (other, _) => {
                let message = format!("unexpected character inside braces: {other:?}");
                return Err(self.error(other.len_utf8(), message));
            }
        };
        Ok(self.take(kind, length))
    }

    /// A range, or range and step.
    fn in_brackets(&mut self, first: char) -> Result<Token, ParseError> {
        let kind = match first {
            ']' => {
                self.within = Within::Nothing;
                TokenKind::RightBracket
            }
            '(' | ')' => return self.paren(first),
            ':' => TokenKind::Colon,
            ',' => TokenKind::Comma,
            '0'..='9' => return self.number(),
            '.' if self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                return self.number();
            }
            'a'..='z' | 'A'..='Z' if is_one_of(&DURATION_WORDS, self.word()) => {
                return Ok(self.identifier());
            }
            other => match arithmetic(other) {
                Some(kind) => kind,
                None => {
                    let message = format!("unexpected character in duration expression: {other:?}");
                    return Err(self.error(other.len_utf8(), message));
                }
            },
        };
        Ok(self.take(kind, 1))
    }

    fn paren(&mut self, paren: char) -> Result<Token, ParseError> {
        if paren == '(' {
            self.parens += 1;
            return Ok(self.take(TokenKind::LeftParen, 1));
        }
        let token = self.take(TokenKind::RightParen, 1);
        match self.parens.checked_sub(1) {
            Some(parens) => self.parens = parens,
            None => return Err(self.error(0, "unexpected right parenthesis ')'")),
        }
        Ok(token)
    }

    /// An operator lacks its second character.
    fn lone(&self, message: &str) -> ParseError {
        let found = self.rest().chars().nth(1).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.error(1, format!("{message}: {found:?}"))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            let mut skipped = rest.len() - trimmed.len();
            if trimmed.starts_with('#') {
                skipped += trimmed.find(['\n', '\r']).unwrap_or(trimmed.len());
            }
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }

    /// The name here.
    fn word(&self) -> &str {
        let colons = self.within == Within::Nothing;
        let rest = self.rest();
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':')))
            .unwrap_or(rest.len());
        rest.get(..length).unwrap_or("")
    }

    fn identifier(&mut self) -> Token {
        let name = self.word().to_owned();
        let length = name.len();
        let kind = match name.to_ascii_lowercase().as_str() {
            "inf" => TokenKind::Number(f64::INFINITY),
            "nan" => TokenKind::Number(f64::NAN),
            _ => TokenKind::Identifier(name),
        };
        self.take(kind, length)
    }

    fn text(&mut self, quote: char) -> Result<Token, ParseError> {
        let rest = self.rest();
        let mut escaped = false;
        let close = rest.char_indices().skip(1).find_map(|(i, c)| {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote != '`' {
                escaped = true;
            } else if c == quote {
                return Some(i + 1);
            } else if c == '\n' && quote != '`' {
                return Some(0);
            }
            None
        });
        let Some(length) = close.filter(|length| *length > 0) else {
            let what =
                if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" };
            return Err(self.error(rest.len(), what));
        };
        let quoted = rest.get(..length).unwrap_or("");
        let bytes = unquote(quoted).map_err(|reason| {
            self.error(length, format!("error unquoting string {quoted:?}: {reason}"))
        })?;
        let text = match String::from_utf8(bytes) {
            Ok(value) => Text { value, invalid: None },
            Err(error) => {
                let bytes = error.into_bytes();
                Text { value: String::from_utf8_lossy(&bytes).into_owned(), invalid: Some(bytes) }
            }
        };
        Ok(self.take(TokenKind::Text(text), length))
    }

    /// A number, or a duration such as `1h30m`.
    fn number(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let hex = rest.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("0x"));
        let mut length = 0;
        while let Some(b) = bytes.get(length) {
            let exponent_sign = matches!(b, b'+' | b'-')
                && !hex
                && length > 0
                && bytes.get(length - 1).is_some_and(|p| p.eq_ignore_ascii_case(&b'e'))
                && bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
            if !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_') || exponent_sign) {
                break;
            }
            length += 1;
        }
        let word = rest.get(..length).unwrap_or("");
        if let Some(value) = parse_number(word) {
            return Ok(self.take(TokenKind::Number(value), length));
        }
        if let Some(ms) = parse_duration_ms(word) {
            return Ok(self.take(TokenKind::Duration(crate::number::seconds(ms)), length));
        }
        let message = match unit_missing_at(word) {
            None => format!("not a valid duration string: {}", quote(word)),
            Some(at) => {
                let read = word.get(..at).unwrap_or(word);
                format!("bad number or duration syntax: {}", quote(read))
            }
        };
        Err(self.error(length, message))
    }
}

/// How far a word that begins with a digit can be read as numbers with units, in whatever order, and one
/// character further; `None` when it is that altogether.
fn unit_missing_at(word: &str) -> Option<usize> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '_' | 'e' | 'E' | '+' | '-');
    let mut rest = word.trim_start_matches(is_number);
    let read = |rest: &str| word.len() - rest.len();
    loop {
        let Some(after) = rest.strip_prefix(['s', 'm', 'h', 'd', 'w', 'y']) else {
            return Some(read(rest));
        };
        rest = after.strip_prefix('s').unwrap_or(after);
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.chars().next() {
            None => return None,
            Some(c) if digits.len() == rest.len() => return Some(read(rest) + c.len_utf8()),
            Some(_) => rest = digits,
        }
    }
}

fn arithmetic(c: char) -> Option<TokenKind> {
    Some(match c {
        '+' => TokenKind::Add,
        '-' => TokenKind::Sub,
        '*' => TokenKind::Mul,
        '/' => TokenKind::Div,
        '%' => TokenKind::Mod,
        '^' => TokenKind::Pow,
        _ => return None,
    })
}

/// `1h30m` in milliseconds: units `y w d h m s ms`, descending, each at most once.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut total = 0_i64;
    let mut next_unit = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = rest.get(..letters)?;
        let at = UNITS.iter().position(|(name, _)| *name == unit)?;
        if at < next_unit {
            return None;
        }
        next_unit = at + 1;
        let (_, scale) = UNITS.get(at)?;
        total = total.checked_add(amount.checked_mul(*scale)?)?;
        rest = rest.get(letters..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expect) in [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1d12h", Some(129_600_000)),
            ("10s53ms", Some(10_053)),
            ("5m5m", None),
            ("30m1h", None),
            ("5", None),
            ("5x", None),
            ("", None),
        ] {
            assert_eq!(parse_duration_ms(text), expect, "{text}");
        }
    }

    #[test]
    fn a_colon_belongs_to_a_name_but_not_in_brackets() {
        let kinds: Vec<TokenKind> =
            tokenize("a:b[5m:1m]").unwrap().into_iter().map(|token| token.kind).collect();
        assert_eq!(
            kinds,
            [
                TokenKind::Identifier("a:b".into()),
                TokenKind::LeftBracket,
                TokenKind::Duration(300.0),
                TokenKind::Colon,
                TokenKind::Duration(60.0),
                TokenKind::RightBracket,
                TokenKind::End,
            ]
        );
    }
}

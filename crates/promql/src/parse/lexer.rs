//! Text to tokens.
//!
//! Keywords are identifiers here: what one means depends on where it stands, which the grammar
//! knows. Inside brackets a `:` is a token of its own; outside it belongs to names.

use super::ast::{Span, Text};
use super::string::unquote;
use super::{DEPTH_MAX, ParseError};
use crate::number::parse_number;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A name or keyword, as written.
    Identifier(String),
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
}

impl TokenKind {
    /// As error messages name it.
    pub(crate) fn describe(&self, written: &str) -> String {
        match self {
            Self::Identifier(name) if is_keyword(name) => format!("<{}>", name.to_lowercase()),
            Self::Identifier(name) => format!("identifier {name:?}"),
            Self::Number(_) => format!("number {written:?}"),
            Self::Duration(_) => format!("duration {written:?}"),
            Self::Text(_) => format!("string {written:?}"),
            Self::End => "end of input".into(),
            Self::LeftParen
            | Self::RightParen
            | Self::LeftBrace
            | Self::RightBrace
            | Self::LeftBracket
            | Self::RightBracket
            | Self::Comma
            | Self::Colon => format!("{written:?}"),
            _ => format!("<op:{written}>"),
        }
    }
}

/// Words the grammar gives a meaning to, aggregations aside.
fn is_keyword(name: &str) -> bool {
    const KEYWORDS: [&str; 17] = [
        "and",
        "or",
        "unless",
        "atan2",
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
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name))
        || super::ast::AggregateOp::from_keyword(name).is_some()
}

/// Whether `name` needs no quotes as a label name.
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Most tokens of a query.
const TOKENS_MAX: usize = 1 << 17;

/// All tokens, the last one [`TokenKind::End`].
pub(crate) fn tokenize(query: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { query, at: 0, brackets: 0 };
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    loop {
        let token = lexer.next_token()?;
        match token.kind {
            TokenKind::LeftParen => depth += 1,
            TokenKind::RightParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        // Each is within others, of which the grammar takes fewer.
        if depth > 2 * DEPTH_MAX {
            return Err(ParseError::new(token.span, "expression is nested too deeply"));
        }
        if tokens.len() >= TOKENS_MAX {
            let message = format!("expression has more than {TOKENS_MAX} words and operators");
            return Err(ParseError::new(token.span, message));
        }
        let ended = token.kind == TokenKind::End;
        tokens.push(token);
        if ended {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    /// Open brackets.
    brackets: usize,
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
            return Ok(self.take(TokenKind::End, 0));
        };
        match first {
            '"' | '\'' | '`' => return self.text(first),
            'a'..='z' | 'A'..='Z' | '_' => return Ok(self.identifier()),
            ':' if self.brackets == 0 => return Ok(self.identifier()),
            '0'..='9' => return self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => return self.number(),
            _ => {}
        }
        let two = rest.get(..2).and_then(|two| {
            Some(match two {
                "=~" => TokenKind::MatchRegex,
                "!~" => TokenKind::NotMatchRegex,
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
            '(' => TokenKind::LeftParen,
            ')' => TokenKind::RightParen,
            '{' => TokenKind::LeftBrace,
            '}' => TokenKind::RightBrace,
            '[' => TokenKind::LeftBracket,
            ']' => TokenKind::RightBracket,
            ',' => TokenKind::Comma,
            ':' => TokenKind::Colon,
            '=' => TokenKind::Assign,
            '@' => TokenKind::At,
            '+' => TokenKind::Add,
            '-' => TokenKind::Sub,
            '*' => TokenKind::Mul,
            '/' => TokenKind::Div,
            '%' => TokenKind::Mod,
            '^' => TokenKind::Pow,
            '>' => TokenKind::Greater,
            '<' => TokenKind::Less,
            other => {
                return Err(
                    self.error(other.len_utf8(), format!("unexpected character: {other:?}"))
                );
            }
        };
        match kind {
            TokenKind::LeftBracket => self.brackets += 1,
            TokenKind::RightBracket => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        Ok(self.take(kind, first.len_utf8()))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            let mut skipped = rest.len() - trimmed.len();
            if trimmed.starts_with('#') {
                skipped += trimmed.find('\n').unwrap_or(trimmed.len());
            }
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }

    fn identifier(&mut self) -> Token {
        let colons = self.brackets == 0;
        let rest = self.rest();
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':')))
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or("").to_owned();
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
        let word = rest.get(..length).unwrap_or("").to_owned();
        if let Some(value) = parse_number(&word) {
            return Ok(self.take(TokenKind::Number(value), length));
        }
        if let Some(ms) = parse_duration_ms(&word) {
            return Ok(self.take(TokenKind::Duration(crate::number::seconds(ms)), length));
        }
        Err(self.error(length, format!("bad number or duration syntax: {word:?}")))
    }
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

//! RE2's syntax in that of the `regex` crate, and the pieces of what is simple.
//!
//! The pattern is read once, recursion follows groups only and is bounded. What Go's parser refuses is
//! refused with its code and the fragment it names.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Groups within groups.
const DEPTH_MAX: usize = 200;

/// The largest number of repetitions.
const REPEAT_MAX: u32 = 1000;

/// What Go's parser says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {code}: `{fragment}`")]
pub struct SyntaxError {
    code: &'static str,
    fragment: String,
}

impl SyntaxError {
    fn new(code: &'static str, fragment: impl Into<String>) -> Self {
        Self { code, fragment: fragment.into() }
    }

    /// What only the `regex` crate refuses: classes that it does not know.
    pub(super) fn other(pattern: &str) -> Self {
        Self::new("invalid character class range", pattern)
    }
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// A pattern in the other syntax.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) rust: String,
    pub(super) alternatives: Vec<Vec<Piece>>,
    /// Whether the pieces say all: no flags change what they mean.
    pub(super) is_plain: bool,
}

/// A part of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Char(char),
    /// `.`
    Any,
    /// `.*`
    Star,
    /// `.+`
    Plus,
    Begin,
    End,
    Group(Vec<Vec<Self>>),
    Other,
}

impl Piece {
    pub(super) fn as_char(&self) -> Option<char> {
        match self {
            Self::Char(c) => Some(*c),
            _ => None,
        }
    }
}

pub(super) fn translate(pattern: &str) -> Result<Translated> {
    let mut reader = Reader {
        pattern,
        rest: pattern,
        rust: String::with_capacity(pattern.len() + 8),
        flags: String::new(),
        names: HashSet::new(),
        is_plain: true,
        repeats: 0,
    };
    let alternatives = reader.alternatives(0)?;
    Ok(Translated { rust: reader.rust, alternatives, is_plain: reader.is_plain })
}

struct Reader<'p> {
    pattern: &'p str,
    rest: &'p str,
    rust: String,
    /// Flags for what follows, not yet written: the other syntax has none between a piece and its repetition.
    flags: String,
    names: HashSet<&'p str>,
    is_plain: bool,
    /// Of what was read last, the largest product of repetitions within repetitions.
    repeats: u64,
}

/// What a repetition would follow.
#[derive(Clone, Copy)]
enum Last<'p> {
    Nothing,
    Atom,
    /// The text from a repetition on.
    Repeated(&'p str),
}

/// What a character after `\` stands for.
enum Escaped {
    Char(char),
    Class(&'static str),
}

impl<'p> Reader<'p> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
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

    /// The text from where `from` began to here.
    fn since(&self, from: &'p str) -> &'p str {
        from.get(..from.len() - self.rest.len()).unwrap_or(from)
    }

    fn put(&mut self, text: &str) {
        self.rust.push_str(&self.flags);
        self.flags.clear();
        self.rust.push_str(text);
    }

    fn put_char(&mut self, c: char) {
        self.put("");
        if c.is_alphanumeric() || c == '_' || c == ' ' {
            self.rust.push(c);
        } else {
            let _infallible = write!(self.rust, "\\x{{{:X}}}", u32::from(c));
        }
    }

    /// Alternatives up to the end or the `)` of the group they are in.
    fn alternatives(&mut self, depth: usize) -> Result<Vec<Vec<Piece>>> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError::new("expression nests too deeply", self.pattern));
        }
        let mut alternatives = vec![Vec::new()];
        let mut last = Last::Nothing;
        let mut repeats = 0;
        while let Some(c) = self.peek() {
            let from = self.rest;
            let piece = match c {
                '|' => {
                    self.next();
                    self.put("|");
                    alternatives.push(Vec::new());
                    last = Last::Nothing;
                    continue;
                }
                ')' if depth > 0 => {
                    self.flags.clear();
                    self.repeats = repeats;
                    return Ok(alternatives);
                }
                ')' => return Err(SyntaxError::new("unexpected )", self.pattern)),
                '*' | '+' | '?' => {
                    self.next();
                    self.repeated(from, last, alternatives.last_mut(), None)?;
                    repeats = repeats.max(self.repeats);
                    last = Last::Repeated(from);
                    continue;
                }
                '{' if count(from).is_some() => {
                    let (length, most) = count(from).unwrap_or(Ok((0, 0)))?;
                    self.rest = from.get(length..).unwrap_or("");
                    self.repeated(from, last, alternatives.last_mut(), Some(most))?;
                    repeats = repeats.max(self.repeats);
                    last = Last::Repeated(from);
                    continue;
                }
                '(' => match self.group(depth)? {
                    Some(group) => group,
                    None => {
                        // Flags for what follows; a repetition is still of what was before them.
                        if matches!(last, Last::Repeated(_)) {
                            last = Last::Atom;
                        }
                        continue;
                    }
                },
                '\\' if from.starts_with("\\Q") => {
                    let quoted = from.get(2..).unwrap_or("");
                    let (quoted, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                    self.rest = rest;
                    if matches!(last, Last::Repeated(_)) {
                        last = Last::Atom;
                    }
                    for c in quoted.chars() {
                        self.put_char(c);
                        self.repeats = 0;
                        last = Last::Atom;
                        alternatives
                            .last_mut()
                            .into_iter()
                            .for_each(|all| all.push(Piece::Char(c)));
                    }
                    continue;
                }
                '[' => self.class()?,
                '.' => self.plain(Piece::Any, "."),
                '^' => self.plain(Piece::Begin, "^"),
                '$' => self.plain(Piece::End, "$"),
                '\\' => self.escape()?,
                c => {
                    self.next();
                    self.put_char(c);
                    Piece::Char(c)
                }
            };
            if !matches!(piece, Piece::Group(_)) {
                self.repeats = 0;
            }
            repeats = repeats.max(self.repeats);
            last = Last::Atom;
            if let Some(all) = alternatives.last_mut() {
                all.push(piece);
            }
        }
        if depth > 0 {
            return Err(SyntaxError::new("missing closing )", self.pattern));
        }
        Ok(alternatives)
    }

    fn plain(&mut self, piece: Piece, rust: &str) -> Piece {
        self.next();
        self.put(rust);
        piece
    }

    /// A repetition has been read from `from` on: with a count, of at most that many.
    fn repeated(
        &mut self,
        from: &'p str,
        last: Last<'p>,
        pieces: Option<&mut Vec<Piece>>,
        count: Option<u32>,
    ) -> Result<()> {
        self.eat("?");
        let written = self.since(from);
        match last {
            Last::Nothing => {
                let code = "missing argument to repetition operator";
                return Err(SyntaxError::new(code, written));
            }
            Last::Repeated(first) => {
                let code = "invalid nested repetition operator";
                return Err(SyntaxError::new(code, self.since(first)));
            }
            Last::Atom => {}
        }
        if let Some(count) = count {
            self.repeats = u64::from(count).saturating_mul(self.repeats.max(1));
            if count > 1 && self.repeats > u64::from(REPEAT_MAX) {
                return Err(SyntaxError::new("invalid repeat count", written));
            }
        }
        // Behind another repetition, with flags between them, `?` alone would say that it is lazy.
        match written.strip_prefix('?') {
            Some(lazy) => self.rust.extend(["{0,1}", lazy]),
            None => self.rust.push_str(written),
        }
        if let Some(piece) = pieces.and_then(|pieces| pieces.last_mut()) {
            *piece = match (&piece, written) {
                (Piece::Any, "*" | "*?") => Piece::Star,
                (Piece::Any, "+" | "+?") => Piece::Plus,
                _ => Piece::Other,
            };
        }
        Ok(())
    }

    /// A group; none when it only sets flags.
    fn group(&mut self, depth: usize) -> Result<Option<Piece>> {
        let from = self.rest;
        self.next();
        if self.eat("?P<") || self.eat("?<") {
            let invalid =
                |fragment: &str| SyntaxError::new("invalid named capture", fragment.to_owned());
            let (name, rest) = self.rest.split_once('>').ok_or_else(|| invalid(from))?;
            self.rest = rest;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                return Err(invalid(self.since(from)));
            }
            // A name that begins with a digit is none there, and one of two groups is that of the first.
            if name.starts_with(|c: char| c.is_ascii_digit()) || !self.names.insert(name) {
                self.put("(");
            } else {
                self.put("(?P<");
                self.put(name);
                self.put(">");
            }
        } else if self.eat("?") {
            if self.flags(from)? {
                return Ok(None);
            }
        } else {
            self.put("(");
        }
        let alternatives = self.alternatives(depth + 1)?;
        self.next();
        self.put(")");
        Ok(Some(Piece::Group(alternatives)))
    }

    /// Flags, after `(?`; true when no group follows them.
    fn flags(&mut self, from: &'p str) -> Result<bool> {
        let (mut set, mut is_negative, mut is_any) = (String::new(), false, false);
        loop {
            let c = self.next();
            match c {
                Some(c @ ('i' | 'm' | 's' | 'U')) => {
                    set.push(c);
                    is_any = true;
                }
                Some('-') if !is_negative => {
                    set.push('-');
                    (is_negative, is_any) = (true, false);
                }
                Some(c @ (':' | ')')) if !is_negative || is_any => {
                    if !set.is_empty() {
                        self.is_plain = false;
                    }
                    if c == ':' {
                        self.put(&format!("(?{set}:"));
                    } else if !set.is_empty() {
                        let _infallible = write!(self.flags, "(?{set})");
                    }
                    return Ok(c == ')');
                }
                _ => {
                    let code = "invalid or unsupported Perl syntax";
                    return Err(SyntaxError::new(code, self.since(from)));
                }
            }
        }
    }

    /// Something after `\`, outside brackets.
    fn escape(&mut self) -> Result<Piece> {
        let from = self.rest;
        if let Some(class) = self.unicode_class()? {
            self.put(&class);
            return Ok(Piece::Other);
        }
        for (written, rust) in
            [("\\A", "\\A"), ("\\z", "\\z"), ("\\b", "(?-u:\\b)"), ("\\B", "(?-u:\\B)")]
        {
            if self.eat(written) {
                self.put(rust);
                return Ok(Piece::Other);
            }
        }
        match self.escaped(from)? {
            Escaped::Char(c) => {
                self.put_char(c);
                Ok(Piece::Char(c))
            }
            Escaped::Class(class) => {
                self.put(class);
                Ok(Piece::Other)
            }
        }
    }

    /// `\pL`, `\p{Greek}`, `\P…`, `\p{^…}`.
    fn unicode_class(&mut self) -> Result<Option<String>> {
        let from = self.rest;
        let mut is_negative = match () {
            () if self.eat("\\p") => false,
            () if self.eat("\\P") => true,
            () => return Ok(None),
        };
        let invalid = |fragment: &str| {
            Err(SyntaxError::new("invalid character class range", fragment.to_owned()))
        };
        let name = if self.eat("{") {
            let Some((name, rest)) = self.rest.split_once('}') else { return invalid(from) };
            self.rest = rest;
            name
        } else {
            let begun = self.rest;
            self.next();
            self.since(begun)
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                is_negative = !is_negative;
                name
            }
            None => name,
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return invalid(self.since(from));
        }
        let p = if is_negative { 'P' } else { 'p' };
        Ok(Some(format!("\\{p}{{{name}}}")))
    }

    /// The same for what may stand in brackets too; `from` begins with the `\`.
    fn escaped(&mut self, from: &'p str) -> Result<Escaped> {
        self.next();
        let Some(c) = self.next() else {
            return Err(SyntaxError::new("trailing backslash at end of expression", ""));
        };
        let octal = |c: char| c.to_digit(8);
        Ok(Escaped::Char(match c {
            'd' => return Ok(Escaped::Class("[0-9]")),
            'D' => return Ok(Escaped::Class("[^0-9]")),
            's' => return Ok(Escaped::Class("[\\t\\n\\x0C\\r\\x20]")),
            'S' => return Ok(Escaped::Class("[^\\t\\n\\x0C\\r\\x20]")),
            'w' => return Ok(Escaped::Class("[0-9A-Za-z_]")),
            'W' => return Ok(Escaped::Class("[^0-9A-Za-z_]")),
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            // A single digit would refer back to a group.
            '0'..='7' if c == '0' || self.peek().and_then(octal).is_some() => {
                let mut value = octal(c).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(octal) else { break };
                    self.next();
                    value = value * 8 + digit;
                }
                char::from_u32(value).unwrap_or('\0')
            }
            'x' => self.hexadecimal().ok_or_else(|| self.no_escape(from))?,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(self.no_escape(from)),
        }))
    }

    fn no_escape(&self, from: &'p str) -> SyntaxError {
        SyntaxError::new("invalid escape sequence", self.since(from))
    }

    /// `7F` or `{10FFFF}`, after `\x`.
    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.eat("{") {
            let (digits, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2)?;
            self.rest = rest;
            digits
        };
        let is_hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        char::from_u32(value)
    }

    /// `[a-z\d[:alpha:]]`
    fn class(&mut self) -> Result<Piece> {
        let from = self.rest;
        self.next();
        self.put("[");
        if self.eat("^") {
            self.put("^");
        }
        let mut is_first = true;
        while is_first || self.peek() != Some(']') {
            is_first = false;
            if self.named_class()? {
                continue;
            }
            if let Some(class) = self.unicode_class()? {
                self.put(&class);
                continue;
            }
            let begun = self.rest;
            let low = match self.class_char(from)? {
                Escaped::Char(c) => c,
                Escaped::Class(class) => {
                    self.put(class);
                    continue;
                }
            };
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
                self.next();
                match self.class_char(from)? {
                    Escaped::Char(c) if c >= low => high = c,
                    _ => {
                        let code = "invalid character class range";
                        return Err(SyntaxError::new(code, self.since(begun)));
                    }
                }
            }
            let _infallible =
                write!(self.rust, "\\x{{{:X}}}-\\x{{{:X}}}", u32::from(low), u32::from(high));
        }
        self.next();
        self.put("]");
        Ok(Piece::Other)
    }

    /// One character in brackets that began at `from`.
    fn class_char(&mut self, from: &'p str) -> Result<Escaped> {
        let begun = self.rest;
        match self.peek() {
            None => Err(SyntaxError::new("missing closing ]", from)),
            Some('\\') => self.escaped(begun),
            Some(c) => {
                self.next();
                Ok(Escaped::Char(c))
            }
        }
    }

    /// `[:alpha:]`, in brackets.
    fn named_class(&mut self) -> Result<bool> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        // No further than the next bracket, or all of the rest would be looked at for each.
        let Some((name, rest)) = self
            .rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(']'))
            .and_then(|(name, rest)| Some((name.strip_suffix(':')?, rest)))
        else {
            return Ok(false);
        };
        let from = self.rest;
        self.rest = rest;
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(SyntaxError::new("invalid character class range", self.since(from)));
        }
        self.put("[:");
        self.put(name);
        self.put(":]");
        Ok(true)
    }
}

/// How long `{2}`, `{2,}` or `{2,3}` is, if the text begins with one, and the larger of its numbers.
fn count(text: &str) -> Option<Result<(usize, u32)>> {
    let written = text.bytes().skip(1).take_while(|b| b.is_ascii_digit() || *b == b',').count();
    let inner = text.strip_prefix('{')?.get(..written)?;
    text.as_bytes().get(written + 1).filter(|b| **b == b'}')?;
    let (least, most) = match inner.split_once(',') {
        Some((least, most)) => (least, Some(most)),
        None => (inner, None),
    };
    let is_number = |text: &str| {
        let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_digits && (text == "0" || !text.starts_with('0'))
    };
    if !is_number(least) || !most.is_none_or(|most| most.is_empty() || is_number(most)) {
        return None;
    }
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let least = number(least);
    let most = most.filter(|most| !most.is_empty()).map(number);
    let length = inner.len() + 2;
    if least > REPEAT_MAX || most.is_some_and(|most| most > REPEAT_MAX || most < least) {
        let fragment = text.get(..length).unwrap_or(text);
        return Some(Err(SyntaxError::new("invalid repeat count", fragment)));
    }
    Some(Ok((length, most.unwrap_or(least))))
}

//! Patterns that need no regular expression.

use super::syntax::{Piece, Translated};

/// Most words a pattern may stand for.
const WORDS_MAX: usize = 10_000;

/// Most bytes that may be written for them, what they are put together of among these.
const WORDS_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these, in order.
    Words(Box<[Box<str>]>),
    /// A text with something before it and after it.
    Around { before: Beside, text: Box<str>, after: Beside },
}

/// What stands beside a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Anything,
    /// At least one character.
    Something,
}

impl Shape {
    pub(super) fn of(translated: &Translated) -> Option<Self> {
        if !translated.is_plain {
            return None;
        }
        let alternatives = &translated.alternatives;
        if let [only] = alternatives.as_slice()
            && let Some(around) = Self::around(unanchored(only))
        {
            return Some(around);
        }
        let mut all = Vec::new();
        let mut room = WORDS_BYTES_MAX;
        for alternative in alternatives {
            words(unanchored(alternative), &mut all, &mut room)?;
        }
        all.sort_unstable();
        all.dedup();
        Some(Self::Words(all.into_iter().map(String::into_boxed_str).collect()))
    }

    fn around(pieces: &[Piece]) -> Option<Self> {
        let beside = |piece: Option<&Piece>| match piece {
            Some(Piece::Star) => Beside::Anything,
            Some(Piece::Plus) => Beside::Something,
            _ => Beside::Nothing,
        };
        let before = beside(pieces.first());
        let pieces = pieces.get(usize::from(before != Beside::Nothing)..)?;
        let after = beside(pieces.last());
        let kept = pieces.len() - usize::from(after != Beside::Nothing);
        if before == Beside::Nothing && after == Beside::Nothing {
            return None;
        }
        let text: Option<String> = pieces.get(..kept)?.iter().map(Piece::as_char).collect();
        Some(Self::Around { before, text: text?.into(), after })
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Words(words) => words.binary_search_by(|word| word.as_ref().cmp(value)).is_ok(),
            Self::Around { before: Beside::Nothing, text, after } => {
                value.strip_prefix(text.as_ref()).is_some_and(|rest| after.takes(rest))
            }
            Self::Around { before, text, after: Beside::Nothing } => {
                value.strip_suffix(text.as_ref()).is_some_and(|rest| before.takes(rest))
            }
            Self::Around { before, text, after } => {
                let mut inner = value.chars();
                let began = *before == Beside::Anything || inner.next().is_some();
                let ended = *after == Beside::Anything || inner.next_back().is_some();
                began && ended && inner.as_str().contains(text.as_ref())
            }
        }
    }
}

impl Beside {
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Nothing => text.is_empty(),
            Self::Anything => true,
            Self::Something => !text.is_empty(),
        }
    }
}

/// Without `^` at the beginning and `$` at the end, which change nothing.
fn unanchored(pieces: &[Piece]) -> &[Piece] {
    let pieces = pieces.strip_prefix(&[Piece::Begin]).unwrap_or(pieces);
    pieces.strip_suffix(&[Piece::End]).unwrap_or(pieces)
}

/// Adds the words that pieces stand for; none when they stand for more than words, or there is no room for
/// them, which is known before they are written.
fn words(pieces: &[Piece], all: &mut Vec<String>, room: &mut usize) -> Option<()> {
    let bytes = |words: &[String]| words.iter().map(String::len).sum::<usize>();
    let mut begun = vec![String::new()];
    for piece in pieces {
        match piece {
            Piece::Char(c) => {
                *room = room.checked_sub(begun.len() * c.len_utf8())?;
                begun.iter_mut().for_each(|word| word.push(*c));
            }
            Piece::Group(alternatives) => {
                let mut ends = Vec::new();
                for alternative in alternatives {
                    words(alternative, &mut ends, room)?;
                }
                if begun.len().saturating_mul(ends.len()) > WORDS_MAX {
                    return None;
                }
                let written = bytes(&begun) * ends.len() + bytes(&ends) * begun.len();
                *room = room.checked_sub(written)?;
                begun = begun
                    .iter()
                    .flat_map(|word| ends.iter().map(move |end| format!("{word}{end}")))
                    .collect();
            }
            _ => return None,
        }
    }
    all.append(&mut begun);
    (all.len() <= WORDS_MAX).then_some(())
}

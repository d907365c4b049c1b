//! Durations in brackets and after `offset`: literals, or arithmetic over them and the query's own
//! step and range. After `offset` arithmetic stands in parentheses, because `offset 5m - x`
//! subtracts `x` from the series.

use super::ParseError;
use super::ast::{BinaryOp, Duration, DurationKind, Span};
use super::grammar::{Parsed, Parser};
use super::lexer::TokenKind;
use crate::number::to_i64;

impl Parser<'_> {
    pub(super) fn bracket_duration(&mut self, context: &str) -> Parsed<Duration> {
        let duration = self.duration_expression(0, context)?;
        if duration.constant().is_some_and(|seconds| to_ms(seconds) <= 0) {
            return Err(ParseError::new(duration.span, "duration must be greater than 0"));
        }
        check_constant(&duration)?;
        Ok(duration)
    }

    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        // A sign takes what follows it and no more: `offset -5m ^ 2` is the square of a series.
        let start = self.span();
        let sign = self.peek().clone();
        let duration = match sign {
            TokenKind::Add | TokenKind::Sub => {
                self.advance();
                let operand = self.duration_operand("offset")?;
                signed(&sign, operand, start)
            }
            _ => self.duration_operand("offset")?,
        };
        check_constant(&duration)?;
        Ok(duration)
    }

    fn duration_expression(&mut self, floor: u8, context: &str) -> Parsed<Duration> {
        self.tree(|parser| {
            let mut left = parser.duration_operand(context)?;
            loop {
                let op = match parser.peek() {
                    TokenKind::Add => BinaryOp::Add,
                    TokenKind::Sub => BinaryOp::Sub,
                    TokenKind::Mul => BinaryOp::Mul,
                    TokenKind::Div => BinaryOp::Div,
                    TokenKind::Mod => BinaryOp::Mod,
                    TokenKind::Pow => BinaryOp::Pow,
                    _ => return Ok(left),
                };
                let precedence = op.precedence();
                if precedence < floor {
                    return Ok(left);
                }
                let place = parser.span();
                parser.advance();
                let next = if op == BinaryOp::Pow { precedence } else { precedence + 1 };
                let left_height = std::mem::take(&mut parser.height);
                let right = parser.duration_expression(next, context)?;
                parser.rise(left_height, parser.height)?;
                if matches!(right.kind, DurationKind::Seconds(0.0)) {
                    match op {
                        BinaryOp::Div => return Err(ParseError::new(place, "division by zero")),
                        BinaryOp::Mod => return Err(ParseError::new(place, "modulo by zero")),
                        _ => {}
                    }
                }
                let span = left.span.to(right.span);
                let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
                left = Duration { kind, span };
            }
        })
    }

    fn duration_operand(&mut self, context: &str) -> Parsed<Duration> {
        let start = self.span();
        match self.peek().clone() {
            TokenKind::Number(seconds) | TokenKind::Duration(seconds) => {
                self.advance();
                Ok(Duration { kind: DurationKind::Seconds(seconds), span: start })
            }
            sign @ (TokenKind::Add | TokenKind::Sub) => {
                self.advance();
                let operand = self.duration_expression(BinaryOp::Pow.precedence(), context)?;
                Ok(signed(&sign, operand, start))
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.duration_expression(0, context)?;
                self.expect(&TokenKind::RightParen, "duration expression", "\")\"")?;
                let span = start.to(self.last_span());
                let kind = match inner.kind {
                    // One with a sign binds otherwise without them: `(-2) ^ 2`.
                    DurationKind::Seconds(seconds) if seconds.is_sign_negative() => {
                        DurationKind::Paren(Box::new(inner))
                    }
                    kind @ (DurationKind::Seconds(_) | DurationKind::Paren(_)) => kind,
                    _ => DurationKind::Paren(Box::new(inner)),
                };
                Ok(Duration { kind, span })
            }
            TokenKind::Identifier(name) => {
                let name = name.to_ascii_lowercase();
                let kind = match name.as_str() {
                    "step" | "range" => {
                        self.advance();
                        self.expect(&TokenKind::LeftParen, context, "\"(\"")?;
                        if name == "step" { DurationKind::Step } else { DurationKind::Range }
                    }
                    "min" | "max" | "min_of" | "max_of" => {
                        self.advance();
                        self.expect(&TokenKind::LeftParen, context, "\"(\"")?;
                        let first = Box::new(self.duration_expression(0, context)?);
                        self.expect(&TokenKind::Comma, context, "\",\"")?;
                        let second = Box::new(self.duration_expression(0, context)?);
                        if name.starts_with("min") {
                            DurationKind::Least(first, second)
                        } else {
                            DurationKind::Greatest(first, second)
                        }
                    }
                    _ => return Err(self.unexpected(context, "duration")),
                };
                self.expect(&TokenKind::RightParen, context, "\")\"")?;
                Ok(Duration { kind, span: start.to(self.last_span()) })
            }
            _ => Err(self.unexpected(context, "duration")),
        }
    }
}

fn signed(sign: &TokenKind, operand: Duration, start: Span) -> Duration {
    let span = start.to(operand.span);
    let kind = match (sign, operand.kind) {
        (TokenKind::Add, kind) => kind,
        (_, DurationKind::Seconds(seconds)) => DurationKind::Seconds(-seconds),
        (_, kind) => DurationKind::Negate(Box::new(Duration { kind, span: operand.span })),
    };
    Duration { kind, span }
}

/// Finds what is wrong with a duration whatever the query's step is.
fn check_constant(duration: &Duration) -> Parsed<()> {
    duration.constant().map_or(Ok(()), |seconds| out_of_range(duration, seconds))
}

/// To the microsecond first: 1.001 s is 1001 ms, though 1.001 * 1000 is a little less.
fn to_ms(seconds: f64) -> i64 {
    to_i64((seconds * 1e6).round() / 1e3)
}

fn out_of_range(duration: &Duration, seconds: f64) -> Parsed<()> {
    if seconds.is_finite() && seconds.abs() <= 9_223_372_036.0 {
        Ok(())
    } else {
        Err(ParseError::new(duration.span, "duration out of range"))
    }
}

impl Duration {
    /// Its length for a query of this step and range, all in milliseconds.
    pub(crate) fn resolve(&self, step_ms: i64, range_ms: i64) -> Result<i64, ParseError> {
        let seconds = self.seconds(step_ms, range_ms)?;
        out_of_range(self, seconds)?;
        Ok(to_ms(seconds))
    }

    /// Its seconds where it is a literal, in parentheses or not.
    pub(super) fn constant(&self) -> Option<f64> {
        match &self.kind {
            DurationKind::Seconds(seconds) => Some(*seconds),
            DurationKind::Paren(inner) => inner.constant(),
            _ => None,
        }
    }

    fn seconds(&self, step_ms: i64, range_ms: i64) -> Result<f64, ParseError> {
        Ok(match &self.kind {
            DurationKind::Seconds(seconds) => *seconds,
            DurationKind::Step => crate::number::seconds(step_ms),
            DurationKind::Range => crate::number::seconds(range_ms),
            DurationKind::Negate(inner) => -inner.seconds(step_ms, range_ms)?,
            DurationKind::Paren(inner) => inner.seconds(step_ms, range_ms)?,
            DurationKind::Least(a, b) => {
                a.seconds(step_ms, range_ms)?.min(b.seconds(step_ms, range_ms)?)
            }
            DurationKind::Greatest(a, b) => {
                a.seconds(step_ms, range_ms)?.max(b.seconds(step_ms, range_ms)?)
            }
            DurationKind::Binary(op, a, b) => {
                let left = a.seconds(step_ms, range_ms)?;
                let right = b.seconds(step_ms, range_ms)?;
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Div if right == 0.0 => {
                        return Err(ParseError::new(self.span, "division by zero"));
                    }
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => {
                        return Err(ParseError::new(self.span, "modulo by zero"));
                    }
                    BinaryOp::Mod => left % right,
                    _ => left.powf(right),
                }
            }
        })
    }

    /// Like [`Self::resolve`], for a length, which must be positive.
    pub(crate) fn resolve_length(&self, step_ms: i64, range_ms: i64) -> Result<i64, ParseError> {
        let ms = self.resolve(step_ms, range_ms)?;
        if ms > 0 {
            Ok(ms)
        } else {
            Err(ParseError::new(self.span, "duration must be greater than 0"))
        }
    }
}

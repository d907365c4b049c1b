//! Tokens to a tree: precedence climbing over recursive descent.

use stoa_model::{METRIC_NAME, MatchOp, Matcher, PatternBudget};

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Extension,
    Matching, Matrix, Selector, Shift, Span, Subquery, Text,
};
use super::lexer::{Token, TokenKind, is_identifier, is_keyword, tokenize};
use super::signature;
use super::{DEPTH_MAX, HEIGHT_MAX, ParseError};
use crate::number::{quote, to_i64};

pub(super) type Parsed<T> = Result<T, ParseError>;

/// The tree of a whole query.
pub(super) fn parse_expression(query: &str, patterns: &mut PatternBudget) -> Parsed<Expr> {
    let tokens = tokenize(query)?;
    let mut parser =
        Parser { query, tokens, at: 0, depth: 0, height: 0, aggregations: 0, patterns };
    if parser.peek() == &TokenKind::End {
        return Err(ParseError::new(Span::default(), "no expression found in input"));
    }
    let expr = parser.expression(0)?;
    if parser.peek() == &TokenKind::End { Ok(expr) } else { Err(parser.unexpected("", "")) }
}

pub(super) struct Parser<'a> {
    query: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// How many nodes deep the tree is that was parsed last, or the deepest of those side by side.
    pub(super) height: usize,
    /// Aggregations that have begun and not ended.
    aggregations: usize,
    /// What is left for regular expressions.
    patterns: &'a mut PatternBudget,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(&TokenKind::End, |token| &token.kind)
    }

    fn peek_after(&self, ahead: usize) -> &TokenKind {
        self.tokens.get(self.at + ahead).map_or(&TokenKind::End, |token| &token.kind)
    }

    pub(super) fn span(&self) -> Span {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or_else(Span::default, |token| token.span)
    }

    /// The span of the token before.
    pub(super) fn last_span(&self) -> Span {
        self.at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .map_or_else(Span::default, |token| token.span)
    }

    pub(super) fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    pub(super) fn eat(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == kind;
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, kind: &TokenKind, context: &str, expected: &str) -> Parsed<()> {
        if self.eat(kind) { Ok(()) } else { Err(self.unexpected(context, expected)) }
    }

    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let span = self.span();
        if let TokenKind::Bad(message) = self.peek() {
            return ParseError::new(span, message.as_str());
        }
        let written = self.query.get(span.start..span.end).unwrap_or("");
        let mut message = format!("unexpected {}", self.peek().describe(written));
        let context =
            if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::new(span, message)
    }

    /// The word here, in lower case, when it is an identifier.
    pub(super) fn word(&self) -> Option<String> {
        match self.peek() {
            TokenKind::Identifier(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word().as_deref() == Some(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return Err(ParseError::new(self.span(), "expression is nested too deeply"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// The same for what nests to the left, where text does not: each node is one higher than what it
    /// holds. Trees are walked, and dropped, by recursion.
    pub(super) fn tree<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let beside = std::mem::take(&mut self.height);
        let result = self.nested(inner);
        self.height = self.height.max(beside);
        result
    }

    /// A node is made above trees of these heights.
    pub(super) fn rise(&mut self, left: usize, right: usize) -> Parsed<()> {
        self.height = 1 + left.max(right);
        if self.height > HEIGHT_MAX {
            return Err(ParseError::new(self.span(), "expression is nested too deeply"));
        }
        Ok(())
    }

    /// An expression whose operators bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Parsed<Expr> {
        self.tree(|parser| {
            let mut left = parser.operand()?;
            parser.rise(parser.height, 0)?;
            while let Some(op) = parser.operator() {
                let precedence = op.precedence();
                if precedence < floor {
                    break;
                }
                parser.advance();
                let (matching, return_bool) = parser.modifiers(op)?;
                let next = if op == BinaryOp::Pow { precedence } else { precedence + 1 };
                let left_height = std::mem::take(&mut parser.height);
                let right = parser.expression(next)?;
                parser.rise(left_height, parser.height)?;
                let span = left.span.to(right.span);
                let binary = Binary { op, left, right, matching, return_bool };
                left = Expr { kind: ExprKind::Binary(Box::new(binary)), span };
            }
            Ok(left)
        })
    }

    fn operator(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            TokenKind::Add => BinaryOp::Add,
            TokenKind::Sub => BinaryOp::Sub,
            TokenKind::Mul => BinaryOp::Mul,
            TokenKind::Div => BinaryOp::Div,
            TokenKind::Mod => BinaryOp::Mod,
            TokenKind::Pow => BinaryOp::Pow,
            TokenKind::Equal => BinaryOp::Equal,
            TokenKind::NotEqual => BinaryOp::NotEqual,
            TokenKind::Greater => BinaryOp::Greater,
            TokenKind::Less => BinaryOp::Less,
            TokenKind::GreaterOrEqual => BinaryOp::GreaterOrEqual,
            TokenKind::LessOrEqual => BinaryOp::LessOrEqual,
            TokenKind::TrimUpper => BinaryOp::TrimUpper,
            TokenKind::TrimLower => BinaryOp::TrimLower,
            TokenKind::Identifier(name) => match name.to_ascii_lowercase().as_str() {
                "and" => BinaryOp::And,
                "or" => BinaryOp::Or,
                "unless" => BinaryOp::Unless,
                "atan2" => BinaryOp::Atan2,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// What may stand between an operator and its right operand.
    fn modifiers(&mut self, op: BinaryOp) -> Parsed<(Matching, bool)> {
        let return_bool = self.eat_word("bool");
        let mut matching = Matching {
            cardinality: if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne },
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let on = self.eat_word("on");
        if on || self.eat_word("ignoring") {
            matching.on = on;
            matching.labels = self.label_list()?;
            let left = self.eat_word("group_left");
            if left || self.word().as_deref() == Some("group_right") {
                if !left {
                    self.advance();
                }
                matching.cardinality =
                    if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.peek() == &TokenKind::LeftParen {
                    matching.include = self.label_list()?;
                }
            }
        }
        self.fills(&mut matching)?;
        Ok((matching, return_bool))
    }

    /// `fill`, or one or both of `fill_left` and `fill_right`, each once.
    fn fills(&mut self, matching: &mut Matching) -> Parsed<()> {
        while let Some(word) = self.word() {
            let is_free = match word.as_str() {
                "fill" => matching.fill_left.is_none() && matching.fill_right.is_none(),
                "fill_left" => matching.fill_left.is_none(),
                "fill_right" => matching.fill_right.is_none(),
                _ => return Ok(()),
            };
            if self.peek_after(1) != &TokenKind::LeftParen {
                return Ok(());
            }
            if !is_free {
                return Err(self.unexpected("", ""));
            }
            self.advance();
            self.advance();
            let value = self.signed_number("fill")?;
            self.expect(&TokenKind::RightParen, "fill", "\")\"")?;
            if word != "fill_right" {
                matching.fill_left = Some(value);
            }
            if word != "fill_left" {
                matching.fill_right = Some(value);
            }
        }
        Ok(())
    }

    fn signed_number(&mut self, context: &str) -> Parsed<f64> {
        let negative = match self.peek() {
            TokenKind::Sub => true,
            TokenKind::Add => false,
            _ => return self.plain_number(context),
        };
        self.advance();
        let value = self.plain_number(context)?;
        Ok(if negative { -value } else { value })
    }

    fn plain_number(&mut self, context: &str) -> Parsed<f64> {
        match *self.peek() {
            TokenKind::Number(value) | TokenKind::Duration(value) => {
                self.advance();
                Ok(value)
            }
            _ => Err(self.unexpected(context, "number")),
        }
    }

    /// `(a, b, "c.d")`
    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect(&TokenKind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        while !self.eat(&TokenKind::RightParen) {
            match self.peek().clone() {
                TokenKind::Identifier(name) if is_identifier(&name) => labels.push(name),
                TokenKind::Text(text) if text.invalid.is_none() && !text.value.is_empty() => {
                    labels.push(text.value);
                }
                TokenKind::Number(_) => {
                    // `inf` and `nan` are labels here.
                    let span = self.span();
                    let written = self.query.get(span.start..span.end).unwrap_or("");
                    if !is_identifier(written) {
                        return Err(self.unexpected("grouping opts", "label"));
                    }
                    labels.push(written.to_owned());
                }
                _ => return Err(self.unexpected("grouping opts", "label")),
            }
            self.advance();
            if !self.eat(&TokenKind::Comma) {
                self.expect(&TokenKind::RightParen, "grouping opts", "\",\" or \")\"")?;
                break;
            }
        }
        Ok(labels)
    }

    /// A unary expression or a primary one with what follows it.
    fn operand(&mut self) -> Parsed<Expr> {
        let start = self.span();
        let negate = match self.peek() {
            TokenKind::Sub => true,
            TokenKind::Add => false,
            _ => {
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        self.advance();
        let operand = self.expression(BinaryOp::Pow.precedence())?;
        let span = start.to(operand.span);
        if let ExprKind::Number(value) = operand.kind {
            let value = if negate { -value } else { value };
            return Ok(Expr { kind: ExprKind::Number(value), span });
        }
        Ok(Expr { kind: ExprKind::Unary { negate, operand: Box::new(operand) }, span })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let span = self.span();
        match self.peek().clone() {
            TokenKind::Number(value) | TokenKind::Duration(value) => {
                self.advance();
                Ok(Expr { kind: ExprKind::Number(value), span })
            }
            TokenKind::Text(text) => {
                self.advance();
                Ok(Expr { kind: ExprKind::Text(text), span })
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.expression(0)?;
                self.expect(&TokenKind::RightParen, "", "")?;
                let span = span.to(self.last_span());
                Ok(Expr { kind: ExprKind::Paren(Box::new(inner)), span })
            }
            TokenKind::LeftBrace => self.selector(None),
            TokenKind::Identifier(name) => self.named(&name),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// A metric, a function call or an aggregation.
    fn named(&mut self, name: &str) -> Parsed<Expr> {
        let next = self.peek_after(1).clone();
        if let Some(op) = AggregateOp::from_keyword(name) {
            let clause = matches!(&next, TokenKind::Identifier(word)
                if word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"));
            if next == TokenKind::LeftParen || clause {
                return self.aggregate(op);
            }
        }
        if next == TokenKind::LeftParen && !is_keyword(name) && !name.contains(':') {
            return self.call(name);
        }
        let no_name = ["atan2", "bool", "on", "ignoring", "group_left", "group_right"];
        if no_name.iter().any(|keyword| name.eq_ignore_ascii_case(keyword)) {
            return Err(self.unexpected("", ""));
        }
        self.advance();
        self.selector(Some(name.to_owned()))
    }

    fn aggregate(&mut self, op: AggregateOp) -> Parsed<Expr> {
        let start = self.span();
        self.advance();
        self.aggregations += 1;
        let mut clause = self.grouping()?;
        let mut args = self.arguments()?;
        self.aggregations -= 1;
        if clause.is_none() {
            clause = self.grouping()?;
        }
        let span = start.to(self.last_span());
        let wanted = if op.has_parameter() { 2 } else { 1 };
        if args.is_empty() {
            let message = "no arguments for aggregate expression provided";
            return Err(ParseError::new(span, message));
        }
        if args.len() != wanted {
            return Err(ParseError::new(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                    args.len()
                ),
            ));
        }
        let Some(operand) = args.pop() else {
            return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
        };
        let (without, grouping) = clause.unwrap_or_default();
        let aggregate = Aggregate { op, operand, parameter: args.pop(), without, grouping };
        Ok(Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span })
    }

    fn grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let by = self.eat_word("by");
        if by || self.eat_word("without") {
            return Ok(Some((!by, self.label_list()?)));
        }
        Ok(None)
    }

    fn call(&mut self, name: &str) -> Parsed<Expr> {
        let start = self.span();
        self.advance();
        let args = self.arguments()?;
        let Some(function) = signature::find(name) else {
            let message = format!("unknown function with name {}", quote(name));
            return Err(ParseError::new(start, message));
        };
        if function.name == "info"
            && let Some(second) = args.get(1)
            && matches!(second.kind, ExprKind::Selector(_))
            && self.query.as_bytes().get(second.span.start) != Some(&b'{')
        {
            let message = "expected label selectors only, got vector selector instead";
            return Err(ParseError::new(second.span, message));
        }
        let span = start.to(self.last_span());
        Ok(Expr { kind: ExprKind::Call(Box::new(Call { function, args })), span })
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        self.expect(&TokenKind::LeftParen, "", "")?;
        let mut args = Vec::new();
        if self.eat(&TokenKind::RightParen) {
            return Ok(args);
        }
        loop {
            args.push(self.expression(0)?);
            if self.eat(&TokenKind::RightParen) {
                return Ok(args);
            }
            let comma = self.span();
            self.expect(&TokenKind::Comma, "", "")?;
            let begins = match self.peek() {
                TokenKind::Identifier(_)
                | TokenKind::Number(_)
                | TokenKind::Duration(_)
                | TokenKind::Text(_)
                | TokenKind::LeftParen
                | TokenKind::LeftBrace
                | TokenKind::Add
                | TokenKind::Sub => true,
                TokenKind::Bad(_) => return Err(self.unexpected("", "")),
                _ => false,
            };
            if !begins {
                let message = "trailing commas not allowed in function call args";
                return Err(ParseError::new(comma, message));
            }
        }
    }

    /// Matchers in braces, after the name has been read.
    fn selector(&mut self, name: Option<String>) -> Parsed<Expr> {
        let start = if name.is_some() { self.last_span() } else { self.span() };
        let mut matchers = Vec::new();
        let mut metric = name.clone();
        if self.eat(&TokenKind::LeftBrace) {
            while !self.eat(&TokenKind::RightBrace) {
                self.matcher(&mut metric, &mut matchers)?;
                if !self.eat(&TokenKind::Comma) {
                    self.expect(&TokenKind::RightBrace, "label matching", "\",\" or \"}\"")?;
                    break;
                }
            }
        }
        if let Some(metric) = metric {
            for matcher in &matchers {
                if matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal {
                    return Err(ParseError::new(
                        start.to(self.last_span()),
                        format!(
                            "metric name must not be set twice: {} or {}",
                            quote(&metric),
                            quote(matcher.value())
                        ),
                    ));
                }
            }
            matchers.push(Matcher::equal(METRIC_NAME, metric));
        }
        let shift = Shift::default();
        let selector = Selector { name, matchers, shift, extension: None };
        let span = start.to(self.last_span());
        Ok(Expr { kind: ExprKind::Selector(Box::new(selector)), span })
    }

    fn matcher(&mut self, metric: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        let place = self.span();
        let name = match self.peek().clone() {
            TokenKind::Label(name) => name,
            TokenKind::Text(Text { value, invalid: None }) if !value.is_empty() => {
                if matches!(self.peek_after(1), TokenKind::Comma | TokenKind::RightBrace) {
                    if let Some(first) = metric {
                        return Err(ParseError::new(
                            place,
                            format!(
                                "metric name must not be set twice: {} or {}",
                                quote(first),
                                quote(&value)
                            ),
                        ));
                    }
                    self.advance();
                    *metric = Some(value);
                    return Ok(());
                }
                value
            }
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        self.advance();
        let op = match self.peek() {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::NotEqual => MatchOp::NotEqual,
            TokenKind::MatchRegex => MatchOp::Regex,
            TokenKind::NotMatchRegex => MatchOp::NotRegex,
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.advance();
        let TokenKind::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("label matching", "string"));
        };
        self.advance();
        let matcher = Matcher::within(name, op, value.value, self.patterns)
            .map_err(|error| ParseError::new(place, error.source.to_string()))?;
        matchers.push(matcher);
        Ok(())
    }

    /// Ranges, subqueries and modifiers after an expression.
    fn postfix(&mut self, primary: Expr) -> Parsed<Expr> {
        let mut expr = primary;
        loop {
            match self.word().as_deref() {
                Some("offset") => {
                    self.advance();
                    expr = self.offset(expr)?;
                    continue;
                }
                Some("anchored") => {
                    self.advance();
                    expr = self.extension(expr, Extension::Anchored)?;
                    continue;
                }
                Some("smoothed") => {
                    self.advance();
                    expr = self.extension(expr, Extension::Smoothed)?;
                    continue;
                }
                _ => {}
            }
            match self.peek() {
                TokenKind::LeftBracket => expr = self.bracket(expr)?,
                TokenKind::At => {
                    self.advance();
                    expr = self.at_modifier(expr)?;
                }
                _ => return Ok(expr),
            }
        }
    }

    fn bracket(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.span();
        self.advance();
        let range = self.bracket_duration("subquery or range")?;
        if self.eat(&TokenKind::Colon) {
            let step = match self.peek() {
                TokenKind::RightBracket => None,
                _ => Some(self.bracket_duration("subquery selector")?),
            };
            self.expect(&TokenKind::RightBracket, "subquery selector", "\"]\"")?;
            let span = expr.span.to(self.last_span());
            self.rise(self.height, 0)?;
            let subquery = Subquery { expr, range, step, shift: Shift::default() };
            return Ok(Expr { kind: ExprKind::Subquery(Box::new(subquery)), span });
        }
        self.expect(&TokenKind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let place = open.to(self.last_span());
        let span = expr.span.to(self.last_span());
        let ExprKind::Selector(selector) = expr.kind else {
            return Err(ParseError::new(place, "ranges only allowed for vector selectors"));
        };
        if selector.shift.offset.is_some() {
            return Err(ParseError::new(place, "no offset modifiers allowed before range"));
        }
        if selector.shift.at.is_some() {
            return Err(ParseError::new(place, "no @ modifiers allowed before range"));
        }
        let matrix = Matrix { selector: *selector, range };
        Ok(Expr { kind: ExprKind::Matrix(Box::new(matrix)), span })
    }

    fn offset(&mut self, expr: Expr) -> Parsed<Expr> {
        let duration = self.offset_duration()?;
        let mut expr = expr;
        expr.span = expr.span.to(self.last_span());
        let place = expr.span;
        let Some(shift) = shift_of(&mut expr) else {
            return Err(ParseError::new(
                place,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if shift.offset.is_some() {
            return Err(ParseError::new(place, "offset may not be set multiple times"));
        }
        shift.offset = Some(duration);
        Ok(expr)
    }

    fn at_modifier(&mut self, expr: Expr) -> Parsed<Expr> {
        let at = match self.word().as_deref() {
            Some(word @ ("start" | "end")) => {
                self.advance();
                self.expect(&TokenKind::LeftParen, "@", "\"(\"")?;
                self.expect(&TokenKind::RightParen, "@", "\")\"")?;
                if word == "start" { At::Start } else { At::End }
            }
            _ => {
                let place = self.span();
                let seconds =
                    self.signed_number("@").map_err(|_any| self.unexpected("@", "timestamp"))?;
                let ms = (seconds * 1000.0).round();
                if !ms.is_finite() || ms.abs() >= 9.2e18 {
                    return Err(ParseError::new(
                        place,
                        format!(
                            "timestamp out of bounds for @ modifier: {}",
                            crate::number::format_fixed(seconds)
                        ),
                    ));
                }
                At::Time(to_i64(ms))
            }
        };
        let mut expr = expr;
        expr.span = expr.span.to(self.last_span());
        let place = expr.span;
        let Some(shift) = shift_of(&mut expr) else {
            return Err(ParseError::new(
                place,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if shift.at.is_some() {
            return Err(ParseError::new(place, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(at);
        Ok(expr)
    }

    fn extension(&mut self, expr: Expr, extension: Extension) -> Parsed<Expr> {
        let mut expr = expr;
        expr.span = expr.span.to(self.last_span());
        let place = expr.span;
        let word = extension.as_str();
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) => &mut selector.extension,
            ExprKind::Matrix(matrix) => &mut matrix.selector.extension,
            ExprKind::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return Err(ParseError::new(place, message));
            }
            _ => return Err(ParseError::new(place, format!("{word} modifier not implemented"))),
        };
        if slot.is_some_and(|other| other != extension) {
            let message = "anchored and smoothed modifiers cannot be used together";
            return Err(ParseError::new(place, message));
        }
        *slot = Some(extension);
        Ok(expr)
    }
}

fn shift_of(expr: &mut Expr) -> Option<&mut Shift> {
    match &mut expr.kind {
        ExprKind::Selector(selector) => Some(&mut selector.shift),
        ExprKind::Matrix(matrix) => Some(&mut matrix.selector.shift),
        ExprKind::Subquery(subquery) => Some(&mut subquery.shift),
        _ => None,
    }
}

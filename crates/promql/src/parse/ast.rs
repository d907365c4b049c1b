//! The tree a query becomes.

use stoa_model::{Matcher, TimestampMs};

/// Bytes `start..end` of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// What an expression's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    Vector,
    Matrix,
    Text,
}

impl Type {
    /// The name the documentation uses, and error messages with it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        }
    }

    /// The name in Prometheus's own trees.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::Text => "string",
        }
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Number(f64),
    Text(Text),
    Paren(Box<Expr>),
    Unary { negate: bool, operand: Box<Expr> },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Box<Call>),
    Selector(Box<Selector>),
    Matrix(Box<Matrix>),
    Subquery(Box<Subquery>),
}

/// A string literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// The bytes, when they are no UTF-8; `value` is then only for show.
    pub(crate) invalid: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) left: Expr,
    pub(crate) right: Expr,
    pub(crate) matching: Matching,
    /// `bool`: 0 or 1 instead of filtering.
    pub(crate) return_bool: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    And,
    Or,
    Unless,
    /// `</`: what a histogram observed up to a value.
    TrimUpper,
    /// `>/`: what a histogram observed above a value.
    TrimLower,
}

impl BinaryOp {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    pub(crate) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterOrEqual
                | Self::LessOrEqual
        )
    }

    /// Whether it takes part of a histogram away.
    pub(crate) fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Whether the result measures something else than the left operand, and so loses its name.
    pub(crate) fn changes_schema(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow | Self::Atan2
        )
    }

    /// How tightly it binds; higher is tighter.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Greater
            | Self::Less
            | Self::GreaterOrEqual
            | Self::LessOrEqual
            | Self::TrimUpper
            | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }
}

/// Which samples of two vectors belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matching {
    pub(crate) cardinality: Cardinality,
    /// `on`: only `labels` count; otherwise all but `labels` do.
    pub(crate) on: bool,
    pub(crate) labels: Vec<String>,
    /// Labels `group_left` or `group_right` copies from the one side.
    pub(crate) include: Vec<String>,
    /// The value of a missing left partner.
    pub(crate) fill_left: Option<f64>,
    /// The value of a missing right partner.
    pub(crate) fill_right: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) operand: Expr,
    pub(crate) parameter: Option<Expr>,
    pub(crate) without: bool,
    pub(crate) grouping: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::TopK,
        Self::BottomK,
        Self::CountValues,
        Self::Quantile,
        Self::LimitK,
        Self::LimitRatio,
    ];

    pub(crate) fn from_keyword(keyword: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(keyword))
    }

    pub(crate) fn has_parameter(self) -> bool {
        matches!(
            self,
            Self::TopK
                | Self::BottomK
                | Self::CountValues
                | Self::Quantile
                | Self::LimitK
                | Self::LimitRatio
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static super::signature::Signature,
    pub(crate) args: Vec<Expr>,
}

/// An instant vector selector.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The name, if it is written before the braces; it is among the matchers too.
    pub(crate) name: Option<String>,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) shift: Shift,
    pub(crate) extension: Option<Extension>,
}

impl Selector {
    /// Whether it says only which series, not when.
    pub(crate) fn is_plain(&self) -> bool {
        self.shift.at.is_none() && self.shift.offset.is_none() && self.extension.is_none()
    }
}

/// A range vector selector.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) selector: Selector,
    pub(crate) range: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) expr: Expr,
    pub(crate) range: Duration,
    pub(crate) step: Option<Duration>,
    pub(crate) shift: Shift,
}

/// `@` and `offset`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shift {
    pub(crate) at: Option<At>,
    pub(crate) offset: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Time(TimestampMs),
    Start,
    End,
}

/// How a selector treats the samples around its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    Anchored,
    Smoothed,
}

/// A duration, possibly computed from the query's step and range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Duration {
    pub(crate) kind: DurationKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DurationKind {
    Seconds(f64),
    Step,
    Range,
    Negate(Box<Duration>),
    /// More than a literal in parentheses.
    Paren(Box<Duration>),
    Binary(BinaryOp, Box<Duration>, Box<Duration>),
    Least(Box<Duration>, Box<Duration>),
    Greatest(Box<Duration>, Box<Duration>),
}

impl Extension {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

impl Expr {
    /// The expression inside any parentheses.
    pub(crate) fn unwrapped(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// What its value is.
    pub(crate) fn value_type(&self) -> Type {
        match &self.kind {
            ExprKind::Number(_) => Type::Scalar,
            ExprKind::Text(_) => Type::Text,
            ExprKind::Paren(inner) => inner.value_type(),
            ExprKind::Unary { operand, .. } => operand.value_type(),
            ExprKind::Binary(binary) => {
                match (binary.left.value_type(), binary.right.value_type()) {
                    (Type::Scalar, Type::Scalar) => Type::Scalar,
                    _ => Type::Vector,
                }
            }
            ExprKind::Aggregate(_) | ExprKind::Selector(_) => Type::Vector,
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => Type::Matrix,
        }
    }

    /// Whether it is an operation on two vectors, the series of which are matched.
    pub(crate) fn matches_vectors(&self) -> bool {
        match &self.kind {
            ExprKind::Binary(binary) => {
                binary.left.value_type() == Type::Vector
                    && binary.right.value_type() == Type::Vector
            }
            _ => false,
        }
    }

    /// The nodes right below.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number(_)
            | ExprKind::Text(_)
            | ExprKind::Selector(_)
            | ExprKind::Matrix(_) => Vec::new(),
            ExprKind::Paren(inner) => vec![inner],
            ExprKind::Unary { operand, .. } => vec![operand],
            ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
            ExprKind::Aggregate(aggregate) => {
                aggregate.parameter.iter().chain([&aggregate.operand]).collect()
            }
            ExprKind::Call(call) => call.args.iter().collect(),
            ExprKind::Subquery(subquery) => vec![&subquery.expr],
        }
    }

    /// Calls `f` on this node and all below, outermost first.
    pub(crate) fn visit(&self, f: &mut impl FnMut(&Self)) {
        f(self);
        for child in self.children() {
            child.visit(f);
        }
    }
}

//! An expression as JSON, as Prometheus's user interface and Grafana read it: one object per node, its
//! `type` and what belongs to it.

use stoa_model::Matcher;

use super::ast::{
    Aggregate, At, Binary, Call, Cardinality, Duration, DurationKind, Expr, ExprKind, Extension,
    Matching, Selector, Shift, Subquery, Type,
};
use super::signature::Variadic;
use crate::number::format_float;

/// The node and all below it.
pub(super) fn node(out: &mut String, expr: &Expr) {
    match &expr.kind {
        ExprKind::Number(v) => {
            object(out, &[("type", &"numberLiteral"), ("val", &format_float(*v).as_str())]);
        }
        ExprKind::Text(text) => {
            object(out, &[("type", &"stringLiteral"), ("val", &text.value.as_str())]);
        }
        ExprKind::Paren(inner) => object(out, &[("type", &"parenExpr"), ("expr", inner.as_ref())]),
        ExprKind::Unary { negate, operand } => {
            let op = if *negate { "-" } else { "+" };
            object(out, &[("type", &"unaryExpr"), ("op", &op), ("expr", operand.as_ref())]);
        }
        ExprKind::Binary(binary) => operation(out, expr, binary),
        ExprKind::Aggregate(aggregate) => aggregation(out, aggregate),
        ExprKind::Call(call) => function(out, call),
        ExprKind::Selector(selector) => series(out, "vectorSelector", selector, None),
        ExprKind::Matrix(matrix) => {
            series(out, "matrixSelector", &matrix.selector, Some(&matrix.range));
        }
        ExprKind::Subquery(subquery) => within(out, subquery),
    }
}

fn operation(out: &mut String, expr: &Expr, binary: &Binary) {
    let matching = expr.matches_vectors().then_some(&binary.matching);
    object(
        out,
        &[
            ("type", &"binaryExpr"),
            ("op", &binary.op.as_str()),
            ("lhs", &binary.left),
            ("rhs", &binary.right),
            ("matching", &matching),
            ("bool", &binary.return_bool),
        ],
    );
}

fn aggregation(out: &mut String, aggregate: &Aggregate) {
    object(
        out,
        &[
            ("type", &"aggregation"),
            ("op", &aggregate.op.as_str()),
            ("expr", &aggregate.operand),
            ("param", &aggregate.parameter.as_ref()),
            ("grouping", &aggregate.grouping.as_slice()),
            ("without", &aggregate.without),
        ],
    );
}

fn function(out: &mut String, call: &Call) {
    let function = call.function;
    let variadic = match function.variadic {
        Variadic::Fixed => 0,
        Variadic::Optional => 1,
        Variadic::AtMost(more) => i64::try_from(more).unwrap_or(i64::MAX),
        Variadic::Any => -1,
    };
    struct Function<'a>(&'a [(&'a str, &'a dyn Json)]);
    impl Json for Function<'_> {
        fn write(&self, out: &mut String) {
            object(out, self.0);
        }
    }
    let signature = Function(&[
        ("name", &function.name),
        ("argTypes", &function.args),
        ("variadic", &variadic),
        ("returnType", &function.returns),
    ]);
    object(out, &[("type", &"call"), ("func", &signature), ("args", &call.args.as_slice())]);
}

fn series(out: &mut String, kind: &str, selector: &Selector, range: Option<&Duration>) {
    let mut all: Vec<(&str, &dyn Json)> = vec![("type", &kind)];
    let name = selector.name.as_deref().unwrap_or("");
    all.push(("name", &name));
    let range = range.map(milliseconds);
    if let Some(range) = &range {
        all.push(("range", range));
    }
    let offset = selector.shift.offset.as_ref().map_or(0, milliseconds);
    let (time, edge) = at(&selector.shift);
    let matchers = selector.matchers.as_slice();
    let anchored = selector.extension == Some(Extension::Anchored);
    let smoothed = selector.extension == Some(Extension::Smoothed);
    all.extend([
        ("offset", &offset as &dyn Json),
        ("matchers", &matchers),
        ("timestamp", &time),
        ("startOrEnd", &edge),
        ("anchored", &anchored),
        ("smoothed", &smoothed),
    ]);
    object(out, &all);
}

fn within(out: &mut String, subquery: &Subquery) {
    let (time, edge) = at(&subquery.shift);
    object(
        out,
        &[
            ("type", &"subquery"),
            ("expr", &subquery.expr),
            ("range", &milliseconds(&subquery.range)),
            ("offset", &subquery.shift.offset.as_ref().map_or(0, milliseconds)),
            ("step", &subquery.step.as_ref().map_or(0, milliseconds)),
            ("timestamp", &time),
            ("startOrEnd", &edge),
        ],
    );
}

/// 0 where it depends on the query's step and range.
fn milliseconds(duration: &Duration) -> i64 {
    match duration.kind {
        DurationKind::Seconds(_) => duration.resolve(0, 0).unwrap_or(0),
        _ => 0,
    }
}

fn at(shift: &Shift) -> (Option<i64>, Option<&'static str>) {
    match shift.at {
        None => (None, None),
        Some(At::Time(t)) => (Some(t), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

/// What can be a value.
trait Json {
    fn write(&self, out: &mut String);
}

fn object(out: &mut String, members: &[(&str, &dyn Json)]) {
    out.push('{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        name.write(out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

impl Json for Expr {
    fn write(&self, out: &mut String) {
        node(out, self);
    }
}

impl Json for &str {
    fn write(&self, out: &mut String) {
        out.push('"');
        for c in self.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if u32::from(c) < 0x20 => {
                    out.push_str("\\u00");
                    for nibble in [u32::from(c) >> 4, u32::from(c) & 15] {
                        out.push(char::from_digit(nibble, 16).unwrap_or('0'));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

impl Json for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl Json for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Json for i64 {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Json> Json for &[T] {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (i, value) in self.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            value.write(out);
        }
        out.push(']');
    }
}

impl Json for &Expr {
    fn write(&self, out: &mut String) {
        node(out, self);
    }
}

impl Json for Type {
    fn write(&self, out: &mut String) {
        self.short().write(out);
    }
}

impl Json for Matcher {
    fn write(&self, out: &mut String) {
        let (name, value) = (self.name(), self.value());
        object(out, &[("name", &name), ("value", &value), ("type", &self.op().as_str())]);
    }
}

impl Json for &Matching {
    fn write(&self, out: &mut String) {
        let cardinality = match self.cardinality {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        };
        let fill = Fill { left: self.fill_left, right: self.fill_right };
        object(
            out,
            &[
                ("card", &cardinality),
                ("labels", &self.labels.as_slice()),
                ("on", &self.on),
                ("include", &self.include.as_slice()),
                ("fillValues", &fill),
            ],
        );
    }
}

/// What stands for missing partners.
struct Fill {
    left: Option<f64>,
    right: Option<f64>,
}

impl Json for Fill {
    fn write(&self, out: &mut String) {
        object(out, &[("lhs", &self.left), ("rhs", &self.right)]);
    }
}

impl Json for f64 {
    /// What JSON has no numbers for is written as a string.
    fn write(&self, out: &mut String) {
        let text = format_float(*self);
        if self.is_finite() { out.push_str(&text) } else { text.write(out) }
    }
}

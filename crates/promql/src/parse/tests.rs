use super::*;
use ast::{BinaryOp, Type};

fn check(query: &str, expect: &str) {
    let got = match parse(query) {
        Ok(expr) => sexpr(&expr),
        Err(error) => error.to_string(),
    };
    assert_eq!(got, expect, "{query}");
}

/// The tree in a few letters.
fn sexpr(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Number(v) => crate::number::format_float(*v),
        ExprKind::Text(text) => crate::number::quote(&text.value),
        ExprKind::Paren(inner) => sexpr(inner),
        ExprKind::Unary { operand, .. } => format!("(neg {})", sexpr(operand)),
        ExprKind::Binary(b) => {
            format!("({} {} {})", b.op.as_str(), sexpr(&b.left), sexpr(&b.right))
        }
        ExprKind::Aggregate(a) => format!("({} {})", a.op.as_str(), sexpr(&a.operand)),
        ExprKind::Call(c) => {
            let args: Vec<String> = c.args.iter().map(sexpr).collect();
            format!("({} {})", c.function.name, args.join(" "))
        }
        ExprKind::Selector(s) => {
            s.matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        ExprKind::Matrix(m) => format!("{}ms", m.range.resolve(1000, 10_000).unwrap()),
        ExprKind::Subquery(s) => {
            format!("({} {}ms)", sexpr(&s.expr), s.range.resolve(1000, 10_000).unwrap())
        }
    }
}

#[test]
fn operators_bind_as_prometheus_binds_them() {
    check("1 + 2 * 3", "(+ 1 (* 2 3))");
    check("2 ^ 3 ^ 2", "(^ 2 (^ 3 2))");
    check("-2 ^ 2", "(neg (^ 2 2))");
    check("-a * b", r#"(* (neg __name__="a") __name__="b")"#);
    check("a or b and c unless d", {
        r#"(or __name__="a" (unless (and __name__="b" __name__="c") __name__="d"))"#
    });
    check("1 - -1", "(- 1 -1)");
    check("2/-2^---1*3+2", "(+ (* (/ 2 (neg (^ 2 -1))) 3) 2)");
    assert_eq!(BinaryOp::Pow.precedence(), 6);
}

#[test]
fn names_may_be_keywords_and_utf8() {
    check("sum", r#"__name__="sum""#);
    check(r#"{"a.b", "c d"="e"}"#, r#"c d="e",__name__="a.b""#);
    check("sum by (a) (offset)", r#"(sum __name__="offset")"#);
    check("start{}", r#"__name__="start""#);
}

#[test]
fn durations_may_be_computed() {
    check("rate(a[5m * 2])", "(rate 600000ms)");
    check("rate(a[step() + 1])", "(rate 2000ms)");
    check("rate(a[max_of(range(), 1s)])", "(rate 10000ms)");
    check("a[1h:30s]", r#"(__name__="a" 3600000ms)"#);
    check("rate(a[1:]) ", r#"(rate (__name__="a" 1000ms))"#);
    check("a offset (1h / 2)", r#"__name__="a""#);
}

#[test]
fn errors_say_where_and_what() {
    for (query, expect) in [
        ("", "1:1: parse error: no expression found in input"),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("sum(a))", "1:8: parse error: unexpected right parenthesis ')'"),
        ("a[5m", "1:5: parse error: unexpected end of input in duration expression"),
        ("a[b]", "1:3: parse error: unexpected character in duration expression: 'b'"),
        ("a{b=\"c\"", "1:8: parse error: unexpected end of input inside braces"),
        ("a{b=\"c\",1}", "1:9: parse error: unexpected character inside braces: '1'"),
        ("a{b{", "1:4: parse error: unexpected left brace '{'"),
        ("a{b==\"c\"}", "1:5: parse error: unexpected \"=\" in label matching, expected string"),
        ("a{b!\"c\"}", "1:4: parse error: unexpected character after '!' inside braces: '\"'"),
        ("a =~ b", "1:3: parse error: unexpected character after '=': '~'"),
        ("a = b", "1:3: parse error: unexpected \"=\""),
        ("a !", "1:3: parse error: unexpected character after '!': '\u{fffd}'"),
        ("a]", "1:2: parse error: unexpected right bracket ']'"),
        ("a}", "1:2: parse error: unexpected character: '}'"),
        ("a b:c", "1:3: parse error: unexpected metric identifier \"b:c\""),
        ("a @ AND", "1:5: parse error: unexpected <op:AND> in @, expected timestamp"),
        ("sum(abs(a b))", "1:11: parse error: unexpected identifier \"b\" in aggregation"),
        ("abs(a \"a longer text\")", "1:7: parse error: unexpected string \"\\\"a longer \"..."),
        ("a # b\r+ )", "1:10: parse error: unexpected right parenthesis ')'"),
        ("a\u{b}", "1:2: parse error: unexpected character: '\\u{b}'"),
        ("foo(a", "1:6: parse error: unclosed left parenthesis"),
        ("foo(a, =)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("sum(a,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("offset (a)", "1:8: parse error: unexpected \"(\""),
        ("30son", "1:1: parse error: bad number or duration syntax: \"30so\""),
        ("a[1m1h]", "1:3: parse error: not a valid duration string: \"1m1h\""),
        (
            "a{nan=inf}",
            "1:7: parse error: unexpected identifier \"inf\" in label matching, expected string",
        ),
        ("1 1 $", "1:3: parse error: unexpected number \"1\""),
        ("foo(a)", "1:1: parse error: unknown function with name \"foo\""),
        (
            "rate(a)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("rate()", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 0"),
        ("1 == 1", "1:1: parse error: comparisons between scalars must use BOOL modifier"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("a{b=~\"(\"}", "1:3: parse error: error parsing regexp: missing closing ): `(`"),
        ("a\n  + )", "2:6: parse error: unexpected right parenthesis ')'"),
        ("a offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"),
        ("sum(a)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
        ("a[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"),
        (
            "(a[5m:] smoothed)",
            "1:2: parse error: smoothed modifier is not supported for subqueries",
        ),
        ("sum(a) anchored", "1:1: parse error: anchored modifier not implemented"),
        (
            "a[5m] anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "x or a and on(b) group_left c",
            "1:6: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "a or fill(0) b",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        (
            "a[5m][5m:]",
            "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
        ),
        (
            "1 + (2)[5m:]",
            "1:5: parse error: subquery is only allowed on instant vector, got scalar instead",
        ),
        ("a @ Inf", "1:5: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("a[5m / 0]", "1:6: parse error: division by zero"),
        ("a[5m % 0s]", "1:6: parse error: modulo by zero"),
        ("a offset (5m / 0)", "1:14: parse error: division by zero"),
        (
            "1 and a",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
    ] {
        check(query, expect);
    }
}

#[test]
fn selectors_for_match_parameters() {
    assert_eq!(parse_selector("up{job=\"a\"}").unwrap().len(), 2);
    assert!(parse_selector("up offset 5m").is_err());
    assert!(parse_selector("sum(up)").is_err());
    assert_eq!(selector_groups("rate(a[5m]) / b").unwrap().len(), 2);
}

#[test]
fn every_function_returns_a_scalar_or_vector() {
    assert!(signature::all().iter().all(|s| matches!(s.returns, Type::Scalar | Type::Vector)));
}

#[test]
fn deep_nesting_is_refused_not_a_crash() {
    // Parentheses in chains of operators: each within its own bound.
    let product = format!("{}1{}", "(".repeat(90), format!("{}) ", "+1".repeat(240)).repeat(90));
    let subqueries = format!("a{}", "[5m:1m]".repeat(100_000));
    let durations = format!("a[1s{}]", "+1s".repeat(100_000));
    for deep in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "1+".repeat(100_000),
        product,
        subqueries,
        durations,
    ] {
        let error = parse(&deep).unwrap_err().to_string();
        let is_told = error.contains("nested too deeply") || error.contains("more than 131072");
        assert!(is_told, "{error}");
    }
    for deep in ["(", "-", "{", "[", "a[", "sum(", "a offset ", "!", "1^", "@", "\"\"+"] {
        let repeated = deep.repeat(1_000_000 / deep.len());
        assert!(parse(&repeated).is_err(), "{deep}");
        assert!(parse_selector(&repeated).is_err(), "{deep}");
    }
    let label = format!("a{{b=\"{}\"}}", "x".repeat(1_000_000));
    assert!(parse(&label).is_ok());
    assert!(parse(&"a[".repeat(9999)).is_err());
    // Wide is not deep.
    let wide = format!("max(a) + {}", vec!["sum(rate(a[5m]))"; 240].join(" + "));
    assert!(parse(&wide).is_ok());
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,60}") {
        let _outcome = parse(&text);
    }

    #[test]
    fn any_tokens_are_parsed_or_refused(words in proptest::collection::vec(
        proptest::sample::select(vec![
            "a", "sum", "rate", "(", ")", "[", "]", "{", "}", "5m", ":", "1", "-", "^", "==", "bool",
            "by", "on", "offset", "@", "start", ",", "=", "\"x\"", "fill", "</", "and", "step()",
        ]), 0..20)) {
        let _outcome = parse(&words.join(" "));
    }
}

#[test]
fn regular_expressions_have_a_budget_in_common() {
    let many =
        |pattern: &str, count: usize| vec![format!("a{{b=~\"{pattern}\"}}"); count].join(" + ");
    assert!(parse(&many("x+", 256)).is_ok());
    let error = parse(&many("x+", 257)).unwrap_err().to_string();
    assert!(
        error.ends_with("parse error: more than 256 regular expressions: use fewer"),
        "{error}"
    );
    assert!(parse(&many("x|y", 300)).is_ok());
    let error = parse(&many("(\\\\p{L}{20}){20}", 20)).unwrap_err().to_string();
    assert!(error.contains("regular expressions compile to more than"), "{error}");
}

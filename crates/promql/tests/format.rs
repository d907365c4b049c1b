//! Queries laid out, and as trees: what comes out means what went in.

#![expect(clippy::unwrap_used, reason = "a test; a query that is none is its failure")]

use stoa_promql::{Features, format_query, query_tree};

fn formatted(query: &str) -> String {
    format_query(query, Features::all()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn tree(query: &str) -> String {
    query_tree(query, Features::all()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

#[test]
fn what_fits_stays_on_a_line() {
    for (query, expect) in [
        ("up", "up"),
        ("  up{job='a'} # the comment goes\n", r#"up{job="a"}"#),
        (r#"{__name__="up"}"#, r#"{__name__="up"}"#),
        (r#"{"up", z="1", a=~"b.*"}"#, r#"{__name__="up",a=~"b.*",z="1"}"#),
        (r#"up{"a.b"!="c"}"#, r#"up{"a.b"!="c"}"#),
        ("sum(up)by(job,  instance)", "sum by (job, instance) (up)"),
        (r#"sum by ("a.b") (up)"#, r#"sum by ("a.b") (up)"#),
        ("sum by () (up)", "sum(up)"),
        ("sum without () (up)", "sum without () (up)"),
        ("topk(3,up)", "topk(3, up)"),
        ("count_values without (a) ('v', up)", r#"count_values without (a) ("v", up)"#),
        ("rate(a[300s])", "rate(a[5m])"),
        ("rate(a[300])", "rate(a[5m])"),
        ("a[90m:1d12h] @ end() offset 1w", "a[1h30m:1d12h] @ end() offset 1w"),
        ("a[8d:]", "a[8d:]"),
        ("a offset -1ms @ 1.5", "a @ 1.500 offset -1ms"),
        ("a offset 0s", "a"),
        ("a @ -0.001", "a @ -0.001"),
        ("a[5m] offset 5m @ start() anchored", "a[5m] anchored @ start() offset 5m"),
        ("a smoothed offset 1m", "a smoothed offset 1m"),
        ("-a ^ 2", "-a ^ 2"),
        ("-(a ^ 2)", "-(a ^ 2)"),
        ("+a", "+a"),
        ("- -1", "1"),
        ("1 - -1", "1 - -1"),
        ("0x10 + 1e3 + 5m + Inf + -inf + NaN", "16 + 1000 + 5m + Inf + -Inf + NaN"),
        ("(((a)))", "(((a)))"),
        ("a and on() b", "a and on () b"),
        ("a + ignoring() b", "a + b"),
        ("a == bool b", "a == bool b"),
        ("a > BOOL 1", "a > bool 1"),
        ("a * on(x,y) group_left(z) b", "a * on (x, y) group_left (z) b"),
        ("a * ignoring(x) group_right b", "a * ignoring (x) group_right () b"),
        ("a + fill(0) b", "a + fill (0) b"),
        (
            "a + on(x) fill_right(-1.5) fill_left(1e6) b",
            "a + on (x) fill_left (1e+06) fill_right (-1.5) b",
        ),
        ("a[5m * 2]", "a[5m * 2]"),
        ("a[(step() + 1) * 2]", "a[(step() + 1) * 2]"),
        ("a[max(range(), 1m)]", "a[max_of(range(), 1m)]"),
        ("a[(5m)]", "a[5m]"),
        ("a[(-2) ^ 2]", "a[(-2) ^ 2]"),
        ("a[10m + (-2) ^ 2]", "a[10m + (-2) ^ 2]"),
        ("a offset -5m ^ 2", "a offset -5m ^ 2"),
        ("a offset +2 ^ 2", "a offset 2s ^ 2"),
        (r#"a{b="\u0085\a\x01\u200b"}"#, r#"a{b="\u0085\a\x01\u200b"}"#),
        ("a offset (1h / 2)", "a offset (1h / 2)"),
        ("a offset -(1h / 2)", "a offset -(1h / 2)"),
        ("label_replace(a,'b','$1',\"c\",`\\d`)", r#"label_replace(a, "b", "$1", "c", "\\d")"#),
        ("info(a, {b=~'.*'})", r#"info(a, {b=~".*"})"#),
        ("time()", "time()"),
        ("h </ 5 >/ 2", "h </ 5 >/ 2"),
        ("a atan2 b", "a atan2 b"),
    ] {
        assert_eq!(formatted(query), expect, "{query}");
        assert_eq!(formatted(expect), expect, "{query}");
    }
}

#[test]
fn what_does_not_fit_is_split_and_indented() {
    let long = r#"sum by (instance, job, mode) (rate(node_cpu_seconds_total{instance=~"pve.*",mode!="idle"}[5m])) / on (instance) group_left () count by (instance) (node_cpu_info) > bool -avg(other)"#;
    assert_eq!(
        formatted(long),
        r#"    sum by (instance, job, mode) (rate(node_cpu_seconds_total{instance=~"pve.*",mode!="idle"}[5m]))
  / on (instance) group_left ()
    count by (instance) (node_cpu_info)
> bool
  -avg(other)"#
    );
    let nested = r#"histogram_quantile(0.99, (label_replace(sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[5m])), "a", "$1", "handler", "(.*)")))"#;
    assert_eq!(
        formatted(nested),
        r#"histogram_quantile(
  0.99,
  (
    label_replace(
      sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[5m])),
      "a",
      "$1",
      "handler",
      "(.*)"
    )
  )
)"#
    );
    let subquery =
        format!("topk(5, -max_over_time(rate({}_total[5m])[1h:1m] offset 5m))", "a".repeat(90));
    let lines = formatted(&subquery);
    assert_eq!(
        lines,
        format!(
            "topk(\n  5,\n  -max_over_time(\n    rate(\n      {}_total[5m]\n    )[1h:1m] offset 5m\n  )\n)",
            "a".repeat(90)
        )
    );
    // One that fits is not indented: so does Prometheus.
    let subquery = format!("max_over_time(sum(rate({}_total[5m]))[1h:1m])", "a".repeat(70));
    assert_eq!(
        formatted(&subquery),
        format!("max_over_time(\nsum(rate({}_total[5m]))[1h:1m]\n)", "a".repeat(70))
    );
}

#[test]
fn trees_are_those_of_prometheus() {
    for (query, expect) in [
        (
            "rate(a{b=~'c'}[5m] offset 1m)",
            r#"{"type":"call","func":{"name":"rate","argTypes":["matrix"],"variadic":0,"returnType":"vector"},"args":[{"type":"matrixSelector","name":"a","range":300000,"offset":60000,"matchers":[{"name":"b","value":"c","type":"=~"},{"name":"__name__","value":"a","type":"="}],"timestamp":null,"startOrEnd":null,"anchored":false,"smoothed":false}]}"#,
        ),
        (
            "topk without(x) (2, -a @ 1.5)",
            r#"{"type":"aggregation","op":"topk","expr":{"type":"unaryExpr","op":"-","expr":{"type":"vectorSelector","name":"a","offset":0,"matchers":[{"name":"__name__","value":"a","type":"="}],"timestamp":1500,"startOrEnd":null,"anchored":false,"smoothed":false}},"param":{"type":"numberLiteral","val":"2"},"grouping":["x"],"without":true}"#,
        ),
        (
            "time() > bool (1)",
            r#"{"type":"binaryExpr","op":">","lhs":{"type":"call","func":{"name":"time","argTypes":[],"variadic":0,"returnType":"scalar"},"args":[]},"rhs":{"type":"parenExpr","expr":{"type":"numberLiteral","val":"1"}},"matching":null,"bool":true}"#,
        ),
        (
            "vector(1) / on(a) group_left(b) fill_right(2) vector(2)",
            r#"{"type":"binaryExpr","op":"/","lhs":{"type":"call","func":{"name":"vector","argTypes":["scalar"],"variadic":0,"returnType":"vector"},"args":[{"type":"numberLiteral","val":"1"}]},"rhs":{"type":"call","func":{"name":"vector","argTypes":["scalar"],"variadic":0,"returnType":"vector"},"args":[{"type":"numberLiteral","val":"2"}]},"matching":{"card":"many-to-one","labels":["a"],"on":true,"include":["b"],"fillValues":{"lhs":null,"rhs":2}},"bool":false}"#,
        ),
        ("sum(vector(pi())[1h:1m] @ end())", ""),
        (
            "round(sum_over_time(vector(pi())[1h:1m] @ end()))",
            r#"{"type":"call","func":{"name":"round","argTypes":["vector","scalar"],"variadic":1,"returnType":"vector"},"args":[{"type":"call","func":{"name":"sum_over_time","argTypes":["matrix"],"variadic":0,"returnType":"vector"},"args":[{"type":"subquery","expr":{"type":"call","func":{"name":"vector","argTypes":["scalar"],"variadic":0,"returnType":"vector"},"args":[{"type":"call","func":{"name":"pi","argTypes":[],"variadic":0,"returnType":"scalar"},"args":[]}]},"range":3600000,"offset":0,"step":60000,"timestamp":null,"startOrEnd":"end"}]}]}"#,
        ),
        ("\"a\\\"\\n\\u0001\"", r#"{"type":"stringLiteral","val":"a\"\n\u0001"}"#),
    ] {
        match query_tree(query, Features::all()) {
            Ok(tree) => assert_eq!(tree, expect, "{query}"),
            Err(_) => assert_eq!(expect, "", "{query}"),
        }
    }
}

#[test]
fn every_query_of_the_scripts_means_the_same_when_it_is_laid_out() {
    let mut seen = 0;
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let theirs = std::env::var_os("STOA_CONFORMANCE_DATA")
        .map(|data| std::path::Path::new(&data).join("promqltest"));
    for dir in [Some(own), theirs].into_iter().flatten() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines() {
                let Some(query) = query_of(line.trim()) else { continue };
                let Ok(laid_out) = format_query(query, Features::all()) else { continue };
                seen += 1;
                assert_eq!(sorted(&tree(&laid_out)), sorted(&tree(query)), "{query}");
                assert_eq!(formatted(&laid_out), laid_out, "{query}");
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// A tree with the matchers of each selector in order, which they are laid out in.
fn sorted(tree: &str) -> String {
    let mut parts = tree.split("\"matchers\":[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (matchers, rest) = part.split_once("],\"timestamp\"").unwrap();
        let mut matchers: Vec<&str> = matchers.trim_matches(['{', '}']).split("},{").collect();
        matchers.sort_unstable();
        out.push_str(&matchers.join(" "));
        out.push_str(rest);
    }
    out
}

/// The query of a line of a script.
fn query_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("eval")?;
    let rest = match rest.split_once(" step ") {
        Some((_, rest)) if rest.contains(" range from ") || line.contains(" range from ") => rest,
        _ => rest.split_once(" at ")?.1,
    };
    Some(rest.split_once(' ')?.1.trim())
}

#[test]
fn too_long_is_refused() {
    let long = format!("sum({})", "a".repeat(70_000));
    assert_eq!(
        format_query(&long, Features::all()).unwrap_err().to_string(),
        "query is longer than 65536 bytes"
    );
    assert!(format_query("(", Features::all()).is_err());
    assert!(format_query("info(a)", Features::none()).is_err());
}

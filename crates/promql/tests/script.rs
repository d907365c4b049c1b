//! Scripts that do not hold are told so: each way to expect something, and something else that comes.

use stoa_promql::script::run;

const LOAD: &str = "load 10s\n  m{a=\"1\"} 1 2 3\n  m{a=\"2\"} 4 5 6\n  h {{count:1 sum:1}}\n\n";

fn check(eval: &str, expect: &str) {
    let report = run(&format!("{LOAD}{eval}\n"));
    let [failure] = report.failed.as_slice() else { panic!("{eval}: {report:?}") };
    assert!(failure.message.contains(expect), "{eval}: {failure:?}");
    assert_eq!(failure.line, 6, "{eval}");
}

#[test]
fn what_does_not_hold_is_told() {
    for (eval, expect) in [
        ("eval instant at 0 sum(m)\n  {} 6", "expected 6, got 5"),
        ("eval instant at 0 m", "unexpected series m{a=\"1\"} 1"),
        ("eval instant at 0 sum(m)\n  {} 5\n  {x=\"y\"} 1", "missing series {x=\"y\"}"),
        ("eval instant at 0 sum(m)\n  5", "expected the scalar 5, got a vector"),
        ("eval instant at 0 time()\n  {} 0", "got the scalar 0"),
        (
            "eval instant at 0 sort(m)\n  expect ordered\n  m{a=\"2\"} 4\n  m{a=\"1\"} 1",
            "is number",
        ),
        ("eval instant at 0 sum(m)\n  expect fail\n  {} 5", "expected a failure"),
        ("eval instant at 0 sum(", "failed: "),
        ("eval instant at 0 sum(\n  expect fail msg: no", "failed with another message"),
        ("eval instant at 0 sum(\n  expect fail regex: ^no", "failed with another message"),
        ("eval instant at 0 min(h)\n  expect no_info", "expected no info"),
        ("eval instant at 0 sum(m)\n  expect info\n  {} 5", "an expected info is not among"),
        ("eval instant at 0 sum(m)\n  expect warn\n  {} 5", "an expected warning is not among"),
        ("eval instant at 0 min(h)\n  expect info regex: max", "an expected info is not among"),
        ("eval instant at 0 min(h) or max(h)\n  expect info regex: max", "unexpected info"),
        ("eval instant at 0 quantile(2, m)\n  expect no_warn\n  {} Inf", "expected no warning"),
        ("eval instant at 0 \"a\"\n  expect string \"b\"", "expected Some(\"b\"), got \"a\""),
        ("eval instant at 0 h\n  h {{count:1 sum:1 counter_reset_hint:gauge}}", "got"),
        ("eval instant at 0 h\n  h 1", "expected 1, got"),
        ("eval instant at 0 sum(m)\n  {} {{count:1}}", "got 5"),
        ("eval range from 0 to 20s step 10s sum(m)\n  {} 5 7", "unexpected points"),
        ("eval range from 0 to 20s step 10s sum(m)\n  {} 5 7 9 11", "more points expected"),
        ("eval range from 0 to 20s step 10s sum(m)\n  {} 5 _ 9", "expected nothing, got 7"),
        (
            "eval instant at 20s m{a=\"1\"}[10s]\n  expect range vector from 10s to 20s step 10s\n  m{a=\"1\"} 3 3",
            "expected 3, got nothing",
        ),
        ("eval instant at 0 m{a=\"1\"}\n  m{a=\"1\"} 1 2", "need \"expect range vector\""),
        ("eval instant at 0 min(h)\n  expect info\n  expect no_info", "cannot both be expected"),
        ("eval instant at 0 min(h)\n  expect something", "invalid expect statement"),
        ("eval instant at 0 min(h)\n  expect info msg min", "invalid expect statement"),
        ("eval instant at x m", "invalid duration"),
        ("eval now m", "invalid evaluation command"),
        ("evil", "invalid command"),
        ("load x\n  m 1", "invalid duration"),
        ("load 1m\n  m 1x", "invalid repetition"),
        ("load 1m\n  m {{foo:1}}", "bad histogram descriptor found"),
        ("load 1m\n  m@st -1m\n  n 1", "@st metric does not match"),
        ("load 1m\n  m@st -1m\n  m 1 2", "@st line has 1 values but sample line has 2"),
        ("load 1m\n  m@st -1m", "@st line has no following sample line"),
        ("load 1m\n  m@st x\n  m 1", "invalid @st sequence"),
    ] {
        check(eval, expect);
    }
}

use proptest::prelude::*;
use stoa_model::Labels;

use super::*;

fn written(families: &[Family]) -> String {
    let mut out = Vec::new();
    write(families, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(written(&parse(text).unwrap().families), expected);
}

#[test]
fn what_an_exporter_serves_is_read() {
    check(
        "# a comment\n# HELP x A \\\\ \"help\"\\n.\n# TYPE x counter\nx 1\n\n\
         x{a=\"q\\\"\\\\\\n\",b = \"{,}\" ,} 2.5e3\r\n\ty\t+Inf\n",
        "# HELP x A \\\\ \"help\"\\n.\n# TYPE x counter\nx 1\n\
         x{a=\"q\\\"\\\\\\n\",b=\"{,}\"} 2500\n# HELP y \n# TYPE y untyped\ny +Inf\n",
    );
    let histogram = "# HELP h \n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n";
    check(histogram, histogram);
    let summary = "# HELP s \n# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 1\ns_count 3\n\
                   # HELP s_bucket \n# TYPE s_bucket untyped\ns_bucket 1\n";
    check(summary, summary);
    let quoted = "# HELP \"my.name\" \n# TYPE \"my.name\" gauge\n{\"my.name\"} 1\n{\"my.name\",\"a b\"=\"c\"} 2\n";
    check(quoted, quoted);
    assert!(parse("x 1 1441205977284").unwrap().has_timestamps);
    assert!(!parse("x 1").unwrap().has_timestamps);
    assert!(parse("x NaN").unwrap().families[0].metrics[0].value.is_nan());
    assert_eq!(parse("# TYPE x gauge\n").unwrap(), Parsed::default());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("x 1\n1x 2", "line 2, column 1: expected a metric's name"),
        ("x", "line 1, column 2: expected a number"),
        ("x infinity", "line 1, column 3: expected a number"),
        ("x 1 2 3", "line 1, column 7: expected the end of the line"),
        ("x 1 2.5", "line 1, column 5: expected a timestamp in milliseconds"),
        ("x{a=\"1\" 1", "line 1, column 10: expected } after the labels"),
        ("x{a=\"1\" b=\"2\"} 1", "line 1, column 9: expected a comma or } after the label"),
        ("x{a=\"1} 1", "line 1, column 10: expected } after the labels"),
        ("x{a=1} 1", "line 1, column 5: expected a quote"),
        ("x{a} 1", "line 1, column 4: expected = after the label's name"),
        ("x{a=\"\\x\"} 1", "line 1, column 6: expected \\\\, \\n or \\\" after \\"),
        ("x{a=\"1\",a=\"2\"} 1", "line 1, column 15: expected each label once"),
        ("x{__name__=\"y\"} 1", "line 1, column 3: expected one name for the metric"),
        ("{a=\"1\"} 1", "line 1, column 8: expected a metric's name"),
        ("# TYPE x number", "line 1, column 10: expected a type of metric"),
        ("# HELP", "line 1, column 7: expected a metric's name"),
        ("x 1\n\n# TYPE x gauge", "line 3, column 1: expected the type before the first reading"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn a_family_has_help_type_and_lines() {
    let mut family = Family::new("x_total", "a \\ \"b\"\nc", MetricKind::Counter);
    family.push(Labels::empty(), -0.0);
    family.push(Labels::from_pairs([("a", "q\"\\\n"), ("b", "ä")]).unwrap(), 2e9);
    family.push(Labels::from_pairs([("__name__", "x_bucket"), ("le", "1")]).unwrap(), 3.0);
    assert_eq!(
        written(&[family]),
        "# HELP x_total a \\\\ \"b\"\\nc\n# TYPE x_total counter\nx_total 0\n\
         x_total{a=\"q\\\"\\\\\\n\",b=\"ä\"} 2e+09\nx_bucket{le=\"1\"} 3\n"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), tail in "[a-z{}=\", #\\\\\n1]{0,60}") {
        let _either = parse(&text).is_ok();
        let _either = parse(&tail).is_ok();
    }

    #[test]
    fn what_is_written_reads_back_equal(
        help in any::<String>(), value in any::<String>(), number in any::<u64>().prop_map(f64::from_bits),
    ) {
        prop_assume!(!number.is_nan() && number != 0.0);
        // Lines end with LF alone in this format; a CR before it, or white space at the ends of a
        // help, is not kept.
        prop_assume!(help.trim() == help && !help.contains('\r') && !value.contains('\r'));
        let mut family = Family::new("x", help, MetricKind::Gauge);
        family.push(Labels::from_pairs_last_wins([("a", value)]), number);
        let families = vec![family];
        prop_assert_eq!(parse(&written(&families)).unwrap().families, families);
    }
}

#[test]
fn openmetrics_is_written_by_its_own_rules() {
    let text = "# HELP x_total A \"help\".\n# TYPE x_total counter\nx_total{a=\"b\"} 1\n\
                # HELP odd Named otherwise.\n# TYPE odd counter\nodd 2\n\
                # HELP h How long.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 2\n\
                h_bucket{le=\"+Inf\"} 3\nh_sum 1.5\nh_count 3\n\
                # HELP g\n# TYPE g gauge\ng{le=\"1\"} NaN\n";
    let mut out = Vec::new();
    write_as(&parse(text).unwrap().families, Format::OpenMetrics, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "# HELP x A \\\"help\\\".\n# TYPE x counter\nx_total{a=\"b\"} 1\n\
         # HELP odd Named otherwise.\n# TYPE odd unknown\nodd 2\n\
         # HELP h How long.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1.0\"} 2\n\
         h_bucket{le=\"+Inf\"} 3\nh_sum 1.5\nh_count 3\n\
         # HELP g \n# TYPE g gauge\ng{le=\"1\"} NaN\n# EOF\n"
    );
}

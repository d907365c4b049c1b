use super::*;

fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for text in yes {
        assert!(compiled.is_match(text), "{pattern} does not match {text:?}");
    }
    for text in no {
        assert!(!compiled.is_match(text), "{pattern} matches {text:?}");
    }
}

#[test]
fn whole_values_are_matched_newlines_included() {
    check("a|b", &["a", "b"], &["ab", "xa", ""]);
    check("a.c", &["abc", "a\nc", "aäc"], &["ac"]);
    check("(?-s)a.c", &["abc"], &["a\nc"]);
    check("[^a]", &["\n", "b"], &["a"]);
    check("^a$", &["a"], &["a\n"]);
    check("(?m)a$\nb", &["a\nb"], &["a"]);
    check("", &[""], &["a"]);
    check("a||b", &["a", "", "b"], &["ab"]);
}

#[test]
fn classes_are_ascii() {
    check(r"\d+", &["09"], &["٣", "", "a"]);
    check(r"\w+", &["aZ_9"], &["ä", "-"]);
    check(r"\s", &[" ", "\t", "\n"], &["\u{a0}", "\u{b}"]);
    check(r"[\d\-]+", &["1-2"], &["a"]);
    check(r"[^\w]", &["ä", "-"], &["a"]);
    check(r"[\D]", &["a"], &["1"]);
    check(r"\Sx\W\D", &["ax-a"], &[" x-a"]);
    check(r"ä\b.*", &["äa"], &["ä", "ä "]);
    check(r".*\bfoo\b.*", &["a foo b", "foo", "äfoo"], &["afoo", "foob"]);
    check(r"a\Bb", &["ab"], &[]);
    check("[[:alpha:]]+", &["aZ"], &["ä", "1"]);
    check("[[:^digit:]]", &["a"], &["1"]);
    check(r"\p{Greek}\pL\P{Greek}\p{^Greek}", &["αaaa"], &["aaaa"]);
    check("(?i)straße", &["STRAßE"], &["strasse"]);
}

#[test]
fn what_only_one_of_the_two_knows_means_what_it_means_in_re2() {
    check(r"\Qa.b|c\E.", &["a.b|cx"], &["axb|cx"]);
    check(r"\Qa.b", &["a.b"], &["axb"]);
    check(r"\Qab\E*", &["a", "abb"], &["abab"]);
    check(r"\101\x41\x{41}\0101", &["AAA\u{8}1"], &[]);
    check(r"a\<b\>", &["a<b>"], &["ab"]);
    check("a{,2}", &["a{,2}"], &["a", "aa"]);
    check("a{", &["a{"], &[]);
    check("a{x}}", &["a{x}}"], &[]);
    check("a{2}b{1,}c{0,1}", &["aab", "aabbc"], &["ab", "aabcc"]);
    check("a]", &["a]"], &[]);
    check("[]a]", &["]", "a"], &["b"]);
    check("[a&&b]", &["a", "&", "b"], &["x"]);
    check("[a~~b]", &["a", "~", "b"], &["x"]);
    check("[+--]", &["+", ",", "-"], &["."]);
    check("[[a]", &["[", "a"], &["b"]);
    check("[a-]", &["a", "-"], &["b"]);
    check(r"[\]\[\-a]", &["]", "[", "-"], &["b"]);
    check("(?P<one>a)(?<two>b)(?P<3>c)", &["abc"], &[]);
    check("(?P<x>a)|(?P<x>b)", &["a", "b"], &["ab"]);
    check(r"a+\Q\E?", &["", "aa"], &["b"]);
    check("(?U)a*", &["aaa"], &[]);
    check("()a()", &["a"], &[]);
    check("(?:)", &[""], &["a"]);
    check("(?)a", &["a"], &["A"]);
    check("a(?i)*b", &["aaB", "b"], &["Ab"]);
    check("xa*(?i)?(?-s)?b", &["xb", "xaaB"], &["xAb"]);
    check("a+(?i)?", &["", "aa"], &["A"]);
    check("(a(?i))b|a(?i)|c", &["ab", "a", "C"], &["aB", "A"]);
    check("(a{10}){100}", &["a".repeat(1000).as_str()], &["a"]);
    check("(a{100}){0}(b{1000}|(c*){1}){1}", &["", "cc"], &["a", "bc"]);
    check("a b#c", &["a b#c"], &["abc"]);
}

#[test]
fn simple_ones_need_no_regular_expression() {
    let plain = |pattern: &str, yes: &[&str], no: &[&str]| {
        check(pattern, yes, no);
        assert!(Pattern::new(pattern).unwrap().is_plain(), "{pattern}");
    };
    plain("a|b.c|d\\.e".replace(".c", "c").as_str(), &["a", "bc", "d.e"], &["dxe"]);
    plain("node(1|2(a|b)?|3)".replace('?', "").as_str(), &["node1", "node2a", "node3"], &["node2"]);
    plain("(a|b)", &["a", "b"], &["c", ""]);
    plain("^(a|b)$", &["a", "b"], &["c"]);
    plain("^a|b$", &["a", "b"], &["c"]);
    plain(".*", &["", "a\nb"], &[]);
    plain(".+", &["a", "\n"], &[""]);
    plain("^.*$", &["", "a"], &[]);
    plain("eth.*", &["eth", "eth0"], &["xeth"]);
    plain("eth.+", &["eth0"], &["eth"]);
    plain(".*:9100", &["a:9100", ":9100"], &["a:9101"]);
    plain(".+:9100", &["a:9100"], &[":9100"]);
    plain(".*a.*", &["a", "bab"], &["b"]);
    plain(".+aa.*", &["aaa", "baa"], &["aa"]);
    plain(".+aa.+", &["aaaa", "baab"], &["aaa"]);
    plain(".+ä.+", &["aäa", "äää"], &["ää", "ä"]);
    for other in ["a?", "[ab]", "(?i)a", "a.b", "a+", "(a|b)*", "a{2}", r"\d", "a.*b", "(.*)"] {
        assert!(!Pattern::new(other).unwrap().is_plain(), "{other}");
    }
}

#[test]
fn what_re2_refuses_is_refused_in_its_words() {
    for (pattern, expect) in [
        ("(", "missing closing ): `(`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("[a", "missing closing ]: `[a`"),
        ("[]", "missing closing ]: `[]`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("*?a", "missing argument to repetition operator: `*?`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(?i)+", "missing argument to repetition operator: `+`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a*??", "invalid nested repetition operator: `*??`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("(b|(a{10}x){10}){2,11}?y", "invalid repeat count: `{2,11}?`"),
        ("a{2}(?i){501}", "invalid repeat count: `{501}`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
        (r"\xz", r"invalid escape sequence: `\x`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?<=a)b>", "invalid named capture: `(?<=a)b>`"),
        ("(?P<a-b>.)", "invalid named capture: `(?P<a-b>`"),
    ] {
        let error = Pattern::new(pattern).unwrap_err().to_string();
        assert_eq!(error, format!("error parsing regexp: {expect}"), "{pattern}");
    }
}

#[test]
fn bombs_are_refused() {
    let nested = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
    let error = Pattern::new(&nested).unwrap_err().to_string();
    assert!(error.contains("nests too deeply"), "{}", error.len());
    for bomb in ["((((a{100}){100}){100}){100})", r"(\p{L}{1000}){1000}", "(x{1000}){1000}y?"] {
        let error = Pattern::new(bomb).unwrap_err().to_string();
        assert!(error.contains("invalid repeat count"), "{bomb}: {error}");
    }
    for bomb in [r"(\p{L}{10}){100}x?", &r"[\p{L}\p{N}]{1000}x?".repeat(10)] {
        assert!(matches!(Pattern::new(bomb), Err(PatternError::TooLarge { .. })), "{bomb}");
    }
}

#[test]
fn a_budget_is_for_all() {
    let mut budget = PatternBudget::default();
    for _ in 0..1000 {
        assert!(Pattern::within("a|b", &mut budget).is_ok());
    }
    for _ in 0..PATTERNS_MAX {
        assert!(Pattern::within("a+", &mut budget).is_ok());
    }
    let many = Pattern::within("a+", &mut budget).unwrap_err();
    assert_eq!(many.to_string(), "more than 256 regular expressions: use fewer");
    let mut budget = PatternBudget::default();
    let large = |budget: &mut PatternBudget| Pattern::within(r"[\p{L}\p{N}]{30}x?", budget);
    let allowed = (0..PATTERNS_MAX).take_while(|_| large(&mut budget).is_ok()).count();
    assert!((1..40).contains(&allowed), "{allowed}");
    assert!(matches!(large(&mut budget), Err(PatternError::TooLarge { .. })));
    assert!(Pattern::within(".*", &mut budget).is_ok());
}

#[test]
fn what_would_take_much_is_known_before_it_is_done() {
    // 8192 words of 200,000 bytes each are no words; the program is small.
    let bomb = format!("{}{}", "(a|b)".repeat(13), "x".repeat(200_000));
    assert!(!Pattern::new(&bomb).is_ok_and(|pattern| pattern.is_plain()));
    let short = format!("{}{}", "(a|b)".repeat(6), "x".repeat(2000));
    assert!(Pattern::new(&short).unwrap().is_plain());
    // Each would look at all that follows.
    for (text, last) in [("{", ""), ("{", "}"), ("[[:", "]"), ("(?P<a", ">)")] {
        let _any = Pattern::new(&[&text.repeat(60_000), last].concat());
    }
    let long = Pattern::new(&"a+".repeat(TEXT_BYTES_MAX)).unwrap_err();
    assert_eq!(
        long.to_string(),
        "a regular expression is longer than 262144 bytes: use a shorter one"
    );
    assert!(Pattern::new("a{2}b{,3}{").unwrap().is_match("aab{,3}{"));
    assert!(Pattern::new("[[:alpha:]]{2}").unwrap().is_match("ab"));
}

#[test]
fn groups_are_told() {
    let regex = anchored(r"(?P<host>\w+):(\d+)").unwrap();
    let captures = regex.captures("pve1:8006").unwrap();
    assert_eq!((&captures["host"], &captures[2]), ("pve1", "8006"));
    assert!(regex.captures("pve1:8006 ").is_none());
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_pattern_or_refused(pattern in r"[\\a-c()\[\]{}|.*+?^$0-9pPdwQEx:<>,iU\-]{0,20}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            let _matches = pattern.is_match("abc");
        }
    }

    #[test]
    fn a_quoted_text_matches_itself(text in ".{0,20}") {
        proptest::prop_assume!(!text.contains("\\E"));
        let quoted = ["\\Q", text.as_str(), "\\E"].concat();
        proptest::prop_assert!(Pattern::new(&quoted).unwrap().is_match(&text));
        proptest::prop_assert!(Pattern::new(&regex::escape(&text)).unwrap().is_match(&text));
    }

    /// Shapes answer as the regular expression would.
    #[test]
    fn shapes_are_what_they_stand_for(
        pattern in r"(\.\*|\.\+)?(a|b|ab|\(a\|ab\)|\|){0,4}(\.\*|\.\+)?",
        text in "[ab]{0,5}",
    ) {
        let regex = anchored(&pattern).unwrap();
        proptest::prop_assert_eq!(
            Pattern::new(&pattern).unwrap().is_match(&text), regex.is_match(&text), "{}", pattern
        );
    }
}

use proptest::prelude::*;
use stoa_model::is_stale;

use super::*;

const TEXT: PageFormat = PageFormat::Text(Format::Text);
const OPENMETRICS: PageFormat = PageFormat::Text(Format::OpenMetrics);

fn target() -> Labels {
    Labels::from_pairs([("job", "j"), ("instance", "h:1")]).unwrap()
}

fn rules() -> Rules {
    let (metric_relabel, limits) = (Vec::new(), Limits::default());
    Rules { target: target(), honor_labels: false, metric_relabel, limits }
}

fn relabels(text: &str) -> Vec<RelabelRule> {
    stoa_exchange::relabel::rules("r", vec![serde_json::from_str(text).unwrap()]).unwrap()
}

fn room(max: usize) -> Room {
    Room::new(Arc::default(), max)
}

/// Samples as text, `x` for a marker, without what every target's series carry.
fn told(samples: &Samples) -> Vec<String> {
    let own = [TARGET_JOB, TARGET_INSTANCE];
    let mut told: Vec<String> = samples
        .iter()
        .map(|(series, value)| {
            let labels = series.labels.retain(|label| !own.contains(&&*label.name));
            let value = if is_stale(*value) { "x".to_owned() } else { value.to_string() };
            format!("{labels} {value}")
        })
        .collect();
    told.sort();
    told
}

#[track_caller]
fn check(pages: &[&str], rules: &Rules, expected: &[&str]) -> Counts {
    let (mut book, room) = (Book::default(), room(100));
    let mut last = Taken::default();
    for page in pages {
        last = book.take(page.as_bytes(), TEXT, rules, &room).unwrap();
    }
    assert_eq!(told(&last.samples), expected, "{pages:?}");
    assert!(last.samples.is_sorted_by(|a, b| a.0.id < b.0.id));
    last.counts
}

#[track_caller]
fn refused(page: &str, rules: &Rules, expected: &str) {
    let (mut book, room) = (Book::default(), room(5));
    let (error, _) = book.take(page.as_bytes(), TEXT, rules, &room).unwrap_err();
    assert!(error.to_string().contains(expected), "{page}: {error}");
    let mut ended = Samples::new();
    book.fail(&mut ended, &room);
    assert_eq!((ended.len(), room.alive()), (0, 0), "{page}");
}

#[test]
fn a_page_becomes_samples_and_what_leaves_it_ends() {
    let first = "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n";
    let counts = check(&[first], &rules(), &[r#"a{x="1"} 1"#, r#"a{x="2"} 2"#, "b 3"]);
    assert_eq!((counts.scraped, counts.kept, counts.added), (3, 3, 3));
    let counts = check(&[first, "b 4\n"], &rules(), &[r#"a{x="1"} x"#, r#"a{x="2"} x"#, "b 4"]);
    assert_eq!((counts.scraped, counts.added), (1, 0));
    check(&[first, "b 4\n", "b 5\n"], &rules(), &["b 5"]);
    // One text is one series in whatever order labels stand, and stands once.
    let twice = "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\n";
    let counts = check(&[twice], &rules(), &[r#"a{x="1", y="2"} 1"#]);
    assert_eq!((counts.scraped, counts.refused), (3, 2));
    // Its other text does not end it.
    check(&[twice, "a{y=\"2\",x=\"1\"} 2\n"], &rules(), &[r#"a{x="1", y="2"} 2"#]);
}

#[test]
fn labels_of_the_target_win_unless_its_own_are_honored() {
    let page = "a{job=\"own\",x=\"1\"} 1\n";
    let mut rules = rules();
    check(&[page], &rules, &[r#"a{exported_job="own", x="1"} 1"#]);
    rules.target = rules.target.with("x", "t").with("exported_job", "e");
    let labels = r#"a{exported_exported_job="own", exported_job="e", exported_x="1", x="t"} 1"#;
    check(&[page], &rules, &[labels]);
    rules.honor_labels = true;
    check(&[page], &rules, &[r#"a{exported_job="e", x="1"} 1"#]);
    let (mut book, room) = (Book::default(), room(9));
    let taken = book.take(page.as_bytes(), TEXT, &rules, &room).unwrap();
    assert_eq!(taken.samples[0].0.labels.get(TARGET_JOB), Some("own"));
    assert_eq!(taken.samples[0].0.labels.get(TARGET_INSTANCE), Some("h:1"));
}

#[test]
fn relabelling_chooses_and_renames() {
    let mut rules = rules();
    rules.metric_relabel =
        relabels(r#"{"source_labels": ["__name__"], "regex": "a.*", "action": "drop"}"#);
    let counts = check(&["ab 1\nb 2\n"], &rules, &["b 2"]);
    assert_eq!((counts.scraped, counts.kept, counts.refused), (2, 1, 0));
    rules.metric_relabel = relabels(r#"{"regex": "x", "action": "labeldrop"}"#);
    let counts = check(&["a{x=\"1\"} 1\na{x=\"2\"} 2\n"], &rules, &["a 1"]);
    assert_eq!(counts.refused, 1);
    rules.metric_relabel = relabels(r#"{"regex": "__name__", "action": "labeldrop"}"#);
    assert_eq!(check(&["a 1\n"], &rules, &[]).refused, 1);
}

#[test]
fn a_failed_scrape_ends_all_and_a_good_one_goes_on_under_the_same_numbers() {
    let (mut book, room) = (Book::default(), room(100));
    let page = b"a 1\nb 2\n";
    let first = book.take(page, TEXT, &rules(), &room).unwrap();
    assert!(book.take(b"a 1\nc 2\nd }\n", TEXT, &rules(), &room).is_err());
    let mut ended = Samples::new();
    book.fail(&mut ended, &room);
    assert_eq!((told(&ended), room.alive()), (vec!["a x".to_owned(), "b x".to_owned()], 2));
    ended.clear();
    book.fail(&mut ended, &room);
    assert_eq!(told(&ended), [""; 0]);
    let again = book.take(page, TEXT, &rules(), &room).unwrap();
    let ids = |samples: &Samples| samples.iter().map(|(series, _)| series.id).collect::<Vec<_>>();
    assert_eq!((ids(&first.samples), again.counts.added), (ids(&again.samples), 0));
    let up = book.own("up", "", 1.0, &rules(), &room).unwrap().0;
    assert_eq!(up.labels.to_string(), r#"up{__instance__="h:1", __job__="j"}"#);
    assert_eq!(book.own("up", "", 1.0, &rules(), &room).unwrap().0.id, up.id);
    let mut ended = Samples::new();
    book.end(&mut ended, &room);
    assert_eq!((told(&ended), room.alive()), (vec!["a x".into(), "b x".into(), "up x".into()], 0));
}

#[test]
fn limits_make_a_page_none() {
    let with = |limits: fn(&mut Limits)| {
        let mut rules = rules();
        limits(&mut rules.limits);
        rules
    };
    let page = "a{name=\"value\"} 1\nb 1\n";
    refused(page, &with(|it| it.samples = Some(1)), "over the limit of 1 samples");
    refused(page, &with(|it| it.labels = Some(3)), "over the limit of 3 labels");
    refused(page, &with(|it| it.name_bytes = Some(3)), "3 bytes of a label's name");
    refused(page, &with(|it| it.value_bytes = Some(4)), "4 bytes of a label's value");
    refused("a 1\nb 1\nc 1\nd 1\ne 1\nf 1\n", &rules(), "over 5 series of all targets");
    refused("a 1\nb\n", &rules(), "line 2");
    refused("a{x=\"1\",x=\"2\"} 1\n", &rules(), "line 1");
    // What cannot be sent is left out and counted.
    let long = format!("a{{x=\"{}\"}} 1\nb 2\n", "v".repeat(LABEL_BYTES_MAX + 1));
    assert_eq!(check(&[&long], &rules(), &["b 2"]).refused, 1);
}

#[test]
fn families_are_told_with_their_type_help_and_unit() {
    let page = "# TYPE a counter\n# HELP a Of a.\n# UNIT a bytes\na_total 1 # {t=\"1\"} 1\na_created 5\n\
                # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1 1.5\n# EOF\n";
    let (mut book, room) = (Book::default(), room(100));
    let taken = book.take(page.as_bytes(), OPENMETRICS, &rules(), &room).unwrap();
    let infos: Vec<String> = taken
        .samples
        .iter()
        .map(|(series, _)| {
            let FamilyInfo { name, help, unit, kind } = &*series.family;
            format!("{name} {kind:?} {help} {unit}")
        })
        .collect();
    let h = "h Histogram  ";
    assert_eq!(infos, ["a_total Counter Of a. bytes", "a_created Untyped  ", h, h, h]);
    assert_eq!((taken.counts.skipped, taken.counts.timed), (1, 1));
    let cut = book.take(&page.as_bytes()[..page.len() - 6], OPENMETRICS, &rules(), &room);
    assert!(cut.unwrap_err().0.to_string().contains("cut off"));
}

proptest! {
    /// Whatever a page says: each series once, room for as many as there are, and all of it given back.
    #[test]
    fn books_are_kept_whatever_pages_say(
        pages in proptest::collection::vec(("[ab]{0,3}|\\PC{0,20}", 0..3_usize, proptest::collection::vec(0..9_u8, 0..12)), 0..12),
        limit in 1..9_usize,
    ) {
        let (mut book, room) = (Book::default(), room(limit));
        for (noise, format, series) in pages {
            let mut page: String = series.iter().map(|n| format!("a{{x=\"{n}\"}} {n}\n")).collect();
            page.push_str(&noise);
            let format = [TEXT, OPENMETRICS, PageFormat::Protobuf][format];
            match book.take(page.as_bytes(), format, &rules(), &room) {
                Ok(taken) => {
                    prop_assert!(taken.samples.is_sorted_by(|a, b| a.0.id < b.0.id));
                    prop_assert_eq!(room.alive(), book.by_labels.len());
                }
                Err(_) => book.fail(&mut Samples::new(), &room),
            }
            prop_assert!(room.alive() <= limit);
        }
        book.end(&mut Samples::new(), &room);
        prop_assert_eq!((room.alive(), book.entries.len(), book.by_labels.len()), (0, 0, 0));
    }
}

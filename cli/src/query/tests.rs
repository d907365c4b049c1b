use clap::Parser as _;

use super::{Body, QueryArgs, Question, Screen, drawn};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    query: QueryArgs,
}

const NOW: i64 = 1_700_000_000_000;
const SCREEN: Screen = Screen { columns: 40, rows: 4, colours: false };

fn question(arguments: &[&str]) -> Result<Question, String> {
    let cli = Cli::try_parse_from([&["query", "up"], arguments].concat())
        .map_err(|error| error.kind().to_string())?;
    Question::of(&cli.query, NOW, SCREEN).map_err(|misuse| misuse.to_string())
}

#[test]
fn arguments_become_a_question() {
    let range = |start, end, step| Ok(Question::Range { start, end, step });
    let instant = |at| Ok(Question::Instant { at });
    let wrong = |text: &str| Err(text.to_owned());
    for (arguments, want) in [
        (&[][..], instant(None)),
        (&["--time", "4"], instant(Some(4000))),
        (&["--time", "-2h"], instant(Some(NOW - 7_200_000))),
        (&["--time", "2023-11-14T22:13:20Z"], instant(Some(NOW))),
        (&["--range", "1h", "--step", "15s"], range(NOW - 3_600_000, NOW, 15_000)),
        (&["--range", "1h"], range(NOW - 3_600_000, NOW, 45_000)),
        (&["--range", "10s"], range(NOW - 10_000, NOW, 1000)),
        (&["--range", "1m", "--time", "-1d"], range(NOW - 86_460_000, NOW - 86_400_000, 1000)),
        (&["--time", "noon"], wrong("--time: cannot parse \"noon\" to a valid timestamp")),
        (&["--range", "0"], wrong("--range: \"0\" is not above zero")),
        (&["--range", "x"], wrong("--range: cannot parse \"x\" to a valid duration")),
        (&["--range=1h", "--step=-1"], wrong("--step: \"-1\" is not above zero")),
        (&["--step", "1s"], wrong("one or more required arguments were not provided")),
    ] {
        assert_eq!(question(arguments), want, "{arguments:?}");
    }
}

#[test]
fn a_question_is_sent_in_seconds() {
    let form = Question::Range { start: -1500, end: 0, step: 250 }.form("up");
    let values: Vec<&str> = form.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["up", "-1.500", "0.000", "0.250"]);
}

#[test]
fn answers_are_drawn_by_their_type() {
    let range = Question::Range { start: 0, end: 2000, step: 1000 };
    let instant = Question::Instant { at: None };
    for (question, data, want) in [
        (instant, r#"{"resultType":"scalar","result":[4,"2"]}"#, "2\n"),
        (instant, r#"{"resultType":"string","result":[4,"a\u001b"]}"#, "a\\u{1b}\n"),
        (instant, r#"{"resultType":"vector","result":[]}"#, "no series match\n"),
        (range, r#"{"resultType":"matrix","result":[]}"#, "no series match\n"),
        (
            instant,
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[4,"1"]}]}"#,
            "metric  value\nup          1\n",
        ),
        (
            instant,
            r#"{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1.5,"1"]]}]}"#,
            "a                       value\nb  1 @ 1970-01-01T00:00:01.5Z\n",
        ),
    ] {
        let body: Body = serde_json::from_str(&format!(r#"{{"data":{data}}}"#)).unwrap();
        let text = drawn(body.data, question, "q", SCREEN);
        assert_eq!(text, want, "{data}");
    }
    let data = r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[2,"NaN"]]}]}"#;
    let text = drawn(serde_json::from_str(data).unwrap(), range, "sum(up)", SCREEN);
    assert!(text.ends_with("● sum(up)  last 1  min 1  max 1\n"), "{text}");
}

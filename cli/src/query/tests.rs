use super::answer::Body;
use super::drawn::{Screen, drawn};
use super::{Format, Question};

const SCREEN: Screen = Screen { columns: 40, rows: 4, colours: false, is_terminal: false };
const INSTANT: Question = Question::Instant { at: None };
const RANGE: Question = Question::Range { start: 0, end: 2000, step: 1000 };

fn text(question: Question, format: Format, data: &str) -> String {
    let body: Body = serde_json::from_str(&format!(r#"{{"data":{data}}}"#)).unwrap();
    drawn(body.data, question, "q", format, SCREEN)
}

/// Two floats, one of them in need of quotes, and a histogram.
const VECTOR: &str = r#"{"resultType":"vector","result":[
    {"metric":{"__name__":"a","job":"x"},"value":[4,"1.5"]},
    {"metric":{"__name__":"a","job":"y, \"z\""},"value":[4,"3"]},
    {"metric":{"__name__":"h"},"histogram":[4,{"count":"5","sum":"9",
        "buckets":[[0,"1","2","4"],[0,"2","4","1"]]}]}]}"#;

/// A series whose floats become histograms.
const MATRIX: &str = r#"{"resultType":"matrix","result":[{"metric":{"__name__":"m"},
    "values":[[0,"1"],[1,"2"]],
    "histograms":[[2,{"count":"1","sum":"3","buckets":[[0,"2","4","1"]]}]]}]}"#;

#[test]
fn answers_are_drawn_by_their_type() {
    for (question, data, want) in [
        (INSTANT, r#"{"resultType":"scalar","result":[4,"2"]}"#, "2\n"),
        (INSTANT, r#"{"resultType":"string","result":[4,"a\u001b"]}"#, "a\\u{1b}\n"),
        (INSTANT, r#"{"resultType":"vector","result":[]}"#, "no series match\n"),
        (RANGE, r#"{"resultType":"matrix","result":[]}"#, "no series match\n"),
        (
            INSTANT,
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[4,"1"]}]}"#,
            "metric  value\nup          1\n",
        ),
        (
            INSTANT,
            r#"{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1.5,"1"]]}]}"#,
            "a                       value\nb  1 @ 1970-01-01T00:00:01.5Z\n",
        ),
    ] {
        assert_eq!(text(question, Format::Table, data), want, "{data}");
    }
    let data = r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[2,"NaN"]]}]}"#;
    let chart = text(RANGE, Format::Chart, data);
    assert!(chart.ends_with("● q  last 1  min 1  max 1\n"), "{chart}");
    assert_eq!(text(RANGE, Format::Chart, MATRIX.split_at(0).1).matches('└').count(), 2);
}

#[test]
fn histograms_are_shown_in_every_format() {
    insta::assert_snapshot!("vector_table", text(INSTANT, Format::Table, VECTOR));
    insta::assert_snapshot!("vector_chart", text(INSTANT, Format::Chart, VECTOR));
    insta::assert_snapshot!("vector_csv", text(INSTANT, Format::Csv, VECTOR));
    insta::assert_snapshot!("matrix_table", text(RANGE, Format::Table, MATRIX));
    insta::assert_snapshot!("matrix_chart", text(RANGE, Format::Chart, MATRIX));
    insta::assert_snapshot!("matrix_csv", text(RANGE, Format::Csv, MATRIX));
}

#[test]
fn a_scalar_is_a_line_of_csv() {
    let data = r#"{"resultType":"scalar","result":[4,"2"]}"#;
    assert_eq!(text(INSTANT, Format::Csv, data), "time,value\r\n1970-01-01T00:00:04Z,2\r\n");
}

use super::{Canvas, Line, chart, short};

const T0: i64 = 1_700_000_000_000;

fn drawn(lines: &[(&str, &[f64])], canvas: Canvas) -> String {
    let lines: Vec<Line> = lines
        .iter()
        .map(|(name, values)| Line {
            name: (*name).to_owned(),
            points: values.iter().zip(0..).map(|(&v, i)| (T0 + i * 1000, v)).collect(),
        })
        .collect();
    let count = lines.first().map_or(0, |line| line.points.len());
    let end = T0 + i64::try_from(count.max(2) - 1).unwrap() * 1000;
    chart(&lines, T0, end, 1000, canvas)
}

const SMALL: Canvas = Canvas { columns: 40, rows: 5, colours: false };

#[test]
fn a_rising_line_rises_from_corner_to_corner() {
    assert_eq!(
        drawn(&[("up", &[0.0, 1.0, 2.0, 3.0, 4.0])], SMALL),
        concat!(
            "4 ┤                              ⢀⣀⠤⠤⠒⠒⠉\n",
            "3 ┤                      ⣀⣀⡠⠤⠔⠒⠊⠉⠁\n",
            "2 ┤              ⣀⣀⠤⠤⠒⠒⠉⠉\n",
            "1 ┤      ⢀⣀⡠⠤⠒⠒⠉⠉\n",
            "0 ┤⣀⠤⠤⠒⠊⠉⠁\n",
            "  └─────────────────────────────────────\n",
            "   22:13:20      22:13:22   22:13:24 UTC\n",
            "● up  last 4  min 0  max 4\n",
        )
    );
}

#[test]
fn what_is_not_finite_is_a_gap_and_nothing_panics() {
    let text = drawn(&[("gap", &[1.0, f64::NAN, f64::INFINITY, 1.0])], SMALL);
    let dots = text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
    assert_eq!(dots, 2, "{text}");
    assert_eq!(drawn(&[("none", &[f64::NAN])], SMALL), "no points in this range\n");
    assert_eq!(drawn(&[], SMALL), "no points in this range\n");
    for odd in [&[f64::MAX, f64::MIN][..], &[5e-324, 0.0], &[-3.0, -3.0], &[1e300]] {
        for rows in [1, 2, 5] {
            let text = drawn(&[("odd", odd)], Canvas { rows, columns: 1, colours: true });
            assert!(text.contains('●') && text.contains("odd"), "{text}");
        }
    }
}

#[test]
fn only_a_few_lines_are_drawn_and_the_rest_is_counted() {
    let lines: Vec<(&str, &[f64])> = vec![("x", &[1.0, 2.0]); 11];
    let text = drawn(&lines, SMALL);
    assert_eq!(text.matches("● x").count(), super::LINES_MAX);
    assert!(text.ends_with("  and 3 more, not drawn\n"), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert!(drawn(&lines, Canvas { colours: true, ..SMALL }).contains("\u{1b}[96m●\u{1b}[0m x"));
}

#[test]
fn values_are_short() {
    for (value, want) in [
        (0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.25, "0.25"),
        (0.001_234_5, "0.001234"),
        (1234.0, "1.234k"),
        (123_456.0, "123.5k"),
        (16e9, "16G"),
        (1e15, "1.0e15"),
        (1e-9, "1.0e-9"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(short(value), want);
    }
}

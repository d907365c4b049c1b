use super::*;

fn sample() -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 8.0,
        sum: 10.0,
        positive: vec![(0, 1.0), (1, 2.0)],
        negative: vec![(0, 1.0), (1, 2.0)],
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    Histogram {
        schema: CUSTOM_SCHEMA,
        count: counts.iter().sum(),
        positive: (0..).zip(counts.iter().copied()).collect(),
        custom_bounds: bounds.to_vec(),
        ..Histogram::default()
    }
}

#[test]
fn text_shows_bounds() {
    assert_eq!(
        sample().to_string(),
        "{count:8, sum:10, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}"
    );
}

#[test]
fn bounds_follow_from_the_schema() {
    for (index, schema, expect) in
        [(0, 0, 1.0), (1, 0, 2.0), (-1, 0, 0.5), (1, -1, 4.0), (1, 1, 2_f64.sqrt()), (2, 1, 2.0)]
    {
        let got = bucket::bound(index, schema, &[]);
        assert!((got - expect).abs() < 1e-12, "{index} {schema}: {got}");
    }
}

#[test]
fn sums_need_one_kind_and_take_the_coarser_layout() {
    let fine = Histogram { schema: 1, positive: vec![(1, 1.0), (2, 1.0)], ..sample() };
    let (sum, _) = sample().plus(&fine).unwrap();
    assert_eq!(sum.schema, 0);
    assert_eq!(sum.positive, [(0, 1.0), (1, 4.0)]);
    assert_eq!(sample().plus(&custom(&[1.0], &[1.0])), Err(Incompatible));
}

#[test]
fn custom_bounds_are_cut_to_those_in_common() {
    let (sum, combined) =
        custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]).plus(&custom(&[2.0], &[5.0, 6.0])).unwrap();
    assert!(combined.bounds_reconciled);
    assert_eq!((sum.custom_bounds, sum.positive), (vec![2.0], vec![(0, 7.0), (1, 8.0)]));
}

#[test]
fn a_bucket_that_shrinks_is_a_reset() {
    let before = sample();
    let mut after = before.clone();
    after.count += 5.0;
    after.positive = vec![(0, 6.0), (1, 1.0)];
    assert!(after.is_reset_after(&before));
    after.reset_hint = ResetHint::NotReset;
    assert!(!after.is_reset_after(&before));
    assert!(!before.is_reset_after(&before));
}

#[test]
fn a_quantile_inverts_a_fraction() {
    let histogram = sample();
    for q in [0.05, 0.2, 0.4, 0.6, 0.9] {
        let value = histogram.quantile(q);
        assert!((histogram.fraction(f64::NEG_INFINITY, value) - q).abs() < 1e-9, "{q} {value}");
    }
}

#[test]
fn trimming_keeps_one_side() {
    let histogram = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]);
    let below = histogram.clone().trimmed(2.5, trim::Keep::Below);
    let above = histogram.trimmed(2.5, trim::Keep::Above);
    assert_eq!((below.count, above.count), (5.0, 2.0));
}

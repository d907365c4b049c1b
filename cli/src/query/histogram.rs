//! Native histograms for people: a line that sums one up, its buckets as bars.
//!
//! Quantiles are estimates: within a bucket observations are taken to lie evenly, on a logarithmic
//! scale where the bucket has one.

use serde::Deserialize;

use super::answer::number;
use super::bars::{Bar, bars};
use crate::chart::short;
use crate::table::{figure, printable};

/// The most bars drawn of one histogram; neighbouring buckets share one where there are more.
const BARS_MAX: usize = 24;

/// A histogram as Prometheus's JSON has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Histogram {
    pub(super) count: String,
    pub(super) sum: String,
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

/// A bucket that holds something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) has_lower: bool,
    pub(super) has_upper: bool,
    pub(super) count: f64,
}

impl Bucket {
    /// `(0.5, 1]`, as mathematics writes it.
    pub(super) fn name(&self) -> String {
        let (left, right) =
            (if self.has_lower { '[' } else { '(' }, if self.has_upper { ']' } else { ')' });
        format!("{left}{}, {}{right}", short(self.lower), short(self.upper))
    }

    fn and(self, next: Self) -> Self {
        Self {
            upper: next.upper,
            has_upper: next.has_upper,
            count: self.count + next.count,
            ..self
        }
    }

    /// The value below which a share of its observations lies.
    fn at(&self, share: f64) -> f64 {
        let (low, high) = (self.lower, self.upper);
        if !low.is_finite() {
            return high;
        }
        if !high.is_finite() {
            return low;
        }
        let is_logarithmic = low * high > 0.0;
        if is_logarithmic { low * (high / low).powf(share) } else { low + (high - low) * share }
    }
}

impl Histogram {
    /// Its buckets that hold something, the lowest first.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let bucket = |(rule, lower, upper, count): &(u8, String, String, String)| Bucket {
            lower: number(lower),
            upper: number(upper),
            has_lower: matches!(rule, 1 | 3),
            has_upper: matches!(rule, 0 | 3),
            count: number(count),
        };
        let mut buckets: Vec<Bucket> = self.buckets.iter().map(bucket).collect();
        buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
        buckets
    }

    /// `count 12, sum 3.4, avg 0.28, p50 ~0.2, p90 ~0.5, p99 ~0.9`
    pub(super) fn summary(&self) -> String {
        let (count, sum) = (number(&self.count), number(&self.sum));
        let mut out = format!(
            "count {}, sum {}",
            figure(&printable(&self.count)),
            figure(&printable(&self.sum))
        );
        if count > 0.0 {
            out.push_str(&format!(", avg {}", short(sum / count)));
            let buckets = self.buckets();
            for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
                if let Some(value) = estimated(&buckets, quantile) {
                    out.push_str(&format!(", {name} ~{}", short(value)));
                }
            }
        }
        out
    }

    /// Its buckets as bars; empty where there is none.
    pub(super) fn drawn(&self, columns: usize, indent: usize) -> String {
        let bar = |bucket: &Bucket| Bar {
            name: bucket.name(),
            value: stoa_promql::value::format_float(bucket.count),
            size: bucket.count,
        };
        let list: Vec<Bar> = fewer(&self.buckets(), BARS_MAX).iter().map(bar).collect();
        bars(&list, columns, indent)
    }

    /// Its buckets in one field: `(0.5,1]:3 (1,2]:4`.
    pub(super) fn field(&self) -> String {
        let bucket = |(rule, lower, upper, count): &(u8, String, String, String)| {
            let left = if matches!(rule, 1 | 3) { '[' } else { '(' };
            let right = if matches!(rule, 0 | 3) { ']' } else { ')' };
            format!("{left}{lower},{upper}{right}:{count}")
        };
        self.buckets.iter().map(bucket).collect::<Vec<_>>().join(" ")
    }
}

/// The value below which a share of all lies; `None` of nothing.
fn estimated(buckets: &[Bucket], quantile: f64) -> Option<f64> {
    let all: f64 = buckets.iter().map(|bucket| bucket.count).sum();
    let mut rank = all * quantile;
    let last = buckets.last()?;
    for bucket in buckets {
        if rank <= bucket.count && bucket.count > 0.0 {
            return Some(bucket.at(rank / bucket.count));
        }
        rank -= bucket.count;
    }
    Some(last.at(1.0))
}

/// Neighbouring buckets joined until there are at most so many.
pub(super) fn fewer(buckets: &[Bucket], max: usize) -> Vec<Bucket> {
    let together = buckets.len().div_ceil(max.max(1)).max(1);
    let join = |part: &[Bucket]| part.iter().copied().reduce(Bucket::and);
    buckets.chunks(together).filter_map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Histogram {
        serde_json::from_str(json).unwrap()
    }

    const SIX: &str = r#"{"count":"12","sum":"18.4","buckets":
        [[3,"-0.001","0.001","2"],[0,"0.5","1","4"],[0,"1","2","6"]]}"#;

    #[test]
    fn a_histogram_is_summed_up_in_a_line() {
        assert_eq!(
            of(SIX).summary(),
            "count 12, sum 18.4, avg 1.533, p50 ~1, p90 ~1.741, p99 ~1.972"
        );
        assert_eq!(of(r#"{"count":"0","sum":"0"}"#).summary(), "count 0, sum 0");
        let open = of(r#"{"count":"2","sum":"NaN","buckets":[[0,"1","+Inf","2"]]}"#);
        assert_eq!(open.summary(), "count 2, sum NaN, avg NaN, p50 ~1, p90 ~1, p99 ~1");
    }

    #[test]
    fn its_buckets_are_bars_and_a_field() {
        assert_eq!(
            of(SIX).drawn(40, 2),
            "  [-0.001, 0.001]  ██████             2\n  \
               (0.5, 1]         ███████████▉       4\n  \
               (1, 2]           ██████████████████  6\n"
                .replace("██████             2", &format!("{:<18}  2", "██████"))
                .replace("███████████▉       4", &format!("{:<18}  4", "████████████"))
        );
        assert_eq!(of(SIX).field(), "[-0.001,0.001]:2 (0.5,1]:4 (1,2]:6");
    }

    #[test]
    fn many_buckets_share_bars() {
        let bucket = |i: usize| Bucket {
            lower: i as f64,
            upper: i as f64 + 1.0,
            has_lower: false,
            has_upper: true,
            count: 1.0,
        };
        let many: Vec<Bucket> = (0..50).map(bucket).collect();
        let some = fewer(&many, 24);
        assert_eq!(some.len(), 17);
        assert_eq!(some.iter().map(|b| b.count).sum::<f64>(), 50.0);
        assert_eq!(some[0].name(), "(0, 3]");
        assert_eq!(fewer(&many[..3], 24).len(), 3);
        assert_eq!(fewer(&[], 24), []);
    }
}

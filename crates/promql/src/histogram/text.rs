//! Histograms as text: for people and for `count_values`.

use std::fmt;

use super::Histogram;
use crate::number::format_general;

/// `{count:3, sum:4, [-0.5,0.5]:1, (1,2]:2}`, empty buckets left out.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_general(self.count), format_general(self.sum))?;
        for bucket in self.buckets().iter().filter(|bucket| bucket.count != 0.0) {
            write!(
                f,
                ", {}{},{}{}:{}",
                if bucket.lower_inclusive { '[' } else { '(' },
                format_general(bucket.lower),
                format_general(bucket.upper),
                if bucket.upper_inclusive { ']' } else { ')' },
                format_general(bucket.count)
            )?;
        }
        f.write_str("}")
    }
}

//! Any bytes as a message of remote write, of either version. Property: it is read or refused without
//! panic, hands over no more than it has bytes, and what was understood of its samples reads the same when
//! it is written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_exchange::remote_write::{Metadata, Series, Version, Visitor, Writer, read};

#[derive(Debug, Default, PartialEq)]
struct Said {
    series: Vec<(Vec<(String, String)>, Vec<(i64, u64)>)>,
    handed_over: usize,
}

impl Visitor for Said {
    fn series(&mut self, series: &Series<'_>) {
        self.handed_over += series.samples.len() + series.histograms.len();
        for (_, histogram) in series.histograms {
            let _is_valid = histogram.validate();
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let labels = series.labels.unwrap_or_default().iter();
        let labels: Option<Vec<_>> =
            labels.map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        let samples: Vec<_> = series.samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
        self.series.extend(labels.filter(|_| !samples.is_empty()).map(|labels| (labels, samples)));
    }

    fn metadata(&mut self, _said: &Metadata<'_>) {}
}

fuzz_target!(|input: (bool, &[u8])| {
    let (is_two, bytes) = input;
    let version = if is_two { Version::Two } else { Version::One };
    let mut said = Said::default();
    let is_whole = read(version, bytes, &mut said).is_ok();
    assert!(said.handed_over <= bytes.len());
    if !is_whole {
        return;
    }
    let mut writer = Writer::new(version);
    for (labels, samples) in &said.series {
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let samples: Vec<_> = samples.iter().map(|(t, bits)| (*t, f64::from_bits(*bits))).collect();
        writer.series(&labels, &samples);
    }
    let mut again = Said::default();
    read(version, &writer.finish(), &mut again).unwrap();
    assert_eq!(again.series, said.series);
});

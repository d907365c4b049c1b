//! Any bytes as exposition text. Property: reading ends, and what was understood reads back equal after
//! it was printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_exchange::exposition::{Exemplar, Format, Line, Printer, Reader};
use stoa_model::Labels;

type Said = (Labels, u64, Option<i64>, Option<Exemplar>);

fn samples(text: &[u8], format: Format) -> Vec<Said> {
    let mut reader = Reader::new(text, format);
    let mut samples = Vec::new();
    while let Ok(Some(line)) = reader.next_line() {
        if let Line::Sample(sample) = line
            && let Ok(labels) = sample.series.labels()
        {
            // Neither sign nor payload of a NaN is written, nor an empty example.
            let value = if sample.value.is_nan() { f64::NAN } else { sample.value };
            samples.push((labels, value.to_bits(), sample.t_ms, None));
        }
    }
    samples
}

fuzz_target!(|text: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let understood = samples(text, format);
        let mut printer = Printer::new(Vec::new(), format);
        for (labels, bits, t_ms, exemplar) in &understood {
            let name = labels.metric_name().unwrap_or_default();
            let value = f64::from_bits(*bits);
            printer.sample(name, labels, value, *t_ms, exemplar.as_ref()).unwrap();
        }
        assert_eq!(samples(&printer.finish().unwrap(), format), understood);
    }
});

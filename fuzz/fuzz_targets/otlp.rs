//! Any bytes as an OTLP message, in either form. Property: it is read or refused without panic; what comes of
//! its points stays within the bounds, and labels are sorted, each once, none empty.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_exchange::otlp::{
    Form, LABEL_BYTES_MAX, Options, Refused, SAMPLES_MAX, SampleExemplar, SampleLabels, Sink,
    Translator, read,
};
use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs};

#[derive(Default)]
struct Kept {
    samples: usize,
    label_bytes: usize,
}

impl Kept {
    fn take(&mut self, labels: SampleLabels<'_>) {
        assert!(labels.windows(2).all(|pair| pair[0].0 < pair[1].0), "{labels:?}");
        assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
        self.samples += 1;
        self.label_bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    }
}

impl Sink for Kept {
    fn sample(&mut self, labels: SampleLabels<'_>, _t_ms: TimestampMs, _value: f64) {
        self.take(labels);
    }

    fn histogram(&mut self, labels: SampleLabels<'_>, _t_ms: TimestampMs, histogram: Histogram) {
        let _is_valid = histogram.validate();
        self.take(labels);
    }

    fn metadata(&mut self, _name: &str, _kind: MetricKind, _help: &str, _unit: &str) {}

    fn exemplars(&mut self, _: SampleLabels<'_>, _: &[SampleExemplar<'_>]) {}
    fn exemplars_left_out(&mut self, _count: u64) {}

    fn refused(&mut self, why: &Refused) {
        assert!(!why.to_string().is_empty());
    }
}

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (is_json, convert, bytes) = input;
    let form = if is_json { Form::Json } else { Form::Protobuf };
    let options = Options {
        convert_histograms_to_nhcb: convert,
        promote_all_resource_attributes: convert,
        promote_scope_metadata: convert,
        ..Options::default()
    };
    let mut kept = Kept::default();
    let mut translator = Translator::new(&options, &mut kept);
    let _whole = read(form, bytes, &mut translator).is_ok();
    translator.finish();
    assert!(kept.samples <= SAMPLES_MAX, "{}", kept.samples);
    assert!(kept.label_bytes <= LABEL_BYTES_MAX, "{}", kept.label_bytes);
});

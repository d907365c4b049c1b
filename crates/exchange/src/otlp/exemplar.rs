//! Examples of what a point counts, and the labels they become.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Attribute;
use super::attribute::Gathered;
use super::labels::Pair;

/// Most exemplars of a point; SDKs send one for each bucket, or twenty. Further ones are counted.
pub const EXEMPLARS_MAX: usize = 1024;

/// Most characters of an exemplar's labels, names and values together, as `OpenMetrics` has it.
pub const EXEMPLAR_CHARS_MAX: usize = 128;

/// An example of what a point counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar<'a> {
    /// What is said of it beside what is said of the point. `None` where that cannot be kept, or is longer
    /// than [`EXEMPLAR_CHARS_MAX`].
    pub attributes: Option<Vec<Attribute<'a>>>,
    /// When, in nanoseconds since 1970; 0 where it is not said.
    pub time_ns: u64,
    /// What was measured; `None` where it is not said.
    pub value: Option<f64>,
    /// The trace it was measured in.
    pub trace_id: Option<[u8; 16]>,
    /// And the span of that.
    pub span_id: Option<[u8; 8]>,
}

impl<'a> Exemplar<'a> {
    /// Its attributes as far as they can be labels; short ones, whatever was sent.
    pub(super) fn attributed(mut self, said: Gathered<'a>) -> Self {
        self.attributes = said.into_all().filter(|list| chars(list) <= EXEMPLAR_CHARS_MAX);
        self
    }

    /// Its labels, sorted by name, without empty ones: where it was measured, and its attributes if all
    /// of them fit. A name met twice has the first value, traces before attributes.
    pub(super) fn labels(&self) -> Vec<Pair<'_>> {
        let trace = self.trace_id.as_ref().map(|id| ("trace_id", hex(id)));
        let span = self.span_id.as_ref().map(|id| ("span_id", hex(id)));
        let ids: Vec<(&str, String)> = [trace, span].into_iter().flatten().collect();
        let id_chars: usize = ids.iter().map(|(name, value)| name.len() + value.len()).sum();
        let mut labels: Vec<Pair<'_>> =
            ids.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let attributes = self.attributes.as_deref().unwrap_or_default();
        if id_chars + chars(attributes) <= EXEMPLAR_CHARS_MAX {
            let named = attributes.iter().filter(|a| !a.key.is_empty() && !a.value.is_empty());
            labels.extend(named.map(|a| (Cow::from(&*a.key), Cow::from(&*a.value))));
        }
        // Stable: the first of equals stays.
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(later, _), (first, _)| later == first);
        labels
    }
}

fn chars(attributes: &[Attribute<'_>]) -> usize {
    attributes.iter().map(|a| a.key.chars().count() + a.value.chars().count()).sum()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Into memory, which does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

/// An identifier as protobuf has it. All zeroes, and one of another length, is none.
pub(super) fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let id: [u8; N] = bytes.try_into().ok()?;
    (id != [0; N]).then_some(id)
}

/// An identifier as OTLP's JSON has it: in hexadecimal digits of either case.
pub(super) fn id_of_text<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (digits, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        u8::try_from(high? * 16 + low?).ok()
    };
    id(&digits.iter().map(byte).collect::<Option<Vec<u8>>>()?)
}

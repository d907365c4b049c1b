//! Which labels make a series, and which group it belongs to.

use stoa_exchange::remote_write::RawLabel;
use stoa_model::{Labels, METRIC_NAME};
use stoa_proto::convert::LABEL_BYTES_MAX;
use stoa_tsdb::GroupId;

use super::Way;

/// Labels that tell scrapes apart: what agrees in these shares its timestamps. Beside target and
/// rule those by which pairs of senders tell their halves.
const GROUP_LABELS: [&str; 6] =
    ["job", "instance", "prometheus", "prometheus_replica", "replica", "__replica__"];

/// The labels as a set, if they keep the rules.
pub(super) fn checked(raw: &[RawLabel<'_>]) -> Result<Labels, String> {
    let labels = Labels::from_pairs(pairs(raw)?).map_err(|error| error.to_string())?;
    if labels.get(METRIC_NAME).is_none() {
        return Err(format!("{labels} has no metric name"));
    }
    Ok(labels)
}

/// The labels as text, if each keeps the rules.
pub(super) fn pairs<'r>(raw: &[RawLabel<'r>]) -> Result<Vec<(&'r str, &'r str)>, String> {
    let mut pairs = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Err(format!("label {:?} is not UTF-8", String::from_utf8_lossy(name)));
        };
        if name.is_empty() {
            return Err("a label has no name".to_owned());
        }
        let bytes = name.len().max(value.len());
        if bytes > LABEL_BYTES_MAX {
            let name = name.get(..name.floor_char_boundary(64)).unwrap_or_default();
            return Err(format!("label {name:?} has {bytes} bytes, over {LABEL_BYTES_MAX}"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Which group a series belongs to: FNV-1a of the way in, the sender and what tells its scrapes apart,
/// so that it is the same after any restart. Begins unlike [`crate::ingest::group_of`]'s, which are
/// hosts.
pub(super) fn group_of(way: Way, sender: &str, labels: &Labels) -> GroupId {
    let texts = GROUP_LABELS.iter().map(|name| labels.get(name).unwrap_or_default());
    let texts = [way.name(), sender].into_iter().chain(texts);
    let bytes = texts.flat_map(|text| text.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    GroupId(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_in_the_same_group_after_any_restart() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let of = |sender: &str, pairs| group_of(Way::RemoteWrite, sender, &labels(pairs)).0;
        let up = [("__name__", "up"), ("instance", "pve1:9100"), ("job", "node"), ("zone", "a")];
        // As stored by earlier versions.
        assert_eq!(of("local", &up), 8_813_630_605_686_943_747);
        assert_eq!(of("local", &[("__name__", "up")]), 17_578_040_188_659_941_687);
        assert_ne!(of("local", &up), of("other", &up));
    }
}

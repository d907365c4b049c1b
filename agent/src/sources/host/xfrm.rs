//! `/proc/net/xfrm_stat`: packets that `IPsec` could not handle, by reason.

use std::time::Duration;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Reading, Roots, Source, number};

const INTERVAL: Duration = Duration::from_secs(5);

/// Families by the file's key; what newer kernels count beside is left out, as node_exporter does.
const COUNTERS: [(&str, Desc); 28] = [
    (
        "XfrmInError",
        Desc::counter("node_xfrm_in_error_packets_total", "All errors not matched by other"),
    ),
    (
        "XfrmInBufferError",
        Desc::counter("node_xfrm_in_buffer_error_packets_total", "No buffer is left"),
    ),
    ("XfrmInHdrError", Desc::counter("node_xfrm_in_hdr_error_packets_total", "Header error")),
    (
        "XfrmInNoStates",
        Desc::counter(
            "node_xfrm_in_no_states_packets_total",
            "No state is found i.e. Either inbound SPI, address, or IPsec protocol at SA is wrong",
        ),
    ),
    (
        "XfrmInStateProtoError",
        Desc::counter(
            "node_xfrm_in_state_proto_error_packets_total",
            "Transformation protocol specific error e.g. SA key is wrong",
        ),
    ),
    (
        "XfrmInStateModeError",
        Desc::counter(
            "node_xfrm_in_state_mode_error_packets_total",
            "Transformation mode specific error",
        ),
    ),
    (
        "XfrmInStateSeqError",
        Desc::counter(
            "node_xfrm_in_state_seq_error_packets_total",
            "Sequence error i.e. Sequence number is out of window",
        ),
    ),
    (
        "XfrmInStateExpired",
        Desc::counter("node_xfrm_in_state_expired_packets_total", "State is expired"),
    ),
    (
        "XfrmInStateMismatch",
        Desc::counter(
            "node_xfrm_in_state_mismatch_packets_total",
            "State has mismatch option e.g. UDP encapsulation type is mismatch",
        ),
    ),
    (
        "XfrmInStateInvalid",
        Desc::counter("node_xfrm_in_state_invalid_packets_total", "State is invalid"),
    ),
    (
        "XfrmInTmplMismatch",
        Desc::counter(
            "node_xfrm_in_tmpl_mismatch_packets_total",
            "No matching template for states e.g. Inbound SAs are correct but SP rule is wrong",
        ),
    ),
    (
        "XfrmInNoPols",
        Desc::counter(
            "node_xfrm_in_no_pols_packets_total",
            "No policy is found for states e.g. Inbound SAs are correct but no SP is found",
        ),
    ),
    ("XfrmInPolBlock", Desc::counter("node_xfrm_in_pol_block_packets_total", "Policy discards")),
    ("XfrmInPolError", Desc::counter("node_xfrm_in_pol_error_packets_total", "Policy error")),
    (
        "XfrmOutError",
        Desc::counter(
            "node_xfrm_out_error_packets_total",
            "All errors which is not matched others",
        ),
    ),
    (
        "XfrmOutBundleGenError",
        Desc::counter("node_xfrm_out_bundle_gen_error_packets_total", "Bundle generation error"),
    ),
    (
        "XfrmOutBundleCheckError",
        Desc::counter("node_xfrm_out_bundle_check_error_packets_total", "Bundle check error"),
    ),
    (
        "XfrmOutNoStates",
        Desc::counter("node_xfrm_out_no_states_packets_total", "No state is found"),
    ),
    (
        "XfrmOutStateProtoError",
        Desc::counter(
            "node_xfrm_out_state_proto_error_packets_total",
            "Transformation protocol specific error",
        ),
    ),
    (
        "XfrmOutStateModeError",
        Desc::counter(
            "node_xfrm_out_state_mode_error_packets_total",
            "Transformation mode specific error",
        ),
    ),
    (
        "XfrmOutStateSeqError",
        Desc::counter(
            "node_xfrm_out_state_seq_error_packets_total",
            "Sequence error i.e. Sequence number overflow",
        ),
    ),
    (
        "XfrmOutStateExpired",
        Desc::counter("node_xfrm_out_state_expired_packets_total", "State is expired"),
    ),
    ("XfrmOutPolBlock", Desc::counter("node_xfrm_out_pol_block_packets_total", "Policy discards")),
    ("XfrmOutPolDead", Desc::counter("node_xfrm_out_pol_dead_packets_total", "Policy is dead")),
    ("XfrmOutPolError", Desc::counter("node_xfrm_out_pol_error_packets_total", "Policy error")),
    (
        "XfrmFwdHdrError",
        Desc::counter(
            "node_xfrm_fwd_hdr_error_packets_total",
            "Forward routing of a packet is not allowed",
        ),
    ),
    (
        "XfrmOutStateInvalid",
        Desc::counter(
            "node_xfrm_out_state_invalid_packets_total",
            "State is invalid, perhaps expired",
        ),
    ),
    (
        "XfrmAcquireError",
        Desc::counter(
            "node_xfrm_acquire_error_packets_total",
            "State hasn’t been fully acquired before use",
        ),
    ),
];

/// Keys and values.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?, number(words.next()?)?))
    })
}

/// The source `xfrm`.
#[derive(Debug)]
pub(crate) struct Xfrm {
    file: KeptFile,
}

impl Configured for Xfrm {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { file: KeptFile::proc("net/xfrm_stat") }
    }
}

impl Source for Xfrm {
    fn name(&self) -> &'static str {
        "xfrm"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let text = match self.file.read(roots) {
            Ok(text) => text,
            Err(problem) => return reading.fail(problem),
        };
        let mut told = [None; COUNTERS.len()];
        for (key, value) in parse(text) {
            for ((known, _), told) in COUNTERS.iter().zip(&mut told) {
                if *known == key {
                    *told = Some(value);
                }
            }
        }
        for ((_, desc), value) in COUNTERS.iter().zip(told) {
            if let Some(value) = value {
                reading.single(desc, value);
            }
        }
    }
}

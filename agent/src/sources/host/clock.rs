//! How well the kernel's clock keeps time: what `adjtimex` tells.

use std::io::ErrorKind;
use std::time::Duration;

use crate::sources::kernel::{ClockState, clock_state};
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source};

const INTERVAL: Duration = Duration::from_secs(10);
/// Named in problems.
const WHERE: &str = "adjtimex";
/// `TIME_ERROR`: the clock is not synchronised.
const STATE_ERROR: i32 = 5;
/// `STA_NANO`: offset and jitter are in nanoseconds.
const STATUS_NANO: i32 = 0x2000;
const MICROS_PER_SECOND: f64 = 1e6;
const NANOS_PER_SECOND: f64 = 1e9;
/// Frequencies are in parts per million, with 16 bits behind the point.
const PPM: f64 = 1e6 * 65_536.0;

/// Families with their values.
fn told(clock: &ClockState) -> [(Desc, f64); 17] {
    let is_nano = clock.status & STATUS_NANO != 0;
    let per_second = if is_nano { NANOS_PER_SECOND } else { MICROS_PER_SECOND };
    let is_synchronised = clock.state != STATE_ERROR;
    [
        (
            Desc::gauge(
                "node_timex_offset_seconds",
                "Time offset in between local system and reference clock.",
            ),
            clock.offset / per_second,
        ),
        (
            Desc::gauge(
                "node_timex_frequency_adjustment_ratio",
                "Local clock frequency adjustment.",
            ),
            1.0 + clock.frequency / PPM,
        ),
        (
            Desc::gauge("node_timex_maxerror_seconds", "Maximum error in seconds."),
            clock.error_max_us / MICROS_PER_SECOND,
        ),
        (
            Desc::gauge("node_timex_estimated_error_seconds", "Estimated error in seconds."),
            clock.error_estimated_us / MICROS_PER_SECOND,
        ),
        (
            Desc::gauge("node_timex_status", "Value of the status array bits."),
            f64::from(clock.status),
        ),
        (
            Desc::gauge("node_timex_loop_time_constant", "Phase-locked loop time constant."),
            clock.time_constant,
        ),
        (
            Desc::gauge("node_timex_tick_seconds", "Seconds between clock ticks."),
            clock.tick_us / MICROS_PER_SECOND,
        ),
        (
            Desc::gauge("node_timex_pps_frequency_hertz", "Pulse per second frequency."),
            clock.pps_frequency / PPM,
        ),
        (
            Desc::gauge("node_timex_pps_jitter_seconds", "Pulse per second jitter."),
            clock.pps_jitter / per_second,
        ),
        (
            Desc::gauge("node_timex_pps_shift_seconds", "Pulse per second interval duration."),
            clock.pps_shift,
        ),
        (
            Desc::gauge(
                "node_timex_pps_stability_hertz",
                "Pulse per second stability, average of recent frequency changes.",
            ),
            clock.pps_stability / PPM,
        ),
        (
            Desc::counter(
                "node_timex_pps_jitter_total",
                "Pulse per second count of jitter limit exceeded events.",
            ),
            clock.pps_jitter_exceeded,
        ),
        (
            Desc::counter(
                "node_timex_pps_calibration_total",
                "Pulse per second count of calibration intervals.",
            ),
            clock.pps_calibrations,
        ),
        (
            Desc::counter(
                "node_timex_pps_error_total",
                "Pulse per second count of calibration errors.",
            ),
            clock.pps_errors,
        ),
        (
            Desc::counter(
                "node_timex_pps_stability_exceeded_total",
                "Pulse per second count of stability limit exceeded events.",
            ),
            clock.pps_stability_exceeded,
        ),
        (
            Desc::gauge("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset."),
            clock.tai_offset_s,
        ),
        (
            Desc::gauge(
                "node_timex_sync_status",
                "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
            ),
            f64::from(u8::from(is_synchronised)),
        ),
    ]
}

/// The source `timex`.
#[derive(Debug)]
pub(crate) struct Clock;

impl Configured for Clock {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self
    }
}

impl Source for Clock {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        match clock_state() {
            Ok(clock) => {
                for (desc, value) in told(&clock) {
                    reading.single(&desc, value);
                }
            }
            // Some containers may not ask: nothing to tell there, and nothing to complain of.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                reading.fail(Problem::Lacks("right to ask for the kernel's clock"));
            }
            Err(error) => reading.fail(Problem::read(WHERE, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_said_by_the_status() {
        let clock = ClockState { offset: 2000.0, frequency: 65_536.0, ..ClockState::default() };
        let values = |clock| told(&clock).map(|(_, value)| value);
        let [offset, ratio, ..] = values(clock);
        assert_eq!((offset, ratio), (0.002, 1.000_001));
        let [offset, ..] = values(ClockState { status: STATUS_NANO, ..clock });
        assert_eq!(offset, 0.000_002);
        let [.., is_synchronised] = values(ClockState { state: STATE_ERROR, ..clock });
        assert_eq!(is_synchronised, 0.0);
    }
}

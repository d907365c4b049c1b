//! What `chronyc -c` says of `tracking` and `sources`, under `chrony_exporter`'s names.
//!
//! One line of 14 columns, then one of 10 for each source. Names are not looked up: `source_name` and
//! `tracking_name` are addresses, as with the exporter's `--no-collector.dns-lookups`.

use stoa_model::{Family, Labels};

use super::Keeper;
use crate::sources::{Desc, Kept, Reading, number};

const UP: Desc = Desc::gauge("chrony_up", "Whether the chrony server is up.");
const INFO: Desc = Desc::gauge("chrony_tracking_info", "Chrony tracking info");
const REMOTE: Desc = Desc::gauge(
    "chrony_tracking_remote_reference",
    "Chrony tracking is connected to a remote source",
);
const STATE: Desc = Desc::gauge("chrony_sources_state_info", "Chrony sources state info");

/// Sources told at most.
const SOURCES_MAX: usize = 64;
/// chrony's own clock, when it is told to trust that.
const LOCAL_REFERENCE: &str = "7F7F0101";
/// What chrony says of a source that was never heard.
const NEVER: f64 = 4_294_967_295.0;

const STRATUM: usize = 2;
const LAST: usize = 3;
const CORRECTION: usize = 4;
const TRACKING_COLUMNS: usize = 14;
/// Families of `tracking` by column.
const TRACKING: [(usize, Desc); 11] = [
    (STRATUM, Desc::gauge("chrony_tracking_stratum", "Chrony tracking client stratum")),
    (
        LAST,
        Desc::gauge(
            "chrony_tracking_reference_timestamp_seconds",
            "Chrony tracking Reference timestamp",
        ),
    ),
    (CORRECTION, Desc::gauge("chrony_tracking_system_time_seconds", "Chrony tracking System time")),
    (
        5,
        Desc::gauge(
            "chrony_tracking_last_offset_seconds",
            "Chrony tracking last offset in seconds",
        ),
    ),
    (
        6,
        Desc::gauge(
            "chrony_tracking_rms_offset_seconds",
            "Chrony tracking long-term average of the offset",
        ),
    ),
    (
        7,
        Desc::gauge(
            "chrony_tracking_frequency_ppms",
            "Rate by which the system's clock would be wrong if chronyd was not correcting it, in PPMs",
        ),
    ),
    (
        8,
        Desc::gauge(
            "chrony_tracking_residual_frequency_ppms",
            "For the currently selected reference source, the difference between the frequency it \
             suggests and the one currently in use, in PPMs",
        ),
    ),
    (
        9,
        Desc::gauge(
            "chrony_tracking_skew_ppms",
            "The estimated error bound on the frequency, in PPMs",
        ),
    ),
    (
        10,
        Desc::gauge(
            "chrony_tracking_root_delay_seconds",
            "This is the total of the network path delays to the stratum-1 computer from which the \
             computer is ultimately synchronised",
        ),
    ),
    (
        11,
        Desc::gauge(
            "chrony_tracking_root_dispersion_seconds",
            "Chrony tracking total of all measurement errors to the NTP root",
        ),
    ),
    (
        12,
        Desc::gauge(
            "chrony_tracking_update_interval_seconds",
            "The time elapsed since the last measurement from the reference source was processed, \
             in seconds",
        ),
    ),
];

/// Families of `sources`; their order is that of [`Server::values`].
const SOURCES: [Desc; 5] = [
    Desc::gauge("chrony_sources_stratum", "Chrony sources stratum"),
    Desc::gauge(
        "chrony_sources_polling_interval_seconds",
        "Chrony sources polling interval in seconds",
    ),
    Desc::gauge(
        "chrony_sources_last_sample_age_seconds",
        "Chrony sources last good sample age in seconds",
    ),
    Desc::gauge(
        "chrony_sources_last_sample_offset_seconds",
        "Chrony sources last sample margin of error in seconds",
    ),
    Desc::gauge(
        "chrony_sources_last_sample_error_margin_seconds",
        "Chrony sources last sample offset in seconds",
    ),
];

/// What chrony says.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    reference: String,
    address: String,
    numbers: [Option<f64>; TRACKING_COLUMNS],
    is_synchronized: bool,
    servers: Vec<Server>,
}

/// One of its sources.
#[derive(Debug, PartialEq)]
struct Server {
    address: String,
    mode: &'static str,
    state: &'static str,
    values: [Option<f64>; SOURCES.len()],
}

/// `None` if the first line is not what it should be.
pub(super) fn parse(text: &str) -> Option<Report> {
    let mut lines = text.lines();
    let words: Vec<&str> = lines.next()?.split(',').collect();
    let [reference, address, .., leap] = words.as_slice() else { return None };
    if words.len() != TRACKING_COLUMNS {
        return None;
    }
    let mut numbers = [None; TRACKING_COLUMNS];
    for (value, word) in numbers.iter_mut().zip(&words).skip(STRATUM) {
        *value = number(word);
    }
    let is_local = *reference == LOCAL_REFERENCE;
    Some(Report {
        reference: (*reference).to_owned(),
        address: if is_local { "127.127.1.1" } else { address }.to_owned(),
        numbers,
        is_synchronized: matches!(*leap, "Normal" | "Insert second" | "Delete second"),
        servers: lines.filter_map(server).take(SOURCES_MAX).collect(),
    })
}

/// `^,*,ADDRESS,STRATUM,POLL,REACH,AGE,OFFSET,AS MEASURED,ERROR`
fn server(line: &str) -> Option<Server> {
    let words: Vec<&str> = line.split(',').collect();
    let [mode, state, address, stratum, poll, _reach, age, offset, _measured, error] =
        words.as_slice()
    else {
        return None;
    };
    let age = number(age).filter(|age| *age < NEVER);
    let heard = |value: &str| age.and(number(value));
    Some(Server {
        address: (*address).to_owned(),
        mode: match *mode {
            "^" => "client",
            "=" => "peer",
            "#" => "ref",
            _ => return None,
        },
        // The exporter's words, among them its `falseticket`.
        state: match *state {
            "*" => "sync",
            "?" => "unreach",
            "x" => "falseticket",
            "~" => "jittery",
            "+" => "candidate",
            "-" => "outlier",
            _ => return None,
        },
        values: [
            number(stratum),
            number(poll).map(f64::exp2).filter(|s| s.is_finite()),
            age,
            heard(offset),
            heard(error),
        ],
    })
}

impl Report {
    pub(super) fn keeper(&self) -> Keeper {
        let number = |column: usize| self.numbers.get(column).copied().flatten();
        Keeper {
            is_synchronized: self.is_synchronized,
            offset: number(CORRECTION),
            stratum: number(STRATUM),
            last: number(LAST).filter(|last| *last > 0.0),
        }
    }

    fn is_remote(&self) -> bool {
        self.is_synchronized && self.reference != LOCAL_REFERENCE
    }
}

/// Tells chrony's own families; without a report, that it is down.
pub(super) fn tell(report: Option<&Report>, labels: &mut Kept<Labels>, reading: &mut Reading) {
    reading.single(&UP, f64::from(u8::from(report.is_some())));
    let Some(report) = report else { return };
    let Report { reference, address, servers, .. } = report;
    let info = labels.get(&format!("{reference} {address}"), |_| {
        Labels::from_pairs_last_wins([
            ("tracking_address", address.as_str()),
            ("tracking_name", address),
            ("tracking_refid", reference),
        ])
    });
    reading.one(&INFO, info, 1.0);
    for (column, desc) in &TRACKING {
        if let Some(value) = report.numbers.get(*column).copied().flatten() {
            reading.single(desc, value);
        }
    }
    reading.single(&REMOTE, f64::from(u8::from(report.is_remote())));
    let mut families: Vec<Family> = SOURCES.iter().map(Desc::family).collect();
    let mut states = STATE.family();
    let mut told: Vec<&str> = Vec::new();
    for Server { address, mode, state, values } in servers {
        if told.contains(&address.as_str()) {
            continue;
        }
        told.push(address);
        let base = labels.get(address, |address| {
            Labels::from_pairs_last_wins([("source_address", address), ("source_name", address)])
        });
        for (family, value) in families.iter_mut().zip(values) {
            if let Some(value) = value {
                family.push(base.clone(), *value);
            }
        }
        let state = labels.get(&format!("{address} {mode} {state}"), |_| {
            base.with("source_mode", mode).with("source_state", state)
        });
        states.push(state, 1.0);
    }
    for family in families.into_iter().chain([states]) {
        reading.family(family);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "7F000001,127.0.0.1,4,1795351802.513692217,-0.000001700,0.000000061,\
0.000000982,0.001,0.001,0.063,0.000006816,0.000002116,1.0,Normal
^,*,127.0.0.1,3,0,377,0,0.000001765,0.000001826,0.000004976
^,?,127.0.0.9,0,6,0,4294967295,0.000000000,0.000000000,0.000000000
#,x,GPS,0,4,377,12,-0.1,-0.1,0.2
";

    #[test]
    fn what_chrony_says_is_told_apart() {
        let report = parse(TEXT).unwrap();
        let keeper = Keeper {
            is_synchronized: true,
            offset: Some(-0.0000017),
            stratum: Some(4.0),
            last: Some(1_795_351_802.513_692_2),
        };
        assert_eq!(report.keeper(), keeper);
        assert!(report.is_remote());
        let [first, never, clock] = report.servers.as_slice() else { panic!("three sources") };
        assert_eq!((first.mode, first.state), ("client", "sync"));
        let values = [Some(3.0), Some(1.0), Some(0.0), Some(0.000_001_765), Some(0.000_004_976)];
        assert_eq!(first.values, values);
        assert_eq!(never.values, [Some(0.0), Some(64.0), None, None, None]);
        assert_eq!(
            (clock.mode, clock.state, clock.address.as_str()),
            ("ref", "falseticket", "GPS")
        );
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_no_remote_reference() {
        let local = "7F7F0101,,3,1795350011.6,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,Normal\n";
        let report = parse(local).unwrap();
        assert!(report.is_synchronized && !report.is_remote());
        assert_eq!(report.address, "127.127.1.1");
        let lost = "00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n";
        let report = parse(lost).unwrap();
        assert!(!report.is_synchronized && !report.is_remote());
        assert_eq!(report.keeper().last, None);
        assert_eq!(parse("506 Cannot talk to daemon\n"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_a_report_or_none(text in "([0-9.^*?x#=,-]|\n|Normal){0,300}") {
            prop_assert!(parse(&text).is_none_or(|report| report.servers.len() <= SOURCES_MAX));
        }

        #[test]
        fn any_cut_is_a_report_or_none(cut in 0..TEXT.len()) {
            prop_assert!(parse(TEXT.get(..cut).unwrap()).is_none_or(|r| r.servers.len() <= 3));
        }
    }
}

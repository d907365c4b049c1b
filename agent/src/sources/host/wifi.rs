//! Wireless interfaces: their frequency, the network they belong to, and each station they hear.
//! Off by default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels};

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, label};

mod nl80211;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use nl80211::read_any;

/// The answer waits for the lock of the whole network stack.
const DEADLINE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(10);
/// Named in problems.
const WHERE: &str = "netlink nl80211";
/// A longer file of fixtures is not read.
const FIXTURES_BYTES_MAX: u64 = 1 << 20;
const HERTZ_PER_MEGAHERTZ: f64 = 1e6;

const FREQUENCY: Desc = Desc::gauge(
    "node_wifi_interface_frequency_hertz",
    "The current frequency a WiFi interface is operating at, in hertz.",
);
const INFO: Desc = Desc::gauge(
    "node_wifi_station_info",
    "Labeled WiFi interface station information as provided by the operating system.",
);
/// In the order of [`Station::values`].
const STATION: [Desc; 12] = [
    Desc::counter(
        "node_wifi_station_connected_seconds_total",
        "The total number of seconds a station has been connected to an access point.",
    ),
    Desc::gauge(
        "node_wifi_station_inactive_seconds",
        "The number of seconds since any wireless activity has occurred on a station.",
    ),
    Desc::gauge(
        "node_wifi_station_receive_bits_per_second",
        "The current WiFi receive bitrate of a station, in bits per second.",
    ),
    Desc::counter(
        "node_wifi_station_receive_bytes_total",
        "The total number of bytes received by a WiFi station.",
    ),
    Desc::gauge(
        "node_wifi_station_transmit_bits_per_second",
        "The current WiFi transmit bitrate of a station, in bits per second.",
    ),
    Desc::counter(
        "node_wifi_station_transmit_bytes_total",
        "The total number of bytes transmitted by a WiFi station.",
    ),
    Desc::counter(
        "node_wifi_station_received_packets_total",
        "The total number of packets received by a station.",
    ),
    Desc::counter(
        "node_wifi_station_transmitted_packets_total",
        "The total number of packets transmitted by a station.",
    ),
    Desc::gauge(
        "node_wifi_station_signal_dbm",
        "The current WiFi signal strength, in decibel-milliwatts (dBm).",
    ),
    Desc::counter(
        "node_wifi_station_transmit_retries_total",
        "The total number of times a station has had to retry while sending a packet.",
    ),
    Desc::counter(
        "node_wifi_station_transmit_failed_total",
        "The total number of times a station has failed to send a packet.",
    ),
    Desc::counter(
        "node_wifi_station_beacon_loss_total",
        "The total number of times a station has detected a beacon loss.",
    ),
];

/// `[sources.wifi]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Read `interfaces.json` in this directory, and `bss.json` and `stationinfo.json` in one of an
    /// interface's name, instead of asking the kernel; for tests.
    fixtures: Option<PathBuf>,
}

/// A wireless interface.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Interface {
    index: u32,
    name: String,
    frequency_mhz: u32,
}

/// The network an interface belongs to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Network {
    ssid: String,
    bssid: String,
    status: Status,
}

/// How an interface belongs to its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It has said who it is, no more.
    #[default]
    Authenticated,
    Associated,
    /// A network without an access point.
    AdHoc,
}

impl Status {
    fn mode(self) -> &'static str {
        match self {
            Self::Authenticated => "unknown",
            Self::Associated => "client",
            Self::AdHoc => "ad-hoc",
        }
    }
}

/// What is known of a station; 0, as with node_exporter, is also what its driver does not say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Station {
    mac_address: String,
    connected_s: u32,
    inactive_ms: u32,
    receive_bits_per_second: u64,
    received_bytes: u64,
    transmit_bits_per_second: u64,
    transmitted_bytes: u64,
    received_packets: u32,
    transmitted_packets: u32,
    signal_dbm: i8,
    transmit_retries: u32,
    transmit_failed: u32,
    beacon_loss: u32,
}

impl Station {
    fn values(&self) -> [f64; STATION.len()] {
        [
            f64::from(self.connected_s),
            f64::from(self.inactive_ms) / 1000.0,
            self.receive_bits_per_second as f64,
            self.received_bytes as f64,
            self.transmit_bits_per_second as f64,
            self.transmitted_bytes as f64,
            f64::from(self.received_packets),
            f64::from(self.transmitted_packets),
            f64::from(self.signal_dbm),
            f64::from(self.transmit_retries),
            f64::from(self.transmit_failed),
            f64::from(self.beacon_loss),
        ]
    }
}

/// An interface with what belongs to it.
#[derive(Debug, Default)]
struct Heard {
    interface: Interface,
    network: Option<Network>,
    stations: Vec<Station>,
}

/// The source `wifi`.
#[derive(Debug)]
pub(crate) struct Wifi {
    fixtures: Option<PathBuf>,
    labels: Kept<Labels>,
}

impl Configured for Wifi {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { fixtures: settings.fixtures, labels: Kept::new() }
    }
}

impl Wifi {
    fn tell(&mut self, heard: &[Heard], reading: &mut Reading) {
        let (mut frequencies, mut infos) = (FREQUENCY.family(), INFO.family());
        let mut families: Vec<Family> = STATION.iter().map(Desc::family).collect();
        for Heard { interface, network, stations } in heard {
            let device = interface.name.as_str();
            let labels = self.labels.get(device, |device| label("device", device));
            frequencies.push(labels, f64::from(interface.frequency_mhz) * HERTZ_PER_MEGAHERTZ);
            if let Some(network) = network {
                let labels = Labels::from_pairs_last_wins([
                    ("device", device),
                    ("bssid", &network.bssid),
                    ("ssid", &network.ssid),
                    ("mode", network.status.mode()),
                ]);
                infos.push(self.labels.get(&labels.to_string(), |_| labels.clone()), 1.0);
            }
            for station in stations {
                let address = station.mac_address.as_str();
                let labels = self.labels.get(&format!("{device} {address}"), |_| {
                    Labels::from_pairs_last_wins([("device", device), ("mac_address", address)])
                });
                for (family, value) in families.iter_mut().zip(station.values()) {
                    family.push(labels.clone(), value);
                }
            }
        }
        self.labels.end_round();
        for family in [frequencies, infos].into_iter().chain(families) {
            reading.family(family);
        }
    }
}

impl Source for Wifi {
    fn name(&self) -> &'static str {
        "wifi"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, _roots: &Roots, _now: Now, reading: &mut Reading) {
        let heard = match &self.fixtures {
            Some(dir) => fixtures(dir),
            None => nl80211::heard().map_err(|error| Problem::read(WHERE, error)),
        };
        match heard {
            Ok(heard) => self.tell(&heard, reading),
            // A kernel without wireless has no such family.
            Err(problem) => reading.fail(problem),
        }
    }
}

fn fixtures(dir: &Path) -> Result<Vec<Heard>, Problem> {
    let interfaces: Vec<Interface> = fixture(dir.join("interfaces.json"))?;
    let heard = interfaces.into_iter().map(|interface| {
        let dir = dir.join(&interface.name);
        let absent = |problem: Problem| if problem.is_absence() { Ok(()) } else { Err(problem) };
        let network = match fixture(dir.join("bss.json")) {
            Ok(network) => Some(network),
            Err(problem) => absent(problem).map(|()| None)?,
        };
        let stations = match fixture(dir.join("stationinfo.json")) {
            Ok(stations) => stations,
            Err(problem) => absent(problem).map(|()| Vec::new())?,
        };
        Ok(Heard { interface, network, stations })
    });
    heard.collect()
}

fn fixture<T: for<'a> Deserialize<'a>>(path: PathBuf) -> Result<T, Problem> {
    match read_whole(&path, FIXTURES_BYTES_MAX) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| Problem::read(path, error.into())),
        Err(error) => Err(Problem::read(path, error)),
    }
}

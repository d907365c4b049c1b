//! Uninterruptible power supplies, from NUT's `upsd`, under `nut_exporter`'s names.
//!
//! Each server is asked for its UPSs and each UPS for its variables. What is a number becomes
//! `network_ups_tools_VARIABLE`; `ups.status` becomes one series per flag, those that are not set
//! too. A UPS whose driver lost it has `stoa_ups_up` 0 and nothing else. Servers are asked one after
//! another out of one budget of time, so that those that hang leave the others theirs. Bounded by
//! [`SERVERS_MAX`], [`UPS_MAX`], [`PATIENCE`] and the protocol's own bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use stoa_model::{Family, Labels, MetricKind};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, number, read_small};

mod protocol;

use protocol::{Client, NutError, Wire, now};

const DEVICE: Desc = Desc::gauge("network_ups_tools_device_info", "UPS Device information");
const SERVER_UP: Desc =
    Desc::gauge("stoa_nut_up", "Whether a server of Network UPS Tools tells its UPSs.");
const UPS_UP: Desc =
    Desc::gauge("stoa_ups_up", "Whether the server hears its UPS; its readings are absent if not.");
const PREFIX: &str = "network_ups_tools_";

/// Flags of `ups.status` that are told when not set, too: `nut_exporter`'s.
const FLAGS: &[&str] = &[
    "OL", "OB", "LB", "HB", "RB", "CHRG", "DISCHRG", "BYPASS", "CAL", "OFF", "OVER", "TRIM",
    "BOOST", "FSD", "SD",
];
/// Flags told at most, of whatever a server says.
const FLAGS_MAX: usize = 32;
/// What `device.*` says that is no number; `nut_exporter`'s labels.
const DEVICE_LABELS: &[&str] =
    &["model", "mfr", "serial", "type", "description", "contact", "location", "part", "macaddr"];

/// The server of this host.
const LOCAL: &str = "127.0.0.1:3493";
const PORT: u16 = 3493;
/// Where NUT is installed, this is.
const INSTALLED: &str = "/etc/nut";
/// Servers asked at most.
const SERVERS_MAX: usize = 16;
/// UPSs of one server told at most.
const UPS_MAX: usize = 32;
/// Drivers poll every two seconds; power fails seldom, and then it matters.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a server, and all of them, may take.
const PATIENCE: Patience =
    Patience { server: Duration::from_secs(3), all: Duration::from_secs(12) };
/// By then all have been asked; names that do not resolve take a resolver's patience besides.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long asking may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    server: Duration,
    all: Duration,
}

impl Patience {
    /// What a server may take when `left` of them, it among them, have still to be asked.
    fn of_next(self, began: Instant, left: usize) -> Duration {
        let rest = self.all.saturating_sub(began.elapsed());
        self.server.min(rest / u32::try_from(left).unwrap_or(u32::MAX).max(1))
    }
}

/// What may be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whom to ask; none: this host's own, if NUT is installed.
    pub(crate) servers: Vec<Server>,
    /// Which variables to tell, as NUT names them; none: all that are readings.
    pub(crate) variables: Vec<String>,
}

/// A server.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// `HOST` or `HOST:PORT`.
    pub(crate) address: String,
    /// Reading seldom needs one.
    #[serde(default)]
    pub(crate) username: String,
    /// Used with a user name only.
    #[serde(default)]
    pub(crate) password: String,
    /// Read the password from here.
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, username, .. } = self;
        write!(f, "Server {{ address: {address:?}, username: {username:?}, .. }}")
    }
}

/// The source `nut`.
#[derive(Debug)]
pub(crate) struct Nut {
    settings: Settings,
    patience: Patience,
    /// Whether this host's own server has answered ever; until then it is not missed.
    has_answered: bool,
    labels: Kept<Labels>,
}

/// A UPS as told.
#[derive(Debug, PartialEq)]
struct Ups {
    name: String,
    description: String,
    /// `None` if the server does not hear it.
    variables: Option<Vec<(String, String)>>,
}

impl Configured for Nut {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings, patience: PATIENCE, has_answered: false, labels: Kept::new() }
    }
}

impl Source for Nut {
    fn name(&self) -> &'static str {
        "nut"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut servers = self.settings.servers.clone();
        let is_found = servers.is_empty();
        if is_found {
            if !roots.on_host(INSTALLED).is_dir() {
                return reading.fail(Problem::Lacks("NUT"));
            }
            servers.push(Server { address: LOCAL.into(), ..Server::default() });
        }
        let mut told = Told::new(&mut self.labels, &self.settings.variables);
        let mut answers = 0;
        servers.truncate(SERVERS_MAX);
        let began = now();
        for (at, server) in servers.iter().enumerate() {
            let address = with_port(&server.address);
            let patience = self.patience.of_next(began, servers.len() - at);
            match ask(server, &address, patience) {
                Ok(all) => {
                    answers += 1;
                    told.server(&address, true);
                    for ups in &all {
                        told.ups(&address, ups);
                    }
                }
                Err(NutError::Io(error))
                    if is_found
                        && !self.has_answered
                        && error.kind() == ErrorKind::ConnectionRefused =>
                {
                    // Only a client is installed here, or a server that is not set up.
                    return reading.fail(Problem::Lacks("UPS server on this host"));
                }
                Err(error) => {
                    told.server(&address, false);
                    let wrong = format!("{address}: {error}");
                    reading.note(Problem::Answer { asked: "upsd", wrong });
                }
            }
        }
        self.has_answered |= answers > 0;
        reading.failed |= answers == 0;
        for family in told.families() {
            reading.family(family);
        }
        self.labels.end_round();
    }
}

/// `HOST:PORT` of what was configured.
fn with_port(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        // An IPv6 address without brackets has more colons.
        Some((host, port)) => {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    if has_port {
        address.to_owned()
    } else if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]:{PORT}")
    } else {
        format!("{address}:{PORT}")
    }
}

fn ask(server: &Server, address: &str, patience: Duration) -> Result<Vec<Ups>, NutError> {
    converse(Client::connect(address, patience)?, server)
}

fn converse(mut client: Client<impl Wire>, server: &Server) -> Result<Vec<Ups>, NutError> {
    if !server.username.is_empty() {
        let password = match &server.password_file {
            Some(path) => read_small(path)?,
            None => server.password.clone(),
        };
        client.log_in(&server.username, &password)?;
    }
    let mut all = Vec::new();
    for (name, description) in client.list_ups()?.into_iter().take(UPS_MAX) {
        let variables = match client.list_variables(&name) {
            Ok(variables) => Some(variables),
            // DATA-STALE, DRIVER-NOT-CONNECTED and the like concern this UPS only.
            Err(NutError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        all.push(Ups { name, description, variables });
    }
    client.log_out();
    Ok(all)
}

/// The families of a reading while they are put together.
struct Told<'a> {
    labels: &'a mut Kept<Labels>,
    /// If not empty, only these.
    variables: &'a [String],
    servers: Family,
    ups: Family,
    devices: Family,
    by_name: BTreeMap<String, Family>,
}

impl<'a> Told<'a> {
    fn new(labels: &'a mut Kept<Labels>, variables: &'a [String]) -> Self {
        Self {
            labels,
            variables,
            servers: SERVER_UP.family(),
            ups: UPS_UP.family(),
            devices: DEVICE.family(),
            by_name: BTreeMap::new(),
        }
    }

    fn server(&mut self, server: &str, is_up: bool) {
        let labels = self.labels.get(server, |server| crate::sources::label("server", server));
        self.servers.push(labels, f64::from(u8::from(is_up)));
    }

    fn ups(&mut self, server: &str, ups: &Ups) {
        let name = ups.name.as_str();
        let base = self.labels.of(&[("server", server), ("ups", name)]);
        self.ups.push(base.clone(), f64::from(u8::from(ups.variables.is_some())));
        let Some(variables) = &ups.variables else { return };
        let device = device(&base, &ups.description, variables);
        let device = self.labels.get(&device.to_string(), |_| device);
        push_new(&mut self.devices, device, 1.0);
        for (variable, value) in variables {
            let is_wanted = if self.variables.is_empty() {
                is_reading(variable)
            } else {
                self.variables.contains(variable)
            };
            if !is_wanted {
                continue;
            }
            if variable == "ups.status" {
                for (flag, is_set) in flags(value) {
                    let pairs = [("server", server), ("ups", name), ("flag", flag)];
                    let labels = self.labels.of(&pairs);
                    let family = self.by_name.entry(variable.clone());
                    let family = family.or_insert_with(|| family_of(variable));
                    push_new(family, labels, f64::from(u8::from(is_set)));
                }
            } else if let Some(value) = parse(value) {
                let family = self.by_name.entry(variable.clone());
                let family = family.or_insert_with(|| family_of(variable));
                push_new(family, base.clone(), value);
            }
        }
    }

    fn families(self) -> impl Iterator<Item = Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        // Two variables may come to one name; the first has it.
        for family in self.by_name.into_values() {
            families.entry(family.name.clone()).or_insert(family);
        }
        [self.servers, self.ups, self.devices].into_iter().chain(families.into_values())
    }
}

/// Tells lines of a server as a UPS's variables: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_variables(bytes: &[u8], _: Now, reading: &mut Reading) {
    let text = String::from_utf8_lossy(bytes);
    let words = text.lines().filter_map(protocol::parse);
    let variables = words.filter_map(|words| match <[String; 2]>::try_from(words) {
        Ok([variable, value]) => Some((variable, value)),
        Err(_) => None,
    });
    let (name, description) = ("ups".to_owned(), "any".to_owned());
    let ups = Ups { name, description, variables: Some(variables.collect()) };
    let mut labels = Kept::new();
    let mut told = Told::new(&mut labels, &[]);
    told.ups(LOCAL, &ups);
    told.families().for_each(|family| reading.family(family));
}

/// Tells any bytes as all that a server says in a conversation.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_conversation(bytes: &[u8], _: Now, reading: &mut Reading) {
    let server = Server { username: "any".into(), password: "any".into(), ..Server::default() };
    let all = converse(protocol::client_of(bytes), &server).unwrap_or_default();
    assert!(all.len() <= UPS_MAX);
    let mut labels = Kept::new();
    let mut told = Told::new(&mut labels, &[]);
    all.iter().for_each(|ups| told.ups(LOCAL, ups));
    told.families().for_each(|family| reading.family(family));
}

fn push_new(family: &mut Family, labels: Labels, value: f64) {
    if family.metrics.iter().all(|metric| metric.labels != labels) {
        family.push(labels, value);
    }
}

fn family_of(variable: &str) -> Family {
    let sign = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = PREFIX.chars().chain(variable.chars().map(sign)).collect();
    let shown: String = variable.chars().filter(|c| !c.is_control()).collect();
    Family::new(name, format!("Variable {shown} of Network UPS Tools."), MetricKind::Gauge)
}

fn device(base: &Labels, description: &str, variables: &[(String, String)]) -> Labels {
    let mut labels = base.clone();
    for label in DEVICE_LABELS {
        let told = variables.iter().find(|(variable, _)| {
            variable.strip_prefix("device.").is_some_and(|rest| rest == *label)
        });
        let value = match told {
            Some((_, value)) => value.trim(),
            // What `ups.conf` calls it, unless the device says more.
            None if *label == "description" => description,
            None => "",
        };
        if !value.is_empty() {
            labels = labels.with(label, value);
        }
    }
    labels
}

/// Whether a variable says how the UPS is rather than what it is.
fn is_reading(variable: &str) -> bool {
    const NOT_FIRST: &[&str] = &["driver", "server", "device"];
    const NOT_AMONG: &[&str] = &[
        "mfr",
        "model",
        "serial",
        "firmware",
        "id",
        "productid",
        "vendorid",
        "macaddr",
        "type",
        "date",
        "time",
        "protocol",
        "part",
    ];
    let mut words = variable.split('.');
    variable == "device.uptime"
        || (words.next().is_some_and(|word| !NOT_FIRST.contains(&word))
            && words.all(|word| !NOT_AMONG.contains(&word)))
}

/// A value as a number; what is on or off is 1 or 0.
fn parse(value: &str) -> Option<f64> {
    let value = value.trim();
    match value.to_ascii_lowercase().as_str() {
        "enable" | "enabled" | "on" | "true" | "active" | "activated" | "yes" => Some(1.0),
        "disable" | "disabled" | "off" | "false" | "inactive" | "deactivated" | "no" => Some(0.0),
        _ => number(value).filter(|number| number.is_finite()),
    }
}

/// The flags of `ups.status`: those that are set, then those that could be.
fn flags(status: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut set: Vec<&str> = Vec::new();
    for flag in status.split_ascii_whitespace() {
        if set.len() < FLAGS_MAX && !set.contains(&flag) {
            set.push(flag);
        }
    }
    let unset: Vec<&str> = FLAGS.iter().copied().filter(|flag| !set.contains(flag)).collect();
    set.into_iter().map(|flag| (flag, true)).chain(unset.into_iter().map(|flag| (flag, false)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_a_port() {
        for (given, expected) in [
            ("ups.lan", "ups.lan:3493"),
            ("ups.lan:3494", "ups.lan:3494"),
            ("10.0.0.5", "10.0.0.5:3493"),
            ("fd00::5", "[fd00::5]:3493"),
            ("[fd00::5]", "[fd00::5]:3493"),
            ("[fd00::5]:1", "[fd00::5]:1"),
        ] {
            assert_eq!(with_port(given), expected);
        }
    }

    #[test]
    fn what_is_no_reading_is_left_out() {
        for variable in
            ["battery.charge", "ups.load", "ups.status", "device.uptime", "battery.runtime.low"]
        {
            assert!(is_reading(variable), "{variable}");
        }
        for variable in [
            "driver.version.internal",
            "device.serial",
            "ups.firmware",
            "ups.productid",
            "battery.mfr.date",
            "ups.firmware.aux",
        ] {
            assert!(!is_reading(variable), "{variable}");
        }
    }

    #[test]
    fn values_are_numbers_or_on_or_off() {
        assert_eq!(parse("100"), Some(100.0));
        assert_eq!(parse("-1.5"), Some(-1.5));
        assert_eq!(parse("enabled"), Some(1.0));
        assert_eq!(parse("Off"), Some(0.0));
        for value in ["", "muted", "nan", "inf", "0x10", "1.2.3"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    /// A server with one UPS, which answers one client.
    fn living() -> (String, std::thread::JoinHandle<()>) {
        use std::io::{Read as _, Write as _};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = [
            "BEGIN LIST UPS\nUPS a \"A\"\nEND LIST UPS\n",
            "BEGIN LIST VAR a\nVAR a battery.charge \"90\"\nEND LIST VAR a\n",
        ];
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let _question = stream.read(&mut [0; 64]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
            drop(stream.read(&mut [0; 64]));
        });
        (address, thread)
    }

    #[test]
    fn servers_that_hang_leave_the_others_their_time() {
        // The kernel takes the connection; nobody ever answers.
        let dead: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let (address, thread) = living();
        let addresses = dead.iter().map(|dead| dead.local_addr().unwrap().to_string());
        let servers = addresses.chain([address.clone()]);
        let servers = servers.map(|address| Server { address, ..Server::default() }).collect();
        let settings = Settings { servers, ..Settings::default() };
        let all = Duration::from_secs(4);
        let patience = Patience { server: Duration::from_secs(30), all };
        let mut nut = Nut { settings, patience, has_answered: false, labels: Kept::new() };
        let began = now();
        let mut reading = Reading::default();
        nut.read(&Roots::default(), Now { unix_micros: 0 }, &mut reading);
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        thread.join().unwrap();
        let up: Vec<(String, f64)> = reading
            .families()
            .filter(|family| family.name == "stoa_nut_up")
            .flat_map(|family| &family.metrics)
            .map(|metric| (metric.labels.get("server").unwrap().to_owned(), metric.value))
            .collect();
        assert_eq!(up.len(), 4);
        assert!(up.iter().all(|(server, is_up)| (*is_up == 1.0) == (*server == address)), "{up:?}");
        assert!(reading.families().any(|f| f.name == "network_ups_tools_battery_charge"));
        assert!(!reading.failed);
        assert_eq!(reading.problems.len(), 3);
    }

    #[test]
    fn a_password_is_not_shown() {
        let server = Server { password: "geheim".into(), ..Server::default() };
        assert!(!format!("{server:?}").contains("geheim"));
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_told_once_and_under_good_names(
            variables in proptest::collection::vec((".{0,20}", ".{0,20}"), 0..50),
            status in ".{0,400}",
        ) {
            let mut variables = variables;
            variables.push(("ups.status".into(), status));
            let ups = Ups { name: "a".into(), description: String::new(), variables: Some(variables) };
            let mut labels = Kept::new();
            let mut told = Told::new(&mut labels, &[]);
            told.ups("b:1", &ups);
            for family in told.families() {
                prop_assert!(family.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
                prop_assert!(family.metrics.len() <= FLAGS_MAX + FLAGS.len());
                for (at, metric) in family.metrics.iter().enumerate() {
                    prop_assert!(family.metrics[..at].iter().all(|m| m.labels != metric.labels));
                }
            }
        }
    }
}

//! What a link supports and offers to its other end.

use stoa_model::{Family, Labels};

use crate::sources::netlink::u32_at;
use crate::sources::{Desc, Kept};

/// `struct ethtool_link_settings` without its masks.
const HEAD_BYTES: usize = 48;
const AUTONEGOTIATES: usize = 11;
const WORDS: usize = 15;
const BYTES_PER_MEGABIT: f64 = 1_000_000.0 / 8.0;

const BIT_AUTONEGOTIATE: u32 = 6;
const BIT_PAUSE: u32 = 13;
const BIT_ASYMMETRIC_PAUSE: u32 = 14;
const PORTS: [(u32, &str); 6] =
    [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

/// Bit, speed in Mbit/s, duplex, and what the medium is called.
const MODES: [(u32, u32, &str, &str); 63] = [
    (0, 10, "half", "T"),
    (1, 10, "full", "T"),
    (2, 100, "half", "T"),
    (3, 100, "full", "T"),
    (4, 1000, "half", "T"),
    (5, 1000, "full", "T"),
    (12, 10_000, "full", "T"),
    (15, 2500, "full", "X"),
    (17, 1000, "full", "KX"),
    (18, 10_000, "full", "KX4"),
    (19, 10_000, "full", "KR"),
    (20, 10_000, "full", "R_FEC"),
    (21, 20_000, "full", "MLD2"),
    (22, 20_000, "full", "KR2"),
    (23, 40_000, "full", "KR4"),
    (24, 40_000, "full", "CR4"),
    (25, 40_000, "full", "SR4"),
    (26, 40_000, "full", "LR4"),
    (27, 56_000, "full", "KR4"),
    (28, 56_000, "full", "CR4"),
    (29, 56_000, "full", "SR4"),
    (30, 56_000, "full", "LR4"),
    (31, 25_000, "full", "CR"),
    (32, 25_000, "full", "KR"),
    (33, 25_000, "full", "SR"),
    (34, 50_000, "full", "CR2"),
    (35, 50_000, "full", "KR2"),
    (36, 100_000, "full", "KR4"),
    (37, 100_000, "full", "SR4"),
    (38, 100_000, "full", "CR4"),
    (39, 100_000, "full", "LR4_ER4"),
    (40, 50_000, "full", "SR2"),
    (41, 1000, "full", "X"),
    (42, 10_000, "full", "CR"),
    (43, 10_000, "full", "SR"),
    (44, 10_000, "full", "LR"),
    (45, 10_000, "full", "LRM"),
    (46, 10_000, "full", "ER"),
    (47, 2500, "full", "T"),
    (48, 5000, "full", "T"),
    (52, 50_000, "full", "KR"),
    (53, 50_000, "full", "SR"),
    (54, 50_000, "full", "CR"),
    (55, 50_000, "full", "LR_ER_FR"),
    (56, 50_000, "full", "DR"),
    (57, 100_000, "full", "KR2"),
    (58, 100_000, "full", "SR2"),
    (59, 100_000, "full", "CR2"),
    (60, 100_000, "full", "LR2_ER2_FR2"),
    (61, 100_000, "full", "DR2"),
    (62, 200_000, "full", "KR4"),
    (63, 200_000, "full", "SR4"),
    (64, 200_000, "full", "LR4_ER4_FR4"),
    (65, 200_000, "full", "DR4"),
    (66, 200_000, "full", "CR4"),
    (67, 100, "full", "T1"),
    (68, 1000, "full", "T1"),
    (69, 400_000, "full", "KR8"),
    (70, 400_000, "full", "SR8"),
    (71, 400_000, "full", "LR8_ER8_FR8"),
    (72, 400_000, "full", "DR8"),
    (73, 400_000, "full", "CR8"),
    (75, 100_000, "full", "KR"),
];

/// One state of a link, as a bit of a mask.
const FLAGS: [(Desc, Mask, u32); 6] = [
    (
        Desc::gauge(
            "node_network_autonegotiate_supported",
            "If this port device supports autonegotiate",
        ),
        Mask::Supported,
        BIT_AUTONEGOTIATE,
    ),
    (
        Desc::gauge("node_network_pause_supported", "If this port device supports pause frames"),
        Mask::Supported,
        BIT_PAUSE,
    ),
    (
        Desc::gauge(
            "node_network_asymmetricpause_supported",
            "If this port device supports asymmetric pause frames",
        ),
        Mask::Supported,
        BIT_ASYMMETRIC_PAUSE,
    ),
    (
        Desc::gauge(
            "node_network_autonegotiate_advertised",
            "If this port device offers autonegotiate",
        ),
        Mask::Advertised,
        BIT_AUTONEGOTIATE,
    ),
    (
        Desc::gauge("node_network_pause_advertised", "If this port device offers pause capability"),
        Mask::Advertised,
        BIT_PAUSE,
    ),
    (
        Desc::gauge(
            "node_network_asymmetricpause_advertised",
            "If this port device offers asymmetric pause capability",
        ),
        Mask::Advertised,
        BIT_ASYMMETRIC_PAUSE,
    ),
];
const AUTONEGOTIATE: Desc =
    Desc::gauge("node_network_autonegotiate", "If this port is using autonegotiate");
const PORT: Desc = Desc::gauge(
    "node_network_supported_port_info",
    "Type of ports or PHYs supported by network device",
);
const SUPPORTED_SPEED: Desc = Desc::gauge(
    "node_network_supported_speed_bytes",
    "Combination of speeds and features supported by network device",
);
const ADVERTISED_SPEED: Desc = Desc::gauge(
    "node_network_advertised_speed_bytes",
    "Combination of speeds and features offered by network device",
);

#[derive(Clone, Copy, Debug)]
enum Mask {
    Supported,
    Advertised,
}

/// What is known of a link.
#[derive(Debug, PartialEq)]
pub(super) struct Link {
    autonegotiates: bool,
    supported: Vec<u32>,
    advertised: Vec<u32>,
}

impl Link {
    fn has(&self, mask: Mask, bit: u32) -> bool {
        let words = match mask {
            Mask::Supported => &self.supported,
            Mask::Advertised => &self.advertised,
        };
        let word = usize::try_from(bit / 32).ok().and_then(|at| words.get(at));
        word.is_some_and(|word| word >> (bit % 32) & 1 == 1)
    }
}

/// Reads a `struct ethtool_link_settings`.
pub(super) fn parse(bytes: &[u8]) -> Option<Link> {
    let words = usize::from(*bytes.get(WORDS)?);
    let mut masks = bytes.get(HEAD_BYTES..)?.chunks_exact(4).map_while(|word| u32_at(word, 0));
    let link = Link {
        autonegotiates: *bytes.get(AUTONEGOTIATES)? != 0,
        supported: masks.by_ref().take(words).collect(),
        advertised: masks.take(words).collect(),
    };
    (link.advertised.len() == words).then_some(link)
}

/// The families of all links.
pub(super) struct Families {
    flags: Vec<Family>,
    autonegotiate: Family,
    port: Family,
    speeds: [(Mask, Family); 2],
}

impl Families {
    pub(super) fn new() -> Self {
        Self {
            flags: FLAGS.iter().map(|(desc, _, _)| desc.family()).collect(),
            autonegotiate: AUTONEGOTIATE.family(),
            port: PORT.family(),
            speeds: [
                (Mask::Supported, SUPPORTED_SPEED.family()),
                (Mask::Advertised, ADVERTISED_SPEED.family()),
            ],
        }
    }

    pub(super) fn push(
        &mut self,
        device: &str,
        labels: &Labels,
        link: &Link,
        kept: &mut Kept<Labels>,
    ) {
        for (family, (_, mask, bit)) in self.flags.iter_mut().zip(&FLAGS) {
            family.push(labels.clone(), f64::from(u8::from(link.has(*mask, *bit))));
        }
        self.autonegotiate.push(labels.clone(), f64::from(u8::from(link.autonegotiates)));
        for (bit, port) in PORTS {
            if link.has(Mask::Supported, bit) {
                let labels = kept.get(&format!("{device} port {port}"), |_| {
                    Labels::from_pairs_last_wins([("device", device), ("type", port)])
                });
                self.port.push(labels, 1.0);
            }
        }
        for (mask, family) in &mut self.speeds {
            for (bit, megabits, duplex, medium) in MODES {
                if !link.has(*mask, bit) {
                    continue;
                }
                let mode = format!("{megabits}base{medium}");
                let labels = kept.get(&format!("{device} mode {mode} {duplex}"), |_| {
                    Labels::from_pairs_last_wins([
                        ("device", device),
                        ("duplex", duplex),
                        ("mode", &mode),
                    ])
                });
                family.push(labels, f64::from(megabits) * BYTES_PER_MEGABIT);
            }
        }
    }

    pub(super) fn into_families(self) -> impl Iterator<Item = Family> {
        let speeds = self.speeds.into_iter().map(|(_, family)| family);
        self.flags.into_iter().chain([self.autonegotiate, self.port]).chain(speeds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_has_what_its_masks_say() {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[AUTONEGOTIATES] = 1;
        bytes[WORDS] = 2;
        let words: [[u8; 4]; 6] =
            [[0xe0, 0, 0, 0], [0, 0x80, 0, 0], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]];
        bytes.extend(words.concat());
        let link = parse(&bytes).unwrap();
        let mut families = Families::new();
        families.push("eth0", &Labels::empty(), &link, &mut Kept::new());
        let told: Vec<(String, String, f64)> = families
            .into_families()
            .flat_map(|family| {
                let name = family.name.clone();
                let told = family.metrics.into_iter().filter(|metric| metric.value != 0.0);
                told.map(move |m| (name.clone(), m.labels.to_string(), m.value)).collect::<Vec<_>>()
            })
            .collect();
        let expected = [
            ("node_network_autonegotiate_supported", "{}", 1.0),
            ("node_network_pause_advertised", "{}", 1.0),
            ("node_network_autonegotiate", "{}", 1.0),
            ("node_network_supported_port_info", r#"{device="eth0", type="TP"}"#, 1.0),
            (
                "node_network_supported_speed_bytes",
                r#"{device="eth0", duplex="full", mode="1000baseT"}"#,
                125e6,
            ),
            (
                "node_network_supported_speed_bytes",
                r#"{device="eth0", duplex="full", mode="2500baseT"}"#,
                312.5e6,
            ),
        ];
        let expected = expected.map(|(name, labels, value)| (name.into(), labels.into(), value));
        assert_eq!(told, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let words = bytes.len().saturating_sub(HEAD_BYTES) / 8;
            prop_assert!(parse(&bytes).is_none_or(|link| link.supported.len() <= words));
        }
    }
}

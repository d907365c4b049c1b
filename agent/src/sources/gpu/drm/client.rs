//! What the kernel says of one use of a GPU: `/proc/PID/fdinfo/FD` of a `/dev/dri` node.
//!
//! A *client* is an open device; descriptors that were inherited or duplicated are the same one, by its
//! number. Engines are told by nanoseconds (i915, amdgpu) or by cycles beside the engine's (xe); memory by
//! region, of which those of the GPU itself count where there are some, else all (a GPU that shares the
//! host's). Source: the kernel's Documentation/gpu/drm-usage-stats.rst and its drivers. Knows no file.

use std::collections::BTreeMap;

/// Engines and regions of one client looked at.
const KEYS_MAX: usize = 64;
/// What memory is told by, the best first: what is there, the same as older amdgpu has it, what is reserved.
const MEMORY: [&str; 3] = ["resident-", "memory-", "total-"];

/// One use of a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// The GPU's place, `0000:03:00.0`.
    pub(super) pci: String,
    /// The kernel's number for it, within the GPU.
    pub(super) id: u64,
    /// Bytes of the GPU's memory; `None` where the kernel does not say.
    pub(super) memory: Option<u64>,
    /// What its engines did for it, since it was opened.
    pub(super) engines: BTreeMap<String, Work>,
}

/// What an engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Nanoseconds, or cycles.
    pub(super) busy: u64,
    /// Cycles that went by; `None`: nanoseconds, so time tells.
    pub(super) total: Option<u64>,
    /// How many of the kind there are; 0: one.
    pub(super) capacity: u64,
}

impl Work {
    /// The share of the time since `earlier`, `nanos` ago, in which the engine worked.
    pub(super) fn ratio(&self, earlier: &Self, nanos: u64) -> Option<f64> {
        let passed = match (self.total, earlier.total) {
            (Some(now), Some(then)) => now.checked_sub(then)?,
            _ => nanos.saturating_mul(self.capacity.max(1)),
        };
        let busy = self.busy.checked_sub(earlier.busy)?;
        (passed > 0).then(|| (busy as f64 / passed as f64).min(1.0))
    }
}

impl Client {
    /// Reads a file; `None` of one that is no GPU's client.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut client = Self::default();
        let mut is_client = false;
        let mut memory: [Regions; MEMORY.len()] = Default::default();
        for line in text.lines().take(4 * KEYS_MAX) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let Some(key) = key.strip_prefix("drm-") else { continue };
            let value = value.trim();
            match key {
                "pdev" => value.clone_into(&mut client.pci),
                "client-id" => {
                    client.id = value.parse().ok()?;
                    is_client = true;
                }
                _ => client.read(key, value, &mut memory),
            }
        }
        client.memory = memory.iter().find_map(Regions::sum);
        (is_client && !client.pci.is_empty()).then_some(client)
    }

    fn read(&mut self, key: &str, value: &str, memory: &mut [Regions; MEMORY.len()]) {
        // A key that is longer comes first.
        if let Some(engine) = key.strip_prefix("engine-capacity-") {
            self.set(engine, value, |work, it| work.capacity = it);
        } else if let Some(engine) = key.strip_prefix("engine-") {
            let nanos = value.strip_suffix("ns").map_or(value, str::trim_end);
            self.set(engine, nanos, |work, it| work.busy = it);
        } else if let Some(engine) = key.strip_prefix("total-cycles-") {
            self.set(engine, value, |work, it| work.total = Some(it));
        } else if let Some(engine) = key.strip_prefix("cycles-") {
            self.set(engine, value, |work, it| work.busy = it);
        } else {
            for (prefix, regions) in MEMORY.into_iter().zip(memory) {
                if let Some(region) = key.strip_prefix(prefix) {
                    regions.add(region, value);
                }
            }
        }
    }

    fn set(&mut self, engine: &str, value: &str, set: impl FnOnce(&mut Work, u64)) {
        let has_room = self.engines.len() < KEYS_MAX || self.engines.contains_key(engine);
        if let Some(number) = value.parse().ok().filter(|_| has_room) {
            set(self.engines.entry(engine.to_owned()).or_default(), number);
        }
    }
}

/// Bytes by where they are.
#[derive(Debug, Default)]
struct Regions {
    own: Option<u64>,
    shared: Option<u64>,
}

impl Regions {
    fn add(&mut self, region: &str, value: &str) {
        let Some(bytes) = bytes(value) else { return };
        let is_own = ["vram", "local"].iter().any(|own| region.starts_with(own));
        let sum = if is_own { &mut self.own } else { &mut self.shared };
        *sum = Some(sum.unwrap_or_default().saturating_add(bytes));
    }

    fn sum(&self) -> Option<u64> {
        self.own.or(self.shared)
    }
}

/// `12`, `12 KiB`, `12 MiB`.
fn bytes(value: &str) -> Option<u64> {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let factor = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GPU, number, memory, and what engines did.
    type Told<'a> = (&'a str, u64, Option<u64>, &'a [(&'a str, u64)]);

    #[track_caller]
    fn check(text: &str, expected: Option<Told<'_>>) {
        let client = Client::parse(text);
        let got = client.as_ref().map(|it| {
            let engines = it.engines.iter().map(|(name, work)| (name.as_str(), work.busy));
            (it.pci.as_str(), it.id, it.memory, engines.collect::<Vec<_>>())
        });
        let expected =
            expected.map(|(pci, id, memory, engines)| (pci, id, memory, engines.to_vec()));
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn each_driver_says_it_in_its_way() {
        let amdgpu = "pos:\t0\nflags:\t02\nmnt_id:\t23\npasid:\t32770\ndrm-driver:\tamdgpu\ndrm-client-id:\t57\ndrm-pdev:\t0000:03:00.0\ndrm-total-vram:\t900 KiB\ndrm-memory-vram:\t512 KiB\ndrm-memory-gtt: \t4 KiB\ndrm-memory-cpu: \t0 KiB\namd-evicted-vram:\t0 KiB\ndrm-engine-gfx:\t1500 ns\ndrm-engine-compute:\t20 ns\n";
        check(
            amdgpu,
            Some(("0000:03:00.0", 57, Some(512 << 10), &[("compute", 20), ("gfx", 1500)])),
        );
        let i915 = "drm-driver: i915\ndrm-pdev: 0000:00:02.0\ndrm-client-id: 7\ndrm-engine-render: 9288864723 ns\ndrm-engine-copy: 2035071108 ns\ndrm-engine-video: 0 ns\ndrm-engine-capacity-video: 2\ndrm-total-system0: 64 MiB\ndrm-resident-system0: 1 MiB\n";
        check(
            i915,
            Some((
                "0000:00:02.0",
                7,
                Some(1 << 20),
                &[("copy", 2_035_071_108), ("render", 9_288_864_723), ("video", 0)],
            )),
        );
        let xe = "drm-client-id:\t3\ndrm-pdev:\t0000:04:00.0\ndrm-resident-system:\t8 KiB\ndrm-resident-vram0:\t5 MiB\ndrm-cycles-rcs:\t28257900\ndrm-total-cycles-rcs:\t7655183225\n";
        check(xe, Some(("0000:04:00.0", 3, Some(5 << 20), &[("rcs", 28_257_900)])));
        let rcs = Client::parse(xe).unwrap().engines["rcs"];
        assert_eq!(rcs.total, Some(7_655_183_225));
    }

    #[test]
    fn what_is_no_client_is_none() {
        check("pos:\t0\nflags:\t02\n", None);
        check("drm-driver: i915\ndrm-client-id: 7\n", None);
        check("drm-pdev: 0000:00:02.0\ndrm-client-id: -1\n", None);
        check(
            "drm-pdev: a\ndrm-client-id: 1\ndrm-engine-x: many ns\ndrm-total-vram: 1 GB\n",
            Some(("a", 1, None, &[])),
        );
    }

    #[test]
    fn a_ratio_is_of_the_time_or_of_the_cycles_between() {
        let work = |busy, total, capacity| Work { busy, total, capacity };
        let check = |now: Work, then: Work, expected| assert_eq!(now.ratio(&then, 1000), expected);
        check(work(600, None, 0), work(100, None, 0), Some(0.5));
        check(work(600, None, 2), work(100, None, 2), Some(0.25));
        check(work(5000, None, 0), work(100, None, 0), Some(1.0));
        check(work(600, Some(3000), 0), work(100, Some(1000), 0), Some(0.25));
        // It went back: another client under the same number, or a device that was reset.
        check(work(10, None, 0), work(100, None, 0), None);
        check(work(10, Some(5), 0), work(0, Some(5), 0), None);
    }
}

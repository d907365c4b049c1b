//! `/proc/cpuinfo`: model, flags, bugs and frequency of each CPU.

use stoa_model::Labels;

use super::Settings;
use crate::sources::settings::Pattern;
use crate::sources::{Desc, Kept, KeptFile, Reading, Roots, label, number};

const INFO: Desc = Desc::gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
const FREQUENCY: Desc =
    Desc::gauge("node_cpu_frequency_hertz", "CPU frequency in hertz from /proc/cpuinfo.");
const FLAG: Desc = Desc::gauge(
    "node_cpu_flag_info",
    "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
);
const BUG: Desc = Desc::gauge(
    "node_cpu_bug_info",
    "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
);

/// One CPU as the file tells it; a field that is not there is empty.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Processor<'a> {
    number: &'a str,
    vendor: &'a str,
    family: &'a str,
    model: &'a str,
    model_name: &'a str,
    stepping: &'a str,
    microcode: &'a str,
    cache_size: &'a str,
    package: &'a str,
    core: &'a str,
    megahertz: &'a str,
    flags: &'a str,
    bugs: &'a str,
}

fn parse(text: &str) -> Vec<Processor<'_>> {
    let mut processors = Vec::new();
    for block in text.split("\n\n") {
        let mut cpu = Processor::default();
        for line in block.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let field = match key.trim_end() {
                "processor" => &mut cpu.number,
                "vendor_id" => &mut cpu.vendor,
                "cpu family" => &mut cpu.family,
                "model" => &mut cpu.model,
                "model name" => &mut cpu.model_name,
                "stepping" => &mut cpu.stepping,
                "microcode" => &mut cpu.microcode,
                "cache size" => &mut cpu.cache_size,
                "physical id" => &mut cpu.package,
                "core id" => &mut cpu.core,
                "cpu MHz" => &mut cpu.megahertz,
                "flags" | "Features" => &mut cpu.flags,
                "bugs" => &mut cpu.bugs,
                _ => continue,
            };
            *field = value.trim();
        }
        if !cpu.number.is_empty() {
            processors.push(cpu);
        }
    }
    processors
}

/// The part of the source `cpu` that is off by default.
#[derive(Debug)]
pub(super) struct CpuInfo {
    file: KeptFile,
    flags: Pattern,
    bugs: Pattern,
    labels: Kept<Labels>,
}

impl CpuInfo {
    /// `None` when the settings do not ask for it.
    pub(super) fn new(settings: Settings) -> Option<Self> {
        settings.reads_info().then(|| Self {
            file: KeptFile::proc("cpuinfo"),
            flags: settings.info_flags_include,
            bugs: settings.info_bugs_include,
            labels: Kept::new(),
        })
    }

    pub(super) fn read(&mut self, roots: &Roots, reading: &mut Reading) {
        let processors = match self.file.read(roots) {
            Ok(text) => parse(text),
            Err(problem) => return reading.fail(problem),
        };
        let (mut info, mut frequency) = (INFO.family(), FREQUENCY.family());
        for cpu in &processors {
            info.push(self.labels.get(&format!("info {cpu:?}"), |_| info_labels(cpu)), 1.0);
            if let Some(megahertz) = number(cpu.megahertz) {
                let key = format!("place {} {} {}", cpu.package, cpu.core, cpu.number);
                frequency.push(self.labels.get(&key, |_| place_labels(cpu)), megahertz * 1e6);
            }
        }
        reading.family(info);
        reading.family(frequency);
        let Some(first) = processors.first() else { return };
        for (desc, name, words, wanted) in
            [(&FLAG, "flag", first.flags, &self.flags), (&BUG, "bug", first.bugs, &self.bugs)]
        {
            let mut family = desc.family();
            for word in words.split_ascii_whitespace().filter(|word| wanted.matches(word)) {
                let key = format!("{name} {word}");
                family.push(self.labels.get(&key, |_| label(name, word)), 1.0);
            }
            reading.family(family);
        }
        self.labels.end_round();
    }
}

fn info_labels(cpu: &Processor<'_>) -> Labels {
    Labels::from_pairs_last_wins([
        ("package", cpu.package),
        ("core", cpu.core),
        ("cpu", cpu.number),
        ("vendor", cpu.vendor),
        ("family", cpu.family),
        ("model", cpu.model),
        ("model_name", cpu.model_name),
        ("microcode", cpu.microcode),
        ("stepping", cpu.stepping),
        ("cachesize", cpu.cache_size),
    ])
}

fn place_labels(cpu: &Processor<'_>) -> Labels {
    Labels::from_pairs_last_wins([
        ("package", cpu.package),
        ("core", cpu.core),
        ("cpu", cpu.number),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processors_are_separated_by_empty_lines() {
        let text = "processor\t: 0\nmodel name\t: A: B\ncpu MHz\t\t: 799.998\n\n\
                    processor\t: 1\nflags\t\t: fpu aes\n\nHardware : board\n";
        let processors = parse(text);
        assert_eq!(processors.len(), 2);
        assert_eq!(processors[0].model_name, "A: B");
        assert_eq!(processors[1], Processor { number: "1", flags: "fpu aes", ..processors[1] });
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            parse(&text);
        }
    }
}

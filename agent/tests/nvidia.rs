//! The source `nvidia` over a library with NVML's ABI that plays a script (`nvml/library.c`), in the real
//! program: its child loads the library, and what is printed is judged.
//!
//! Two scripts are made from what real GPUs said (an H100 and an L40S; `STOA_CONFORMANCE_DATA` has them), and
//! what is told must be what `nvidia_gpu_exporter` told of the same. With `STOA_NVML=real` the last test asks
//! this machine's own library.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be done fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library, the script it plays, and a host with processes.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir };
        host.play(script);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml/library.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .arg(host.path("libnvidia-ml.so.1"))
            .arg(format!("-DSCRIPT={:?}", host.path("script")))
            .arg(source)
            .status()
            .unwrap();
        assert!(built.success());
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn play(&self, script: &str) {
        std::fs::write(self.path("script"), script).unwrap();
    }

    /// A process, by the path of its control group.
    fn process(&self, pid: u32, name: &str, group: &str) {
        let dir = self.path("proc").join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("comm"), format!("{name}\n")).unwrap();
        std::fs::write(dir.join("cgroup"), format!("0::{group}\n")).unwrap();
    }

    /// The page printed last, whole.
    fn page(&self) -> String {
        std::fs::read_to_string(self.path("page")).unwrap()
    }

    /// What is printed, and what is said beside it.
    fn print(&self, settings: &str) -> (Vec<String>, String) {
        std::fs::create_dir_all(self.path("proc/sys/kernel")).unwrap();
        std::fs::write(self.path("proc/sys/kernel/hostname"), "pve1\n").unwrap();
        let namespaces = self.path("proc/self/ns");
        std::fs::create_dir_all(&namespaces).unwrap();
        drop(std::os::unix::fs::symlink("pid:[4026531836]", namespaces.join("pid")));
        let library = self.path("libnvidia-ml.so.1");
        let config = format!("[sources.nvidia]\nlibrary = {library:?}\n{settings}\n");
        std::fs::write(self.path("agent.toml"), config).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_stoa-agent"))
            .args(["print", "--source", "nvidia", "--config"])
            .arg(self.path("agent.toml"))
            .arg("--procfs")
            .arg(self.path("proc"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        std::fs::write(self.path("page"), &text).unwrap();
        let is_told = |line: &&str| !line.starts_with('#') && !line.starts_with("node_scrape_");
        let lines = text.lines().filter(is_told).map(str::to_owned).collect();
        (lines, String::from_utf8(out.stderr).unwrap())
    }
}

/// A Tesla P40: no fan, no counter of energy, no temperature of memory, nothing remapped.
const P40: &str = "\
- driver 550.163.01
- nvml 12.550.163.01
- cuda 12040
- count 1
- ProcessName:4711 /usr/local/bin/ollama
- ProcessName:4712 python3
0 Name Tesla P40
0 UUID GPU-11111111-2222-3333-4444-555555555555
0 PciInfo 00000000:04:00.0 1B3810DE 11D910DE
0 MinorNumber 0
0 Temperature:0 41
0 PowerUsage 49560
0 UtilizationRates 37 12
0 MemoryInfo 25769803776 268435456 8321499136 17179869184
0 ClockInfo:1 1303
0 PerformanceState 0
0 EccMode 1 1
0 TotalEccErrors:0,0 3
0 RetiredPages:1 2
0 CurrentClocksThrottleReasons 4
0 SupportedEventTypes 8
0 Process:0 C 4711 8589934592
0 Process:1 C 4712 4294967296
0 Process:2 C 4713 1073741824
0 Process:3 G 4714 16777216
0 Process:4 C 4715 536870912
0 Sample:0 4711 1 80 20 0 0
0 Xid:0 79
0 Xid:1 13
";

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_gpu_is_told_in_both_vocabularies_and_its_memory_by_whose_it_is() {
    let host = Host::new(P40);
    host.process(4711, "ollama", "/lxc/101/ns/system.slice/ollama.service");
    host.process(4712, "python3", &format!("/lxc/102/ns/system.slice/docker-{ID}.scope"));
    host.process(4713, "python3", &format!("/lxc/102/ns/system.slice/docker-{ID}.scope"));
    host.process(4714, "Xorg", "/system.slice/lightdm.service");
    // 4715 is gone.
    let (told, said) = host.print("processes_max = 2");
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(said, "");
}

#[test]
fn either_vocabulary_alone() {
    let host = Host::new(P40);
    let (told, _) = host.print("names = ['dcgm']");
    let has = |told: &[String], prefix: &str| told.iter().any(|line| line.starts_with(prefix));
    assert!(has(&told, "DCGM_FI_DEV_GPU_TEMP{") && !has(&told, "nvidia_smi_"), "{told:#?}");
    let (told, _) = host.print("names = ['nvidia_smi']");
    assert!(has(&told, "nvidia_smi_temperature_gpu{") && !has(&told, "DCGM_"), "{told:#?}");
}

#[track_caller]
fn fault(script: &str, state: &str, why: &str) {
    let host = Host::new(&format!("{P40}{script}"));
    let (told, said) = host.print("");
    let states = told.iter().filter(|line| line.ends_with(" 1"));
    let states: Vec<&String> =
        states.filter(|line| line.starts_with("stoa_nvidia_state")).collect();
    assert_eq!(states, [&format!("stoa_nvidia_state{{state=\"{state}\"}} 1")]);
    assert!(said.starts_with("nvidia: NVML: ") && said.contains(why), "{said}");
    assert!(told.iter().all(|line| line.starts_with("stoa_nvidia_state")), "{told:#?}");
}

#[test]
fn what_ails_nvml_as_a_whole_is_a_state() {
    fault("- init error 18\n", "mismatch", "version mismatch");
    fault("- init error 9\n", "no_driver", "driver is not loaded");
    fault("- init error 4\n", "denied", "permission");
    fault("- count error 18\n", "mismatch", "version mismatch");
    fault("- count error 15\n", "lost", "fell off the bus");
    fault("- count error 999\n", "other", "internal driver error");
}

#[test]
fn a_library_that_crashes_or_hangs_costs_its_own_series() {
    fault("0 PowerUsage crash\n", "other", "the process that asks NVML ended: signal: 6 (SIGABRT)");
    fault("0 PowerUsage hang\n", "other", "NVML did not answer within 10s");
}

#[test]
fn a_library_that_is_none_is_a_state() {
    let host = Host::new(P40);
    std::fs::write(host.path("libnvidia-ml.so.1"), "no library").unwrap();
    let (told, said) = host.print("");
    assert!(told.contains(&"stoa_nvidia_state{state=\"no_library\"} 1".to_owned()), "{told:#?}");
    assert!(said.contains("libnvidia-ml.so.1"), "{said}");
}

#[test]
fn a_gpu_that_is_lost_leaves_the_others() {
    let other =
        P40.replace("\n0 ", "\n1 ").replace("- count 1", "- count 2").replace("1111-", "9999-");
    let host = Host::new(&format!("{P40}{other}0 lost\n"));
    let (told, said) = host.print("");
    assert_eq!(said, "nvidia: NVML: GPU 0: it has fallen off the bus or must be reset\n");
    let lost = told.iter().filter(|line| line.starts_with("stoa_gpu_lost{"));
    let lost: Vec<&str> = lost.filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(lost, ["1", "0"]);
    let of =
        |gpu: &str| told.iter().filter(|line| line.contains(&format!("gpu=\"{gpu}\""))).count();
    assert!(of("0") <= 4 && of("1") > 10, "{told:#?}");
}

#[test]
fn parts_of_a_divided_gpu_have_their_own_memory() {
    let script = "0 MigMode 1 1\n0 MaxMigDeviceCount 7\n0 Part:0 7\n0 Part:1 9\n0 Part:2 9\n\
        0 Name:0 NVIDIA H100 80GB HBM3 MIG 1g.10gb\n0 UUID:0 MIG-a\n0 MemoryInfo:0 1048576 0 1048576 0\n\
        0 Name:1 NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb\n0 UUID:1 MIG-b\n0 MemoryInfo:1 4194304 0 1048576 3145728\n\
        0 UtilizationRates error 3\n";
    let host = Host::new(&format!("{P40}{script}"));
    let (told, _) = host.print("names = ['dcgm']");
    let used = told.iter().filter(|line| line.starts_with("DCGM_FI_DEV_FB_USED{"));
    let used: Vec<String> = used
        .map(|line| {
            let labels = line.split(',').filter(|pair| pair.contains("GPU_I_"));
            let labels: Vec<&str> =
                labels.map(|pair| pair.trim_start_matches("DCGM_FI_DEV_FB_USED{")).collect();
            format!("{} {}", labels.join(","), line.rsplit(' ').next().unwrap())
        })
        .collect();
    // The whole is that of its parts.
    assert_eq!(used.len(), 2, "{used:#?}");
    assert!(
        used.iter().any(|it| it.contains("GPU_I_ID=\"7\"")
            && it.contains("1g.10gb")
            && it.ends_with(" 0"))
    );
    assert!(
        used.iter().any(|it| it.contains("GPU_I_ID=\"9\"")
            && it.contains("3g.40gb")
            && it.ends_with(" 3"))
    );
    assert!(!told.iter().any(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL")));
}

/// From a family of `nvidia_gpu_exporter`'s to the call of NVML's that says it, and the factor.
const CALLS: &[(&str, &str, f64)] = &[
    ("clocks_current_graphics_clock_hz", "ClockInfo:0", 1e-6),
    ("clocks_current_sm_clock_hz", "ClockInfo:1", 1e-6),
    ("clocks_current_memory_clock_hz", "ClockInfo:2", 1e-6),
    ("clocks_current_video_clock_hz", "ClockInfo:3", 1e-6),
    ("clocks_max_graphics_clock_hz", "MaxClockInfo:0", 1e-6),
    ("clocks_max_sm_clock_hz", "MaxClockInfo:1", 1e-6),
    ("clocks_max_memory_clock_hz", "MaxClockInfo:2", 1e-6),
    ("temperature_gpu", "Temperature:0", 1.0),
    ("temperature_memory", "Field:82", 1.0),
    ("power_draw_watts", "PowerUsage", 1e3),
    ("power_draw_average_watts", "Field:185", 1e3),
    ("power_draw_instant_watts", "Field:186", 1e3),
    ("power_limit_watts", "PowerManagementLimit", 1e3),
    ("enforced_power_limit_watts", "EnforcedPowerLimit", 1e3),
    ("power_default_limit_watts", "PowerManagementDefaultLimit", 1e3),
    ("power_min_limit_watts", "PowerManagementLimitConstraints", 1e3),
    ("power_max_limit_watts", "PowerManagementLimitConstraints", 1e3),
    ("pcie_link_gen_current", "CurrPcieLinkGeneration", 1.0),
    ("pcie_link_gen_max", "MaxPcieLinkGeneration", 1.0),
    ("pcie_link_width_current", "CurrPcieLinkWidth", 1.0),
    ("pcie_link_width_max", "MaxPcieLinkWidth", 1.0),
    ("utilization_gpu_ratio", "UtilizationRates", 100.0),
    ("utilization_memory_ratio", "UtilizationRates", 100.0),
    ("utilization_encoder_ratio", "EncoderUtilization", 100.0),
    ("utilization_decoder_ratio", "DecoderUtilization", 100.0),
    ("encoder_stats_session_count", "EncoderStats", 1.0),
    ("encoder_stats_average_fps", "EncoderStats", 1.0),
    ("encoder_stats_average_latency", "EncoderStats", 1.0),
    ("memory_total_bytes", "MemoryInfo", 1.0),
    ("memory_reserved_bytes", "MemoryInfo", 1.0),
    ("memory_free_bytes", "MemoryInfo", 1.0),
    ("memory_used_bytes", "MemoryInfo", 1.0),
    ("fan_speed_ratio", "FanSpeed_v2:0", 100.0),
    ("pstate", "PerformanceState", 1.0),
    ("clocks_event_reasons_active", "CurrentClocksThrottleReasons", 1.0),
    ("clocks_event_reasons_supported", "SupportedClocksThrottleReasons", 1.0),
    ("clocks_event_reasons_counters_sw_power_cap_seconds", "Field:74", 1e9),
    ("clocks_event_reasons_counters_sync_boost_seconds", "Field:76", 1e9),
    ("clocks_event_reasons_counters_sw_thermal_slowdown_seconds", "Field:269", 1e9),
    ("clocks_event_reasons_counters_hw_thermal_slowdown_seconds", "Field:270", 1e9),
    ("clocks_event_reasons_counters_hw_power_brake_slowdown_seconds", "Field:271", 1e9),
    ("ecc_mode_current", "EccMode", 1.0),
    ("ecc_mode_pending", "EccMode", 1.0),
    ("ecc_errors_corrected_volatile_total", "TotalEccErrors:0,0", 1.0),
    ("ecc_errors_corrected_aggregate_total", "TotalEccErrors:0,1", 1.0),
    ("ecc_errors_uncorrected_volatile_total", "TotalEccErrors:1,0", 1.0),
    ("ecc_errors_uncorrected_aggregate_total", "TotalEccErrors:1,1", 1.0),
    ("retired_pages_single_bit_ecc_count", "RetiredPages:0", 1.0),
    ("retired_pages_double_bit_count", "RetiredPages:1", 1.0),
    ("retired_pages_pending", "RetiredPagesPendingStatus", 1.0),
    ("remapped_rows_correctable", "Field:142", 1.0),
    ("remapped_rows_uncorrectable", "Field:143", 1.0),
    ("remapped_rows_pending", "Field:144", 1.0),
    ("remapped_rows_failure", "Field:145", 1.0),
    ("persistence_mode", "PersistenceMode", 1.0),
    ("compute_mode", "ComputeMode", 1.0),
    ("display_active", "DisplayActive", 1.0),
    ("display_attached", "DisplayMode", 1.0),
    ("mig_mode_current", "MigMode", 1.0),
    ("mig_mode_pending", "MigMode", 1.0),
    ("accounting_mode", "AccountingMode", 1.0),
    ("accounting_buffer_size", "AccountingBufferSize", 1.0),
];

/// `name{labels}` and value of each line of a page.
fn page(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The value of a label.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// A script that says what a capture says.
fn script(captured: &BTreeMap<String, f64>) -> String {
    let info = captured.keys().find(|s| s.starts_with("nvidia_smi_gpu_info{")).unwrap();
    let of = |name| label(info, name).unwrap();
    let mut script = format!(
        "- driver {}\n- nvml {}\n- cuda {}\n- count 1\n0 Name {}\n0 UUID GPU-{}\n0 Serial {}\n\
         0 VbiosVersion {}\n0 MinorNumber 0\n0 CudaComputeCapability {}\n0 PciInfo {} 0 {}\n",
        of("driver_version"),
        of("driver_version"),
        of("cuda_version").replace('.', "0") + "0",
        of("name"),
        of("uuid"),
        of("serial"),
        of("vbios_version"),
        of("compute_cap").replace('.', " "),
        of("pci_bus_id"),
        of("pci_sub_device_id"),
    );
    let mut calls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (family, call, factor) in CALLS {
        let family = format!("nvidia_smi_{family}{{");
        if let Some((_, value)) = captured.iter().find(|(series, _)| series.starts_with(&family)) {
            let value = (value * factor).round();
            calls.entry(call).or_default().push(format!("{value}"));
        }
    }
    for (call, values) in calls {
        writeln!(script, "0 {call} {}", values.join(" ")).unwrap();
    }
    let memory = captured
        .iter()
        .filter(|(series, _)| series.starts_with("nvidia_smi_compute_app_used_memory_bytes{"));
    for (nth, (series, bytes)) in memory.enumerate() {
        let pid = label(series, "pid").unwrap();
        writeln!(script, "0 Process:{nth} C {pid} {bytes}").unwrap();
        let name = label(series, "process_name").unwrap();
        writeln!(script, "- ProcessName:{pid} {name}").unwrap();
    }
    script
}

/// What is not told here: the exporter's own affairs, what NVML's wrapper has no call for, and what is text.
const NOT_TOLD: &[&str] = &[
    "c2c_mode",
    "command_exit_code",
    "compute_apps_last_collect_success",
    "compute_cap",
    "dramEncryption_mode_current",
    "dramEncryption_mode_pending",
    "driver_version",
    "edpp_multiplier_ratio",
    "ecc_errors_",
    "fabric_",
    "failed_scrapes_total",
    "gpu_recovery_action",
    "gsp_mode_",
    "inforom_",
    "kmd_version",
    "last_collect_success",
    "name",
    "pci_",
    "pcie_link_gen_gpu",
    "platform_",
    "protected_memory_",
    "remapped_rows_correctable_inactive",
    "remapped_rows_histogram_",
    "remapped_rows_uncorrectable_inactive",
    "serial",
    "temperature_gpu_tlimit",
    "utilization_jpeg_ratio",
    "utilization_ofa_ratio",
    "vbios_version",
];

#[test]
fn what_real_gpus_said_is_told_as_nvidia_gpu_exporter_told_it() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let captures = std::fs::read_dir(Path::new(&data).join("exporters/nvidia")).unwrap();
    let mut count = 0;
    for path in captures.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "metrics") {
            continue;
        }
        count += 1;
        let captured = page(&std::fs::read_to_string(&path).unwrap());
        let host = Host::new(&script(&captured));
        let (told, said) = host.print("names = ['nvidia_smi']");
        let told = page(&told.join("\n"));
        let is_judged = |series: &str| {
            let family = series.strip_prefix("nvidia_smi_")?.split('{').next()?;
            let is_told = CALLS.iter().any(|(known, ..)| *known == family);
            let is_own = NOT_TOLD.iter().any(|prefix| family.starts_with(prefix));
            (is_told || !is_own).then_some(())
        };
        let mut wrong = Vec::new();
        for (series, value) in captured.iter().filter(|(series, _)| is_judged(series).is_some()) {
            // What the exporter says of a text that is none.
            let series = series.replace("driver_model_current=\"[N/A]\",", "");
            let series = series.replace("driver_model_pending=\"[N/A]\",", "");
            match told.get(&series) {
                Some(ours) if (ours - value).abs() <= value.abs() * 1e-9 => {}
                ours => wrong.push(format!("{series}: {value}, told {ours:?}")),
            }
        }
        let families: BTreeSet<&str> = captured
            .keys()
            .filter(|s| is_judged(s).is_some())
            .filter_map(|s| s.split('{').next())
            .collect();
        println!("{}: {} families", path.display(), families.len());
        assert!(wrong.is_empty(), "{}: {wrong:#?}\n{said}", path.display());
        assert!(families.len() > 60, "{}", families.len());
    }
    assert!(count >= 2);
}

#[test]
fn the_machines_own_library() {
    if std::env::var_os("STOA_NVML").is_none_or(|which| which != "real") {
        println!("skipped: STOA_NVML is not \"real\"");
        return;
    }
    let out = Command::new(env!("CARGO_BIN_EXE_stoa-agent"))
        .args(["print", "--source", "nvidia"])
        .output();
    let text = String::from_utf8(out.unwrap().stdout).unwrap();
    for family in ["DCGM_FI_DEV_GPU_TEMP{", "DCGM_FI_DEV_FB_USED{", "nvidia_smi_power_draw_watts{"]
    {
        assert!(text.lines().any(|line| line.starts_with(family)), "{family}\n{text}");
    }
}

#[test]
fn dcgms_default_counters_have_its_kinds_and_words() {
    let Some(data) = std::env::var_os("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA is not set");
        return;
    };
    let list = Path::new(&data).join("dashboards/default-counters.csv");
    let host = Host::new(&format!(
        "{P40}0 Field:142 0\n0 Field:143 0\n0 Field:145 0\n0 Field:82 40\n0 PcieReplayCounter 1\n0 EncoderUtilization 1\n0 DecoderUtilization 1\n0 ClockInfo:2 5000\n"
    ));
    let (_, _) = host.print("names = ['dcgm']");
    let page = host.page();
    let mut missing = Vec::new();
    for line in std::fs::read_to_string(list).unwrap().lines() {
        let fields: Vec<&str> = line.splitn(3, ',').map(str::trim).collect();
        let [name, kind, help] = fields.as_slice() else { continue };
        if !name.starts_with("DCGM_FI_DEV_") {
            continue;
        }
        if page.contains(&format!("# TYPE {name} ")) {
            assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} {kind}");
            assert!(page.contains(&format!("# HELP {name} {help}\n")), "{name} {help}");
        } else {
            missing.push((*name).to_owned());
        }
    }
    // vGPU needs a licence server, NVLink a GPU that has it.
    assert_eq!(missing, ["DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "DCGM_FI_DEV_VGPU_LICENSE_STATUS"]);
}

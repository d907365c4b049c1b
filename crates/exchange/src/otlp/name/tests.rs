use super::*;
use crate::otlp::Temporality;

fn metric<'a>(name: &'a str, unit: &'a str, kind: &str) -> Metric<'a> {
    Metric {
        name,
        unit,
        description: "",
        kind: match kind {
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            _ => Kind::Sum,
        },
        temporality: Temporality::Cumulative,
        monotonic: kind == "counter",
    }
}

const ESCAPED: Strategy = Strategy::UnderscoreEscapingWithSuffixes;
const BARE: Strategy = Strategy::UnderscoreEscapingWithoutSuffixes;
const UTF8: Strategy = Strategy::NoUTF8EscapingWithSuffixes;

#[test]
fn metrics_are_named_as_prometheus_names_them() {
    for (strategy, kind, name, unit, expected) in [
        (ESCAPED, "gauge", "system.memory.usage", "By", "system_memory_usage_bytes"),
        (ESCAPED, "gauge", "node_bytes", "By", "node_bytes"),
        (ESCAPED, "gauge", "bytes.free", "By", "bytes_free"),
        (ESCAPED, "gauge", "memused", "bytes", "memused_bytes"),
        (ESCAPED, "gauge", "load", "1", "load_ratio"),
        (ESCAPED, "gauge", "a.ratio.b", "1", "a_b_ratio"),
        (ESCAPED, "sum", "load", "1", "load"),
        (ESCAPED, "counter", "requests", "1", "requests_total"),
        (ESCAPED, "counter", "requests.total.all", "", "requests_all_total"),
        (ESCAPED, "counter", "cpu.time", "s", "cpu_time_seconds_total"),
        (
            ESCAPED,
            "histogram",
            "http.server.request.duration",
            "s",
            "http_server_request_duration_seconds",
        ),
        (ESCAPED, "gauge", "speed", "m/s", "speed_meters_per_second"),
        (ESCAPED, "gauge", "rate", "1/s", "rate_per_second"),
        (ESCAPED, "gauge", "rate_per_second", "1/s", "rate_per_second_per_second"),
        (ESCAPED, "gauge", "io", "{operation}/s", "io_per_second"),
        (ESCAPED, "gauge", "io", "By/{operation}", "io_bytes"),
        (ESCAPED, "gauge", "io", "By/", "io_bytes"),
        (ESCAPED, "gauge", "io", " By / s ", "io_bytes_per_second"),
        (ESCAPED, "gauge", "io", "By/_", "io_bytes"),
        (ESCAPED, "gauge", "io", "a_/b_", "io_a_per_b"),
        (ESCAPED, "gauge", "x", "unit@with#special/chars", "x_unit_with_special_per_chars"),
        (ESCAPED, "gauge", "x", "a__b", "x_a_b"),
        (ESCAPED, "gauge", "temp", "%", "temp_percent"),
        (ESCAPED, "gauge", "temp", "Cel", "temp_celsius"),
        (ESCAPED, "gauge", "size", "TiBy", "size_tibibytes"),
        (ESCAPED, "gauge", "a__b..c", "", "a_b_c"),
        (ESCAPED, "gauge", "job:x:rate", "", "job:x:rate"),
        (ESCAPED, "gauge", "2xx", "", "_2xx"),
        (ESCAPED, "gauge", "übertrag", "", "bertrag"),
        (ESCAPED, "gauge", "@#$", "", ""),
        (ESCAPED, "gauge", "", "", ""),
        (BARE, "counter", "requests.count", "1", "requests_count"),
        (BARE, "gauge", "a__b..c_", "By", "a__b_c_"),
        (BARE, "gauge", "2xx", "", "_2xx"),
        (BARE, "gauge", "@#$", "", ""),
        (BARE, "gauge", "._.", "", ""),
        (UTF8, "counter", "requêsts", "1/s", "requêsts_per_second_total"),
        (UTF8, "counter", "cpu.seconds.total", "s", "cpu.seconds_total"),
        (UTF8, "gauge", "usage.ratio", "1", "usage_ratio"),
        (UTF8, "gauge", "üratio", "1", "üratio_ratio"),
        (UTF8, "gauge", "total", "", "total"),
        (UTF8, "counter", "total", "", "total_total"),
        (UTF8, "gauge", "temp", "°C", "temp_°C"),
        (UTF8, "gauge", "", "", ""),
        (Strategy::NoTranslation, "counter", "a.b", "s", "a.b"),
        (Strategy::NoTranslation, "counter", "", "s", ""),
    ] {
        let got = strategy.metric_name(&metric(name, unit, kind)).unwrap_or_default();
        assert_eq!(got, expected, "{strategy:?} {kind} {name:?} {unit:?}");
    }
}

/// What Proxmox VE sends, and what dashboards for it ask for.
#[test]
fn metrics_of_proxmox_ve_get_the_names_dashboards_know() {
    for (name, unit, kind, expected) in [
        ("proxmox_node_cpustat_cpu", "percent", "gauge", "proxmox_node_cpustat_cpu_percent"),
        (
            "proxmox_node_cpustat_iowait_total",
            "seconds",
            "counter",
            "proxmox_node_cpustat_iowait_seconds_total",
        ),
        ("proxmox_node_cpustat_avg1", "1", "gauge", "proxmox_node_cpustat_avg1_ratio"),
        ("proxmox_node_memory_memused", "bytes", "gauge", "proxmox_node_memory_memused_bytes"),
        ("proxmox_node_memory_memtotal", "bytes", "gauge", "proxmox_node_memory_memtotal_bytes"),
        (
            "proxmox_node_memory_memavailable",
            "bytes",
            "gauge",
            "proxmox_node_memory_memavailable_bytes",
        ),
        ("proxmox_node_memory_arcsize", "bytes", "gauge", "proxmox_node_memory_arcsize_bytes"),
        ("proxmox_node_memory_swapused", "bytes", "gauge", "proxmox_node_memory_swapused_bytes"),
        ("proxmox_node_uptime", "seconds", "gauge", "proxmox_node_uptime_seconds"),
        ("proxmox_node_blockstat_used", "bytes", "gauge", "proxmox_node_blockstat_used_bytes"),
        ("proxmox_vm_cpu", "percent", "gauge", "proxmox_vm_cpu_percent"),
        ("proxmox_vm_cpus", "1", "gauge", "proxmox_vm_cpus_ratio"),
        ("proxmox_vm_mem", "bytes", "gauge", "proxmox_vm_mem_bytes"),
        ("proxmox_vm_maxmem", "bytes", "gauge", "proxmox_vm_maxmem_bytes"),
        ("proxmox_vm_maxdisk", "bytes", "gauge", "proxmox_vm_maxdisk_bytes"),
        ("proxmox_vm_uptime", "seconds", "gauge", "proxmox_vm_uptime_seconds"),
        ("proxmox_storage_used", "bytes", "gauge", "proxmox_storage_used_bytes"),
        ("proxmox_storage_total", "bytes", "gauge", "proxmox_storage_total_bytes"),
    ] {
        assert_eq!(ESCAPED.metric_name(&metric(name, unit, kind)).as_deref(), Some(expected));
    }
}

#[test]
fn units_are_said_in_prometheus_words() {
    for (strategy, unit, expected) in [
        (ESCAPED, "s", "seconds"),
        (ESCAPED, "By/s", "bytes_per_second"),
        (ESCAPED, "1", ""),
        (ESCAPED, "1/s", "per_second"),
        (ESCAPED, "{requests}", ""),
        (ESCAPED, "°C", "C"),
        (ESCAPED, "a@", "a"),
        (UTF8, "°C", "°C"),
        (UTF8, "_a_", "a"),
    ] {
        assert_eq!(strategy.unit_name(unit), expected, "{strategy:?} {unit:?}");
    }
}

#[test]
fn labels_are_named_as_prometheus_names_them() {
    // Of a label: as it is by default, with neither setting, with sanitizing alone.
    for (name, default, neither, sanitized) in [
        ("http.method", "http_method", "http_method", "http_method"),
        ("label:with:colons", "label_with_colons", "label_with_colons", "label_with_colons"),
        ("a!b&c)", "a_b_c_", "a_b_c_", "a_b_c_"),
        ("x_字符", "x___", "x_", "x_"),
        ("123label", "key_123label", "key_123label", "key_123label"),
        ("_single", "key_single", "_single", "key_single"),
        (".dot", "key_dot", "_dot", "key_dot"),
        ("__two", "__two", "_two", "key_two"),
        ("__a__b__", "__a__b__", "__a_b__", "__a_b__"),
        ("a__b&&c##d", "a__b__c__d", "a_b_c_d", "a_b_c_d"),
        ("ようこそ", "", "", ""),
        ("_", "", "", ""),
        ("____", "", "", ""),
        ("", "", "", ""),
    ] {
        let given = [(true, true, default), (false, false, neither), (true, false, sanitized)];
        for (sanitize, multiple, expected) in given {
            let got = label_name(ESCAPED, sanitize, multiple, name).unwrap_or_default();
            assert_eq!(got, expected, "{name:?} {sanitize} {multiple}");
        }
        let as_it_is = label_name(UTF8, true, true, name).unwrap_or_default();
        let says = name.bytes().any(|byte| byte != b'_');
        assert_eq!(as_it_is, if says { name } else { "" });
    }
}

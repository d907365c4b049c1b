use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use stoa_model::Labels;

use super::book::STATES;
use super::*;

const WEB: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const JOB: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const GUEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What a fake engine answers.
#[derive(Clone, Debug)]
enum Answer {
    Json(String),
    Nothing,
    Garbage,
    Endless,
}

/// A host with control groups, and perhaps an engine.
struct House {
    dir: tempfile::TempDir,
    list: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
    source: Containers,
    at: i64,
}

const VERSION: &str = r#"{"Version":"28.2.2","ApiVersion":"1.50","MinAPIVersion":"1.24",
    "Components":[{"Name":"Engine","Version":"28.2.2"}]}"#;

fn list() -> String {
    format!(
        r#"[{{"Id":"{WEB}","Names":["/web"],"Image":"nginx:1","ImageID":"sha256:aa","State":"running",
            "Status":"Up 3 minutes (healthy)","Created":1700000000,
            "Labels":{{"com.docker.compose.project":"media","com.docker.compose.service":"web",
              "com.docker.compose.container-number":"1","secret.label":"x"}},
            "Ports":[{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}},
              {{"PrivatePort":443,"Type":"tcp"}}]}},
          {{"Id":"{JOB}","Names":["/job"],"Image":"busybox","ImageID":"sha256:bb","State":"exited",
            "Status":"Exited (137) 3 minutes ago","Labels":null,"Ports":[]}}]"#
    )
}

fn detail(path: &str) -> Option<String> {
    if path.contains(WEB) {
        return Some(
            r#"{"State":{"Status":"running","Pid":100,"StartedAt":"2026-01-01T00:00:00Z","ExitCode":0,
                "FinishedAt":"0001-01-01T00:00:00Z","OOMKilled":false,"Health":{"Status":"healthy"}},
                "RestartCount":3,"HostConfig":{"NetworkMode":"bridge"}}"#
                .to_owned(),
        );
    }
    path.contains(JOB).then(|| {
        r#"{"State":{"Status":"exited","Pid":0,"StartedAt":"2026-01-01T00:00:00Z","ExitCode":137,
            "FinishedAt":"2026-01-01T00:01:00Z","OOMKilled":true},"RestartCount":0,
            "HostConfig":{"NetworkMode":"host"}}"#
            .to_owned()
    })
}

fn answer(mut stream: UnixStream, list: &Answer, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    asked.lock().unwrap().push(path.clone());
    let (status, body) = if path.ends_with("/version") {
        (200, VERSION.to_owned())
    } else if path.contains("/containers/json") {
        match list {
            Answer::Json(text) => (200, text.clone()),
            Answer::Nothing => return thread::sleep(Duration::from_secs(6)),
            Answer::Garbage => {
                let _sent = stream.write_all(&[0xff; 4096]);
                return;
            }
            Answer::Endless => {
                let _sent =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[");
                while stream.write_all(&[b' '; 65_536]).is_ok() {}
                return;
            }
        }
    } else if path.contains("/images/") {
        let body =
            r#"{"Created":"2025-12-01T00:00:00.123456789Z","RepoDigests":["nginx@sha256:cc"]}"#;
        (200, body.to_owned())
    } else {
        detail(&path).map_or((404, r#"{"message":"no such"}"#.to_owned()), |body| (200, body))
    };
    let _sent = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| put(dir.path(), path, text);
        put("proc/1/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        put("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\n");
        put("sys/devices/system/cpu/online", "0-3\n");
        put("sys/fs/cgroup/cpu.stat", "usage_usec 9000000\n");
        for (path, memory) in [
            (format!("system.slice/docker-{WEB}.scope"), 5000),
            (format!("lxc/101/ns/docker/{GUEST}"), 7000),
        ] {
            let own = format!("sys/fs/cgroup/{path}");
            put(
                &format!("{own}/cpu.stat"),
                "usage_usec 2000000\nuser_usec 1000000\nsystem_usec 1000000\n",
            );
            put(&format!("{own}/memory.current"), &format!("{memory}\n"));
            put(&format!("{own}/memory.stat"), "inactive_file 1000\n");
            put(&format!("{own}/memory.events"), "oom_kill 0\n");
            put(&format!("{own}/io.stat"), "8:0 rbytes=4096 wbytes=0 rios=1 wios=0\n");
        }
        put("proc/100/cgroup", &format!("0::/system.slice/docker-{WEB}.scope/init.scope\n"));
        let network = "a\nb\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 77 1 0 0 0 0 0 0 88 1 0 0 0 0 0 0\n";
        put("proc/100/net/dev", network);
        std::fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        std::os::unix::fs::symlink(
            "../../devices/x/block/sda",
            dir.path().join("sys/dev/block/8:0"),
        )
        .unwrap();
        std::fs::create_dir_all(dir.path().join("run")).unwrap();
        let settings =
            Settings { sockets: vec!["/run/docker.sock".to_owned()], ..Settings::default() };
        Self {
            source: Containers::with_names(settings, SharedNames::default()),
            dir,
            list: Arc::new(Mutex::new(Answer::Json(list()))),
            asked: Arc::default(),
            at: 1_770_000_000,
        }
    }

    fn with_engine() -> Self {
        let house = Self::new();
        house.start();
        house
    }

    /// Starts an engine, that goes on as long as its socket is there.
    fn start(&self) {
        let socket = self.dir.path().join("run/docker.sock");
        let listener = UnixListener::bind(socket).unwrap();
        let (list, asked) = (Arc::clone(&self.list), Arc::clone(&self.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, asked) = (list.lock().unwrap().clone(), Arc::clone(&asked));
                thread::spawn(move || answer(stream, &list, &asked));
            }
        });
    }

    fn says(&self, answer: Answer) {
        *self.list.lock().unwrap() = answer;
    }

    fn read_after(&mut self, seconds: i64) -> Reading {
        self.at += seconds;
        let roots = Roots {
            procfs: self.dir.path().join("proc"),
            sysfs: self.dir.path().join("sys"),
            rootfs: self.dir.path().into(),
            ..Roots::default()
        };
        let mut reading = Reading::default();
        reading.begin();
        self.source.read(&roots, Now { unix_micros: self.at * 1_000_000 }, &mut reading);
        reading.end();
        reading
    }
}

/// Each series as `name{labels} value`.
fn told(reading: &Reading) -> Vec<String> {
    let families = reading.families();
    let series = families.flat_map(|family| {
        family.metrics.iter().map(|it| format!("{}{} {}", family.name, it.labels, it.value))
    });
    series.collect()
}

#[track_caller]
fn check(reading: &Reading, expected: &[&str], absent: &[&str]) {
    let told = told(reading);
    for one in expected {
        let mut parts = one.split(" .. ");
        let (first, rest) = (parts.next().unwrap(), parts.collect::<Vec<_>>());
        let is_it =
            |line: &&String| line.starts_with(first) && rest.iter().all(|part| line.contains(part));
        assert!(told.iter().any(|line| is_it(&line)), "{one} is not told:\n{}", told.join("\n"));
    }
    for one in absent {
        assert!(!told.iter().any(|line| line.contains(one)), "{one} is told:\n{}", told.join("\n"));
    }
}

#[test]
fn containers_are_told_in_cadvisors_names_and_ours() {
    let mut house = House::with_engine();
    let reading = house.read_after(0);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let base = format!(
        "container=\"docker/0123456789ab\" .. container_label_com_docker_compose_project=\"media\" .. \
         id=\"/system.slice/docker-{WEB}.scope\" .. image=\"nginx:1\" .. name=\"web\""
    );
    check(
        &reading,
        &[
            &format!("container_cpu_usage_seconds_total .. cpu=\"total\" .. {base} .. }} 2"),
            &format!("container_memory_usage_bytes .. {base} .. }} 5000"),
            &format!("container_memory_working_set_bytes .. {base} .. }} 4000"),
            &format!("container_fs_reads_bytes_total .. device=\"/dev/sda\" .. {base} .. }} 4096"),
            &format!(
                "container_network_receive_bytes_total .. interface=\"eth0\" .. {base} .. }} 77"
            ),
            &format!(
                "container_network_transmit_bytes_total .. interface=\"eth0\" .. {base} .. }} 88"
            ),
            &format!("container_oom_events_total .. {base} .. }} 0"),
            &format!("container_start_time_seconds .. {base} .. }} 1767225600"),
            &format!("container_last_seen .. {base} .. }} 1770000000"),
            "container_cpu_usage_seconds_total .. id=\"/\" .. } 9",
            "container_memory_usage_bytes .. id=\"/\" .. } 614400",
            "machine_cpu_cores{} 4",
            "machine_memory_bytes{} 1024000",
            "stoa_container_state .. name=\"web\" .. state=\"running\" .. } 1",
            "stoa_container_state .. name=\"web\" .. state=\"exited\" .. } 0",
            "stoa_container_state .. name=\"job\" .. state=\"exited\" .. } 1",
            "stoa_container_health .. health=\"healthy\" .. name=\"web\" .. } 1",
            "stoa_container_restarts_total .. name=\"web\" .. } 3",
            "stoa_container_exit_code .. name=\"job\" .. } 137",
            "stoa_container_oom_killed .. name=\"job\" .. } 1",
            "stoa_container_finished_time_seconds .. name=\"job\" .. } 1767225660",
            "stoa_container_port_info .. address=\"0.0.0.0\" .. container_port=\"80\" .. port=\"8080\" .. protocol=\"tcp\" .. } 1",
            "stoa_container_image_created_time_seconds .. name=\"web\" .. } 1764547200.12",
            "stoa_container_compose_info .. number=\"1\" .. project=\"media\" .. service=\"web\" .. } 1",
            "stoa_container_engine_info .. engine=\"docker\" .. version=\"28.2.2\" .. } 1",
            "stoa_container_engine_up .. engine=\"docker\" .. } 1",
            "container_oom_events_total .. name=\"job\" .. } 1",
            // Another's, in a guest.
            &format!(
                "container_memory_usage_bytes .. container=\"docker/aaaaaaaaaaaa\" .. guest=\"lxc/101\" .. \
                 id=\"/lxc/101/ns/docker/{GUEST}\" .. name=\"aaaaaaaaaaaa\" .. }} 7000"
            ),
        ],
        &[
            "secret",
            "interface=\"lo\"",
            "container_port=\"443\"",
            "stoa_container_exit_code{container=\"docker/0123",
        ],
    );
    let names = house.source.names.lock().unwrap().clone();
    assert_eq!(names["docker/0123456789ab"].compose_project, "media");
    // What is known is not asked again, and label sets stay.
    let asked = house.asked.lock().unwrap().len();
    let before: Vec<Labels> =
        reading.families().flat_map(|f| f.metrics.iter().map(|m| m.labels.clone())).collect();
    let again = house.read_after(5);
    assert_eq!(house.asked.lock().unwrap().len(), asked);
    let after: Vec<Labels> =
        again.families().flat_map(|f| f.metrics.iter().map(|m| m.labels.clone())).collect();
    assert_eq!(after.len(), before.len());
    assert!(after.iter().zip(&before).all(|(after, before)| after.is_same(before)));
    house.read_after(5);
    let paths = house.asked.lock().unwrap().split_off(asked);
    assert_eq!(paths.len(), 1, "{paths:?}");
}

#[test]
fn a_state_that_changed_is_asked_about() {
    let mut house = House::with_engine();
    house.read_after(0);
    let text = list().replace("\"running\"", "\"paused\"").replace("(healthy)", "(unhealthy)");
    house.says(Answer::Json(text));
    let asked = house.asked.lock().unwrap().len();
    let reading = house.read_after(10);
    check(&reading, &["stoa_container_state .. state=\"paused\" .. } 1"], &[]);
    let paths = house.asked.lock().unwrap().split_off(asked);
    assert!(paths.iter().any(|path| path.contains(WEB)), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains(JOB)), "{paths:?}");
    // Gone with its control group.
    house.says(Answer::Json("[]".to_owned()));
    std::fs::remove_dir_all(house.dir.path().join("sys/fs/cgroup/system.slice")).unwrap();
    let reading = house.read_after(40);
    check(&reading, &["stoa_container_engine_up"], &["name=\"web\"", "name=\"job\""]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it is measured how long an engine holds up a reading"
)]
fn an_engine_that_is_gone_costs_its_own_words_and_comes_back() {
    let mut house = House::with_engine();
    house.read_after(0);
    for wrong in [Answer::Garbage, Answer::Nothing, Answer::Endless] {
        house.says(wrong.clone());
        let began = Instant::now();
        let reading = house.read_after(10);
        assert!(began.elapsed() < Duration::from_secs(5), "{wrong:?} took {:?}", began.elapsed());
        assert_eq!(reading.problems.len(), 1, "{wrong:?}: {:?}", reading.problems);
        assert!(!reading.failed);
        check(
            &reading,
            &[
                "container_memory_usage_bytes .. image=\"nginx:1\" .. name=\"web\" .. } 5000",
                "stoa_container_engine_up .. } 0",
            ],
            &["stoa_container_state"],
        );
        // It is left alone, and the fault goes on.
        let asked = house.asked.lock().unwrap().len();
        assert_eq!(house.read_after(10).problems.len(), 1);
        assert_eq!(house.asked.lock().unwrap().len(), asked);
        house.says(Answer::Json(list()));
        let reading = house.read_after(30);
        assert!(reading.problems.is_empty(), "{wrong:?}: {:?}", reading.problems);
        check(&reading, &["stoa_container_engine_up .. } 1", "stoa_container_state"], &[]);
    }
    std::fs::remove_file(house.dir.path().join("run/docker.sock")).unwrap();
    let reading = house.read_after(10);
    assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
    check(&reading, &["stoa_container_engine_up .. } 0", "container_last_seen"], &[]);
    house.start();
    assert!(house.read_after(10).problems.is_empty());
}

#[test]
fn without_an_engine_nothing_is_wrong_and_control_groups_are_told() {
    let mut house = House::new();
    let reading = house.read_after(0);
    assert!(reading.problems.is_empty() && !reading.failed, "{:?}", reading.problems);
    check(&reading, &["container_memory_usage_bytes .. guest=\"lxc/101\""], &["stoa_"]);
    std::fs::remove_dir_all(house.dir.path().join("sys/fs/cgroup/lxc")).unwrap();
    std::fs::remove_dir_all(house.dir.path().join("sys/fs/cgroup/system.slice")).unwrap();
    let reading = house.read_after(60);
    assert!(reading.problems.is_empty() && reading.failed && reading.is_empty());
    assert!(reading.absent.is_some());
    // A socket that nobody listens at is a fault.
    drop(UnixListener::bind(house.dir.path().join("run/docker.sock")).unwrap());
    let reading = house.read_after(60);
    assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
    check(&reading, &["stoa_container_engine_up .. } 0"], &[]);
}

#[test]
fn guests_of_a_node_are_told_by_their_own_control_groups() {
    let mut house = House::new();
    let dir = house.dir.path();
    put(dir, "sys/fs/cgroup/lxc/101/memory.current", "9000\n");
    put(dir, "sys/fs/cgroup/lxc/101/cpu.stat", "usage_usec 3000000\n");
    put(dir, "sys/fs/cgroup/lxc/101/ns/init.scope/cgroup.procs", "200\n");
    put(dir, "proc/200/cgroup", "0::/lxc/101/ns/init.scope\n");
    put(dir, "proc/200/net/dev", "a\nb\n  eth0: 55 1 0 0 0 0 0 0 66 1 0 0 0 0 0 0\n");
    put(dir, "etc/pve/lxc/101.conf", "hostname: media\n");
    put(dir, "sys/fs/cgroup/qemu.slice/102.scope/memory.current", "8000\n");
    put(dir, "sys/fs/cgroup/qemu.slice/102.scope/cgroup.procs", "300\n");
    put(dir, "proc/300/cgroup", "0::/qemu.slice/102.scope\n");
    put(dir, "proc/300/cmdline", "/usr/bin/kvm\0-id\x00102\0-name\0win,debug-threads=on\0");
    put(dir, "proc/300/net/dev", "a\nb\n  vmbr0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
    let reading = house.read_after(0);
    let lxc = "guest=\"lxc/101\" .. guest_name=\"media\" .. id=\"/lxc/101\"";
    let machine = "guest=\"qemu/102\" .. guest_name=\"win\" .. id=\"/qemu.slice/102.scope\"";
    check(
        &reading,
        &[
            &format!("container_memory_usage_bytes{{{lxc} .. name=\"media\"}} 9000"),
            &format!("container_cpu_usage_seconds_total .. {lxc} .. }} 3"),
            &format!(
                "container_network_receive_bytes_total .. {lxc} .. interface=\"eth0\" .. }} 55"
            ),
            &format!("container_memory_usage_bytes{{{machine} .. name=\"win\"}} 8000"),
            // What is in the guest says whose it is, too.
            "container_memory_usage_bytes{container=\"docker/aaaaaaaaaaaa\" .. guest=\"lxc/101\" .. guest_name=\"media\"",
        ],
        &["vmbr0"],
    );
    // The number was given to another process meanwhile.
    put(house.dir.path(), "proc/200/cgroup", "0::/user.slice\n");
    std::fs::remove_dir_all(house.dir.path().join("sys/fs/cgroup/qemu.slice")).unwrap();
    check(&house.read_after(5), &[&format!("container_memory_usage_bytes{{{lxc}")], &["eth0"]);
    check(&house.read_after(60), &[], &["qemu/102"]);
}

#[test]
fn what_an_engine_says_is_bounded() {
    let mut house = House::new();
    let labels: Vec<String> =
        (0..10_000).map(|n| format!("\"label{n}\":\"{}\"", "x".repeat(20))).collect();
    let many = (0..10_000).map(|n| {
        format!(r#"{{"Id":"{n:064x}","Names":["/{}"],"Image":"i","State":"created","Status":"Created"}}"#, "n".repeat(300))
    });
    let bomb = format!(
        r#"{{"Id":"{WEB}","Names":["/web"],"State":"running","Labels":{{{},"com.docker.compose.project":"{}"}}}}"#,
        labels.join(","),
        "p".repeat(10_000)
    );
    let all: Vec<String> = std::iter::once(bomb).chain(many).collect();
    house.says(Answer::Json(format!("[{}]", all.join(","))));
    house.start();
    let reading = house.read_after(0);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    check(
        &reading,
        &["stoa_container_left_out .. } 9001", "container_cpu_usage_seconds_total .. name=\"web\""],
        &[],
    );
    let told = told(&reading);
    let states = told.iter().filter(|line| line.starts_with("stoa_container_state")).count();
    assert_eq!(states, 1000 * STATES.len());
    assert!(told.iter().all(|line| line.len() < 1500));
}

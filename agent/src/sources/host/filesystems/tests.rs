use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// What the dead mount waits for; the test holds the other end.
static GATE: Mutex<Option<Receiver<()>>> = Mutex::new(None);

/// Answers at once, but for `/dead`, which waits for the gate, and `/gone`.
fn ask(path: PathBuf) -> Result<StatFs, Errno> {
    if path.ends_with("dead") {
        let gate = GATE.lock().unwrap().take().unwrap();
        assert!(gate.recv().is_err(), "nothing is sent, the sender is dropped");
    }
    if path.ends_with("gone") { Err(Errno::NOTCONN) } else { rustix::fs::statfs("/proc/self") }
}

fn at(seconds: i64) -> Now {
    Now { unix_micros: seconds * 1_000_000 }
}

/// Mount points with what is told of them: `ok` or the error.
fn told(source: &mut Filesystems, roots: &Roots, now: Now) -> Vec<(String, String)> {
    let mut reading = Reading::default();
    source.read(roots, now, &mut reading);
    let family = reading.families().find(|f| f.name == ALWAYS[0].name);
    let of = |labels: &Labels, name| labels.get(name).unwrap_or("ok").to_owned();
    family.map_or(Vec::new(), |family| {
        let metrics = family.metrics.iter();
        metrics.map(|m| (of(&m.labels, "mountpoint"), of(&m.labels, "device_error"))).collect()
    })
}

#[test]
fn a_dead_mount_is_told_after_its_timeout_and_recovers_and_the_others_answer_meanwhile() {
    let (hold, gate): (Sender<()>, _) = channel();
    *GATE.lock().unwrap() = Some(gate);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("1")).unwrap();
    let lines = ["dead", "live", "gone"]
        .map(|name| format!("29 1 0:2 / /{name} rw,relatime - nfs4 server:/{name} rw\n"));
    std::fs::write(dir.path().join("1/mountinfo"), lines.concat()).unwrap();
    let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
    let settings = Settings {
        // Long enough for a healthy answer on a busy machine.
        mount_patience: Span(Duration::from_secs(1)),
        ..Settings::default()
    };
    let mut source = Filesystems::asking(settings, ask);
    let pair = |at: &str, told: &str| (at.to_owned(), told.to_owned());
    let others = [pair("/live", "ok"), pair("/gone", "transport endpoint is not connected")];

    assert_eq!(told(&mut source, &roots, at(0)), others);
    assert_eq!(told(&mut source, &roots, at(4)), others);
    let with_dead = [[pair("/dead", "mountpoint timeout")].as_slice(), &others].concat();
    assert_eq!(told(&mut source, &roots, at(5)), with_dead);
    assert_eq!(source.lanes.behind(), 1, "a dead mount is not asked again");

    drop(hold);
    while source.lanes.behind() > 0 {
        told(&mut source, &roots, at(6));
    }
    // The late answer has come in; the next question finds no gate and would fail if it were asked
    // of `/dead` again, so the mount is taken away.
    let rest = lines.iter().skip(1).cloned().collect::<String>();
    assert!(source.answers.contains_key("/dead"));
    std::fs::write(dir.path().join("1/mountinfo"), rest).unwrap();
    assert_eq!(told(&mut source, &roots, at(7)), others);
    assert!(!source.answers.contains_key("/dead"));
}

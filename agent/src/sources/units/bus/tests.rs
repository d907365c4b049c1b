use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use super::*;

/// Takes the words of authentication and hands the connection to `then`.
fn bus(then: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"BEGIN\r\n") {
            let mut bytes = [0; 256];
            let count = stream.read(&mut bytes).unwrap_or(0);
            if count == 0 {
                return;
            }
            for line in bytes[..count].split_inclusive(|byte| *byte == b'\n') {
                if line.starts_with(b"AUTH") || line.starts_with(b"\0AUTH") {
                    let _sent = stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n");
                } else if line.starts_with(b"NEGOTIATE") {
                    let _sent = stream.write_all(b"ERROR\r\n");
                } else if line == b"BEGIN\r\n" {
                    then(stream);
                    return;
                }
            }
            said.extend_from_slice(&bytes[..count]);
        }
    });
    (dir, socket)
}

#[track_caller]
fn check_fails(then: impl FnOnce(UnixStream) + Send + 'static) -> io::Error {
    let (_dir, socket) = bus(then);
    let asked = Bus::new()
        .ask(&socket, Duration::from_millis(300), async |systemd| systemd.manager("Version").await);
    match asked {
        Err(BusError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_bus_is_absence() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none");
    let asked = Bus::new().ask(&socket, Duration::from_secs(1), async |_| Ok(()));
    assert!(matches!(asked, Err(BusError::Absent(_))), "{asked:?}");
}

#[test]
fn a_bus_that_nobody_listens_at_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    drop(UnixListener::bind(&socket).unwrap());
    let asked = Bus::new().ask(&socket, Duration::from_secs(1), async |_| Ok(()));
    assert!(matches!(asked, Err(BusError::Failed(_))), "{asked:?}");
}

#[test]
fn a_bus_that_says_nothing_is_left_when_the_patience_ends() {
    let error = check_fails(|stream| {
        thread::sleep(Duration::from_secs(2));
        drop(stream);
    });
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(BusError::Failed(error).is_lateness());
}

#[test]
fn a_bus_that_hangs_up_or_talks_nonsense_is_a_fault() {
    check_fails(drop);
    check_fails(|mut stream| {
        let _sent = stream.write_all(&[0xff; 4096]);
        thread::sleep(Duration::from_secs(1));
    });
    // A header that announces as much as there can be, and nothing after it.
    check_fails(|mut stream| {
        let mut header = vec![b'l', 2, 0, 1];
        header.extend(0x07ff_fff0_u32.to_le_bytes());
        header.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let _sent = stream.write_all(&header);
        thread::sleep(Duration::from_secs(1));
    });
}

#[test]
fn numbers_of_all_sizes_are_told_and_what_is_not_set_is_not() {
    for (value, expected) in [
        (Variant::U64(7), Told::Number(7.0)),
        (Variant::U64(u64::MAX), Told::Nothing),
        (Variant::U32(u32::MAX), Told::Number(4_294_967_295.0)),
        (Variant::I32(-1), Told::Number(-1.0)),
        (Variant::Bool(true), Told::Number(1.0)),
        (Variant::from("oneshot"), Told::Text("oneshot".into())),
        (Variant::from(vec![1_u8]), Told::Nothing),
    ] {
        assert_eq!(told(&value), expected);
    }
}

#[test]
fn a_bus_without_systemd_is_absence() {
    for (name, expected) in [
        ("org.freedesktop.DBus.Error.ServiceUnknown", true),
        ("org.freedesktop.DBus.Error.NameHasNoOwner", true),
        ("org.freedesktop.DBus.Error.Spawn.ChildExited", true),
        ("org.freedesktop.DBus.Error.AccessDenied", false),
        ("org.freedesktop.systemd1.NoSuchUnit", false),
    ] {
        assert_eq!(is_absence(name), expected, "{name}");
    }
}

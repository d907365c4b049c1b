//! The collector of this machine, as its data directory tells.
//!
//! Whoever can read that directory may do everything anyway, so its admin token is used without being
//! named. It is sent only over TLS, on loopback, and to the CA found beside it: another program that
//! has taken the port learns nothing.

use std::path::{Path, PathBuf};

use reqwest::Url;
use stoa_daemon::Misuse;

/// Where the collector's packaged unit keeps its data.
const PACKAGED: &str = "/var/lib/stoa";

/// What the data directory of a collector holds for the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    /// The admin token.
    pub(crate) token: String,
    /// The CA's certificate, PEM.
    pub(crate) ca: PathBuf,
}

/// Where `stoa up` keeps everything unless told otherwise.
///
/// # Errors
/// [`Misuse`] when there is no home directory.
pub(crate) fn data_dir() -> Result<PathBuf, Misuse> {
    let data_home =
        std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let base = data_home.or(home.map(|home| PathBuf::from(home).join(".local/share")));
    let base = base.ok_or_else(|| {
        Misuse("HOME is not set; say where to keep data with --data-dir DIR".to_owned())
    })?;
    Ok(base.join("stoa"))
}

/// Whether the address is TLS on this machine.
#[must_use]
pub(crate) fn is_local_tls(server: &Url) -> bool {
    let host = server.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    server.scheme() == "https" && (host == "localhost" || address.is_ok_and(|ip| ip.is_loopback()))
}

/// The first collector of this machine whose admin token we may read.
#[must_use]
pub(crate) fn collector() -> Option<Collector> {
    let own = data_dir().ok().map(|dir| dir.join("collector"));
    own.into_iter().chain([PACKAGED.into()]).find_map(|dir| read(&dir))
}

/// The collector's own directory in what `--data-dir` names: that of `stoa up` holds it beside the
/// agent's.
///
/// # Errors
/// [`Misuse`] when no collector keeps its data there.
pub(crate) fn collector_dir(dir: &Path) -> Result<PathBuf, Misuse> {
    let dirs = [dir.join("collector"), dir.to_owned()];
    for dir in &dirs {
        let looked = std::fs::metadata(dir.join("metrics"));
        if looked.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
            let dir = dir.display();
            return Err(Misuse(format!(
                "{dir} may not be read by this user; run this as the user the collector runs as"
            )));
        }
    }
    dirs.into_iter().find(|dir| dir.join("metrics").is_dir()).ok_or_else(|| {
        Misuse(format!(
            "{} is not the data directory of a collector: expected metrics/ in it, or \
             collector/metrics/ as `stoa up` keeps it; start the collector once, or name another",
            dir.display()
        ))
    })
}

fn read(dir: &Path) -> Option<Collector> {
    let token = std::fs::read_to_string(dir.join("admin.token")).ok()?;
    let ca = dir.join("ca/ca.pem");
    ca.exists().then_some(Collector { token, ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_on_loopback_is_local() {
        for (url, want) in [
            ("https://localhost:7480", true),
            ("https://127.0.0.1:7480", true),
            ("https://[::1]:7480", true),
            ("http://127.0.0.1:7480", false),
            ("https://192.0.2.1:7480", false),
            ("https://localhost.evil.example", false),
        ] {
            assert_eq!(is_local_tls(&Url::parse(url).unwrap()), want, "{url}");
        }
    }

    #[test]
    fn a_data_directory_holds_a_collectors_metrics() {
        let dir = tempfile::tempdir().unwrap();
        let (up, own) = (dir.path().to_owned(), dir.path().join("collector"));
        std::fs::create_dir_all(up.join("blocks")).unwrap();
        std::fs::create_dir_all(&own).unwrap();
        let error = collector_dir(&up).unwrap_err().0;
        assert!(error.contains("expected metrics/"), "{error}");
        assert!(collector_dir(&dir.path().join("absent")).is_err());
        std::fs::create_dir(up.join("metrics")).unwrap();
        assert_eq!(collector_dir(&up).unwrap(), up);
        std::fs::create_dir(own.join("metrics")).unwrap();
        assert_eq!(collector_dir(&up).unwrap(), own, "beside a stray store");
        assert_eq!(collector_dir(&own).unwrap(), own);
    }

    #[test]
    fn a_collector_is_its_token_and_its_ca() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("admin.token"), "secret\n").unwrap();
        assert_eq!(read(dir.path()), None);
        std::fs::create_dir(dir.path().join("ca")).unwrap();
        std::fs::write(dir.path().join("ca/ca.pem"), "").unwrap();
        let ca = dir.path().join("ca/ca.pem");
        assert_eq!(read(dir.path()), Some(Collector { token: "secret\n".into(), ca }));
    }
}

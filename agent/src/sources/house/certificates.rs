//! Certificates in files: until when they hold, under x509-certificate-exporter's names.
//!
//! Reads files and directories that are configured and well-known places that need no root. PEM (any
//! number of certificates, among keys and other things, which are passed over) and DER. Directories are
//! gone through [`DEPTH_MAX`] deep, symbolic links are followed, and no directory is entered twice.
//! Bounded by [`FILES_MAX`], [`FILE_BYTES_MAX`], [`CERTIFICATES_MAX`] and [`ENTRIES_MAX`]; what lies
//! beyond is counted as an error. A place that is not configured and cannot be read is passed over.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source};

const NOT_BEFORE: Desc =
    Desc::gauge("x509_cert_not_before", "Indicates the certificate's not before timestamp");
const NOT_AFTER: Desc =
    Desc::gauge("x509_cert_not_after", "Indicates the certificate's not after timestamp");
const EXPIRED: Desc = Desc::gauge("x509_cert_expired", "Indicates if the certificate is expired");
const ERRORS: Desc = Desc::gauge("x509_read_errors", "Indicates the number of read failure(s)");

/// Well-known places; each may be absent or unreadable.
const PLACES: &[&str] = &[
    "/etc/pve/pve-root-ca.pem",
    "/etc/pve/local/pve-ssl.pem",
    "/etc/pve/local/pveproxy-ssl.pem",
    "/etc/proxmox-backup/proxy.pem",
    "/etc/letsencrypt/live",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/var/lib/stoa-collector/ca/ca.pem",
];
/// Endings of files that are looked into in a directory.
const ENDINGS: &[&str] = &["pem", "crt", "cer", "cert", "der"];

/// Files looked into at most.
const FILES_MAX: usize = 512;
/// Entries of directories looked at at most.
const ENTRIES_MAX: usize = 8192;
/// The largest file read; a bundle of all public roots is 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Certificates told at most.
const CERTIFICATES_MAX: usize = 512;
/// How deep directories are gone through below one that is named.
const DEPTH_MAX: usize = 3;
/// The longest part of a name told.
const PART_BYTES_MAX: usize = 128;
/// The longest serial number taken; RFC 5280 allows 20 bytes.
const SERIAL_BYTES_MAX: usize = 64;
const INTERVAL: Duration = Duration::from_secs(600);
/// `/etc/pve` is a file system of a daemon's, which may hang.
const DEADLINE: Duration = Duration::from_secs(20);

/// `[sources.certificates]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Files and directories.
    paths: Vec<PathBuf>,
    /// Whether to look in well-known places too.
    well_known: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { paths: Vec::new(), well_known: true }
    }
}

/// What is told of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Seconds since the epoch.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// In decimals.
    serial: String,
    subject: Vec<(&'static str, String)>,
    issuer: Vec<(&'static str, String)>,
}

/// The certificates of a file, and how many things in it should be certificates and are not.
pub(super) fn parse(bytes: &[u8]) -> (Vec<Certificate>, usize) {
    let (mut certificates, mut wrong) = (Vec::new(), 0);
    if bytes.trim_ascii_start().first() == Some(&0x30) {
        match certificate(bytes.trim_ascii_start()) {
            Some(certificate) => certificates.push(certificate),
            None => wrong += 1,
        }
        return (certificates, wrong);
    }
    for pem in Pem::iter_from_buffer(bytes) {
        match pem {
            Ok(pem) if matches!(pem.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE") => {
                match certificate(&pem.contents) {
                    Some(certificate) => certificates.push(certificate),
                    None => wrong += 1,
                }
            }
            // OpenSSL's own form has more behind the certificate.
            Ok(pem) if pem.label == "TRUSTED CERTIFICATE" => {
                certificates.extend(certificate(&pem.contents));
            }
            // A key or another thing that is no certificate.
            Ok(_) => {}
            Err(_) => {
                wrong += 1;
                // What follows a block that is cut off cannot be told apart.
                break;
            }
        }
        // One more, so that it shows that there are more.
        if certificates.len() > CERTIFICATES_MAX {
            break;
        }
    }
    (certificates, wrong)
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let (_rest, parsed) = X509Certificate::from_der(der).ok()?;
    // Making decimals of a long number takes a time that grows with its square.
    if parsed.raw_serial().len() > SERIAL_BYTES_MAX {
        return None;
    }
    let validity = parsed.validity();
    Some(Certificate {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        serial: bounded(&parsed.tbs_certificate.serial.to_string()),
        subject: parts(
            parsed.subject(),
            ["subject_C", "subject_ST", "subject_L", "subject_O", "subject_OU", "subject_CN"],
        ),
        issuer: parts(
            parsed.issuer(),
            ["issuer_C", "issuer_ST", "issuer_L", "issuer_O", "issuer_OU", "issuer_CN"],
        ),
    })
}

/// Parts of a name under the labels given, which stand for country, state, locality, organization,
/// unit and common name; the last of each.
fn parts(name: &X509Name<'_>, labels: [&'static str; 6]) -> Vec<(&'static str, String)> {
    let [country, state, locality, organization, unit, common] = labels;
    let last = |part: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        part.and_then(|part| part.as_str().ok()).map(bounded)
    };
    [
        (country, last(name.iter_country().last())),
        (state, last(name.iter_state_or_province().last())),
        (locality, last(name.iter_locality().last())),
        (organization, last(name.iter_organization().last())),
        (unit, last(name.iter_organizational_unit().last())),
        (common, last(name.iter_common_name().last())),
    ]
    .into_iter()
    .filter_map(|(label, part)| Some((label, part?)))
    .collect()
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(PART_BYTES_MAX)).unwrap_or_default().to_owned()
}

/// The source `certificates`.
#[derive(Debug)]
pub(crate) struct Certificates {
    settings: Settings,
    labels: Kept<Labels>,
}

impl Configured for Certificates {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings, labels: Kept::new() }
    }
}

impl Source for Certificates {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let mut search = Search::default();
        for path in &self.settings.paths {
            search.look(roots, path, true);
        }
        if self.settings.well_known {
            PLACES.iter().for_each(|path| search.look(roots, Path::new(path), false));
            if let Some(own) = roots.identity.as_deref().filter(|own| own.is_file()) {
                search.add(own, own, false);
            }
        }
        let mut families = [&NOT_BEFORE, &NOT_AFTER, &EXPIRED].map(Desc::family);
        let now = now.unix_micros.div_euclid(1_000_000);
        let mut count = 0;
        for (path, file, is_named) in &search.files {
            let bytes = match read(file) {
                Ok(bytes) => bytes,
                Err(error) => {
                    if *is_named {
                        search.problems.push(Problem::read(file, error));
                    }
                    continue;
                }
            };
            let (certificates, wrong) = parse(&bytes);
            if wrong > 0 || (certificates.is_empty() && *is_named) {
                search
                    .problems
                    .push(Problem::parse(file, "it has no certificate, or a broken one"));
            }
            let room = CERTIFICATES_MAX - count;
            let mut told = HashSet::new();
            for certificate in certificates.iter().take(room) {
                tell(certificate, path, now, &mut self.labels, &mut told, &mut families);
            }
            count += certificates.len().min(room);
            if certificates.len() > room {
                search.problems.push(Problem::parse(path, "there are over 512 certificates"));
                break;
            }
        }
        self.labels.end_round();
        if count == 0 && self.settings.paths.is_empty() && search.problems.is_empty() {
            return reading.fail(Problem::Lacks("certificate in a well-known place"));
        }
        for family in families {
            reading.family(family);
        }
        reading.single(&ERRORS, search.problems.len() as f64);
        // What is named and missing is a fault, too, and no absence.
        reading.problems.append(&mut search.problems);
    }
}

fn tell(
    certificate: &Certificate,
    path: &Path,
    now: i64,
    labels: &mut Kept<Labels>,
    told: &mut HashSet<String>,
    [before, after, expired]: &mut [Family; 3],
) {
    let path = path.to_string_lossy();
    let name = path.rsplit('/').next().unwrap_or_default();
    let Certificate { serial, subject, issuer, not_before, not_after } = certificate;
    let pairs = subject.iter().chain(issuer).map(|(label, part)| (*label, part.as_str()));
    let rest = [("serial_number", serial.as_str()), ("filename", name), ("filepath", &path)];
    let set = Labels::from_pairs_last_wins(pairs.chain(rest));
    let key = set.to_string();
    let set = labels.get(&key, |_| set);
    // A bundle may hold one twice.
    if told.insert(key) {
        before.push(set.clone(), *not_before as f64);
        after.push(set.clone(), *not_after as f64);
        expired.push(set, f64::from(u8::from(*not_after < now)));
    }
}

/// Tells any bytes as a file of certificates: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(bytes: &[u8], now: Now, reading: &mut Reading) {
    let mut families = [&NOT_BEFORE, &NOT_AFTER, &EXPIRED].map(Desc::family);
    let (mut labels, mut told) = (Kept::new(), HashSet::new());
    let (certificates, _wrong) = parse(bytes);
    assert!(certificates.len() <= CERTIFICATES_MAX + 1);
    for certificate in certificates {
        let path = Path::new("/etc/any.pem");
        tell(&certificate, path, now.unix_micros, &mut labels, &mut told, &mut families);
    }
    families.into_iter().for_each(|family| reading.family(family));
}

/// A file's bytes; only of a regular file, and never waits for a pipe.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "over 1 MiB"));
    }
    Ok(bytes)
}

/// Which files there are to look into.
#[derive(Debug, Default)]
struct Search {
    /// As the host has them, as seen from here, and whether their absence is a fault; by name.
    files: BTreeSet<(PathBuf, PathBuf, bool)>,
    entries: usize,
    /// Device and inode of directories that have been entered.
    entered: HashSet<(u64, u64)>,
    problems: Vec<Problem>,
}

impl Search {
    /// Looks into a file or directory that a person or this program named.
    fn look(&mut self, roots: &Roots, path: &Path, is_named: bool) {
        let real = roots.on_host(&path.to_string_lossy());
        match std::fs::metadata(&real) {
            Ok(metadata) if metadata.is_dir() => self.enter(path, &real, 0, is_named),
            Ok(_) => self.add(path, &real, is_named),
            Err(error) if is_named => self.problems.push(Problem::read(real, error)),
            Err(_) => {}
        }
    }

    fn add(&mut self, path: &Path, real: &Path, is_named: bool) {
        if self.files.iter().any(|(known, ..)| known == path) {
            return;
        }
        if self.files.len() < FILES_MAX {
            self.files.insert((path.to_owned(), real.to_owned(), is_named));
        } else {
            self.full(real);
        }
    }

    /// Told once.
    fn full(&mut self, at: &Path) {
        let wrong = "there are more files than are looked into";
        let is_told = |p: &Problem| matches!(p, Problem::Parse { wrong: w, .. } if *w == wrong);
        if !self.problems.iter().any(is_told) {
            self.problems.push(Problem::parse(at, wrong));
        }
    }

    fn enter(&mut self, path: &Path, real: &Path, depth: usize, is_named: bool) {
        let listed = std::fs::metadata(real).and_then(|metadata| {
            let is_new = self.entered.insert((metadata.dev(), metadata.ino()));
            if is_new { std::fs::read_dir(real).map(Some) } else { Ok(None) }
        });
        let entries = match listed {
            Ok(Some(entries)) => entries,
            Ok(None) => return,
            Err(error) => {
                if is_named {
                    self.problems.push(Problem::read(real, error));
                }
                return;
            }
        };
        for entry in entries.flatten() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return self.full(real);
            }
            let name = entry.file_name();
            let (path, real) = (path.join(&name), entry.path());
            let Ok(metadata) = std::fs::metadata(&real) else { continue };
            let ending = real.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if metadata.is_dir() {
                if depth < DEPTH_MAX {
                    self.enter(&path, &real, depth + 1, is_named);
                }
            } else if metadata.is_file() && ENDINGS.contains(&ending) {
                // A file that merely lies there need not be readable, nor a certificate.
                self.add(&path, &real, false);
            }
        }
    }
}

//! Who belongs here: the one place where tokens are spent, hosts admitted, renewed and turned away.
//!
//! It holds the authority, the state database and the list of revoked certificates, keeps their
//! small tables in memory, and makes each decision under one lock, so that of two hosts with one
//! token exactly one joins. A decision is durable before it is told: a join or renewal is written in
//! one transaction before the certificate is handed out, a revocation is appended to `ca/revoked`
//! and synced before anything else of it happens.
//!
//! Bounds: the tables' own ([`TOKENS_MAX`], [`HOSTS_MAX`]). Blocking: everything but
//! [`Members::is_revoked`], [`Members::principal`] and [`Members::revocations`] may wait for the
//! disk; call it from a thread that may. It knows no clock and no wire.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use stoa_model::{HostId, JoinToken, TimestampMs};
use tokio::sync::watch;

use crate::ca::revoked::RevokedCert;
use crate::ca::{self, Ca, CaError, HostCert, RevokedFile, SERVER_NAME, Serial};
use crate::hosts::{Cert, HOSTS, HOSTS_MAX, Host, RenewRefusal, Standing};
use crate::http::{Principal, Scope};
use crate::state::{Damage, State, StateError, Table};
use crate::tokens::{
    self, API_TOKENS, ApiToken, ApiTokenRecord, JOIN_TOKENS, JoinClaim, JoinGrant, JoinTokenRecord,
    JoinTokenRefusal, JoinTokenUse, REMARK_BYTES_MAX, TOKENS_MAX,
};

/// The file below the data directory with an admin token for whoever may read it: how the command
/// line on this machine speaks to a collector that asks for credentials. Mode 0600.
pub const LOCAL_TOKEN_FILE: &str = "admin.token";

/// Which CA this state belongs to, under the name `ca`.
const META: Table<Meta> = Table::named("meta");

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meta {
    ca_sha256: [u8; 32],
}

/// What went wrong while keeping the books. Nothing of the operation holds.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The data directory could not be made.
    #[error("create {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The authority or its files.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A table is full.
    #[error("there are {max} {what} already; revoke some")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many fit.
        max: usize,
    },
    /// A value that cannot be stored.
    #[error("{0}")]
    Value(&'static str),
    /// Nothing of that name.
    #[error("there is no {what} {name}")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Under which name.
        name: String,
    },
}

/// Why a host was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The token grants nothing.
    #[error(transparent)]
    Token(#[from] JoinTokenRefusal),
    /// The name is another member's.
    #[error(
        "the name {host} belongs to a host that has joined already; if this is that host, \
         reinstalled, make a token bound to the name: stoa token create --host {host}"
    )]
    NameTaken {
        /// The name.
        host: String,
    },
    /// The name is no host name, or the collector's own.
    #[error("{0:?} cannot be a host's name")]
    Name(String),
    /// The books could not be kept, or the request was malformed.
    #[error(transparent)]
    Books(#[from] MembersError),
}

/// Why a host's certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It may not have another.
    #[error(transparent)]
    Refused(#[from] RenewRefusal),
    /// The books could not be kept, or the request was malformed.
    #[error(transparent)]
    Books(#[from] MembersError),
}

/// What a host sends to join.
#[derive(Clone, Debug)]
pub struct JoinAsk {
    /// The token's public half.
    pub token_id: String,
    /// The token's secret half.
    pub secret: Vec<u8>,
    /// PKCS#10, DER.
    pub csr_der: Vec<u8>,
    /// The name asked for.
    pub host_name: String,
    /// The agent's version.
    pub agent_version: String,
}

/// What happened so far; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberCounts {
    /// Hosts admitted.
    pub joins: u64,
    /// Hosts not admitted.
    pub joins_refused: u64,
    /// Certificates renewed.
    pub renewals: u64,
    /// Renewals refused, fences included.
    pub renewals_refused: u64,
    /// Hosts locked by the clone fence.
    pub fences: u64,
    /// Certificates revoked.
    pub revoked: u64,
}

#[derive(Debug, Default)]
struct Counters {
    joins: AtomicU64,
    joins_refused: AtomicU64,
    renewals: AtomicU64,
    renewals_refused: AtomicU64,
    fences: AtomicU64,
    revoked: AtomicU64,
}

/// What is in memory of the tables a join or renewal changes.
#[derive(Debug, Default)]
struct Books {
    join_tokens: BTreeMap<String, JoinTokenRecord>,
    hosts: BTreeMap<String, Host>,
}

/// The members and the ways in.
#[derive(Debug)]
pub struct Members {
    ca: Ca,
    state: Arc<State>,
    revoked_file: RevokedFile,
    damage: Option<Damage>,
    /// Held while a decision is made and written; guards the two tables and their rows.
    books: Mutex<Books>,
    /// Apart from the books, so that an HTTP request never waits for a join's disk write.
    api_tokens: RwLock<BTreeMap<String, ApiTokenRecord>>,
    /// Asked at every handshake.
    revoked: RwLock<HashSet<Serial>>,
    /// Renewed certificates their hosts have not been seen with yet; asked at every call.
    awaited: RwLock<HashSet<String>>,
    /// Counts revocations; a change means that live connections must be looked at again.
    revocations: watch::Sender<u64>,
    counters: Counters,
}

impl Members {
    /// Opens the books below a data directory, made if absent: state, authority, revocations, and
    /// the local admin token.
    ///
    /// # Errors
    /// [`MembersError`]; damage to the state database is none, see [`Members::damage`].
    pub fn open(data_dir: &Path, now_ms: TimestampMs) -> Result<Arc<Self>, MembersError> {
        let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        create.map_err(|source| MembersError::DataDir { path: data_dir.to_owned(), source })?;
        let (state, damage) = State::open(data_dir, now_ms)?;
        let known: Option<Meta> = state.all(&META)?.into_iter().map(|(_name, meta)| meta).next();
        let ca = Ca::open(data_dir, known.is_some(), now_ms)?;
        let (revoked_file, revoked) = RevokedFile::open(data_dir, now_ms)?;
        let meta = Meta { ca_sha256: ca.sha256() };
        if known.is_none_or(|known| known.ca_sha256 != meta.ca_sha256) {
            state.change(|change| change.put(&META, "ca", &meta))?;
        }
        let books = Books {
            join_tokens: state.all(&JOIN_TOKENS)?.into_iter().collect(),
            hosts: state.all(&HOSTS)?.into_iter().collect(),
        };
        let awaited = books.hosts.values().filter_map(|host| host.pending.as_ref());
        let awaited = awaited.map(|cert| cert.serial.clone()).collect();
        let members = Self {
            ca,
            awaited: RwLock::new(awaited),
            revoked_file,
            damage,
            books: Mutex::new(books),
            api_tokens: RwLock::new(state.all(&API_TOKENS)?.into_iter().collect()),
            revoked: RwLock::new(revoked.into_iter().map(|cert| cert.serial).collect()),
            revocations: watch::Sender::new(0),
            counters: Counters::default(),
            state: Arc::new(state),
        };
        members.keep_local_token(data_dir, now_ms)?;
        Ok(Arc::new(members))
    }

    /// The state database, for tables that are others' than these books'.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// The authority.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The damage found at start, if any: worth an alert.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> MemberCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MemberCounts {
            joins: read(&self.counters.joins),
            joins_refused: read(&self.counters.joins_refused),
            renewals: read(&self.counters.renewals),
            renewals_refused: read(&self.counters.renewals_refused),
            fences: read(&self.counters.fences),
            revoked: read(&self.counters.revoked),
        }
    }

    // ---- tokens ----

    /// Makes a join token, for one name or for any that is free.
    ///
    /// # Errors
    /// [`MembersError::Full`], or the state cannot be written.
    pub fn create_join_token(
        &self,
        host: Option<&HostId>,
        ttl_ms: TimestampMs,
        now_ms: TimestampMs,
    ) -> Result<(JoinToken, JoinTokenRecord), MembersError> {
        if ttl_ms <= 0 {
            return Err(MembersError::Value("a token must be good for some time"));
        }
        if host.is_some_and(|host| is_reserved(host.as_str())) {
            return Err(MembersError::Value("names below .stoa are the collector's own"));
        }
        let mut books = self.books();
        let old = |(_id, record): &(&String, &JoinTokenRecord)| tokens::forgettable(record, now_ms);
        let old: Vec<String> =
            books.join_tokens.iter().filter(old).map(|(id, _)| id.clone()).collect();
        if books.join_tokens.len() - old.len() >= TOKENS_MAX {
            return Err(MembersError::Full { what: "join tokens", max: TOKENS_MAX });
        }
        let (token, record) = tokens::make_join(self.ca.sha256(), host, ttl_ms, now_ms);
        self.state.change(|change| {
            old.iter().try_for_each(|id| change.remove(&JOIN_TOKENS, id))?;
            change.put(&JOIN_TOKENS, &token.id, &record)
        })?;
        books.join_tokens.retain(|id, _record| !old.contains(id));
        books.join_tokens.insert(token.id.clone(), record.clone());
        Ok((token, record))
    }

    /// Makes an API token; good for ever when `ttl_ms` is `None`.
    ///
    /// # Errors
    /// [`MembersError::Full`], a remark over its bound, or the state cannot be written.
    pub fn create_api_token(
        &self,
        scope: Scope,
        remark: &str,
        ttl_ms: Option<TimestampMs>,
        now_ms: TimestampMs,
    ) -> Result<(ApiToken, ApiTokenRecord), MembersError> {
        if scope == Scope::Open {
            return Err(MembersError::Value("a token's scope is read, write or admin"));
        }
        if remark.len() > REMARK_BYTES_MAX || remark.chars().any(char::is_control) {
            return Err(MembersError::Value("a remark is one line of at most 128 bytes"));
        }
        if ttl_ms.is_some_and(|ttl_ms| ttl_ms <= 0) {
            return Err(MembersError::Value("a token must be good for some time"));
        }
        // The books' lock keeps writers apart; readers of API tokens do not wait for it.
        let _books = self.books();
        let kept = self.api_tokens();
        let has_ended =
            |record: &ApiTokenRecord| record.expires_ms.is_some_and(|end| end <= now_ms);
        let old: Vec<&String> =
            kept.iter().filter(|(_, record)| has_ended(record)).map(|(id, _)| id).collect();
        if kept.len() - old.len() >= TOKENS_MAX {
            return Err(MembersError::Full { what: "API tokens", max: TOKENS_MAX });
        }
        let (token, record) = ApiToken::make(scope, remark, ttl_ms, now_ms);
        self.state.change(|change| {
            old.iter().try_for_each(|id| change.remove(&API_TOKENS, id))?;
            change.put(&API_TOKENS, &token.id, &record)
        })?;
        let mut api_tokens = self.api_tokens.write().unwrap_or_else(PoisonError::into_inner);
        api_tokens.retain(|id, _| !old.contains(&id));
        api_tokens.insert(token.id.clone(), record.clone());
        Ok((token, record))
    }

    /// Every join token remembered, by its public half.
    #[must_use]
    pub fn join_tokens(&self) -> Vec<(String, JoinTokenRecord)> {
        self.books().join_tokens.clone().into_iter().collect()
    }

    /// Every API token, by its public half.
    #[must_use]
    pub fn api_tokens(&self) -> Vec<(String, ApiTokenRecord)> {
        let api_tokens = self.api_tokens.read().unwrap_or_else(PoisonError::into_inner);
        api_tokens.clone().into_iter().collect()
    }

    /// Ends a token of either kind, by its public half. A host that joined with it stays a member.
    ///
    /// # Errors
    /// [`MembersError::Missing`], or the state cannot be written.
    pub fn revoke_token(&self, id: &str) -> Result<(), MembersError> {
        let mut books = self.books();
        let join = books.join_tokens.contains_key(id);
        let api = self.api_tokens.read().unwrap_or_else(PoisonError::into_inner).contains_key(id);
        if !join && !api {
            let name = id.chars().take(64).collect();
            return Err(MembersError::Missing { what: "token", name });
        }
        self.state.change(|change| {
            change.remove(&JOIN_TOKENS, id)?;
            change.remove(&API_TOKENS, id)
        })?;
        books.join_tokens.remove(id);
        self.api_tokens.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Whose API token this text is. Waits for no disk.
    #[must_use]
    pub fn principal(&self, text: &str, now_ms: TimestampMs) -> Option<Principal> {
        let token = ApiToken::parse(text)?;
        let api_tokens = self.api_tokens.read().unwrap_or_else(PoisonError::into_inner);
        let record = api_tokens.get(&token.id).filter(|record| token.is_good(record, now_ms))?;
        Some(Principal { name: format!("token {}", token.id), scope: record.scope })
    }

    fn keep_local_token(&self, data_dir: &Path, now_ms: TimestampMs) -> Result<(), MembersError> {
        let path = data_dir.join(LOCAL_TOKEN_FILE);
        let kept = fs::read_to_string(&path).ok();
        let good = kept.and_then(|text| self.principal(&text, now_ms));
        if good.is_none_or(|principal| principal.scope < Scope::Admin) {
            let remark = "this machine's command line";
            let (token, _record) = self.create_api_token(Scope::Admin, remark, None, now_ms)?;
            ca::write_private(&path, format!("{token}\n").as_bytes())?;
        }
        Ok(())
    }

    // ---- hosts ----

    /// Every host, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<(String, Host)> {
        self.books().hosts.clone().into_iter().collect()
    }

    /// Whether a host of that name has joined, however it stands. Waits for nothing but the books.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.books().hosts.contains_key(name)
    }

    /// Admits a host, or says why not. Durable when this returns.
    ///
    /// # Errors
    /// [`JoinRefusal`]; the token is spent only when the host was admitted.
    pub fn join(
        &self,
        ask: &JoinAsk,
        now_ms: TimestampMs,
    ) -> Result<(HostId, HostCert), JoinRefusal> {
        let result = self.try_join(ask, now_ms);
        let counter = match &result {
            Ok(_) => &self.counters.joins,
            Err(_) => &self.counters.joins_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    fn try_join(
        &self,
        ask: &JoinAsk,
        now_ms: TimestampMs,
    ) -> Result<(HostId, HostCert), JoinRefusal> {
        let name = || JoinRefusal::Name(ask.host_name.chars().take(64).collect());
        let Ok(host) = HostId::parse(&ask.host_name) else { return Err(name()) };
        if is_reserved(host.as_str()) {
            return Err(name());
        }
        let mut books = self.books();
        let record = books.join_tokens.get(&ask.token_id);
        // The secret first: a request is not even parsed for whoever does not hold it.
        let claim = JoinClaim { secret: &ask.secret, host: &host, key_sha256: &[0; 32] };
        let refused = tokens::check_join(record, claim, now_ms).err();
        if let Some(JoinTokenRefusal::Unknown) = refused {
            return Err(JoinTokenRefusal::Unknown.into());
        }
        let cert = self.ca.issue_host(&ask.csr_der, &host, now_ms).map_err(MembersError::from)?;
        let claim = JoinClaim { key_sha256: &cert.key_sha256, ..claim };
        let grant = tokens::check_join(record, claim, now_ms)?;
        let before = books.hosts.get(host.as_str());
        let (after, revoked) = admitted(grant, before, &host, &cert, ask, now_ms)?;
        if before.is_none() && books.hosts.len() >= HOSTS_MAX {
            return Err(MembersError::Full { what: "hosts", max: HOSTS_MAX }.into());
        }
        let mut spent = record.cloned().ok_or(JoinTokenRefusal::Unknown)?;
        spent.used.get_or_insert_with(|| JoinTokenUse {
            host: host.as_str().to_owned(),
            key_sha256: cert.key_sha256,
            at_ms: now_ms,
        });
        self.revoke_certs(&revoked)?;
        self.state
            .change(|change| {
                change.put(&JOIN_TOKENS, &ask.token_id, &spent)?;
                change.put(&HOSTS, host.as_str(), &after)
            })
            .map_err(MembersError::from)?;
        books.join_tokens.insert(ask.token_id.clone(), spent);
        self.keep_host(&mut books, host.as_str(), after);
        Ok((host, cert))
    }

    /// Renews the certificate of the host that holds `serial`, or says why not. Durable when this
    /// returns. A host that is not in the books (they were lost) but holds a good certificate is
    /// taken in.
    ///
    /// # Errors
    /// [`RenewError`]; when the clone fence falls, the host is locked and the certificate revoked.
    pub fn renew(
        &self,
        host: &HostId,
        serial: &str,
        csr_der: &[u8],
        now_ms: TimestampMs,
    ) -> Result<HostCert, RenewError> {
        let result = self.try_renew(host, serial, csr_der, now_ms);
        let counter = match &result {
            Ok(_) => &self.counters.renewals,
            Err(_) => &self.counters.renewals_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    fn try_renew(
        &self,
        host: &HostId,
        serial: &str,
        csr_der: &[u8],
        now_ms: TimestampMs,
    ) -> Result<HostCert, RenewError> {
        let mut books = self.books();
        if self.is_revoked(serial) {
            return Err(RenewRefusal::Revoked.into());
        }
        let unknown_end = now_ms.saturating_add(ca::millis(ca::HOST_CERT_VALID));
        let mut record = match books.hosts.get(host.as_str()) {
            Some(record) => record.clone(),
            None => {
                tracing::warn!(%host, "took in a host that holds a good certificate but was not listed");
                let cert = Cert { serial: serial.to_owned(), not_after_ms: unknown_end };
                Host::joined(cert, "", now_ms)
            }
        };
        match record.may_renew(serial, now_ms) {
            Ok(()) => {}
            Err(RenewRefusal::Fenced) => {
                let known = record.past.iter().find(|cert| cert.serial == serial);
                let not_after_ms = known.map_or(unknown_end, |cert| cert.not_after_ms);
                let cert = Cert { serial: serial.to_owned(), not_after_ms };
                let revoked = record.fence(host.as_str(), cert, now_ms);
                self.counters.fences.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %host,
                    serial,
                    current = record.current.serial,
                    "two holders of one identity, or a host rolled back: locked it; the holder of \
                     the current certificate keeps working until that expires"
                );
                self.revoke_certs(&revoked)?;
                self.store_host(&mut books, host.as_str(), record)?;
                return Err(RenewRefusal::Fenced.into());
            }
            Err(refusal) => return Err(refusal.into()),
        }
        let cert = self.ca.issue_host(csr_der, host, now_ms).map_err(MembersError::from)?;
        record.renewed(Cert::from(&cert));
        self.store_host(&mut books, host.as_str(), record)?;
        Ok(cert)
    }

    /// Whether a certificate was renewed and not seen yet, so that [`Members::seen`] is news. Waits
    /// for no disk; ask at every call.
    #[must_use]
    pub fn awaits(&self, serial: &str) -> bool {
        self.awaited.read().unwrap_or_else(PoisonError::into_inner).contains(serial)
    }

    /// Takes note that a host was seen with a certificate, so that its predecessor may no longer
    /// renew. Cheap when it is no news.
    ///
    /// # Errors
    /// The state cannot be written; the note is taken at the next renewal then.
    pub fn seen(&self, host: &str, serial: &str) -> Result<(), MembersError> {
        let mut books = self.books();
        let Some(mut record) = books.hosts.get(host).cloned() else { return Ok(()) };
        if record.seen(serial) {
            self.store_host(&mut books, host, record)?;
        }
        Ok(())
    }

    /// Ends a host's membership: its certificates are revoked and its connections to be cut.
    ///
    /// # Errors
    /// [`MembersError::Missing`], or a file cannot be written.
    pub fn revoke_host(&self, name: &str, now_ms: TimestampMs) -> Result<(), MembersError> {
        self.change_host(name, |record| record.revoke(name, now_ms))
    }

    /// Ends a host's lock: the holder of the current certificate is trusted.
    ///
    /// # Errors
    /// [`MembersError::Missing`], a host that is not locked, or a file cannot be written.
    pub fn unlock_host(&self, name: &str) -> Result<(), MembersError> {
        let locked = |host: &Host| matches!(host.standing, Standing::Locked { .. });
        if self.books().hosts.get(name).is_some_and(|host| !locked(host)) {
            return Err(MembersError::Value("the host is not locked"));
        }
        self.change_host(name, |record| {
            record.unlock();
            Vec::new()
        })
    }

    fn change_host(
        &self,
        name: &str,
        change: impl FnOnce(&mut Host) -> Vec<RevokedCert>,
    ) -> Result<(), MembersError> {
        let mut books = self.books();
        let Some(mut record) = books.hosts.get(name).cloned() else {
            let name = name.chars().take(64).collect();
            return Err(MembersError::Missing { what: "host", name });
        };
        let revoked = change(&mut record);
        self.revoke_certs(&revoked)?;
        self.store_host(&mut books, name, record)
    }

    fn store_host(&self, books: &mut Books, name: &str, host: Host) -> Result<(), MembersError> {
        self.state.change(|change| change.put(&HOSTS, name, &host))?;
        self.keep_host(books, name, host);
        Ok(())
    }

    /// Takes a host's record, which is stored, into memory.
    fn keep_host(&self, books: &mut Books, name: &str, host: Host) {
        let mut awaited = self.awaited.write().unwrap_or_else(PoisonError::into_inner);
        let before = books.hosts.get(name).and_then(|before| before.pending.as_ref());
        if let Some(before) = before {
            awaited.remove(&before.serial);
        }
        awaited.extend(host.pending.iter().map(|cert| cert.serial.clone()));
        books.hosts.insert(name.to_owned(), host);
    }

    // ---- revocation ----

    /// Whether a certificate is revoked, by its serial number in hex. Waits for no disk; ask at
    /// every handshake.
    #[must_use]
    pub fn is_revoked(&self, serial: &str) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        Serial::parse(serial).is_none_or(|serial| revoked.contains(&serial))
    }

    /// Changes whenever certificates were revoked. Whoever holds live connections then asks
    /// [`Members::is_revoked`] of each and cuts those it is true of.
    #[must_use]
    pub fn revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    fn revoke_certs(&self, certs: &[RevokedCert]) -> Result<(), MembersError> {
        if certs.is_empty() {
            return Ok(());
        }
        self.revoked_file.append(certs)?;
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.extend(certs.iter().map(|cert| cert.serial));
        drop(revoked);
        self.counters.revoked.fetch_add(certs.len() as u64, Ordering::Relaxed);
        self.revocations.send_modify(|count| *count += 1);
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that would be the collector's own.
fn is_reserved(name: &str) -> bool {
    name == SERVER_NAME || name.ends_with(".stoa")
}

/// The host as it is once admitted, and the certificates that end with it.
fn admitted(
    grant: JoinGrant,
    before: Option<&Host>,
    host: &HostId,
    cert: &HostCert,
    ask: &JoinAsk,
    now_ms: TimestampMs,
) -> Result<(Host, Vec<RevokedCert>), JoinRefusal> {
    let name = host.as_str();
    let member = before.filter(|before| !matches!(before.standing, Standing::Revoked { .. }));
    match (grant, member) {
        (JoinGrant::Again, Some(member)) => {
            let mut after = member.clone();
            // Only the very certificates of this join can be asked for again, and boundedly often.
            let serial = after.current.serial.clone();
            match after.may_renew(&serial, now_ms) {
                Ok(()) => after.renewed(Cert::from(cert)),
                Err(_refusal) => return Err(used_by(name)),
            }
            Ok((after, Vec::new()))
        }
        (JoinGrant::Again, None) => Err(used_by(name)),
        (JoinGrant::FreeName, Some(_)) => Err(JoinRefusal::NameTaken { host: name.to_owned() }),
        (JoinGrant::FreeName | JoinGrant::BoundName, _) => {
            let mut after = Host::joined(Cert::from(cert), &ask.agent_version, now_ms);
            let mut revoked = Vec::new();
            if let Some(before) = before {
                after.generation = before.generation.saturating_add(1);
                revoked = before.clone().revoke(name, now_ms);
            }
            Ok((after, revoked))
        }
    }
}

fn used_by(host: &str) -> JoinRefusal {
    JoinTokenRefusal::Used { host: host.to_owned() }.into()
}

#[cfg(test)]
mod tests;

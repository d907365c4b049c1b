//! The two kinds of token: a join token lets one host become a member, an API token lets a program
//! or a person use the HTTP interface.
//!
//! Of a token only its public half and the SHA-256 of its secret are kept. The secret is 256 random
//! bits, so a plain hash is enough: there is nothing to guess. Whoever does not hold the secret
//! learns nothing, not even that the public half exists.
//!
//! These are rules and records: no clock, no file, no lock.

use std::fmt;

use serde::{Deserialize, Serialize};
use stoa_model::{Hex, HostId, JoinToken, TimestampMs, hex};

use crate::ca::sha256;
use crate::http::Scope;
use crate::state::Table;

/// Join tokens by their public half.
pub const JOIN_TOKENS: Table<JoinTokenRecord> = Table::named("join_tokens");
/// API tokens by their public half.
pub const API_TOKENS: Table<ApiTokenRecord> = Table::named("api_tokens");

/// Most tokens of a kind that are kept; more are refused until some are revoked or expire.
pub const TOKENS_MAX: usize = 1000;

/// How long a join token is good unless said otherwise, in milliseconds: an hour.
pub const JOIN_TTL_MS: TimestampMs = 3_600_000;

/// The longest a join token may be good, in milliseconds: 30 days.
pub const JOIN_TTL_MS_MAX: TimestampMs = 30 * 86_400_000;

/// How long a spent or expired join token is remembered, so that using it again is answered with
/// what happened to it rather than "not known"; in milliseconds, 30 days.
pub const JOIN_KEPT_MS: TimestampMs = 30 * 86_400_000;

/// The longest remark on an API token, in bytes.
pub const REMARK_BYTES_MAX: usize = 128;

/// What an API token's text starts with, so that one that leaked can be found by search.
const API_PREFIX: &str = "stoa_";

/// What is kept of a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRecord {
    /// SHA-256 of the secret half.
    pub secret_sha256: [u8; 32],
    /// When it was made.
    pub created_ms: TimestampMs,
    /// When it ends.
    pub expires_ms: TimestampMs,
    /// The one name it is for; any free name when `None`.
    pub host: Option<String>,
    /// What it was spent on.
    pub used: Option<JoinTokenUse>,
}

/// What a join token was spent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenUse {
    /// The host that joined.
    pub host: String,
    /// SHA-256 of that host's public key.
    pub key_sha256: [u8; 32],
    /// When.
    pub at_ms: TimestampMs,
}

/// What a join token is presented for.
#[derive(Clone, Copy, Debug)]
pub struct JoinClaim<'a> {
    /// The secret half.
    pub secret: &'a [u8],
    /// The name asked for.
    pub host: &'a HostId,
    /// SHA-256 of the public key to be certified.
    pub key_sha256: &'a [u8; 32],
}

/// What a good join token grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinGrant {
    /// A first certificate under any name that is free.
    FreeName,
    /// A first certificate under this very name, whoever held it before.
    BoundName,
    /// The certificate once more: the same key asks again because the answer was lost.
    Again,
}

/// Why a join token grants nothing. Each is one sentence, written for the person who pasted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenRefusal {
    /// Never made here, revoked, forgotten, or the secret is wrong.
    #[error(
        "the join token is not known to this collector: it was revoked, or not copied whole; make \
         a new one with: stoa token create"
    )]
    Unknown,
    /// Spent.
    #[error(
        "the join token has been used already, by host {host}; make a new one with: stoa token \
         create"
    )]
    Used {
        /// By whom.
        host: String,
    },
    /// Too late.
    #[error("the join token expired {} ago; make a new one with: stoa token create", Ago(*.by_ms))]
    Expired {
        /// How late, in milliseconds.
        by_ms: TimestampMs,
    },
    /// Made for another host.
    #[error("the join token is for host {bound}, not {asked}")]
    WrongName {
        /// For whom it is.
        bound: String,
        /// Who asked.
        asked: String,
    },
}

/// Decides about a join token. `record` is the one its public half names, if any.
///
/// # Errors
/// [`JoinTokenRefusal`].
pub fn check_join(
    record: Option<&JoinTokenRecord>,
    claim: JoinClaim<'_>,
    now_ms: TimestampMs,
) -> Result<JoinGrant, JoinTokenRefusal> {
    let Some(record) = record else { return Err(JoinTokenRefusal::Unknown) };
    if !same(&record.secret_sha256, &sha256(claim.secret)) {
        return Err(JoinTokenRefusal::Unknown);
    }
    let expired = now_ms >= record.expires_ms;
    if let Some(used) = &record.used {
        let again = used.host == claim.host.as_str() && used.key_sha256 == *claim.key_sha256;
        return if again && !expired {
            Ok(JoinGrant::Again)
        } else {
            Err(JoinTokenRefusal::Used { host: used.host.clone() })
        };
    }
    if expired {
        return Err(JoinTokenRefusal::Expired { by_ms: now_ms.saturating_sub(record.expires_ms) });
    }
    match &record.host {
        None => Ok(JoinGrant::FreeName),
        Some(bound) if bound == claim.host.as_str() => Ok(JoinGrant::BoundName),
        Some(bound) => Err(JoinTokenRefusal::WrongName {
            bound: bound.clone(),
            asked: claim.host.as_str().to_owned(),
        }),
    }
}

/// Whether a join token's record may be forgotten.
#[must_use]
pub fn forgettable(record: &JoinTokenRecord, now_ms: TimestampMs) -> bool {
    now_ms.saturating_sub(record.expires_ms) > JOIN_KEPT_MS
}

/// Makes a join token, and what to keep of it.
#[must_use]
pub fn make_join(
    ca_sha256: [u8; 32],
    host: Option<&HostId>,
    ttl_ms: TimestampMs,
    now_ms: TimestampMs,
) -> (JoinToken, JoinTokenRecord) {
    let token = JoinToken { ca_sha256, id: random_id(), secret: rand::random() };
    let record = JoinTokenRecord {
        secret_sha256: sha256(&token.secret),
        created_ms: now_ms,
        expires_ms: now_ms.saturating_add(ttl_ms.clamp(0, JOIN_TTL_MS_MAX)),
        host: host.map(|host| host.as_str().to_owned()),
        used: None,
    };
    (token, record)
}

/// What is kept of an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiTokenRecord {
    /// SHA-256 of the secret half.
    pub secret_sha256: [u8; 32],
    /// What its holder may do.
    pub scope: Scope,
    /// What it is for, in its maker's words; at most [`REMARK_BYTES_MAX`] bytes.
    pub remark: String,
    /// When it was made.
    pub created_ms: TimestampMs,
    /// When it ends; never when `None`.
    pub expires_ms: Option<TimestampMs>,
}

/// An API token: `stoa_<id>_<secret>`, both parts hex. `Debug` leaves the secret out.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// The public half.
    pub id: String,
    secret: [u8; 32],
}

impl ApiToken {
    /// Makes one, and what to keep of it.
    #[must_use]
    pub fn make(
        scope: Scope,
        remark: &str,
        ttl_ms: Option<TimestampMs>,
        now_ms: TimestampMs,
    ) -> (Self, ApiTokenRecord) {
        let token = Self { id: random_id(), secret: rand::random() };
        let record = ApiTokenRecord {
            secret_sha256: sha256(&token.secret),
            scope,
            remark: remark.to_owned(),
            created_ms: now_ms,
            expires_ms: ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms)),
        };
        (token, record)
    }

    /// Reads a token; `None` when the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(API_PREFIX)?.split_once('_')?;
        let id: [u8; 8] = hex::parse(id)?;
        Some(Self { id: Hex(&id).to_string(), secret: hex::parse(secret)? })
    }

    /// Whether it is the token of this record, and alive.
    #[must_use]
    pub fn is_good(&self, record: &ApiTokenRecord, now_ms: TimestampMs) -> bool {
        same(&record.secret_sha256, &sha256(&self.secret))
            && record.expires_ms.is_none_or(|end| now_ms < end)
    }
}

impl fmt::Display for ApiToken {
    /// The token, secret and all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{API_PREFIX}{}_{}", self.id, Hex(&self.secret))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}, secret left out)", self.id)
    }
}

/// A span of time as a person says it: `90 s`, `5 min`, `3 h`, `2 d`.
struct Ago(TimestampMs);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            ..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            7200..172_800 => write!(f, "{} h", seconds / 3600),
            172_800.. => write!(f, "{} d", seconds / 86_400),
        }
    }
}

fn random_id() -> String {
    Hex(&rand::random::<[u8; 8]>()).to_string()
}

/// Compares without stopping at the first difference.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const OTHER_KEY: [u8; 32] = [2; 32];

    #[test]
    fn a_join_token_is_good_once_in_time_and_for_its_name() {
        let (pve1, pve2) = (HostId::parse("pve1").unwrap(), HostId::parse("pve2").unwrap());
        let (token, free) = make_join([0; 32], None, 1000, 5000);
        let bound = JoinTokenRecord { host: Some("pve1".to_owned()), ..free.clone() };
        let used = |record: &JoinTokenRecord| JoinTokenRecord {
            used: Some(JoinTokenUse { host: "pve1".to_owned(), key_sha256: KEY, at_ms: 5500 }),
            ..record.clone()
        };
        let spent = JoinTokenRefusal::Used { host: "pve1".to_owned() };
        let wrong = JoinTokenRefusal::WrongName { bound: "pve1".into(), asked: "pve2".into() };
        let late = JoinTokenRefusal::Expired { by_ms: 0 };
        let check = |record: &JoinTokenRecord, host, key, now_ms, expected| {
            let claim = JoinClaim { secret: &token.secret, host, key_sha256: key };
            assert_eq!(check_join(Some(record), claim, now_ms), expected, "{record:?} {now_ms}");
        };
        check(&free, &pve1, &KEY, 5000, Ok(JoinGrant::FreeName));
        check(&free, &pve2, &KEY, 5999, Ok(JoinGrant::FreeName));
        check(&free, &pve1, &KEY, 6000, Err(late.clone()));
        check(&bound, &pve1, &KEY, 5999, Ok(JoinGrant::BoundName));
        check(&bound, &pve2, &KEY, 5999, Err(wrong));
        check(&bound, &pve2, &KEY, 6000, Err(late));
        check(&used(&free), &pve1, &KEY, 5999, Ok(JoinGrant::Again));
        check(&used(&free), &pve1, &KEY, 6000, Err(spent.clone()));
        check(&used(&free), &pve1, &OTHER_KEY, 5999, Err(spent.clone()));
        check(&used(&free), &pve2, &KEY, 5999, Err(spent));

        let mut wrong_secret = token.secret;
        wrong_secret[31] ^= 1;
        for record in [&free, &bound, &used(&free)] {
            for secret in [&wrong_secret[..], &[], &token.secret[..31]] {
                let claim = JoinClaim { secret, host: &pve1, key_sha256: &KEY };
                let refused = check_join(Some(record), claim, 5000);
                assert_eq!(refused, Err(JoinTokenRefusal::Unknown));
            }
        }
        let claim = JoinClaim { secret: &token.secret, host: &pve1, key_sha256: &KEY };
        assert_eq!(check_join(None, claim, 5000), Err(JoinTokenRefusal::Unknown));
        assert!(!forgettable(&free, 6000) && forgettable(&free, 6001 + JOIN_KEPT_MS));
    }

    #[test]
    fn an_api_token_reads_back_and_dies_on_time() {
        let (token, record) = ApiToken::make(Scope::Read, "grafana", Some(100), 50);
        let text = token.to_string();
        assert_eq!(ApiToken::parse(&text), Some(token.clone()));
        assert!(token.is_good(&record, 149) && !token.is_good(&record, 150));
        let (other, forever) = ApiToken::make(Scope::Read, "", None, 50);
        assert!(other.is_good(&forever, TimestampMs::MAX) && !token.is_good(&forever, 60));
        assert!(!format!("{token:?}").contains(text.rsplit('_').next().unwrap()));
        let short = text.get(..text.len() - 1).unwrap();
        for bad in ["", "stoa_", "stoa_x_y", short, &text.replace("stoa", "s")] {
            assert_eq!(ApiToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_said_shortly() {
        let check = |ms, text: &str| assert_eq!(Ago(ms).to_string(), text);
        check(0, "0 s");
        check(119_999, "119 s");
        check(120_000, "2 min");
        check(7_200_000, "2 h");
        check(172_800_000, "2 d");
    }
}

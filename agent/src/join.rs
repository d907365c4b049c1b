//! `stoa-agent join`: trades a join token for this host's certificate.
//!
//! The key is made here and stays here. The collector is believed by the token alone: its CA must
//! hash to what the token says, and only then is the secret sent. The key is on disk before it is
//! used, so that asking again after a lost answer is the same asking.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest;
use rustls_pki_types::CertificateDer;
use stoa_model::{HostId, JoinToken, JoinTokenError};
use stoa_proto::v1::JoinRequest;
use stoa_proto::v1::enroll_client::EnrollClient;
use stoa_transport::{DialError, Refused, join_channel};
use tonic::{Code, Status};

use crate::advice::{advice, is_people_port};
use crate::identity::{self, Identity, IdentityError};

/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// What a person types.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// The join token that `stoa token create` printed
    #[arg(value_name = "TOKEN")]
    pub token: String,
    /// The collector's address [default: as configured]
    #[arg(long, value_name = "HOST:PORT")]
    pub collector: Option<String>,
    /// The name to join under [default: this host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the identity is kept [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Why this host did not join. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is no token.
    #[error(transparent)]
    Malformed(#[from] JoinTokenError),
    /// The collector is not the one the token is from.
    #[error(
        "the join token is from another collector than the one at {collector}: its CA is not the \
         one the token names"
    )]
    Foreign {
        /// The address asked.
        collector: String,
    },
    /// The collector said no, and why.
    #[error("{sentence}")]
    Refused {
        /// Its words.
        sentence: String,
    },
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] stoa_model::host::HostIdError),
    /// No answer that could be used. May pass.
    #[error("join the collector at {collector}: {why}")]
    NoAnswer {
        /// The address asked.
        collector: String,
        /// What happened.
        why: String,
    },
    /// There is no connection. May pass.
    #[error("reach the collector at {collector}")]
    Dial {
        /// The address asked.
        collector: String,
        /// Why not.
        source: DialError,
    },
    /// The port is another service's: as a rule the collector's own for people.
    #[error("reach the collector at {collector}: {advice}")]
    Port {
        /// The address asked.
        collector: String,
        /// Which to use.
        advice: String,
        /// Why not.
        source: DialError,
    },
    /// The answer does not fit the question.
    #[error("the collector's answer cannot be used: {0}")]
    Answer(&'static str),
    /// The identity could not be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// Whether only the person who typed it can mend it (exit code 2): a token that is used,
    /// expired, malformed or foreign, a name that cannot be.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::Foreign { .. }
            | Self::Refused { .. }
            | Self::Name(_)
            | Self::Port { .. } => true,
            Self::NoAnswer { .. } | Self::Dial { .. } | Self::Answer(_) | Self::Identity(_) => {
                false
            }
        }
    }
}

/// Joins: asks the collector at `collector` (`host:port`) for a certificate under `name`, and writes
/// the identity below `dir`.
///
/// # Errors
/// [`JoinError`]; nothing is replaced then.
pub async fn join(
    token: &str,
    collector: &str,
    name: &str,
    dir: &Path,
) -> Result<Identity, JoinError> {
    let token: JoinToken = token.parse()?;
    let name = HostId::parse(name)?;
    let key = identity::join_key(dir)?;
    let request = JoinRequest {
        token_id: token.id.clone(),
        token_secret: token.secret.to_vec().into(),
        csr_der: identity::request_for(&key)?.into(),
        host_name: name.as_str().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let channel = join_channel(collector, token.ca_sha256).await.map_err(|error| match error {
        DialError::Listener { reason: Refused::UnknownCa, .. } if !is_people_port(collector) => {
            JoinError::Foreign { collector: collector.to_owned() }
        }
        source => dial_error(collector, source),
    })?;
    let mut client = EnrollClient::new(channel);
    let no_answer = |why: String| JoinError::NoAnswer { collector: collector.to_owned(), why };
    let reply = match tokio::time::timeout(ANSWER, client.join(request)).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) if is_verdict(&status) => {
            return Err(JoinError::Refused { sentence: printable(status.message()) });
        }
        Ok(Err(status)) => return Err(no_answer(printable(status.message()))),
        Err(_elapsed) => return Err(no_answer(format!("no answer within {} s", ANSWER.as_secs()))),
    };
    if digest::digest(&digest::SHA256, &reply.ca_der).as_ref() != token.ca_sha256 {
        return Err(JoinError::Answer("its CA is not the one the token names"));
    }
    let Some(cert) = reply.chain_der.first() else {
        return Err(JoinError::Answer("it holds no certificate"));
    };
    let cert = CertificateDer::from(cert.to_vec());
    let roots = vec![CertificateDer::from(reply.ca_der.to_vec())];
    let identity = Identity::new(&key, cert, roots).map_err(JoinError::Answer)?;
    if identity.host != name {
        return Err(JoinError::Answer("its certificate is for another name"));
    }
    identity.store(dir, Some(collector))?;
    Ok(identity)
}

/// A dial that failed; with what to do when the port is not one for agents.
fn dial_error(collector: &str, source: DialError) -> JoinError {
    let (collector, not_tls) = (collector.to_owned(), matches!(source, DialError::NotTls { .. }));
    match advice(&source, &collector) {
        Some(advice) if not_tls || is_people_port(&collector) => {
            JoinError::Port { collector, advice, source }
        }
        _ => JoinError::Dial { collector, source },
    }
}

/// This host's own name, as the kernel knows it.
#[must_use]
pub fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()
}

/// Whether the collector has judged, so that asking again only repeats it.
fn is_verdict(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated
            | Code::AlreadyExists
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::FailedPrecondition
    )
}

/// A text from elsewhere, with nothing in it that could move a terminal's cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_needs_no_network_is_said_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let good =
            JoinToken { ca_sha256: [1; 32], id: "00".repeat(8), secret: [2; 32] }.to_string();
        for (token, name, words) in [
            ("hello", "pve1", "the join token is malformed: it does not start with STOA1."),
            ("STOA1.00", "pve1", "the join token is malformed: it has not the four parts"),
            (good.as_str(), "a b", "host name \"a b\" is not valid"),
        ] {
            let error = join(token, "127.0.0.1:1", name, dir.path()).await.unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
            assert!(error.is_misuse());
        }
        // Nobody there: no misuse, and the key waits for the next attempt.
        let error = join(&good, "127.0.0.1:1", "pve1", dir.path()).await.unwrap_err();
        assert!(matches!(error, JoinError::Dial { .. }) && !error.is_misuse(), "{error}");
        assert!(dir.path().join("join.key").exists());
        assert!(HostId::parse(&own_name()).is_ok());
    }
}

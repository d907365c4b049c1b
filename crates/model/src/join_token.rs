//! The text that lets one host become a member.

use std::fmt;
use std::str::FromStr;

use crate::hex::{self, Hex};

/// What every join token starts with; the number is the format's.
const PREFIX: &str = "STOA1";

/// Bytes of the public half.
pub const JOIN_TOKEN_ID_BYTES: usize = 8;

/// Bytes of the secret half, random.
pub const JOIN_TOKEN_SECRET_BYTES: usize = 32;

/// A join token: which collector, which token, and the secret.
///
/// Written `STOA1.<ca>.<id>.<secret>`, each part hex: the SHA-256 of the collector's CA certificate
/// (DER; what `openssl x509 -fingerprint -sha256` prints), 8 bytes that name the token, 32 random
/// bytes. The host checks the CA before it sends the secret; the collector keeps only a hash of it.
///
/// `Debug` leaves the secret out; [`Display`](fmt::Display) is the token, secret and all.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the collector's CA certificate, DER.
    pub ca_sha256: [u8; 32],
    /// The public half, as lower case hex.
    pub id: String,
    /// The secret half.
    pub secret: [u8; JOIN_TOKEN_SECRET_BYTES],
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It does not start with `STOA1.`.
    #[error("the join token is malformed: it does not start with STOA1.")]
    Prefix,
    /// It has not four parts.
    #[error("the join token is malformed: it has not the four parts STOA1.<ca>.<id>.<secret>")]
    Parts,
    /// A part is not hex of its length: cut short, or mistyped.
    #[error("the join token is malformed: its {part} part is not {chars} hex digits")]
    Hex {
        /// Which part.
        part: &'static str,
        /// How long it must be.
        chars: usize,
    },
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    /// Parses a token; white space around it is ignored, upper case folded.
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let Some(rest) = text.trim().strip_prefix(PREFIX).and_then(|r| r.strip_prefix('.')) else {
            return Err(JoinTokenError::Prefix);
        };
        let mut parts = rest.split('.');
        let (Some(ca), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JoinTokenError::Parts);
        };
        let id: [u8; JOIN_TOKEN_ID_BYTES] = part("id", id)?;
        Ok(Self {
            ca_sha256: part("ca", ca)?,
            id: Hex(&id).to_string(),
            secret: part("secret", secret)?,
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", Hex(&self.ca_sha256), self.id, Hex(&self.secret))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, secret left out)", self.id)
    }
}

fn part<const N: usize>(part: &'static str, text: &str) -> Result<[u8; N], JoinTokenError> {
    hex::parse(text).ok_or(JoinTokenError::Hex { part, chars: 2 * N })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { ca_sha256: [0xab; 32], id: "0123456789abcdef".to_owned(), secret: [7; 32] }
    }

    #[test]
    fn a_token_reads_back_as_written() {
        let text = token().to_string();
        assert_eq!(text, format!("STOA1.{}.0123456789abcdef.{}", "ab".repeat(32), "07".repeat(32)));
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        let upper = text.replace("ab", "AB").replace("0123456789abcdef", "0123456789ABCDEF");
        assert_eq!(upper.parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("0707"));
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        let check = |text: &str, error: JoinTokenError| {
            assert_eq!(text.parse::<JoinToken>(), Err(error), "{text}");
        };
        let good = token().to_string();
        check("", JoinTokenError::Prefix);
        check("hello", JoinTokenError::Prefix);
        check("STOA1", JoinTokenError::Prefix);
        check(&good.replace("STOA1", "STOA2"), JoinTokenError::Prefix);
        check("STOA1.ab", JoinTokenError::Parts);
        check(&format!("{good}.x"), JoinTokenError::Parts);
        check(
            good.get(..good.len() - 1).unwrap(),
            JoinTokenError::Hex { part: "secret", chars: 64 },
        );
        check(&good.replace(".01", ".0g"), JoinTokenError::Hex { part: "id", chars: 16 });
        check(&good.replace("STOA1.a", "STOA1.é"), JoinTokenError::Hex { part: "ca", chars: 64 });
    }
}

//! What a server wants to see. A secret is never printed.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use tokio::io::AsyncReadExt as _;

use super::WebError;

/// The largest file a secret is read from.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// The file that holds it, read for each request; white space around it is left out.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl Secret {
    async fn read(&self) -> Result<String, WebError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let wrong =
            |error: std::io::Error| WebError::File { path: path.clone(), wrong: error.to_string() };
        let file = tokio::fs::File::open(path).await.map_err(wrong)?;
        let mut text = String::new();
        file.take(SECRET_BYTES_MAX).read_to_string(&mut text).await.map_err(wrong)?;
        Ok(text.trim().to_owned())
    }
}

/// How a caller shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// HTTP basic authentication.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An `Authorization` header of two words.
    Header {
        /// The first: `Bearer`, `PVEAPIToken`.
        kind: String,
        /// What follows.
        credentials: Secret,
    },
}

impl Credential {
    /// `Authorization: Bearer …`
    #[must_use]
    pub fn bearer(token: Secret) -> Self {
        Self::Header { kind: "Bearer".to_owned(), credentials: token }
    }

    /// The value of the header `Authorization`.
    ///
    /// # Errors
    /// [`WebError::File`] when the secret cannot be read, [`WebError::Setup`] when it cannot stand in a
    /// header.
    pub async fn header(&self) -> Result<HeaderValue, WebError> {
        let text = match self {
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.read().await?);
                format!("Basic {}", STANDARD.encode(pair))
            }
            Self::Header { kind, credentials } => format!("{kind} {}", credentials.read().await?),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_unsaid| WebError::Setup {
            wrong: "the credentials cannot stand in a header".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

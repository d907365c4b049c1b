//! The collector's HTTP API as the command line uses it.
//!
//! One [`Client`] per command: it knows the address, the credential and the certificate to trust,
//! and turns every way of not getting an answer into one sentence.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Certificate, StatusCode, Url};
use serde::Deserialize;
use stoa_daemon::Misuse;

use crate::local;

/// Where a collector answers unless told otherwise.
pub(crate) const SERVER_DEFAULT: &str = "http://127.0.0.1:7480";

/// Holds the collector's address when `--server` does not.
const SERVER_ENV: &str = "STOA_SERVER";

/// Holds the token when neither `--token` nor `--token-file` does.
const TOKEN_ENV: &str = "STOA_TOKEN";

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an import, or work on the whole store, may take in all: a day's worth of reading a slow disk.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// How long an answer may take in all: the longest query the collector runs, and then some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// The collector to talk to, and as whom; part of every command that talks to one.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerArgs {
    /// The collector's address.
    #[arg(
        long,
        value_name = "URL",
        help = "The collector's address [default: $STOA_SERVER, else http://127.0.0.1:7480]"
    )]
    pub(crate) server: Option<String>,
    /// A token, in sight of everyone who can list processes.
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with = "token_file",
        help = "A token for it; shows in the process list, so prefer --token-file or $STOA_TOKEN \
                [default: the admin token of a collector on this machine, for https on loopback]"
    )]
    pub(crate) token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The only certificate authority to trust, PEM (the collector's own is DATA-DIR/ca/ca.pem)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// A connection to one collector.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there, or the network or TLS is in the way.
    #[error("no collector answers at {server}: {why} ({hint})")]
    Unreachable {
        /// The address tried.
        server: Url,
        /// What the network said.
        why: String,
        /// What may be done.
        hint: &'static str,
    },
    /// The question makes no sense to the collector; its words.
    #[error("{0}")]
    Question(String),
    /// The answer stopped half way, or took too long.
    #[error("read the answer of {server}")]
    Cut {
        /// The address asked.
        server: Url,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// A credential is missing, unknown, or may not do this.
    #[error("{server} refuses: {reason} (give a token with --token-file or $STOA_TOKEN)")]
    Forbidden {
        /// The address asked.
        server: Url,
        /// What it said.
        reason: String,
    },
    /// The collector understood and said no; its words.
    #[error("{0}")]
    Refused(String),
    /// Something else answers there.
    #[error("{server} answers {status}, but not as a collector does")]
    Foreign {
        /// The address asked.
        server: Url,
        /// The status it answered.
        status: StatusCode,
    },
}

impl Client {
    /// Reads files and environment the arguments point at; connects to nothing yet.
    ///
    /// # Errors
    /// [`Misuse`] (in the chain) on an address, token or certificate that cannot be used.
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let address = args.server.clone().or_else(|| std::env::var(SERVER_ENV).ok());
        let server = parse_server(address.as_deref().unwrap_or(SERVER_DEFAULT))?;
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => std::env::var(TOKEN_ENV).ok(),
        };
        let mut ca = args.ca.clone();
        let token = match token {
            None if local::is_local_tls(&server) => local::collector().map(|collector| {
                ca.get_or_insert(collector.ca);
                collector.token
            }),
            token => token,
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());

        // fails only when a provider is there already, which serves as well
        let _already = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &ca {
            let pem = read(path)?;
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .ok()
                .filter(|list| !list.is_empty())
                .ok_or_else(|| Misuse(format!("{} holds no PEM certificate", path.display())))?;
            builder = builder.tls_certs_only(certificates);
        } else if server.scheme() == "http" {
            // A small host may have no authorities installed, and here none is asked.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            let hint = "prepare to ask over TLS; install ca-certificates, or give --ca FILE";
            anyhow::Error::new(error).context(hint)
        })?;
        Ok(Self { http, server, token })
    }

    /// Asks a Prometheus route by POST with a form.
    ///
    /// # Errors
    /// [`ClientError`]; an error the collector names is [`ClientError::Refused`].
    pub(crate) async fn prometheus(
        &self,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<Answer, ClientError> {
        let (status, text) = self.send(self.http.post(self.url(path)).form(form)).await?;
        let foreign = || ClientError::Foreign { server: self.server.clone(), status };
        let envelope: Envelope = serde_json::from_str(&text).map_err(|_not_ours| foreign())?;
        match (envelope.status.as_str(), envelope.error) {
            ("success", _) => {
                Ok(Answer { text, warnings: envelope.warnings, infos: envelope.infos })
            }
            ("error", Some(error)) if status == StatusCode::BAD_REQUEST => {
                Err(ClientError::Question(error))
            }
            ("error", Some(error)) => Err(ClientError::Refused(error)),
            _ => Err(foreign()),
        }
    }

    /// Asks a Prometheus route that answers with a list of names, below `/api/v1`, each of `path` one
    /// segment.
    ///
    /// # Errors
    /// [`ClientError`]; an error the collector names is [`ClientError::Refused`].
    pub(crate) async fn names(
        &self,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> Result<Vec<String>, ClientError> {
        let mut url = self.url("/api/v1");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let (status, text) = self.send(self.http.get(url).query(parameters)).await?;
        match serde_json::from_str::<NamesOrError>(&text) {
            Ok(NamesOrError { data: Some(names), .. }) => Ok(names),
            Ok(NamesOrError { error: Some(error), .. }) => Err(ClientError::Refused(error)),
            _ => Err(ClientError::Foreign { server: self.server.clone(), status }),
        }
    }

    /// Asks the collector's own API, below `/stoa/api/v1`, each of `path` one segment; the answer's
    /// text, which is JSON.
    ///
    /// # Errors
    /// [`ClientError`]; with [`Misuse`] in the chain when the collector understood and said no.
    pub(crate) async fn own(
        &self,
        method: reqwest::Method,
        path: &[&str],
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<String> {
        self.own_of(method, path, &[], body).await
    }

    /// The same with parameters in the address.
    ///
    /// # Errors
    /// As [`Self::own`].
    pub(crate) async fn own_of(
        &self,
        method: reqwest::Method,
        path: &[&str],
        parameters: &[(&str, String)],
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<String> {
        let mut url = self.url("/stoa/api/v1");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let mut request = self.http.request(method, url).query(parameters);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let (status, text) = self.send(request).await?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<OwnError>(&text) {
            Ok(OwnError { error }) if status.is_client_error() => {
                Err(Misuse(crate::table::printable(&error)).into())
            }
            Ok(OwnError { error }) => Err(ClientError::Refused(error).into()),
            Err(_not_ours) => {
                Err(ClientError::Foreign { server: self.server.clone(), status }.into())
            }
        }
    }

    /// Sends history to be stored; the answer's text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn import(
        &self,
        parameters: &[(&str, String)],
        content_type: &str,
        is_gzip: bool,
        body: reqwest::Body,
    ) -> Result<String, ClientError> {
        let mut request = self
            .http
            .post(self.url("/api/v1/import/prometheus"))
            .query(parameters)
            .header("content-type", content_type)
            .timeout(IMPORT_TIMEOUT)
            .body(body);
        if is_gzip {
            request = request.header("content-encoding", "gzip");
        }
        let (status, text) = self.send(request).await?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<OwnError>(&text) {
            Ok(OwnError { error }) => Err(ClientError::Refused(crate::table::printable(&error))),
            Err(_not_ours) => Err(ClientError::Foreign { server: self.server.clone(), status }),
        }
    }

    /// Asks for something of Prometheus's admin API, which may take long; the answer's text, empty
    /// where there is nothing to say.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn admin(
        &self,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<String, ClientError> {
        let request = self.http.post(self.url(path)).form(form).timeout(IMPORT_TIMEOUT);
        let (status, text) = self.send(request).await?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<OwnError>(&text) {
            Ok(OwnError { error }) if status == StatusCode::BAD_REQUEST => {
                Err(ClientError::Question(crate::table::printable(&error)))
            }
            Ok(OwnError { error }) => Err(ClientError::Refused(crate::table::printable(&error))),
            Err(_not_ours) => Err(ClientError::Foreign { server: self.server.clone(), status }),
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.server.clone();
        url.set_path(&format!("{}{path}", self.server.path().trim_end_matches('/')));
        url
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, String), ClientError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let server = || self.server.clone();
        let response = request.send().await.map_err(|source| match source.is_timeout() {
            true if !source.is_connect() => ClientError::Cut { server: server(), source },
            _ => unreachable(server(), &source),
        })?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|source| ClientError::Cut { server: server(), source })?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let reason = match serde_json::from_str::<OwnError>(&text) {
                Ok(OwnError { error }) => error,
                Err(_) => status.to_string(),
            };
            return Err(ClientError::Forbidden { server: server(), reason });
        }
        Ok((status, text))
    }
}

/// A Prometheus route's answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The body as it came.
    pub(crate) text: String,
    /// The answer may be wrong or incomplete, because.
    pub(crate) warnings: Vec<String>,
    /// The question may not mean what was meant, because.
    pub(crate) infos: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
struct NamesOrError {
    data: Option<Vec<String>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct OwnError {
    error: String,
}

/// The innermost cause says it best; the layers above it only repeat the address.
fn unreachable(server: Url, error: &reqwest::Error) -> ClientError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let why = cause.to_string();
    let hint = if why.contains("UnknownIssuer") {
        "trust its CA with --ca DATA-DIR/ca/ca.pem"
    } else if why.contains("invalid HTTP version") {
        "if it speaks TLS, say --server https://…"
    } else if why.contains("InvalidContentType") {
        "if it does not speak TLS, say --server http://…"
    } else {
        "is it running? `stoa up` starts one"
    };
    ClientError::Unreachable { server, why, hint }
}

fn parse_server(text: &str) -> Result<Url, Misuse> {
    let misuse = |why: &str| Misuse(format!("server address {text:?}: {why}"));
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| misuse(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(misuse("not http://HOST:PORT or https://HOST:PORT")),
    }
}

fn read(path: &std::path::Path) -> Result<String, Misuse> {
    std::fs::read_to_string(path)
        .map_err(|error| Misuse(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn an_address_is_a_url_or_a_host_and_port() {
        for (text, want) in [
            ("127.0.0.1:7480", Some("http://127.0.0.1:7480/")),
            ("https://stoa.lan", Some("https://stoa.lan/")),
            ("http://h/prefix", Some("http://h/prefix")),
            ("ftp://h", None),
            ("http://", None),
            ("", None),
        ] {
            assert_eq!(parse_server(text).ok().map(String::from).as_deref(), want, "{text:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_one_sentence() {
        let args = ServerArgs { server: Some("127.0.0.1:1".to_owned()), ..ServerArgs::default() };
        let client = Client::new(&args).unwrap();
        let error = client.prometheus("/api/v1/query", &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no collector answers at http://127.0.0.1:1/: Connection refused (os error 111) \
             (is it running? `stoa up` starts one)"
        );
    }

    #[tokio::test]
    async fn a_server_without_tls_is_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Some(format!("https://{}", listener.local_addr().unwrap()));
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 4096];
            let read = stream.read(&mut hello).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            read
        });
        let token = Some("t".to_owned());
        let client = Client::new(&ServerArgs { server, token, ..ServerArgs::default() }).unwrap();
        let error = client.prometheus("/api/v1/query", &[]).await.unwrap_err().to_string();
        assert!(error.ends_with("(if it does not speak TLS, say --server http://…)"), "{error}");
        assert!(serving.await.unwrap() > 0);
    }

    #[test]
    fn a_bad_token_file_or_certificate_is_misuse() {
        let absent = Some(PathBuf::from("/nonexistent/token"));
        for args in [
            ServerArgs { token_file: absent.clone(), ..ServerArgs::default() },
            ServerArgs { ca: absent, ..ServerArgs::default() },
            ServerArgs { ca: Some("/proc/self/cmdline".into()), ..ServerArgs::default() },
        ] {
            assert!(Client::new(&args).unwrap_err().is::<Misuse>(), "{args:?}");
        }
    }

    /// What a client makes of one canned answer.
    async fn asked(status: &str, body: &str) -> Result<String, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let args = ServerArgs {
            server: Some(server.clone()),
            token: Some(" secret\n".to_owned()),
            ..ServerArgs::default()
        };
        let client = Client::new(&args).unwrap();
        let form = [("query", "a+b c".to_owned())];
        let answer = client.prometheus("/api/v1/query", &form).await;
        let request = serving.await.unwrap();
        assert!(request.starts_with("POST /api/v1/query HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
        let error = |error: ClientError| error.to_string().replace(&server, "SERVER");
        answer.map(|answer| answer.warnings.join(",")).map_err(error)
    }

    #[tokio::test]
    async fn every_answer_is_understood_or_one_sentence() {
        let login = "(give a token with --token-file or $STOA_TOKEN)";
        for (status, body, want) in [
            ("200 OK", r#"{"status":"success","data":{},"warnings":["w"]}"#, Ok("w".to_owned())),
            (
                "400 Bad Request",
                r#"{"status":"error","errorType":"bad_data","error":"no such function"}"#,
                Err("no such function".to_owned()),
            ),
            (
                "422 Unprocessable Entity",
                r#"{"status":"error","errorType":"execution","error":"too many samples"}"#,
                Err("too many samples".to_owned()),
            ),
            (
                "403 Forbidden",
                r#"{"error":"the token may not read"}"#,
                Err(format!("SERVER refuses: the token may not read {login}")),
            ),
            ("401 Unauthorized", "", Err(format!("SERVER refuses: 401 Unauthorized {login}"))),
            (
                "200 OK",
                "<html>",
                Err("SERVER answers 200 OK, but not as a collector does".to_owned()),
            ),
            (
                "302 Found",
                "",
                Err("SERVER answers 302 Found, but not as a collector does".to_owned()),
            ),
        ] {
            assert_eq!(asked(status, body).await, want, "{status} {body}");
        }
    }
}

//! The ports that speak HTTP: one for people and Grafana, and those for OTLP that are asked for. All keep
//! the same rules of access; each has its own address, and so its own certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::clock::Clock;
use crate::config::HttpConfig;
use crate::http::access::{Access, AccessConfig};
use crate::http::serve::Places;
use crate::http::tls::{self, CertSource, HttpTls};
use crate::http::{Routes, serve};
use crate::members::Members;

/// A port that is listened on and not served yet.
pub(super) struct Port {
    listener: TcpListener,
    /// Where it is.
    pub(super) addr: SocketAddr,
    pub(super) access: Arc<Access>,
    pub(super) tls: Option<Arc<HttpTls>>,
}

impl Port {
    /// Listens at what the configuration's `key` says.
    pub(super) async fn bind(
        key: &'static str,
        addr: SocketAddr,
        config: &HttpConfig,
        members: &Arc<Members>,
        clock: &Clock,
    ) -> Result<Self, StartError> {
        let refused = |source| StartError::Http { key, addr, source };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let rules = AccessConfig { bind: addr, ..AccessConfig::from_config(config) };
        let tls = if rules.needs_tls() {
            let source = match &config.tls {
                Some(files) => {
                    CertSource::Files { cert: files.cert.clone(), key: files.key.clone() }
                }
                None => CertSource::own(addr.ip(), &config.host_names),
            };
            Some(Arc::new(HttpTls::new(source, members.ca(), clock())?))
        } else {
            None
        };
        let access = Access::new(rules, {
            let (members, clock) = (Arc::clone(members), Arc::clone(clock));
            Box::new(move |text| members.principal(text, clock()))
        });
        Ok(Self { listener, addr: bound, access, tls })
    }

    /// Serves until `stop`; what does it is added to `tasks`.
    pub(super) fn serve(
        self,
        table: Routes,
        places: &Arc<Places>,
        (members, clock): (&Arc<Members>, &Clock),
        stop: &CancellationToken,
        tasks: &mut Vec<JoinHandle<()>>,
    ) {
        let Self { listener, access, tls, .. } = self;
        let router = table.into_router((), access);
        let places = Arc::clone(places);
        tasks.push(tokio::spawn(serve(listener, router, tls.clone(), places, stop.clone())));
        if let Some(tls) = tls {
            let (members, clock) = (Arc::clone(members), Arc::clone(clock));
            tasks.push(tokio::spawn(tls::keep(tls, members, clock, stop.clone())));
        }
    }
}

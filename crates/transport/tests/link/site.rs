//! A CA, the certificates it gives, and a listener with the echo service behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stoa_transport::{
    ClientCredentials, DialConfig, Dialer, Drained, Listener, ListenerConfig, ResetKeys,
    SERVER_NAME, ServerCredentials, server,
};
use tokio::task::JoinHandle;

use crate::echo::EchoServer;

pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn issue(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        years: (i32, i32),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    pub(crate) fn server(&self) -> ServerCredentials {
        self.server_named(SERVER_NAME, (2020, 2120))
    }

    pub(crate) fn server_named(&self, name: &str, years: (i32, i32)) -> ServerCredentials {
        let (leaf, key) = self.issue(&[name], ExtendedKeyUsagePurpose::ServerAuth, years);
        ServerCredentials {
            chain: vec![leaf, self.der.clone()],
            key,
            client_roots: vec![self.der.clone()],
        }
    }

    pub(crate) fn client(&self, host: &str) -> ClientCredentials {
        self.client_with(&[host], (2020, 2120), self)
    }

    /// A client that this CA certifies, and that believes `believes`.
    pub(crate) fn client_with(
        &self,
        names: &[&str],
        years: (i32, i32),
        believes: &Self,
    ) -> ClientCredentials {
        let (leaf, key) = self.issue(names, ExtendedKeyUsagePurpose::ClientAuth, years);
        ClientCredentials { chain: vec![leaf], key, roots: vec![believes.der.clone()] }
    }

    pub(crate) fn dialer(&self, addr: SocketAddr, host: &str) -> Dialer {
        Dialer::new(patient(DialConfig::new(addr.to_string(), self.client(host)))).unwrap()
    }
}

/// Quic gets more time than in life: the machine that runs the tests may be busy.
pub(crate) fn patient(config: DialConfig) -> DialConfig {
    DialConfig {
        quic_handshake: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(10),
        ..config
    }
}

/// A listener and its gRPC server.
pub(crate) struct Site {
    pub(crate) listener: Arc<Listener>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Site {
    pub(crate) fn start(ca: &Ca) -> Self {
        Self::with(ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap()))
    }

    pub(crate) fn with(config: ListenerConfig) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), config)
    }

    pub(crate) fn at(addr: SocketAddr, config: ListenerConfig) -> Self {
        let (listener, incoming) = Listener::bind(addr, config).unwrap();
        let serving = tokio::spawn(
            server()
                .add_service(EchoServer)
                .serve_with_incoming_shutdown(incoming, std::future::pending()),
        );
        Self { listener: Arc::new(listener), serving }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Drains, and waits for the gRPC server to end by that.
    pub(crate) async fn drain(self, grace: Duration) -> Drained {
        let drained = self.listener.drain(grace).await;
        self.serving.await.unwrap().unwrap();
        drained
    }
}

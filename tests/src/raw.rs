//! A sender with a valid certificate and no manners: bytes as they come, and a session held open to
//! send frames of its own making.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use stoa_agent::identity::Identity;
use stoa_proto::v1;
use stoa_transport::{Class, Connection, DialConfig, Dialer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tower::ServiceExt as _;

use crate::sandbox::Sandbox;

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    /// gRPC's status code, as on the wire.
    pub code: i32,
    /// Its words.
    pub message: String,
    /// The body's bytes: messages that came before the end.
    pub body: Bytes,
}

/// A message with gRPC's prefix.
#[must_use]
pub fn grpc(message: &[u8]) -> Vec<u8> {
    prefixed(0, u32::try_from(message.len()).unwrap(), message)
}

/// The same for a message of the wire's.
#[must_use]
pub fn grpc_of(message: &impl Message) -> Vec<u8> {
    grpc(&message.encode_to_vec())
}

/// A prefix that may lie, and bytes.
#[must_use]
pub fn prefixed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(length);
    bytes.put_slice(message);
    bytes.to_vec()
}

/// A connection of the host's.
pub async fn connect(sandbox: &Sandbox, who: &Identity) -> Connection {
    let config = DialConfig::new(sandbox.address(), who.credentials());
    Dialer::new(config).unwrap().connect().await.unwrap()
}

/// Calls a method with a body of one's own.
pub async fn call(connection: &Connection, class: Class, path: &str, body: Vec<u8>) -> Ended {
    let request = http::Request::post(format!("http://collector.stoa{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))
        .unwrap();
    let answer = connection.channel(class).oneshot(request).await.unwrap();
    let headers = answer.headers().clone();
    let collected = answer.into_body().collect().await.unwrap();
    let status = collected.trailers().and_then(Status::from_header_map);
    let status = status.or_else(|| Status::from_header_map(&headers)).unwrap();
    Ended {
        code: status.code().into(),
        message: status.message().to_owned(),
        body: collected.to_bytes(),
    }
}

/// A control session, held open.
pub struct RawSession {
    connection: Connection,
    /// What names it on calls.
    pub session: u64,
    /// Its epoch.
    pub epoch: [u8; 16],
    /// What the collector has of the host's inventory.
    pub inventory_digest: Option<Bytes>,
    messages: tonic::Streaming<v1::CollectorMessage>,
    _control: mpsc::Sender<v1::AgentMessage>,
}

impl RawSession {
    /// Says hello.
    pub async fn open(sandbox: &Sandbox, who: &Identity) -> Self {
        let connection = connect(sandbox, who).await;
        let (control, control_rx) = mpsc::channel(4);
        let epoch: [u8; 16] = rand::random();
        let hello = v1::Hello {
            wire_version: 1,
            agent_version: "raw".to_owned(),
            boot_id: Bytes::new(),
            epoch: Bytes::copy_from_slice(&epoch),
            now_ms: 0,
        };
        let kind = Some(v1::agent_message::Kind::Hello(hello));
        control.send(v1::AgentMessage { kind }).await.unwrap();
        let channel = connection.channel(Class::Control);
        let mut client = v1::control_client::ControlClient::new(channel);
        let mut messages =
            client.session(ReceiverStream::new(control_rx)).await.unwrap().into_inner();
        let welcome = messages.message().await.unwrap().unwrap().kind;
        let Some(v1::collector_message::Kind::Welcome(welcome)) = welcome else {
            panic!("not a welcome: {welcome:?}");
        };
        let (session, inventory_digest) = (welcome.session, welcome.inventory_digest);
        Self { connection, session, epoch, inventory_digest, messages, _control: control }
    }

    /// The next thing the collector says on the session; `None` when it has ended.
    pub async fn next(&mut self) -> Option<v1::collector_message::Kind> {
        self.messages.message().await.ok().flatten()?.kind
    }

    /// A Begin of the session's metrics.
    #[must_use]
    pub fn begin(&self, leg: u32) -> v1::Frame {
        let begin = v1::Begin {
            session: self.session,
            epoch: Bytes::copy_from_slice(&self.epoch),
            stream: v1::Stream::Metrics.into(),
            leg,
            backlog: false,
        };
        v1::Frame { kind: Some(v1::frame::Kind::Begin(begin)) }
    }

    /// Sends frames on a new call and reads until there are `answers` answers, or the call ends:
    /// then with its status.
    pub async fn push(
        &self,
        frames: Vec<v1::Frame>,
        answers: usize,
    ) -> (Vec<v1::ack::Kind>, Option<Status>) {
        let (sender, receiver) = mpsc::channel(frames.len().max(1));
        for frame in frames {
            sender.send(frame).await.unwrap();
        }
        let mut client = self.client();
        let mut acks = match client.push(ReceiverStream::new(receiver)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return (Vec::new(), Some(status)),
        };
        let mut said = Vec::new();
        while said.len() < answers {
            match acks.message().await {
                Ok(Some(ack)) => said.extend(ack.kind),
                Ok(None) => return (said, None),
                Err(status) => return (said, Some(status)),
            }
        }
        drop(sender);
        (said, None)
    }

    fn client(&self) -> v1::ingest_client::IngestClient<tonic::transport::Channel> {
        v1::ingest_client::IngestClient::new(self.connection.channel(Class::Metrics))
    }

    /// The connection beneath.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// A frame of data.
#[must_use]
pub fn data(seq: u64, samples: u32, key: bool, payload: impl Into<Bytes>) -> v1::Frame {
    let data = v1::Data { seq, ticks: 0, samples, payload: payload.into(), key };
    v1::Frame { kind: Some(v1::frame::Kind::Data(data)) }
}

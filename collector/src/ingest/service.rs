//! The gRPC side of ingest: reads messages off streams, hands them to the host's task, passes its
//! answers back. Who a stream belongs to is its certificate's word alone.

use std::sync::Arc;
use std::time::Duration;

use stoa_model::HostId;
use stoa_proto::message::{Hello, Push};
use stoa_proto::v1;
use stoa_proto::v1::agent_message::Kind;
use stoa_transport::Peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::agent::{Event, Frame, Handle, Out};
use super::{ANSWERS_WAITING_MAX, Ingest};

/// How long a session may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Control sessions.
#[derive(Debug)]
pub struct Sessions(pub(super) Arc<Ingest>);

/// Push calls.
#[derive(Debug)]
pub struct Telemetry(pub(super) Arc<Ingest>);

#[tonic::async_trait]
impl v1::control_server::Control for Sessions {
    type SessionStream = ReceiverStream<Result<v1::CollectorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let agent = self.0.agent(host_of(&request)?);
        let (answers, answers_rx) = mpsc::channel(ANSWERS_WAITING_MAX);
        let draining = self.0.draining.clone();
        let session = self.0.number();
        tokio::spawn(read_session(agent, session, request.into_inner(), answers, draining));
        Ok(Response::new(ReceiverStream::new(answers_rx)))
    }
}

#[tonic::async_trait]
impl v1::ingest_server::Ingest for Telemetry {
    type PushStream = ReceiverStream<Result<v1::Ack, Status>>;

    async fn push(
        &self,
        request: Request<Streaming<v1::Frame>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let agent = self.0.agent(host_of(&request)?);
        let (answers, answers_rx) = mpsc::channel(ANSWERS_WAITING_MAX);
        let draining = self.0.draining.clone();
        let call = self.0.number();
        tokio::spawn(read_call(agent, call, request.into_inner(), answers, draining));
        Ok(Response::new(ReceiverStream::new(answers_rx)))
    }
}

pub(super) fn host_of<T>(request: &Request<T>) -> Result<HostId, Status> {
    let peer = request.extensions().get::<Peer>();
    let host = peer.and_then(|peer| peer.host.as_deref());
    let host = host.ok_or_else(|| Status::unauthenticated("this needs a host's certificate"))?;
    HostId::parse(host).map_err(|error| Status::unauthenticated(error.to_string()))
}

async fn read_session(
    agent: Arc<Handle>,
    session: u64,
    mut messages: Streaming<v1::AgentMessage>,
    answers: mpsc::Sender<Result<v1::CollectorMessage, Status>>,
    draining: CancellationToken,
) {
    let end = CancellationToken::new();
    let refusal = match tokio::time::timeout(HELLO_TIMEOUT, messages.message()).await {
        Ok(Ok(Some(v1::AgentMessage { kind: Some(Kind::Hello(hello)) }))) => {
            match Hello::try_from(hello) {
                Ok(hello) => {
                    let out = Out { answers: answers.clone(), end: end.clone() };
                    let hello = Event::Hello { session, hello, out };
                    agent.events.send(hello).await.err().map(|_| "the collector is stopping")
                }
                Err(_malformed) => Some("the hello is malformed"),
            }
        }
        _ => Some("a session begins with a hello"),
    };
    if let Some(refusal) = refusal {
        let _counted = agent.events.send(Event::Misspoke).await;
        // A peer that has gone needs no answer.
        let _sent = answers.send(Err(Status::invalid_argument(refusal))).await;
        return;
    }
    loop {
        let message = tokio::select! {
            () = end.cancelled() => break,
            () = draining.cancelled() => break,
            message = messages.message() => message,
        };
        match message {
            Ok(Some(v1::AgentMessage { kind: Some(Kind::Ping(ping)) })) => {
                let ping = Event::Ping { session, nonce: ping.nonce, now_ms: ping.now_ms };
                if agent.events.send(ping).await.is_err() {
                    break;
                }
            }
            // What a newer agent says and we do not know.
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(status) => {
                misspoke(&agent, &answers, status).await;
                break;
            }
        }
    }
    let _ended = agent.events.send(Event::SessionEnded(session)).await;
}

async fn read_call(
    agent: Arc<Handle>,
    call: u64,
    mut frames: Streaming<v1::Frame>,
    answers: mpsc::Sender<Result<v1::Ack, Status>>,
    draining: CancellationToken,
) {
    let end = CancellationToken::new();
    let out = Out { answers: answers.clone(), end: end.clone() };
    if agent.frames.send(Frame::Opened { call, out }).await.is_err() {
        return;
    }
    loop {
        let frame = tokio::select! {
            () = end.cancelled() => break,
            () = draining.cancelled() => break,
            frame = frames.message() => frame,
        };
        let push = match frame {
            Ok(Some(frame)) => {
                Push::try_from(frame).map_err(|error| Status::invalid_argument(error.to_string()))
            }
            Ok(None) => break,
            Err(status) => Err(status),
        };
        let push = match push {
            Ok(push) => push,
            Err(status) => {
                misspoke(&agent, &answers, status).await;
                break;
            }
        };
        if agent.frames.send(Frame::Push { call, push }).await.is_err() {
            break;
        }
    }
    let _ended = agent.frames.send(Frame::Ended(call)).await;
}

/// A message over the size bound, or none at all: counted, and said if the peer is still there. A
/// connection that broke is no fault of the message.
async fn misspoke<T>(agent: &Handle, answers: &mpsc::Sender<Result<T, Status>>, status: Status) {
    if matches!(status.code(), Code::InvalidArgument | Code::Internal | Code::OutOfRange) {
        let _counted = agent.events.send(Event::Misspoke).await;
    }
    let _sent = answers.try_send(Err(status));
}

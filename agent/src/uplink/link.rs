//! The streams of one session: dials, opens calls, passes messages either way.
//!
//! All tasks of a session belong to one set that is dropped, and so ended, by the hang-up. What a
//! session says carries its number, so that the last words of an earlier one are not taken for the
//! present one's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stoa_daemon::error_chain;
use stoa_proto::message::{Hello, Push, PushReply, Welcome};
use stoa_proto::v1;
use stoa_transport::{Class, Connection, DialError, Dialer, Refused};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::event::{Call, Event, Until};
use super::teller::tell;
use super::{FRAMES_WAITING_MAX, draw_epoch};
use crate::advice::advice;
use crate::sources::inventory::Outbox;

/// How long the control session has to say why a call has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What sessions say, with the session's number.
type Replies = mpsc::Sender<(u64, Event)>;

pub(super) struct Link {
    dialer: Arc<Dialer>,
    replies: Replies,
    inventory: Option<Outbox>,
    session: u64,
    open: Option<Open>,
}

/// A session, dialing or up.
struct Open {
    control: mpsc::Sender<v1::AgentMessage>,
    calls: HashMap<Call, mpsc::Sender<v1::Frame>>,
    /// Asks the task that holds the connection for a call.
    wanted: mpsc::Sender<(Call, mpsc::Receiver<v1::Frame>)>,
    /// Ends the session's tasks when dropped.
    _end: DropGuard,
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>, replies: Replies, inventory: Option<Outbox>) -> Self {
        Self { dialer, replies, inventory, session: 0, open: None }
    }

    pub(super) fn is_current(&self, session: u64) -> bool {
        self.open.is_some() && self.session == session
    }

    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }

    pub(super) fn dial(&mut self, hello: Hello) {
        self.session += 1;
        let end = CancellationToken::new();
        let (control, control_rx) = mpsc::channel(8);
        let (wanted, wanted_rx) = mpsc::channel(4);
        let hello = v1::agent_message::Kind::Hello(hello.into());
        // The channel is new and empty: there is room.
        let _room = control.try_send(v1::AgentMessage { kind: Some(hello) });
        self.open =
            Some(Open { control, calls: HashMap::new(), wanted, _end: end.clone().drop_guard() });
        let (dialer, replies, session) =
            (Arc::clone(&self.dialer), self.replies.clone(), self.session);
        let inventory = self.inventory.clone();
        tokio::spawn(async move {
            let ended = async {
                let event = match dialer.connect().await {
                    Err(error) => failed(&error, dialer.addr()),
                    Ok(connection) => {
                        let sources = Sources { control: control_rx, wanted: wanted_rx, inventory };
                        let lived = live(&connection, sources, session, &replies);
                        let reason = lived.await.err();
                        let ended = || "the collector ended the session".to_owned();
                        Event::Ended { reason: reason.unwrap_or_else(ended) }
                    }
                };
                let _gone = replies.send((session, event)).await;
            };
            let _ended = end.run_until_cancelled(ended).await;
        });
    }

    /// Sends on a call, which is opened by the first frame; an event when that cannot be.
    pub(super) fn push(&mut self, call: Call, push: Push) -> Option<Event> {
        let open = self.open.as_mut()?;
        let stuck = || Some(Event::Ended { reason: format!("the {call:?} call is stuck") });
        if let std::collections::hash_map::Entry::Vacant(entry) = open.calls.entry(call) {
            let (frames, frames_rx) = mpsc::channel(FRAMES_WAITING_MAX);
            if open.wanted.try_send((call, frames_rx)).is_err() {
                return stuck();
            }
            entry.insert(frames);
        }
        let frames = open.calls.get(&call)?;
        if frames.try_send(push.into()).is_err() { stuck() } else { None }
    }

    pub(super) fn ping(&mut self, age_ms: u64, samples: u64, now_ms: i64) -> Option<Event> {
        let ping =
            v1::Ping { nonce: self.session, queue_age_ms: age_ms, queue_samples: samples, now_ms };
        let message = v1::AgentMessage { kind: Some(v1::agent_message::Kind::Ping(ping)) };
        let sent = self.open.as_ref()?.control.try_send(message);
        sent.is_err().then(|| Event::Ended { reason: "the control session is stuck".to_owned() })
    }
}

/// A dial that failed.
fn failed(error: &DialError, collector: &str) -> Event {
    let mut reason = error_chain(error);
    if let Some(advice) = advice(error, collector) {
        reason.push_str("; ");
        reason.push_str(&advice);
    }
    let (DialError::Refused { reason: why, .. } | DialError::Listener { reason: why, .. }) = error
    else {
        return if error.passes() {
            Event::Ended { reason }
        } else {
            Event::Refused { reason, until: Until::Mended }
        };
    };
    match why {
        Refused::Expired | Refused::NotYetValid => {
            Event::Refused { reason, until: Until::ClockSet }
        }
        _ if error.passes() => Event::Ended { reason },
        _ => Event::Refused { reason, until: Until::Mended },
    }
}

/// What a session sends.
struct Sources {
    control: mpsc::Receiver<v1::AgentMessage>,
    wanted: mpsc::Receiver<(Call, mpsc::Receiver<v1::Frame>)>,
    /// Taken when the collector has said what it knows.
    inventory: Option<Outbox>,
}

/// A session from its connection to its end; the error says what went wrong.
async fn live(
    connection: &Connection,
    sources: Sources,
    session: u64,
    replies: &Replies,
) -> Result<(), String> {
    let Sources { control, mut wanted, mut inventory } = sources;
    tracing::info!(via = %connection.via(), "connected to the collector");
    let mut client = v1::control_client::ControlClient::new(connection.channel(Class::Control));
    let answer = client.session(ReceiverStream::new(control)).await.map_err(status)?;
    let mut messages = answer.into_inner();
    let mut calls = tokio::task::JoinSet::new();
    // Ends with the session, and never ends it.
    let mut telling = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            message = messages.message() => match message.map_err(status)? {
                None => return Ok(()),
                Some(message) => {
                    let event = event_of(message)?;
                    if let Some(Event::Welcomed { welcome, .. }) = &event
                        && let Some(known) = welcome.inventory.clone()
                        && let Some(outbox) = inventory.take()
                    {
                        telling.spawn(tell(connection.clone(), welcome.session, known, outbox));
                    }
                    if let Some(event) = event
                        && replies.send((session, event)).await.is_err()
                    {
                        return Ok(());
                    }
                }
            },
            Some((call, frames)) = wanted.recv() => {
                let connection = connection.clone();
                let replies = replies.clone();
                calls.spawn(async move {
                    push_call(&connection, call, frames, session, &replies).await
                });
            }
            Some(done) = calls.join_next() => {
                // A fence ends the calls too, and must not be missed: we would fence in turn.
                if let Ok(Some(fenced)) = timeout(LAST_WORDS, fence(&mut messages)).await {
                    let _gone = replies.send((session, fenced)).await;
                }
                return Err(match done {
                    Ok(Ok(())) => "the collector ended a call".to_owned(),
                    Ok(Err(reason)) => reason,
                    Err(error) => error.to_string(),
                });
            }
            closed = connection.closed() => return Err(format!("connection ended: {closed:?}")),
            () = connection.better_path() => return Err("a better path is there".to_owned()),
        }
    }
}

/// The fence, if the session ends with one.
async fn fence(messages: &mut tonic::Streaming<v1::CollectorMessage>) -> Option<Event> {
    loop {
        let event = event_of(messages.message().await.ok()??);
        if let Ok(Some(fenced @ Event::Fenced { .. })) = event {
            return Some(fenced);
        }
    }
}

async fn push_call(
    connection: &Connection,
    call: Call,
    frames: mpsc::Receiver<v1::Frame>,
    session: u64,
    replies: &Replies,
) -> Result<(), String> {
    let class = match call {
        Call::Critical => Class::Control,
        Call::Live | Call::Backlog => Class::Metrics,
    };
    let mut client = v1::ingest_client::IngestClient::new(connection.channel(class));
    let answer = client.push(ReceiverStream::new(frames)).await.map_err(status)?;
    let mut acks = answer.into_inner();
    while let Some(ack) = acks.message().await.map_err(status)? {
        let reply = PushReply::try_from(ack).map_err(|error| error.to_string())?;
        if replies.send((session, Event::Reply { call, reply })).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn event_of(message: v1::CollectorMessage) -> Result<Option<Event>, String> {
    Ok(match message.kind {
        Some(v1::collector_message::Kind::Welcome(welcome)) => {
            let welcome = Welcome::try_from(welcome).map_err(|error| error.to_string())?;
            Some(Event::Welcomed { welcome, fresh: draw_epoch() })
        }
        Some(v1::collector_message::Kind::Pong(_)) => Some(Event::Pong),
        Some(v1::collector_message::Kind::Fenced(fenced)) => {
            Some(Event::Fenced { reason: fenced.reason })
        }
        // What a newer collector says and we do not know.
        None => None,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn status(status: tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

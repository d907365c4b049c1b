//! The task of one host: owns its machine, does what it wants done.
//!
//! It waits for three things – a batch made durable, an event, a frame – and takes frames only while
//! the machine has room, so that a fast sender waits in the transport and not in memory.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use stoa_daemon::error_chain;
use stoa_model::{HostId, Labels, TimestampMs};
use stoa_proto::frame::{Effort, FamilyText};
use stoa_proto::message::{Hello, Push};
use stoa_proto::v1;
use stoa_tsdb::{AppendError, Batch, GroupId, SeriesRef};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::dictionary::Catalog;
use super::event::{Action, CallId, SessionId};
use super::figures::IngestFigures;
use super::session::{AgentIngest, Outcome, Read};
use super::{EVENTS_WAITING_MAX, FRAMES_WAITING_MAX, Ingest, legs};
use crate::store::{Store, StoreError, Stored};

/// Samples of a frame that is read where it comes in: a tick of a large host. 20 ns each.
const SMALL_SAMPLES_MAX: u32 = 16 << 10;

/// Payload bytes of such a frame.
const SMALL_PAYLOAD_BYTES_MAX: usize = 32 << 10;

/// What a small frame may take, whatever it says of itself: about a millisecond.
const SMALL: Effort = Effort { raw_bytes: 256 << 10, slots: 4 * SMALL_SAMPLES_MAX as usize };

/// Where answers of a stream go.
pub(super) type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// What the handlers tell the task.
pub(super) enum Event {
    /// A process introduced itself.
    Hello { session: SessionId, hello: Hello, out: Out<v1::CollectorMessage> },
    /// It pinged, and said what time it is.
    Ping { session: SessionId, nonce: u64, now_ms: TimestampMs },
    /// Its stream has ended.
    SessionEnded(SessionId),
    /// Whether it is the newest.
    IsCurrent { session: SessionId, answer: oneshot::Sender<bool> },
    /// A stream was ended for a message that nobody can read.
    Misspoke,
}

/// What comes on Push calls, in the order it came.
pub(super) enum Frame {
    /// A call was opened.
    Opened { call: CallId, out: Out<v1::Ack> },
    /// A frame.
    Push { call: CallId, push: Push },
    /// The call's stream has ended.
    Ended(CallId),
}

/// The way back on a stream, and the way to end it.
pub(super) struct Out<T> {
    pub(super) answers: Answers<T>,
    /// Cancelled when nothing more is to be read from the stream.
    pub(super) end: CancellationToken,
}

/// How handlers reach the task.
pub(super) struct Handle {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) frames: mpsc::Sender<Frame>,
    /// As of the last event; held for a copy only.
    figures: Arc<Mutex<IngestFigures>>,
}

impl Handle {
    pub(super) fn figures(&self) -> IngestFigures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts the task of a host; it ends with the process.
pub(super) fn spawn(ingest: &Arc<Ingest>, host: HostId) -> Arc<Handle> {
    let (events, events_rx) = mpsc::channel(EVENTS_WAITING_MAX);
    let (frames, frames_rx) = mpsc::channel(FRAMES_WAITING_MAX);
    let figures = Arc::new(Mutex::new(IngestFigures::default()));
    let handle = Arc::new(Handle { events, frames, figures: Arc::clone(&figures) });
    let ingest = Arc::clone(ingest);
    tokio::spawn(async move {
        let Some(machine) = machine(&ingest, host.clone()).await else { return };
        let task = Task {
            ingest,
            host,
            machine,
            sessions: HashMap::new(),
            calls: HashMap::new(),
            append: None,
            warned: false,
            figures,
        };
        task.run(events_rx, frames_rx).await;
    });
    handle
}

async fn machine(ingest: &Ingest, host: HostId) -> Option<AgentIngest> {
    let (store, series_max) = (ingest.store.clone(), ingest.series_max);
    let made = ingest.aside(move || {
        let marks = store.marks(&legs::key_prefix(&host));
        AgentIngest::new(host, series_max, &marks)
    });
    made.await
}

type Appending = Pin<Box<dyn Future<Output = Result<Stored, StoreError>> + Send>>;

struct Task {
    ingest: Arc<Ingest>,
    host: HostId,
    machine: AgentIngest,
    sessions: HashMap<SessionId, Out<v1::CollectorMessage>>,
    calls: HashMap<CallId, Out<v1::Ack>>,
    /// The one batch under way.
    append: Option<Appending>,
    /// Whether it was said in this session that the sender's clock is ahead.
    warned: bool,
    figures: Arc<Mutex<IngestFigures>>,
}

/// What a frame came to without the store.
enum Step {
    Done(Vec<Action>),
    Read(Read),
}

enum Woken {
    Appended(Result<Stored, StoreError>),
    Event(Event),
    Frame(Frame),
}

impl Task {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut frames: mpsc::Receiver<Frame>) {
        loop {
            let appending = async {
                match &mut self.append {
                    Some(append) => append.await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                biased;
                done = appending => Woken::Appended(done),
                Some(event) = events.recv() => Woken::Event(event),
                Some(frame) = frames.recv(), if self.machine.has_room() => Woken::Frame(frame),
                else => return,
            };
            let actions = match woken {
                Woken::Appended(done) => self.appended(done),
                Woken::Event(event) => self.event(event),
                Woken::Frame(frame) => {
                    let Some((task, actions)) = self.frame(frame).await else { return };
                    self = task;
                    actions
                }
            };
            self.perform(actions);
            self.warn();
            *self.figures.lock().unwrap_or_else(PoisonError::into_inner) =
                self.machine.figures().clone();
        }
    }

    /// Says once a session that what it sends is quarantined.
    fn warn(&mut self) {
        let before = self.figures.lock().unwrap_or_else(PoisonError::into_inner).quarantined();
        if !self.warned && self.machine.figures().quarantined() > before {
            self.warned = true;
            tracing::warn!(
                host = %self.host,
                "the host's clock is ahead: what it says of the future is not stored"
            );
        }
    }

    fn now(&self) -> TimestampMs {
        (self.ingest.clock)()
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let now = self.now();
        match event {
            Event::Hello { session, hello, out } => {
                self.sessions.insert(session, out);
                self.warned = false;
                self.ingest.clock_said(&self.host, hello.now_ms);
                self.machine.hello(session, &hello, now)
            }
            Event::Ping { session, nonce, now_ms } => {
                if self.machine.heard(session, now) {
                    self.ingest.clock_said(&self.host, now_ms);
                    let pong = v1::collector_message::Kind::Pong(v1::Pong { nonce, now_ms: now });
                    self.say(session, pong);
                }
                Vec::new()
            }
            Event::SessionEnded(session) => {
                self.sessions.remove(&session);
                self.machine.session_ended(session)
            }
            Event::IsCurrent { session, answer } => {
                // Who asked may be gone.
                let _told = answer.send(self.machine.is_current(session));
                Vec::new()
            }
            Event::Misspoke => {
                self.machine.misspoke();
                Vec::new()
            }
        }
    }

    /// A frame, all the way: here when it is small and defines no series, as nearly all are; else on
    /// a thread that may wait for the store's locks.
    async fn frame(mut self, frame: Frame) -> Option<(Self, Vec<Action>)> {
        let now = self.now();
        let ingest = Arc::clone(&self.ingest);
        if !is_small(&frame) {
            let whole = ingest.aside(move || {
                let actions = match self.read(frame, Effort::ALL, now) {
                    Step::Done(actions) => actions,
                    Step::Read(read) => self.take(read, now),
                };
                (self, actions)
            });
            return whole.await;
        }
        let actions = match self.read(frame, SMALL, now) {
            Step::Done(actions) => actions,
            Step::Read(read) if read.defines() => {
                let rest = ingest.aside(move || {
                    let actions = self.take(read, now);
                    (self, actions)
                });
                return rest.await;
            }
            Step::Read(read) => self.take(read, now),
        };
        Some((self, actions))
    }

    /// Needs nothing of the store.
    fn read(&mut self, frame: Frame, effort: Effort, now: TimestampMs) -> Step {
        match frame {
            Frame::Opened { call, out } => {
                self.calls.insert(call, out);
                Step::Done(Vec::new())
            }
            // What a call brought that has been ended meanwhile comes again on another.
            Frame::Push { call, .. } if !self.calls.contains_key(&call) => Step::Done(Vec::new()),
            Frame::Push { call, push } => Step::Read(self.machine.read(call, push, effort, now)),
            Frame::Ended(call) => {
                self.calls.remove(&call);
                Step::Done(self.machine.call_ended(call))
            }
        }
    }

    /// May wait for the store's locks if the frame defines series.
    fn take(&mut self, read: Read, now: TimestampMs) -> Vec<Action> {
        let catalog = StoreCatalog(&self.ingest.store);
        self.machine.clocks_judged(self.ingest.clock_odd(&self.host, now));
        let refused = self.machine.figures().clock_refused_calls;
        let actions = self.machine.take(read, &catalog, now);
        if self.machine.figures().clock_refused_calls > refused {
            self.ingest.presence().refused(&self.host, self.ingest.steady_ms());
        }
        actions
    }

    fn appended(&mut self, done: Result<Stored, StoreError>) -> Vec<Action> {
        self.append = None;
        let newest = self.machine.live_under_way();
        let outcome = match done {
            Ok(stored) => {
                if let Some(newest) = newest {
                    self.heard(newest);
                }
                Outcome::Durable {
                    stored: stored.stored,
                    known: stored.duplicate,
                    refused: stored.conflicting + stored.too_old,
                }
            }
            // A series that was silent for long is gone from the head: calls begin anew, and resolve
            // theirs again.
            Err(error @ StoreError::Append(AppendError::UnknownSeries { .. })) => {
                Outcome::Failed { reason: error_chain(&error) }
            }
            Err(error @ StoreError::Append(_)) => {
                Outcome::Impossible { reason: error_chain(&error) }
            }
            Err(error) => Outcome::Failed { reason: error_chain(&error) },
        };
        self.machine.appended(outcome)
    }

    fn heard(&self, newest: TimestampMs) {
        let again = self.ingest.presence().heard(&self.host, newest, self.ingest.steady_ms());
        if again {
            tracing::info!(host = %self.host, "the host is heard again");
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Welcome { session, mut welcome } => {
                    welcome.inventory = Some(self.ingest.inventories.known(&self.host));
                    tracing::info!(host = %self.host, session, "session begins");
                    self.say(session, v1::collector_message::Kind::Welcome(welcome.into()));
                }
                Action::Fence { session, reason } => {
                    tracing::info!(host = %self.host, session, reason, "session ends");
                    self.say(session, v1::collector_message::Kind::Fenced(v1::Fenced { reason }));
                    if let Some(out) = self.sessions.remove(&session) {
                        out.end.cancel();
                    }
                }
                Action::Reply { call, reply } => self.answer(call, reply.into()),
                Action::End { call } => {
                    if let Some(out) = self.calls.remove(&call) {
                        out.end.cancel();
                    }
                }
                Action::Append(batch) => self.begin_append(batch),
            }
        }
    }

    fn begin_append(&mut self, batch: Batch) {
        let store = self.ingest.store.clone();
        self.append = Some(Box::pin(async move { store.append(batch).await }));
    }

    fn say(&mut self, session: SessionId, kind: v1::collector_message::Kind) {
        let message = v1::CollectorMessage { kind: Some(kind) };
        let Some(out) = self.sessions.get(&session) else { return };
        if out.answers.try_send(Ok(message)).is_err() {
            // Gone, or not reading: either way the session is over, and its end comes as an event.
            out.end.cancel();
        }
    }

    fn answer(&mut self, call: CallId, ack: v1::Ack) {
        let Some(out) = self.calls.get(&call) else { return };
        if out.answers.try_send(Ok(ack)).is_err() {
            out.end.cancel();
        }
    }
}

/// Whether decoding a frame takes well under a millisecond, if it is as large as it says. One that
/// turns out larger is left at [`SMALL`] and asked for again, as a key frame, which is read aside.
fn is_small(frame: &Frame) -> bool {
    match frame {
        Frame::Push { push: Push::Data(data), .. } => {
            !data.key
                && data.samples <= SMALL_SAMPLES_MAX
                && data.payload.len() <= SMALL_PAYLOAD_BYTES_MAX
        }
        _ => true,
    }
}

struct StoreCatalog<'a>(&'a Store);

impl Catalog for StoreCatalog<'_> {
    fn resolve(&self, group: GroupId, labels: &Labels) -> Option<SeriesRef> {
        self.0.resolve(group, labels).ok()
    }

    fn describe(&self, family: &FamilyText) {
        self.0.metadata().describe(&family.name, family.kind, &family.help, &family.unit);
    }
}

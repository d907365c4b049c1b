//! The page: what the agent streams, as an exporter serves it, for a Prometheus that scrapes this host.
//! Off unless asked for.
//!
//! It holds the last tick's families and writes them anew for each request, in the text format or in
//! OpenMetrics. The names are those that are streamed; left out is what every scraper makes itself (`up`,
//! `scrape_*`), so that a scraped series never meets its own. It reads nothing: who asks often costs the
//! sources nothing. It never knows who asks.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections at once, further ones wait in the kernel's queue; a request and
//! its answer in [`REQUEST`], one per connection; a reading older than [`AGE_INTERVALS_MAX`] intervals (at
//! least [`AGE_MIN`]) is not told, the answer is 503. On loopback only names of this machine are answered,
//! so that a page in a browser cannot ask by a name of its own. Any other address has to be asked for
//! twice (`metrics.insecure`): there is neither TLS nor a credential.

mod accept;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use stoa_exchange::exposition::{self, Format};
use stoa_model::{Family, TimestampMs};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::sources::Reading;
use crate::target;
use crate::uplink::Clock;

/// Where it is served unless said otherwise.
pub const LISTEN: &str = "127.0.0.1:7490";

/// Connections at once.
const CONNECTIONS_MAX: usize = 8;

/// From accepting a connection to the end of its answer.
pub const REQUEST: Duration = Duration::from_secs(10);

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How many intervals old the last reading may be.
const AGE_INTERVALS_MAX: u32 = 5;

/// It may always be so old: a busy machine.
const AGE_MIN: Duration = Duration::from_secs(10);

/// After an accept that failed: descriptors come free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a scraper makes itself.
const OF_SCRAPERS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Where it is served, and how often this host is read.
#[derive(Clone, Copy, Debug)]
pub struct PageConfig {
    /// The address.
    pub listen: SocketAddr,
    /// How often it is told anew.
    pub interval: Duration,
    /// How long a request and its answer may take; [`REQUEST`].
    pub patience: Duration,
}

/// What was asked of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFigures {
    /// Pages given.
    pub given: u64,
    /// Requests that got none: another path or method, another host's name, no reading.
    pub refused: u64,
}

/// One moment's readings.
#[derive(Debug)]
struct Told {
    t_ms: TimestampMs,
    families: Reading,
}

#[derive(Debug, Default)]
struct Counters {
    given: AtomicU64,
    refused: AtomicU64,
}

/// Where readings are told.
#[derive(Debug)]
pub struct PageWriter {
    told: watch::Sender<Option<Arc<Told>>>,
    counters: Arc<Counters>,
    spare: Reading,
}

impl PageWriter {
    /// What is served from now on.
    pub fn tell<'f>(&mut self, t_ms: TimestampMs, families: impl Iterator<Item = &'f Family>) {
        let mut told = std::mem::take(&mut self.spare);
        told.begin();
        families.for_each(|family| told.copy(family));
        told.end();
        let told = Told { t_ms, families: told };
        // Room for the next, unless somebody reads it.
        let before = self.told.send_replace(Some(Arc::new(told))).and_then(Arc::into_inner);
        self.spare = before.map(|told| told.families).unwrap_or_default();
    }

    /// What was asked so far.
    #[must_use]
    pub fn figures(&self) -> PageFigures {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        PageFigures { given: read(&self.counters.given), refused: read(&self.counters.refused) }
    }
}

/// The page, listening.
pub struct Page {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    told: watch::Receiver<Option<Arc<Told>>>,
    counters: Arc<Counters>,
    clock: Clock,
    age_max_ms: i64,
    is_local: bool,
    patience: Duration,
}

impl Page {
    /// Listens; nothing is answered before [`Self::serve`].
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn open(config: PageConfig, clock: Clock) -> io::Result<(Self, PageWriter)> {
        let listener = TcpListener::bind(config.listen).await?;
        let (sender, told) = watch::channel(None);
        let counters = Arc::<Counters>::default();
        let age_max = AGE_MIN.max(config.interval.saturating_mul(AGE_INTERVALS_MAX));
        let shared = Shared {
            told,
            counters: Arc::clone(&counters),
            clock,
            age_max_ms: i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX),
            is_local: config.listen.ip().is_loopback(),
            patience: config.patience,
        };
        let page = Self { listener, shared: Arc::new(shared) };
        Ok((page, PageWriter { told: sender, counters, spare: Reading::default() }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until told to stop; what is under way then ends by itself, in time.
    pub async fn serve(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                () = stop.cancelled() => return,
            };
            let Some((stream, place)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                answer(stream, shared).await;
                drop(place);
            });
        }
    }
}

/// A connection with its place; `None` when the system gave none.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::debug!(%error, "no connection for the page");
            None
        }
    }
}

/// Answers the one request of a connection; one that goes away or is slow is dropped.
async fn answer(stream: TcpStream, shared: Arc<Shared>) {
    let patience = shared.patience;
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = shared.answer(&request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(patience, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the page broke"),
        Err(_elapsed) => tracing::debug!("a connection to the page was too slow"),
    }
}

impl Shared {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let answer = self.page(request);
        let counter = match &answer {
            Ok(_) => &self.counters.given,
            Err(_) => &self.counters.refused,
        };
        counter.fetch_add(1, Relaxed);
        let (status, kind, body) = match answer {
            Ok((kind, body)) => (StatusCode::OK, kind, body),
            Err((status, why)) => {
                (status, "text/plain; charset=utf-8", format!("{why}\n").into_bytes())
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// The page in the format asked for, or why there is none.
    fn page<B>(
        &self,
        request: &Request<B>,
    ) -> Result<(&'static str, Vec<u8>), (StatusCode, &'static str)> {
        if self.is_local && !is_of_this_machine(request.headers()) {
            return Err((StatusCode::FORBIDDEN, "ask by localhost or a loopback address"));
        }
        if request.uri().path() != "/metrics" {
            return Err((StatusCode::NOT_FOUND, "the metrics are at /metrics"));
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"));
        }
        let none = (StatusCode::SERVICE_UNAVAILABLE, "this host was not read lately");
        let told = self.told.borrow().clone().ok_or(none)?;
        if (self.clock)().saturating_sub(told.t_ms) > self.age_max_ms {
            return Err(none);
        }
        let format = accept::format(request.headers());
        let kind = match format {
            Format::Text => exposition::CONTENT_TYPE,
            Format::OpenMetrics => exposition::OPENMETRICS_CONTENT_TYPE,
        };
        let mut body = Vec::with_capacity(64 << 10);
        let families =
            told.families.families().filter(|family| !OF_SCRAPERS.contains(&family.name.as_str()));
        // A vector takes all that is written.
        let written = exposition::write_as(families.map(target::as_read), format, &mut body);
        written.map_err(|_error| none)?;
        Ok((kind, body))
    }
}

/// Whether the host asked for is a name of this machine for itself.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;

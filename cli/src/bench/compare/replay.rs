//! A server of pages: what an exporter on each host would show now, at `/t/N/metrics`.
//!
//! As little HTTP as a scraper needs: GET, connections kept alive. On loopback, for programs that
//! we start; a request of more than [`REQUEST_BYTES_MAX`] ends its connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use stoa_model::TimestampMs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::agents::host::Page;
use super::text::Names;

/// The longest request.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// A running server; dropping it ends it.
pub(super) struct Replay {
    pub(super) address: SocketAddr,
    _serving: JoinSet<()>,
}

/// One host's page.
struct Target {
    tick: watch::Receiver<Page>,
    /// The page as of a tick: two scrapers read the same one.
    made: Mutex<(Option<TimestampMs>, Names, Arc<str>)>,
}

impl Replay {
    /// Serves the pages of these hosts.
    ///
    /// # Errors
    /// When there is no port.
    pub(super) async fn start(pages: Vec<watch::Receiver<Page>>) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("serve the pages")?;
        let address = listener.local_addr()?;
        let target = |tick| Target { tick, made: Mutex::new((None, Names::default(), "".into())) };
        let targets: Arc<[Target]> = pages.into_iter().map(target).collect();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(stream, Arc::clone(&targets)));
            }
        });
        Ok(Self { address, _serving: serving })
    }
}

async fn serve(mut stream: TcpStream, targets: Arc<[Target]>) {
    let mut request = Vec::new();
    loop {
        let end = loop {
            let end = request.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            match stream.read_buf(&mut request).await {
                Ok(n) if n > 0 && request.len() <= REQUEST_BYTES_MAX => {}
                _ => return,
            }
        };
        let answer = answer(&request, &targets);
        request.drain(..end);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(request: &[u8], targets: &[Target]) -> String {
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let number = line
        .strip_prefix("GET /t/")
        .and_then(|rest| rest.split_once("/metrics"))
        .and_then(|(number, _)| number.parse::<usize>().ok());
    match number.and_then(|number| targets.get(number)).and_then(Target::page) {
        Some(page) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ),
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    }
}

impl Target {
    fn page(&self) -> Option<Arc<str>> {
        let tick = self.tick.borrow().clone()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != Some(tick.t) {
            made.2 = made.1.page(&tick).into();
            made.0 = Some(tick.t);
        }
        Some(Arc::clone(&made.2))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoa_proto::tick::Tick;

    use super::*;

    #[tokio::test]
    async fn pages_are_served_one_after_another() {
        let (page, page_rx) = watch::channel(None);
        let replay = Replay::start(vec![page_rx]).await.unwrap();
        let mut stream = TcpStream::connect(replay.address).await.unwrap();
        let mut ask = async |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let n = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..n]).into_owned()
        };
        assert!(ask("/t/0/metrics").await.starts_with("HTTP/1.1 404"), "no tick yet");
        page.send_replace(Some(Arc::new(Tick { t: 1, samples: Vec::new() })));
        assert!(ask("/t/0/metrics").await.starts_with("HTTP/1.1 200"));
        assert!(ask("/t/1/metrics").await.starts_with("HTTP/1.1 404"));
        assert!(ask("/").await.starts_with("HTTP/1.1 404"));
    }
}

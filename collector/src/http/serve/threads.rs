//! Threads for connections, each with a runtime of its own.
//!
//! A connection stays on the thread it was given, and a cheap query is answered right there: handing
//! it to another thread and the answer back costs more than most queries do. Nothing else of the
//! collector runs on these threads, so work that holds one up for some milliseconds holds up other
//! connections of that thread, and no agent.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The fewest threads, on however small a machine: they are idle most of the time, and one may wait
/// for the disk.
const THREADS_MIN: usize = 4;

/// The most.
const THREADS_MAX: usize = 32;

/// The threads; they end when this is dropped and are waited for by [`Threads::join`].
#[derive(Debug)]
pub(super) struct Threads {
    all: Vec<Thread>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    /// Connections it has.
    held: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Counts a connection of a thread until it is dropped.
struct Holding(Arc<AtomicUsize>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Two for each processor.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub(super) fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads = Self { all: Vec::new(), stop: CancellationToken::new() };
        for number in 0..(2 * processors).clamp(THREADS_MIN, THREADS_MAX) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .thread_name(format!("stoa-http-{number}-work"))
                .build()?;
            let handle = runtime.handle().clone();
            let stop = threads.stop.clone();
            let run = move || {
                runtime.block_on(stop.cancelled());
                // A query that nobody waits for any more ends by itself.
                runtime.shutdown_background();
            };
            let thread = std::thread::Builder::new().name(format!("stoa-http-{number}"));
            let thread = thread.spawn(run)?;
            threads.all.push(Thread { handle, held: Arc::default(), thread });
        }
        Ok(threads)
    }

    /// Runs a connection on the thread that has the fewest.
    pub(super) fn spawn<F>(&self, connections: &TaskTracker, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = self.all.iter().min_by_key(|thread| thread.held.load(Ordering::Relaxed));
        let Some(thread) = fewest else { return };
        thread.held.fetch_add(1, Ordering::Relaxed);
        let holding = Holding(Arc::clone(&thread.held));
        let connection = async move {
            connection.await;
            drop(holding);
        };
        connections.spawn_on(connection, &thread.handle);
    }

    /// Ends the threads and waits for them; what still runs on them is dropped.
    pub(super) async fn join(mut self) {
        self.stop.cancel();
        let all = std::mem::take(&mut self.all);
        let joined = tokio::task::spawn_blocking(move || {
            all.into_iter().map(|thread| thread.thread.join()).filter(Result::is_err).count()
        });
        if joined.await.unwrap_or(0) > 0 {
            tracing::error!("a thread for HTTP connections panicked");
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

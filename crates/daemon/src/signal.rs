//! Being asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process gets SIGINT (Ctrl-C) or SIGTERM (systemd stop).
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn stop() -> std::io::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    })
}

//! systemd as it is asked over the D-Bus system bus, as any user may.
//!
//! Owns one connection and the runtime that drives it: both rest between readings, no thread is
//! theirs. A connection that failed or did not answer in time is dropped and made anew with the next
//! reading. Bounded: a call waits [`CALL_TIMEOUT`], all calls of a reading together as long as they
//! are given; what they tell is decoded up to [`REPLY_BYTES_MAX`]. (A message that is larger is read
//! from the socket first, up to what the bus lets through.)

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use zbus::{Connection, Message, ObjectPath, Variant};

/// How long systemd may take to answer one question.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is looked at: 4096 units take some 1.5 MiB.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// The interface of systemd itself.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A unit as `ListUnits` tells it: name, description, load state, active state, sub state, unit it
/// follows, path, and job with its type and path.
type Listed<'m> = (
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    ObjectPath<'m>,
    u32,
    &'m str,
    ObjectPath<'m>,
);

/// What `ListUnits` says of one unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status<'m> {
    pub(super) name: &'m str,
    pub(super) load: &'m str,
    pub(super) active: &'m str,
    pub(super) sub: &'m str,
    pub(super) path: &'m str,
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A number, or a truth as 0 or 1.
    Number(f64),
    /// A text.
    Text(Box<str>),
    /// systemd has no such property, the unit went meanwhile, or nothing is set.
    Nothing,
}

/// Why nothing can be asked.
#[derive(Debug)]
pub(super) enum BusError {
    /// There is no bus, or no systemd on it.
    Absent(io::Error),
    /// It did not answer, or not as it should.
    Failed(io::Error),
}

impl BusError {
    /// Whether the time was up.
    pub(super) fn is_lateness(&self) -> bool {
        matches!(self, Self::Failed(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

impl From<io::Error> for BusError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Self::Absent(error)
        } else {
            Self::Failed(error)
        }
    }
}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::InputOutput(error) => io::Error::new(error.kind(), error).into(),
            zbus::Error::MethodError(ref name, _, _) if is_absence(name.as_str()) => {
                Self::Absent(io::Error::new(io::ErrorKind::NotFound, error))
            }
            error => Self::Failed(io::Error::other(error)),
        }
    }
}

/// Whether an error's name says that nobody is systemd on this bus.
fn is_absence(name: &str) -> bool {
    name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|name| {
        name.starts_with("Spawn.") || matches!(name, "ServiceUnknown" | "NameHasNoOwner")
    })
}

/// The way to systemd.
pub(super) struct Bus {
    runtime: Option<Runtime>,
    connection: Option<Connection>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_connected = self.connection.is_some();
        f.debug_struct("Bus").field("is_connected", &is_connected).finish_non_exhaustive()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl Bus {
    pub(super) fn new() -> Self {
        Self { runtime: None, connection: None }
    }

    /// Asks `questions` of the systemd behind `socket`, no longer than `patience` in all. Blocks;
    /// not to be called from within a runtime.
    ///
    /// # Errors
    /// [`BusError`]; the connection is made anew with the next call then.
    pub(super) fn ask<T>(
        &mut self,
        socket: &Path,
        patience: Duration,
        questions: impl AsyncFnOnce(&Systemd) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        if self.runtime.is_none() {
            self.runtime = Some(Builder::new_current_thread().enable_io().enable_time().build()?);
        }
        let Some(runtime) = &self.runtime else {
            return Err(io::Error::other("no runtime").into());
        };
        let known = self.connection.take();
        let asked = runtime.block_on(async {
            let all = async {
                let connection = match known {
                    Some(connection) => connection,
                    None => connect(socket).await?,
                };
                let systemd = Systemd { connection };
                questions(&systemd).await.map(|answer| (answer, systemd.connection))
            };
            match timeout(patience, all).await {
                Ok(asked) => asked,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        });
        let (answer, connection) = asked?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn disconnect(&mut self) {
        // What a connection does to end belongs to its runtime.
        let _context = self.runtime.as_ref().map(Runtime::enter);
        self.connection = None;
    }
}

async fn connect(socket: &Path) -> Result<Connection, BusError> {
    let stream = UnixStream::connect(socket).await?.into_std()?;
    let builder = zbus::connection::Builder::unix_stream(stream).method_timeout(CALL_TIMEOUT);
    match timeout(CALL_TIMEOUT, builder.build()).await {
        Ok(built) => Ok(built?),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// systemd, connected.
#[derive(Debug)]
pub(super) struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Hands all units systemd has in memory to `take`.
    pub(super) async fn units(&self, mut take: impl FnMut(Status<'_>)) -> Result<(), BusError> {
        let reply = self
            .connection
            .call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "ListUnits", &())
            .await?;
        let body = bounded(&reply)?;
        let units: Vec<Listed<'_>> = body.deserialize()?;
        for (name, _, load, active, sub, _, path, ..) in &units {
            take(Status { name, load, active, sub, path: path.as_str() });
        }
        Ok(())
    }

    /// A property of systemd itself.
    pub(super) async fn manager(&self, property: &str) -> Result<Told, BusError> {
        self.property(MANAGER_PATH, MANAGER, property).await
    }

    /// A property of an object; `interface` in full.
    pub(super) async fn property(
        &self,
        path: &str,
        interface: &str,
        property: &str,
    ) -> Result<Told, BusError> {
        let asked = self
            .connection
            .call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &(interface, property))
            .await;
        match asked {
            Ok(reply) => Ok(told(&bounded(&reply)?.deserialize()?)),
            Err(zbus::Error::MethodError(name, ..)) if !is_absence(name.as_str()) => {
                Ok(Told::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn bounded(reply: &Message) -> Result<zbus::message::Body, BusError> {
    let body = reply.body();
    if body.len() > REPLY_BYTES_MAX {
        let wrong = format!("an answer of {} bytes is refused", body.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, wrong).into());
    }
    Ok(body)
}

fn told(value: &Variant<'_>) -> Told {
    match value {
        Variant::Bool(value) => Told::Number(f64::from(u8::from(*value))),
        Variant::U8(value) => Told::Number((*value).into()),
        Variant::U16(value) => Told::Number((*value).into()),
        Variant::I16(value) => Told::Number((*value).into()),
        Variant::U32(value) => Told::Number((*value).into()),
        Variant::I32(value) => Told::Number((*value).into()),
        // systemd's "infinity" and "not set".
        Variant::U64(u64::MAX) => Told::Nothing,
        Variant::U64(value) => Told::Number(*value as f64),
        Variant::I64(value) => Told::Number(*value as f64),
        Variant::F64(value) => Told::Number(*value),
        Variant::Str(value) => Told::Text(value.as_str().into()),
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests;

//! NUT's network protocol, as far as reading needs it: `USERNAME`, `PASSWORD`, `LIST UPS`, `LIST VAR`.
//!
//! Lines of words over TCP; a word with spaces stands in quotes, in which `\` escapes. Nothing that a
//! server says is trusted: lines, words, items, bytes and time have a most.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// The longest line taken; a variable's value is at most 256 bytes.
const LINE_BYTES_MAX: usize = 2048;
/// Words of a line; `VAR ups name "value"` has four.
const WORDS_MAX: usize = 8;
/// Items of one list.
const ITEMS_MAX: usize = 512;
/// Bytes of one conversation.
const BYTES_MAX: usize = 1 << 20;
/// How long a server may take for one line.
const LINE_PATIENCE: Duration = Duration::from_secs(2);

/// Why a server did not tell what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NutError {
    /// The connection failed or took too long.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server answered `ERR`.
    #[error("the server answers {0:?}")]
    Refused(String),
    /// The server does not speak the protocol.
    #[error("the server does not speak NUT's protocol: {0}")]
    Garbled(&'static str),
}

/// What a conversation is held over.
pub(super) trait Wire {
    /// As [`io::Read::read`]; an error when nothing comes for so long.
    fn read_within(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<usize>;

    /// As [`io::Write::write_all`]; an error when nothing is taken for so long.
    fn write_within(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn read_within(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        self.set_read_timeout(Some(patience))?;
        self.read(buffer)
    }

    fn write_within(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(patience))?;
        self.write_all(bytes)
    }
}

/// A conversation with one server, all of which must be done within its time.
#[derive(Debug)]
pub(super) struct Client<W> {
    stream: W,
    until: Instant,
    buffer: Vec<u8>,
    bytes_left: usize,
}

impl Client<TcpStream> {
    /// Connects to `HOST:PORT` and says who asks, if anyone; all that follows must be done within
    /// `patience`.
    pub(super) fn connect(address: &str, patience: Duration) -> Result<Self, NutError> {
        let until = now() + patience;
        let mut failed = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, time_left(until)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::over(stream, until));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }
}

impl<W: Wire> Client<W> {
    fn over(stream: W, until: Instant) -> Self {
        Self { stream, until, buffer: Vec::new(), bytes_left: BYTES_MAX }
    }

    /// Says who asks.
    pub(super) fn log_in(&mut self, username: &str, password: &str) -> Result<(), NutError> {
        for (command, argument) in [("USERNAME", username), ("PASSWORD", password)] {
            let argument = quoted(argument)
                .ok_or(NutError::Garbled("the user name or password has a control character"))?;
            self.send(&format!("{command} {argument}\n"))?;
            let answer = self.words()?;
            match answer.first().map(String::as_str) {
                Some("OK") => {}
                Some("ERR") => return Err(refused(&answer)),
                _ => return Err(NutError::Garbled("no answer to a user name")),
            }
        }
        Ok(())
    }

    /// Names and descriptions of the server's UPSs.
    pub(super) fn list_ups(&mut self) -> Result<Vec<(String, String)>, NutError> {
        self.list("UPS", |item| match item {
            [name, description, ..] => Some((name.clone(), description.clone())),
            [name] => Some((name.clone(), String::new())),
            [] => None,
        })
    }

    /// Names and values of a UPS's variables; `ups` as told by [`Self::list_ups`].
    pub(super) fn list_variables(&mut self, ups: &str) -> Result<Vec<(String, String)>, NutError> {
        let ups = quoted(ups).ok_or(NutError::Garbled("a name has a control character"))?;
        self.list(&format!("VAR {ups}"), |item| match item {
            [_, name, value] => Some((name.clone(), value.clone())),
            _ => None,
        })
    }

    fn list<T>(
        &mut self,
        query: &str,
        mut take: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<Vec<T>, NutError> {
        self.send(&format!("LIST {query}\n"))?;
        let kind = query.split(' ').next().unwrap_or_default();
        let begin = self.words()?;
        match begin.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["BEGIN", "LIST", what, ..] if *what == kind => {}
            ["ERR", ..] => return Err(refused(&begin)),
            _ => return Err(NutError::Garbled("a list does not begin")),
        }
        let mut items = Vec::new();
        loop {
            let words = self.words()?;
            match words.split_first() {
                Some((first, item)) if first == kind => {
                    if items.len() >= ITEMS_MAX {
                        return Err(NutError::Garbled("a list has too many items"));
                    }
                    items.extend(take(item));
                }
                Some((first, _)) if first == "END" => return Ok(items),
                Some((first, _)) if first == "ERR" => return Err(refused(&words)),
                _ => return Err(NutError::Garbled("something else stands in a list")),
            }
        }
    }

    /// Ends the conversation as a polite client does; what the server says to that is not read.
    pub(super) fn log_out(mut self) {
        // Gone is gone: the connection is closed either way.
        drop(self.send("LOGOUT\n"));
    }

    fn send(&mut self, line: &str) -> Result<(), NutError> {
        let patience = time_left(self.until)?.min(LINE_PATIENCE);
        Ok(self.stream.write_within(line.as_bytes(), patience)?)
    }

    fn words(&mut self) -> Result<Vec<String>, NutError> {
        let line = self.line()?;
        let line = String::from_utf8_lossy(&line);
        parse(&line).ok_or(NutError::Garbled("a line is not made of words"))
    }

    fn line(&mut self) -> Result<Vec<u8>, NutError> {
        let mut until = now() + LINE_PATIENCE;
        until = until.min(self.until);
        let mut seen = 0;
        loop {
            let unseen = self.buffer.get(seen..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(seen + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            seen = self.buffer.len();
            if seen > LINE_BYTES_MAX {
                return Err(NutError::Garbled("a line is too long"));
            }
            let mut chunk = [0; 1024];
            let length = match self.stream.read_within(&mut chunk, time_left(until)?) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // What a read timeout is called depends on the system.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::from(ErrorKind::TimedOut).into());
                }
                Err(error) => return Err(error.into()),
            };
            self.bytes_left = self
                .bytes_left
                .checked_sub(length)
                .ok_or(NutError::Garbled("the server says too much"))?;
            self.buffer.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
    }
}

/// A server that says what was written before, whatever it hears: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
impl Wire for &[u8] {
    fn read_within(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
        self.read(buffer)
    }

    fn write_within(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// A conversation with a server that says these bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn client_of(bytes: &[u8]) -> Client<&[u8]> {
    Client::over(bytes, now() + Duration::from_secs(60))
}

fn refused(words: &[String]) -> NutError {
    NutError::Refused(words.get(1).map(|code| code.chars().take(64).collect()).unwrap_or_default())
}

/// A word as it is sent; `None` if it cannot be.
fn quoted(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    Some(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The words of a line; `None` if a quote is not closed or there are too many.
pub(super) fn parse(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    loop {
        while chars.next_if_eq(&' ').is_some() {}
        let Some(first) = chars.next() else { return Some(words) };
        if words.len() >= WORDS_MAX {
            return None;
        }
        let mut word = String::new();
        if first == '"' {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => word.push(chars.next()?),
                    other => word.push(other),
                }
            }
        } else {
            word.push(first);
            while let Some(next) = chars.next_if(|c| *c != ' ') {
                word.push(if next == '\\' { chars.next()? } else { next });
            }
        }
        words.push(word);
    }
}

/// What is left until then, never zero; an error when nothing is.
fn time_left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[expect(clippy::disallowed_methods, reason = "bounds how long a conversation takes")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// A server that says all of `text`, whatever it is asked, and then hangs up or waits.
    fn server(text: impl Into<Vec<u8>>, hangs: bool) -> (String, thread::JoinHandle<()>) {
        let text = text.into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A question left unread would turn the end of the answer into a reset.
            let _question = stream.read(&mut [0; 64]).unwrap();
            // The client may have gone already.
            drop(stream.write_all(&text));
            if hangs {
                // Until the client goes.
                drop(io::copy(&mut stream, &mut io::sink()));
            }
        });
        (address, thread)
    }

    fn list(text: impl Into<Vec<u8>>, hangs: bool, patience_ms: u64) -> Result<usize, NutError> {
        let (address, thread) = server(text, hangs);
        let mut client = Client::connect(&address, Duration::from_millis(patience_ms)).unwrap();
        let listed = client.list_ups().map(|items| items.len());
        drop(client);
        thread.join().unwrap();
        listed
    }

    #[test]
    fn words_are_told_apart() {
        let check = |line: &str, expected: &[&str]| assert_eq!(parse(line).unwrap(), expected);
        check(r#"VAR ups battery.charge "100""#, &["VAR", "ups", "battery.charge", "100"]);
        check(r#"UPS a "say \"hi\" \\ there""#, &["UPS", "a", r#"say "hi" \ there"#]);
        check("  OK\r", &["OK"]);
        check(r#"VAR ups x """#, &["VAR", "ups", "x", ""]);
        check("", &[]);
        for line in [r#"VAR "open"#, r#"VAR "escape\"#, "a b c d e f g h i", r"a\"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_list_is_read_to_its_end() {
        let text = "BEGIN LIST UPS\nUPS a \"one\"\nUPS b\nEND LIST UPS\n";
        assert_eq!(list(text, false, 5000).unwrap(), 2);
    }

    #[test]
    fn a_server_that_says_something_else_is_refused() {
        let error = |text: &str| list(text, false, 5000).unwrap_err().to_string();
        assert_eq!(error("ERR ACCESS-DENIED\n"), r#"the server answers "ACCESS-DENIED""#);
        for text in ["HTTP/1.1 400 Bad Request\r\n\r\n", "BEGIN LIST UPS\nHELLO\n", "\n", "\"\n"] {
            assert!(error(text).contains("does not speak NUT's protocol"), "{text}");
        }
        assert_eq!(error("BEGIN LIST UPS\nUPS a"), "unexpected end of file");
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let wrong = |text: Vec<u8>| list(text, true, 5000).unwrap_err().to_string();
        let long = [b"BEGIN LIST UPS\n".as_slice(), &[b'x'; 100_000]].concat();
        assert!(wrong(long).ends_with("a line is too long"));
        let many = [b"BEGIN LIST UPS\n".as_slice(), &b"UPS a\n".repeat(10_000)].concat();
        assert!(wrong(many).ends_with("a list has too many items"));
    }

    #[test]
    fn a_server_that_is_silent_is_given_up_in_time() {
        for text in ["", "BEGIN LIST UPS\n", "BEGIN LIST UPS\nUPS half"] {
            let NutError::Io(error) = list(text, true, 200).unwrap_err() else { panic!("{text}") };
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{text}");
        }
    }

    #[test]
    fn a_password_cannot_be_a_command() {
        assert_eq!(quoted("a\nFSD ups"), None);
        assert_eq!(quoted(r#"a "b" \"#).unwrap(), r#""a \"b\" \\""#);
    }

    proptest! {
        #[test]
        fn any_line_is_words_or_not(line in ".{0,200}") {
            prop_assert!(parse(&line).is_none_or(|words| words.len() <= WORDS_MAX));
        }

        #[test]
        fn what_is_sent_is_what_would_be_read(word in "[^\\p{Cc}]{0,40}") {
            prop_assert_eq!(parse(&quoted(&word).unwrap()).unwrap(), [word]);
        }
    }
}

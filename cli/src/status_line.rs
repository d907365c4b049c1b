//! The one line at the bottom of the terminal that is drawn anew, and the log lines that pass it.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Between two fields of a line.
const SEPARATOR: &str = " · ";

/// Back to the start of the line, and nothing on it.
const CLEAR: &str = "\r\u{1b}[2K";

/// A line that would wrap could not be cleared: it is cut at the edge instead.
const WRAP_OFF: &str = "\u{1b}[?7l";
const WRAP_ON: &str = "\u{1b}[?7h";

/// Standard output and standard error of a program that draws a line; clones draw the same one.
#[derive(Clone)]
pub(crate) struct StatusLine {
    screen: Arc<Mutex<Screen<Box<dyn Write + Send>>>>,
    watched: bool,
}

struct Screen<W> {
    out: W,
    err: W,
    /// Whether both show in one place.
    shared: bool,
    /// What stands on the line the cursor is on.
    drawn: Option<String>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        let watched = io::stdout().is_terminal();
        let screen: Screen<Box<dyn Write + Send>> = Screen {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            shared: watched && io::stderr().is_terminal(),
            drawn: None,
        };
        Self { screen: Arc::new(Mutex::new(screen)), watched }
    }

    /// Whether a person sees standard output.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Replaces the line, its last fields left out where the terminal is too narrow; one below the other when nobody watches.
    pub(crate) fn draw(&self, line: &str) {
        if self.watched {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
            let columns = size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0);
            let line = columns.map_or(line, |columns| fitted(line, columns));
            self.on_screen(|screen| screen.draw(line));
        } else {
            self.say(line);
        }
    }

    /// Prints a text that stays; what was drawn stays above it.
    pub(crate) fn say(&self, text: &str) {
        self.on_screen(|screen| screen.say(text));
    }

    /// Prints a line of the log above what is drawn.
    pub(crate) fn log(&self, line: &[u8]) {
        self.on_screen(|screen| screen.log(line));
    }

    fn on_screen(&self, act: impl FnOnce(&mut Screen<Box<dyn Write + Send>>) -> io::Result<()>) {
        // A terminal that went away is no reason to stop serving.
        let _gone = act(&mut self.screen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The leading fields of a line that fit; always the first.
fn fitted(line: &str, columns: usize) -> &str {
    let mut fitted = line;
    while fitted.chars().count() > columns
        && let Some((shorter, _)) = fitted.rsplit_once(SEPARATOR)
    {
        fitted = shorter;
    }
    fitted
}

impl<W: Write> Screen<W> {
    fn draw(&mut self, line: &str) -> io::Result<()> {
        write!(self.out, "{CLEAR}{WRAP_OFF}{line}{WRAP_ON}")?;
        self.drawn = Some(line.to_owned());
        self.out.flush()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        if self.drawn.take().is_some() {
            writeln!(self.out)?;
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn log(&mut self, line: &[u8]) -> io::Result<()> {
        let drawn = if self.shared { self.drawn.take() } else { None };
        if drawn.is_some() {
            write!(self.out, "{CLEAR}")?;
            self.out.flush()?;
        }
        self.err.write_all(line)?;
        self.err.flush()?;
        drawn.map_or(Ok(()), |drawn| self.draw(&drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both streams of a terminal.
    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_narrow_terminal_costs_the_last_fields() {
        let line = "3 hosts · – B/sample · up 2 s";
        for (columns, want) in [
            (80, line),
            (29, line),
            (28, "3 hosts · – B/sample"),
            (20, "3 hosts · – B/sample"),
            (19, "3 hosts"),
            (3, "3 hosts"),
        ] {
            assert_eq!(fitted(line, columns), want, "{columns}");
        }
    }

    #[test]
    fn a_log_line_takes_the_place_of_the_drawn_one_which_moves_below() {
        let terminal = Terminal::default();
        let (out, err) = (terminal.clone(), terminal.clone());
        let mut screen = Screen { out, err, shared: true, drawn: None };
        let mut check = |act: &dyn Fn(&mut Screen<Terminal>) -> io::Result<()>, shown: &str| {
            terminal.0.lock().unwrap().clear();
            act(&mut screen).unwrap();
            assert_eq!(String::from_utf8_lossy(&terminal.0.lock().unwrap()), shown);
        };
        let drawn = "\r\u{1b}[2K\u{1b}[?7l3 hosts\u{1b}[?7h";
        check(&|screen| screen.log(b"WARN early\n"), "WARN early\n");
        check(&|screen| screen.draw("3 hosts"), drawn);
        check(&|screen| screen.log(b"WARN a\n"), &format!("\r\u{1b}[2KWARN a\n{drawn}"));
        check(&|screen| screen.log(b"WARN b\n"), &format!("\r\u{1b}[2KWARN b\n{drawn}"));
        check(&|screen| screen.say("stopping"), "\nstopping\n");
        check(&|screen| screen.log(b"WARN late\n"), "WARN late\n");
    }

    #[test]
    fn a_log_that_goes_elsewhere_leaves_the_drawn_line_alone() {
        let (out, err) = (Terminal::default(), Terminal::default());
        let mut screen = Screen { out: out.clone(), err: err.clone(), shared: false, drawn: None };
        screen.draw("3 hosts").unwrap();
        let before = out.0.lock().unwrap().len();
        screen.log(b"WARN a\n").unwrap();
        assert_eq!(
            (out.0.lock().unwrap().len(), &**err.0.lock().unwrap()),
            (before, &b"WARN a\n"[..])
        );
        screen.say("stopping").unwrap();
        assert!(out.0.lock().unwrap().ends_with(b"\nstopping\n"), "on a line of its own");
    }
}

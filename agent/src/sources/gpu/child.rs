//! The agent's side of the child that asks NVML: started when it is first asked, asked again and again,
//! ended when it does not answer.
//!
//! A question is a line break, an answer a line of JSON ([`super::pass`]). A child that ends, hangs or says
//! what is no answer, and one whose NVML does not answer, is ended and begun anew, after [`PAUSE`] at first
//! and twice as long each time, up to [`PAUSE_MAX`]; meanwhile what was wrong is what is answered. One that
//! cannot be ended is left behind, and no other is begun while it is there (see
//! [`crate::sources::program`]). Bounded by [`ANSWER_BYTES_MAX`]. Knows nothing of GPUs.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stoa_daemon::{Span, error_chain};

use super::pass::Answer;
use crate::sources::{Now, program};

/// The longest answer: room for some 30,000 processes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Room that is kept from one answer to the next.
const ANSWER_BYTES_KEPT: usize = 64 << 10;
/// How long a child may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("cannot start the process that asks NVML")]
    Start(#[source] io::Error),
    #[error("the process that asks NVML hangs in the kernel and cannot be ended")]
    Hangs,
    #[error("the process that asks NVML ended{0}")]
    Ended(String),
    #[error("NVML did not answer within {0}")]
    TimedOut(Span),
    #[error("NVML's answer is longer than 4 MiB")]
    TooLong,
    #[error("the process that asks NVML cannot be heard")]
    Hear(#[source] io::Error),
    #[error("the process that asks NVML says what is no answer")]
    Garbled(#[source] serde_json::Error),
}

/// A child, if there is one.
#[derive(Debug)]
pub(super) struct Reader {
    program: PathBuf,
    args: Vec<OsString>,
    /// How long a child may take to answer.
    patience: Duration,
    running: Option<Running>,
    /// Since the last answer.
    failures: u32,
    /// What came of asking last where that was no pass, and when that was.
    wrong: Option<(Result<Answer, String>, Now)>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
    line: Vec<u8>,
}

impl Reader {
    /// `program` is run with `args`.
    pub(super) fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args, patience: PATIENCE, running: None, failures: 0, wrong: None }
    }

    /// Asks; blocks for its patience at most.
    ///
    /// # Errors
    /// What is wrong, in words for a person; the same until a child is begun anew.
    pub(super) fn ask(&mut self, now: Now) -> Result<Answer, String> {
        if let Some((wrong, at)) = &self.wrong
            && !now.is_past(*at, self.pause())
        {
            return wrong.clone();
        }
        let answer = self.try_ask().map_err(|error| error_chain(&error));
        if matches!(answer, Ok(Answer::Pass(_))) {
            self.failures = 0;
            self.wrong = None;
        } else {
            self.end();
            self.failures += 1;
            self.wrong = Some((answer.clone(), now));
        }
        answer
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(10);
        (PAUSE * 2_u32.pow(doublings)).min(PAUSE_MAX)
    }

    fn try_ask(&mut self) -> Result<Answer, ChildError> {
        let running = match &mut self.running {
            Some(running) => running,
            None => self.running.insert(start(&self.program, &self.args)?),
        };
        match running.ask(self.patience) {
            Err(ChildError::Ended(_)) => {
                let status = program::ended(&mut running.child);
                Err(ChildError::Ended(status.map_or(String::new(), |it| format!(": {it}"))))
            }
            answer => answer,
        }
    }

    fn end(&mut self) {
        if let Some(Running { child, .. }) = self.running.take() {
            program::end(child, &command(&self.program, &self.args));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(program: &PathBuf, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0);
    command
}

fn start(program: &PathBuf, args: &[OsString]) -> Result<Running, ChildError> {
    let mut command = command(program, args);
    if program::hangs(&command) {
        return Err(ChildError::Hangs);
    }
    let mut child = command.spawn().map_err(ChildError::Start)?;
    program::offer_to_oom_killer(&child);
    match (child.stdin.take(), child.stdout.take()) {
        (Some(questions), Some(answers)) => {
            Ok(Running { child, questions, answers, line: Vec::new() })
        }
        _ => Err(ChildError::Start(io::ErrorKind::BrokenPipe.into())),
    }
}

impl Running {
    fn ask(&mut self, patience: Duration) -> Result<Answer, ChildError> {
        let until = instant() + patience;
        self.line.clear();
        self.line.shrink_to(ANSWER_BYTES_KEPT);
        let ended = || ChildError::Ended(String::new());
        self.questions.write_all(b"\n").map_err(|_broken| ended())?;
        let mut buffer = [0; 16 << 10];
        while self.line.last() != Some(&b'\n') {
            self.wait(until)
                .map_err(|late| late.unwrap_or(ChildError::TimedOut(Span(patience))))?;
            match self.answers.read(&mut buffer).map_err(ChildError::Hear)? {
                0 => return Err(ended()),
                length => self.line.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
            if self.line.len() > ANSWER_BYTES_MAX {
                return Err(ChildError::TooLong);
            }
        }
        serde_json::from_slice(&self.line).map_err(ChildError::Garbled)
    }

    /// Waits until there is something to read; `Err(None)`: in vain.
    fn wait(&self, until: Instant) -> Result<(), Option<ChildError>> {
        loop {
            let left = until.saturating_duration_since(instant());
            let left = Timespec::try_from(left).ok().filter(|left| *left != Timespec::default());
            let left = left.ok_or(None)?;
            let mut fds = [PollFd::from_borrowed_fd(self.answers.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(Some(ChildError::Hear(error.into()))),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a child takes")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::super::pass::{Fault, Pass};
    use super::*;

    fn shell(script: &str) -> Reader {
        let mut reader = Reader::new("/bin/sh".into(), vec!["-c".into(), script.into()]);
        reader.patience = Duration::from_secs(5);
        reader
    }

    fn at(second: i64) -> Now {
        Now { unix_micros: second * 1_000_000 }
    }

    #[test]
    fn one_child_answers_question_after_question() {
        let script =
            r#"n=0; while read -r _; do n=$((n + 1)); echo "{\"pass\":{\"driver\":\"$n\"}}"; done"#;
        let mut reader = shell(script);
        for n in 1..4 {
            let pass = Pass { driver: n.to_string(), ..Pass::default() };
            assert_eq!(reader.ask(at(n)), Ok(Answer::Pass(pass)));
        }
    }

    #[test]
    fn one_that_breaks_is_begun_anew_ever_more_rarely() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("begun");
        let script = format!(
            r#"read -r _; echo x >>{file}; [ $(wc -l <{file}) -lt 3 ] || echo '{{"fault":{{"fault":"mismatch","why":"w"}}}}'"#,
            file = file.display()
        );
        let mut reader = shell(&script);
        let begun = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        let ended = Err("the process that asks NVML ended: exit status: 0".to_owned());
        let mismatch = Ok(Answer::Fault { fault: Fault::Mismatch, why: "w".to_owned() });
        for (second, expected, count) in [
            (0, ended.clone(), 1),
            (9, ended.clone(), 1),
            (10, ended.clone(), 2),
            (29, ended, 2),
            (30, mismatch.clone(), 3),
            // What NVML says is wrong is no reason to ask it all the time.
            (69, mismatch.clone(), 3),
            (70, mismatch, 4),
        ] {
            assert_eq!((reader.ask(at(second)), begun()), (expected, count), "at {second} s");
        }
    }

    #[test]
    fn one_that_hangs_raves_or_says_nothing_of_use_is_ended() {
        for (script, wrong) in [
            ("exec sleep 1000", "NVML did not answer within 300ms"),
            ("read -r _; echo hello", "says what is no answer: expected value"),
            ("exec cat /dev/zero", "NVML's answer is longer than 4 MiB"),
            ("kill -SEGV $$", "ended: signal: 11 (SIGSEGV)"),
            // It is silent for ever and does not end.
            ("exec sleep 1000 >&-", "the process that asks NVML ended"),
        ] {
            let mut reader = shell(script);
            if script == "exec sleep 1000" {
                reader.patience = Duration::from_millis(300);
            }
            let said = reader.ask(at(0)).unwrap_err();
            assert!(said.contains(wrong), "{script}: {said}");
            assert!(reader.running.is_none());
        }
        let mut reader = Reader::new("/nonexistent".into(), Vec::new());
        assert!(reader.ask(at(0)).unwrap_err().starts_with("cannot start the process"));
    }
}

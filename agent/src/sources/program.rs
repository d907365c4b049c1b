//! Programs that a source asks: run without a shell, bounded in time and output.
//!
//! A program has an empty environment but for `PATH` and `LC_ALL=C`, no standard input, and a process
//! group of its own that is killed when the time is up. One that cannot be killed (it waits in the
//! kernel) is left behind, see [`hanging`], and not begun again until it has ended. When memory runs
//! out the kernel is to end it rather than the agent. Knows nothing of what a program says.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use hanging::{Hanging, Question};

mod hanging;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a program may say, unless told otherwise.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// What is kept of its complaints.
const ERROR_BYTES_MAX: usize = 4 << 10;
/// How long a program may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much sooner than others a program is killed when memory runs out, of 1000: it is asked again,
/// and the agent goes on.
const OOM_SCORE: &str = "500";
/// How often it is looked whether a program that has closed its output has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long it is waited for one that was killed.
const DEATH: Duration = Duration::from_millis(500);

static HANGING: Hanging = Hanging::new();

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("{program} is not installed")]
    Absent {
        /// Which.
        program: String,
    },
    /// It could not be run, or its output not read.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {timeout:?}")]
    TimedOut {
        /// Which.
        program: String,
        /// How long it had.
        timeout: Duration,
    },
    /// It was killed the last time and has not ended since.
    #[error("{program} hangs since it was asked before, and cannot be killed; is a disk dead?")]
    Hangs {
        /// Which.
        program: String,
    },
    /// It said too much and was killed.
    #[error("{program} said more than {bytes_max} bytes")]
    TooLong {
        /// Which.
        program: String,
        /// How much it may say.
        bytes_max: usize,
    },
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The beginning of it.
    pub(crate) stderr: String,
}

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    command: Command,
    timeout: Duration,
    bytes_max: usize,
}

impl Program {
    /// `name` is looked for in the usual directories unless it is a path.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(name);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        Self { name: name.to_owned(), command, timeout: TIMEOUT, bytes_max: OUTPUT_BYTES_MAX }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Runs it to its end; an exit status other than 0 is the caller's to judge.
    pub(crate) fn run(mut self) -> Result<Output, ProgramError> {
        let program = self.name.clone();
        let question = Question::of(&self.command);
        if HANGING.forbids(&question) {
            return Err(ProgramError::Hangs { program });
        }
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ProgramError::Absent { program });
            }
            Err(source) => return Err(ProgramError::Run { program, source }),
        };
        offer_to_oom_killer(&child);
        let until = now() + self.timeout;
        let heard = self.hear(&mut child, until);
        let ended = match heard {
            Ok(said) => match end_by(&mut child, until) {
                Ok(Some(status)) => {
                    let (stdout, stderr) = said;
                    let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
                    return Ok(Output { status, stdout, stderr });
                }
                Ok(None) => Err(ProgramError::TimedOut { program, timeout: self.timeout }),
                Err(source) => Err(ProgramError::Run { program, source }),
            },
            Err(error) => Err(error),
        };
        kill(&child);
        reap(child, question, &HANGING);
        ended
    }

    /// Reads both outputs until they are closed.
    fn hear(&self, child: &mut Child, until: Instant) -> Result<(Vec<u8>, Vec<u8>), ProgramError> {
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut buffer = [0; 16 << 10];
        let broken = |source| ProgramError::Run { program: self.name.clone(), source };
        while out.is_some() || err.is_some() {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                let (program, timeout) = (self.name.clone(), self.timeout);
                return Err(ProgramError::TimedOut { program, timeout });
            }
            let fds = [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)];
            let mut fds: Vec<PollFd<'_>> = fds
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let left = Timespec::try_from(left)
                .map_err(|_too_long| broken(ErrorKind::InvalidInput.into()))?;
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(broken(error.into())),
            }
            let mut ready =
                fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
            let out_ready = out.is_some() && ready.next().unwrap_or(false);
            let err_ready = err.is_some() && ready.next().unwrap_or(false);
            if let Some(pipe) = out.as_mut().filter(|_| out_ready) {
                let length = pipe.read(&mut buffer).map_err(broken)?;
                stdout.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if length == 0 {
                    out = None;
                }
            }
            if let Some(pipe) = err.as_mut().filter(|_| err_ready) {
                let length = pipe.read(&mut buffer).map_err(broken)?;
                let room = ERROR_BYTES_MAX.saturating_sub(stderr.len()).min(length);
                stderr.extend_from_slice(buffer.get(..room).unwrap_or_default());
                if length == 0 {
                    err = None;
                }
            }
            if stdout.len() > self.bytes_max {
                let (program, bytes_max) = (self.name.clone(), self.bytes_max);
                return Err(ProgramError::TooLong { program, bytes_max });
            }
        }
        Ok((stdout, stderr))
    }
}

/// What it starts inherits it. A program with rights of its own does not let it be written, and goes
/// on as it is.
pub(crate) fn offer_to_oom_killer(child: &Child) {
    drop(std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), OOM_SCORE));
}

/// Waits until the program has ended, at most until `until`.
fn end_by(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// Ends a program and what it started.
fn kill(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended on its own by now.
        let _gone = kill_process_group(group, Signal::KILL);
    }
}

/// Ends a child that was started by `command` and goes on by itself; one that does not end is left behind.
pub(crate) fn end(child: Child, command: &Command) {
    kill(&child);
    reap(child, Question::of(command), &HANGING);
}

/// How a child ended, that should be about to; `None` when it does not.
pub(crate) fn ended(child: &mut Child) -> Option<ExitStatus> {
    end_by(child, now() + DEATH).ok().flatten()
}

/// Whether a child that was started so hangs.
pub(crate) fn hangs(command: &Command) -> bool {
    HANGING.forbids(&Question::of(command))
}

/// Waits for one that was killed, and leaves it behind when it does not end.
fn reap(mut child: Child, question: Question, hanging: &Hanging) {
    if let Ok(None) = end_by(&mut child, now() + DEATH) {
        hanging.leave(question, child);
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a program takes")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn what_a_program_says_is_heard_with_its_status() {
        let output = shell("echo out; echo err >&2; exit 3").run().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, "err");
        let output = shell("env | sort; read x || echo closed").run().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("LC_ALL=C\nPATH="), "{text}");
        assert!(text.ends_with("closed\n") && !text.contains("HOME"), "{text}");
    }

    #[test]
    fn a_program_is_killed_before_the_agent_when_memory_runs_out() {
        let output = shell("sleep 0.3; cat /proc/self/oom_score_adj").run().unwrap();
        assert_eq!(output.stdout, b"500\n");
    }

    #[test]
    fn a_program_that_hangs_or_raves_is_killed_with_its_children() {
        let timeout = Duration::from_millis(200);
        let began = now();
        let error = shell("sleep 60 & sleep 60").timeout(timeout).run().unwrap_err();
        assert!(matches!(error, ProgramError::TimedOut { .. }), "{error}");
        let error = shell("exec >/dev/null 2>&1; sleep 60").timeout(timeout).run().unwrap_err();
        assert!(matches!(error, ProgramError::TimedOut { .. }), "{error}");
        // One that has left the group and holds the output is not waited for longer than that.
        let error = shell("setsid sleep 4 & exit 0").timeout(timeout).run().unwrap_err();
        assert!(matches!(error, ProgramError::TimedOut { .. }), "{error}");
        let error = shell("yes").bytes_max(1000).run().unwrap_err();
        assert!(matches!(error, ProgramError::TooLong { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "the children were waited for");
        let error = Program::new("no-such-program").run().unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not installed");
    }

    #[test]
    fn one_that_cannot_be_killed_is_left_behind() {
        let mut command = Command::new("sleep");
        let child = command.arg("60").process_group(0).spawn().unwrap();
        let (hanging, question) = (Hanging::new(), Question::of(&command));
        let group = Pid::from_child(&child);
        let began = now();
        reap(child, question.clone(), &hanging);
        assert!(began.elapsed() < Duration::from_secs(30), "it was waited for");
        assert!(hanging.forbids(&question));
        kill_process_group(group, Signal::KILL).unwrap();
        while hanging.forbids(&question) {
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn what_hangs_is_not_begun_again() {
        let mut command = Command::new("/bin/sh");
        let child = command.args(["-c", "sleep 60 # hangs"]).process_group(0).spawn().unwrap();
        let group = Pid::from_child(&child);
        HANGING.leave(Question::of(&command), child);
        let error = shell("sleep 60 # hangs").run().unwrap_err();
        assert!(matches!(error, ProgramError::Hangs { .. }), "{error}");
        assert!(shell("true # another question").run().is_ok());
        kill_process_group(group, Signal::KILL).unwrap();
    }
}

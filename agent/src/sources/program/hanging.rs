//! Programs that were killed and have not ended: they wait in the kernel, for a disk that does not answer
//! or a pool that is suspended.
//!
//! Nothing can end them, so they are left behind and reaped once they have ended, when a program is run
//! next. Until then the same question (a program and its arguments) is not asked again, and of one
//! program no more than [`OF_ONE_MAX`] are left behind, and those that were begun before the last of them
//! was. Knows nothing of sources.

use std::ffi::{OsStr, OsString};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

/// Of one program: a controller that is dead takes all its disks with it.
const OF_ONE_MAX: usize = 8;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question(Vec<OsString>);

impl Question {
    pub(super) fn of(command: &Command) -> Self {
        let program = std::iter::once(command.get_program());
        Self(program.chain(command.get_args()).map(OsStr::to_owned).collect())
    }
}

/// Those that were left behind.
#[derive(Debug)]
pub(super) struct Hanging(Mutex<Vec<(Question, Child)>>);

impl Hanging {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Whether the question would but add one that hangs.
    pub(super) fn forbids(&self, question: &Question) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that cannot be asked after any more is not ours.
        left.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        let of_one = left.iter().filter(|(other, _)| other.0.first() == question.0.first());
        of_one.count() >= OF_ONE_MAX || left.iter().any(|(other, _)| other == question)
    }

    pub(super) fn leave(&self, question: Question, child: Child) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((question, child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping(seconds: usize) -> (Question, Child) {
        let mut command = Command::new("sleep");
        command.arg(seconds.to_string());
        (Question::of(&command), command.spawn().unwrap())
    }

    #[test]
    fn what_hangs_is_not_asked_again_until_it_has_ended() {
        let hanging = Hanging::new();
        let other = Question::of(Command::new("sleep").arg("1000"));
        let of_other = Question::of(Command::new("true").arg("100"));
        let mut pids = Vec::new();
        for seconds in 100..100 + OF_ONE_MAX {
            let (question, child) = sleeping(seconds);
            assert!(!hanging.forbids(&question) && !hanging.forbids(&other));
            pids.push(child.id().to_string());
            hanging.leave(question.clone(), child);
            assert!(hanging.forbids(&question) && !hanging.forbids(&of_other), "{seconds}");
        }
        assert!(hanging.forbids(&other));
        assert!(Command::new("kill").args(&pids).status().unwrap().success());
        while hanging.forbids(&other) {
            std::thread::yield_now();
        }
        while !hanging.0.lock().unwrap().is_empty() {
            hanging.forbids(&other);
        }
    }
}

//! The end of a program: one error printed once, and its exit code.

use std::fmt;
use std::process::{ExitCode, Termination};

/// What `main` returns: success, a failure (code 1) or a misuse (code 2), printed as it ends.
#[derive(Debug)]
pub struct Exit(Result<(), anyhow::Error>);

/// Marks an error as the caller's misuse: exit code 2 instead of 1.
///
/// Wrap a bad argument, a bad configuration file, a used token: what only the person can mend.
#[derive(Debug)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

impl From<Result<(), anyhow::Error>> for Exit {
    fn from(result: Result<(), anyhow::Error>) -> Self {
        Self(result)
    }
}

impl Exit {
    /// 0 ok, 1 failed, 2 used wrongly.
    #[must_use]
    pub fn code(&self) -> u8 {
        match &self.0 {
            Ok(()) => 0,
            Err(error) if is_misuse(error) => 2,
            Err(_) => 1,
        }
    }
}

fn is_misuse(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Misuse>().is_some()
            || cause.downcast_ref::<crate::ConfigError>().is_some()
    })
}

/// An error with its causes, in one line: for a log line or a message to a peer.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Termination for Exit {
    #[expect(clippy::print_stderr, reason = "the one place where an error is printed")]
    fn report(self) -> ExitCode {
        let code = self.code();
        if let Err(error) = self.0 {
            eprintln!("error: {error:#}");
        }
        ExitCode::from(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whose_fault_it_was() {
        assert_eq!(Exit::from(Ok(())).code(), 0);
        assert_eq!(Exit::from(Err(anyhow::anyhow!("disk full"))).code(), 1);
        let misuse = anyhow::Error::new(Misuse("token is used".into())).context("join");
        assert_eq!(Exit::from(Err(misuse)).code(), 2);
    }
}

//! A process of our own: started with its words in a file, ended by its id.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::cost::Cost;

/// How long a process may take to end after it was asked to.
const END: Duration = Duration::from_secs(20);

/// How often it is looked at while it ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running process; killed when dropped.
pub(super) struct Running {
    child: Child,
    /// Where what it prints goes.
    words: PathBuf,
}

impl Running {
    /// Starts a program with what it prints in `words`, out of the terminal's reach: Ctrl-C comes to
    /// us, and we end it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(command: &mut Command, words: &Path) -> anyhow::Result<Self> {
        let file = File::create(words).with_context(|| format!("create {}", words.display()))?;
        let errors = file.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { child, words: words.to_path_buf() })
    }

    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error that says so when it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let words = std::fs::read_to_string(&self.words).unwrap_or_default();
                let last = words.lines().last().unwrap_or("it said nothing").to_owned();
                anyhow::bail!("a process ended early ({status}): {last}")
            }
        }
    }

    /// Waits until it has done what it was started for; what that has cost.
    ///
    /// # Errors
    /// When it ends with an error.
    pub(super) async fn done(mut self) -> anyhow::Result<Cost> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process has no id")?;
        // Looked at and not taken: the kernel tells what it has cost until its end is taken.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), ended).context("wait for a process")?.is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let cost = Cost::of(self.pid())?;
        if self.child.wait()?.success() {
            return Ok(cost);
        }
        self.check()?;
        Ok(cost)
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it ends with an error, or not at all and had to be killed.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).context("ask a process to end")?;
        }
        let ended = tokio::time::timeout(END, async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let status = ended.await.context("wait for a process to end")??;
        anyhow::ensure!(status.success(), "a process ended with an error ({status})");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Running {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        Running::start(&mut command, &dir.join("words")).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_asked_to_end_and_its_code_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let ready = |name: &str| dir.path().join(name);
        for (code, good) in [(0, true), (3, false)] {
            let file = ready(&code.to_string());
            let script = format!(
                "trap 'exit {code}' TERM; : > {}; while :; do sleep 0.01; done",
                file.display()
            );
            let mut running = shell(&script, dir.path());
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            running.check().unwrap();
            assert_eq!(running.stop().await.is_ok(), good, "{code}");
        }
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let cost = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", dir.path());
        assert!(cost.done().await.unwrap().cpu >= Duration::from_millis(10));
        let error = shell("echo no; exit 1", dir.path()).done().await.unwrap_err();
        assert_eq!(error.to_string(), "a process ended early (exit status: 1): no");
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = shell("echo first; echo no room >&2; exit 4", dir.path());
        let error = loop {
            if let Err(error) = running.check() {
                break error.to_string();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(error, "a process ended early (exit status: 4): no room");
    }
}

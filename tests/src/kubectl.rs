//! The real kubectl, in every version at hand.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::host::{Namespace, repository};

/// Debian's kubectl 1.32 and, where it could be had, 1.36.
pub fn kubectls() -> Vec<PathBuf> {
    let all = ["trixie", "sid"].map(kubectl_of);
    let present: Vec<PathBuf> = all.into_iter().filter(|path| path.exists()).collect();
    assert!(!present.is_empty(), "no kubectl in target/kubectl; get it with scripts/setup.sh");
    present
}

/// Debian 12's kubectl 1.20. It knows beta versions that v1.36 no longer serves, and not all flags and verbs of today,
/// so [`kubectls`] is without it.
pub fn kubectl_1_20() -> PathBuf {
    let path = kubectl_of("bookworm");
    assert!(path.exists(), "{} is missing; get it with scripts/setup.sh", path.display());
    path
}

/// Every kubectl as one that speaks SPDY where later ones speak WebSocket by themselves: 1.20, which knows nothing else,
/// then the others by a script in `directory`.
pub fn spdy_kubectls(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![kubectl_1_20()];
    for (number, kubectl) in kubectls().iter().enumerate() {
        let script = directory.join(format!("kubectl-spdy-{number}"));
        let text = format!(
            "#!/bin/sh\nexport KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false KUBECTL_PORT_FORWARD_WEBSOCKETS=false\nexec {} \"$@\"\n",
            kubectl.display()
        );
        std::fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
        std::fs::set_permissions(&script, Permissions::from_mode(0o755)).context("making a script executable")?;
        all.push(script);
    }
    Ok(all)
}

/// Where scripts/setup.sh puts the kubectl of a suite of Debian.
fn kubectl_of(suite: &str) -> PathBuf {
    repository().join("target/kubectl").join(suite).join("kubectl")
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    pub success: bool,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    words: String,
}

impl Answer {
    fn new(words: String, output: &Output) -> Self {
        Self {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            words,
        }
    }

    /// The standard output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "{} failed\nstdout: {}\nstderr: {}", self.words, self.stdout, self.stderr);
        self.stdout
    }

    /// The standard error of a command that must have failed.
    #[track_caller]
    pub fn error(self) -> String {
        assert!(!self.success, "{} succeeded\nstdout: {}\nstderr: {}", self.words, self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs a prepared command, with `input` on its standard input.
pub fn answer(mut command: Command, input: &str) -> Result<Answer> {
    use std::io::Write;
    let words = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {words}"))?;
    let mut stdin = child.stdin.take().context("a piped standard input")?;
    // A command that does not read its input ends the pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("running {words}"))?;
    Ok(Answer::new(words, &output))
}

/// A kubectl command in a cluster's namespace.
pub fn command(namespace: &Namespace, kubectl: &PathBuf, kubeconfig: &PathBuf, home: &PathBuf) -> Command {
    let mut command = namespace.command(kubectl);
    // Its caches are the test's own.
    command.env("KUBECONFIG", kubeconfig).env("HOME", home);
    command
}

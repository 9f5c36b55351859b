//! A command that is talked to while it runs: a watch, a followed log, a shell on a terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cluster::{Cluster, PATIENCE};

/// Ends its command when dropped.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    /// Both outputs as they come; the channel closes with them.
    chunks: Receiver<Vec<u8>>,
    seen: String,
    /// How much of `seen` earlier expectations have used up.
    used: usize,
}

impl Session {
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let (sender, chunks) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
            child.stderr.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
        ];
        for mut output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut buffer) {
                    if sender.send(buffer[..count].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        let input = child.stdin.take();
        Ok(Self { child, input, chunks, seen: String::new(), used: 0 })
    }

    /// Waits until `text` is printed after what earlier expectations found; returns everything up to its end.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.used..].find(text) {
                let end = self.used + at + text.len();
                let found = self.seen[self.used..end].to_owned();
                self.used = end;
                return Ok(found);
            }
            match self.chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => bail!("{text:?} was not printed in {PATIENCE:?}: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended without printing {text:?}: {:?}", self.seen),
            }
        }
    }

    /// Types into the command.
    pub fn send(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.input.as_mut().context("its input is closed")?.write_all(text.as_ref()).context("typing")
    }

    /// Closes its input and waits for its end; with everything it printed.
    pub fn finish(mut self) -> Result<(ExitStatus, String)> {
        drop(self.input.take());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => bail!("it did not end in {PATIENCE:?}: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().context("waiting for its end")?;
        Ok((status, std::mem::take(&mut self.seen)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    /// kubectl, talked to through pipes.
    pub fn session(&self, arguments: &[&str]) -> Result<Session> {
        Session::start(self.kubectl_command(arguments))
    }

    /// kubectl on a terminal of its own, as a user has it.
    pub fn terminal(&self, arguments: &[&str]) -> Result<Session> {
        let inner = self.kubectl_command(arguments);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let quoted: Vec<String> =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        let mut command = Command::new("script");
        // -e: the status of the command; -f: as it comes.
        command.args(["-qefc", &format!("stty rows 40 cols 132; exec {}", quoted.join(" ")), "/dev/null"]);
        command.env("TERM", "xterm");
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Session::start(command)
    }
}

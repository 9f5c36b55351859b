//! `/attach`: the running container's streams, or what one that has just ended left in its log.
//!
//! `kubectl run -i` attaches to containers that may be over before it does. The runtime keeps what such a container
//! printed before its first client came; once it has ended, its log has everything. From 1.36 on, kubectl reads the log
//! first: what a reader of the whole log was shown is not shown again.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::logs::{LogOptions, Reader};
use crate::pods::ContainerView;
use crate::seams::{ExecSpec, Runtime, SeamError, Streams};
use crate::server::ReadLogs;

const BUFFER: usize = 32 * 1024;

/// What there is to attach to.
pub(crate) struct Target {
    running: Option<String>,
    log: PathBuf,
    /// How much of the log has been read.
    seen: u64,
}

impl Target {
    /// `None` when no instance runs or is the last one.
    pub fn of(view: &ContainerView, read: &ReadLogs) -> Option<Self> {
        let log = view.log_dir.join(format!("{}.log", view.attempt?));
        let running = view.running.clone();
        (running.is_some() || view.waiting.is_none()).then(|| Self { running, seen: read.of(&log), log })
    }

    /// Of a client that has read nothing of the log.
    pub fn running(container: String, log: PathBuf) -> Self {
        Self { running: Some(container), log, seen: 0 }
    }

    /// Only the streams that were asked for. As upstream, the container's exit code is not the session's.
    pub async fn attach(self, runtime: &dyn Runtime, wanted: &ExecSpec) -> Result<Streams, SeamError> {
        let attached = match &self.running {
            Some(id) => Some(runtime.attach(id, self.seen).await),
            None => None,
        };
        let mut streams = match attached {
            Some(Ok(streams)) => streams,
            Some(Err(error)) if !self.has_ended(runtime).await => return Err(error),
            Some(Err(_)) | None => recorded(&self.log, self.seen),
        };
        streams.stdin = streams.stdin.filter(|_| wanted.stdin);
        streams.stdout = streams.stdout.filter(|_| wanted.stdout);
        streams.stderr = streams.stderr.filter(|_| wanted.stderr);
        let exit = streams.exit;
        streams.exit = Box::pin(async move {
            if let Err(error) = exit.await {
                tracing::debug!(%error, "attached container lost");
            }
            Ok(0)
        });
        Ok(streams)
    }

    async fn has_ended(&self, runtime: &dyn Runtime) -> bool {
        let Ok(sandboxes) = runtime.list().await else { return false };
        let mut containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        // A sandbox that is gone has taken its containers along.
        containers
            .find(|container| Some(&container.id) == self.running.as_ref())
            .is_none_or(|container| matches!(container.state, crate::seams::ContainerState::Exited(_)))
    }
}

/// The rest of the log of an instance that has ended, each stream by itself.
fn recorded(log: &Path, seen: u64) -> Streams {
    let stream = |options: LogOptions| -> crate::seams::Reader {
        let (ours, mut theirs) = tokio::io::duplex(BUFFER);
        let log = log.to_owned();
        tokio::spawn(async move {
            // A log that is gone, or a client: nothing more to show either way.
            let Ok(mut reader) = Reader::open_at(&log, options, seen) else { return };
            while let Ok(piece) = reader.next()
                && !piece.is_empty()
                && theirs.write_all(&piece).await.is_ok()
            {}
        });
        Box::new(ours)
    };
    Streams {
        stdin: None,
        stdout: Some(stream(LogOptions::stdout())),
        stderr: Some(stream(LogOptions::stderr())),
        resize: mpsc::unbounded_channel().0,
        exit: Box::pin(std::future::ready(Ok(0))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_log_is_replayed_by_stream() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let entries = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n";
        std::fs::write(&log, entries).unwrap();
        let mut streams = recorded(&log, 0);
        let (mut out, mut err) = (String::new(), String::new());
        streams.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        streams.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("one\n", "two\n"));
        let mut rest = String::new();
        recorded(&log, 34).stderr.take().unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "two\n");
        let mut none = String::new();
        recorded(&log, 34).stdout.take().unwrap().read_to_string(&mut none).await.unwrap();
        recorded(&dir.path().join("1.log"), 0).stdout.take().unwrap().read_to_string(&mut none).await.unwrap();
        assert_eq!(none, "");
    }

    #[test]
    fn only_the_last_instance_is_there_after_its_end() {
        let view = |running: Option<&str>, attempt, waiting: Option<&str>| ContainerView {
            running: running.map(Into::into),
            attempt,
            waiting: waiting.map(Into::into),
            log_dir: "/log".into(),
        };
        let read = ReadLogs::default();
        assert!(Target::of(&view(Some("id"), Some(0), None), &read).is_some());
        assert!(Target::of(&view(None, Some(0), None), &read).is_some());
        assert!(Target::of(&view(None, Some(0), Some("CrashLoopBackOff")), &read).is_none());
        assert!(Target::of(&view(None, None, Some("ContainerCreating")), &read).is_none());
    }
}

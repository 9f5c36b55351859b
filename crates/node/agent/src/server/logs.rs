//! `/containerLogs`: the log file of one instance, followed by inotify until the container ends.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;

use crate::logs::{Follower, LogOptions, Reader};
use crate::pods::{Machine, View};
use crate::server::routes::Subject;
use crate::server::{Body, text};

pub(super) fn logs(machine: &Arc<Machine>, subject: &Subject, options: LogOptions) -> Response<Body> {
    let view = subject.view.borrow().containers.get(&subject.container).cloned().unwrap_or_default();
    let (pod, container) = (&subject.pod, &subject.container);
    let attempt = if options.previous { view.attempt.and_then(|attempt| attempt.checked_sub(1)) } else { view.attempt };
    let Some(attempt) = attempt else {
        let message = if options.previous {
            format!("previous terminated container \"{container}\" in pod \"{pod}\" not found\n")
        } else {
            let reason = match view.waiting.as_deref() {
                // Upstream's words for the two most common.
                Some("ErrImagePull") => "image can't be pulled",
                Some("ImagePullBackOff") => "trying and failing to pull image",
                Some(reason) => reason,
                None => "ContainerCreating",
            };
            format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}\n")
        };
        return text(StatusCode::BAD_REQUEST, message);
    };
    let path = view.log_dir.join(format!("{attempt}.log"));
    let follow = options.follow && !options.previous;
    let whole = options.is_whole().then(|| (Arc::clone(machine), path.clone()));
    // The watch comes first: what is written after the read below is then reported.
    let follower = if follow { Follower::new(&path).map(Some) } else { Ok(None) };
    let opened = follower.and_then(|follower| Ok((follower, Reader::open(&path, options)?)));
    let (follower, reader) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return text(
                StatusCode::NOT_FOUND,
                format!("no log of container \"{container}\" in pod \"{pod}\" is kept\n"),
            );
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "log not read");
            let message = format!("log of container \"{container}\" in pod \"{pod}\" cannot be read: {error}\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let state = State { reader, follower, attempt, container: container.clone(), view: subject.view.clone() };
    let pieces = futures::stream::unfold(state, move |mut state| {
        let whole = whole.clone();
        async move {
            let Some(piece) = state.next().await.transpose() else {
                if let Some((machine, log)) = whole {
                    machine.read_logs.note(&log, state.reader.position());
                }
                return None;
            };
            Some((piece.map(|data| Frame::data(Bytes::from(data))), state))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

struct State {
    reader: Reader,
    follower: Option<Follower>,
    attempt: u32,
    container: String,
    view: watch::Receiver<View>,
}

impl State {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            // Looked at before reading: what a container wrote before its end is read after it.
            let running = self.running();
            let piece = self.reader.next()?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            let Some(follower) = &mut self.follower else { return Ok(None) };
            if !running || self.reader.exhausted() {
                return Ok(None);
            }
            tokio::select! {
                changed = follower.changed() => changed?,
                gone = self.view.changed() => {
                    if gone.is_err() {
                        self.follower = None;
                    }
                }
            }
        }
    }

    fn running(&self) -> bool {
        let view = self.view.borrow();
        view.containers
            .get(&self.container)
            .is_some_and(|container| container.running.is_some() && container.attempt == Some(self.attempt))
    }
}

//! exec and attach over SPDY: a stream each for input, outputs, the size of the terminal, and how it ended.

use std::time::Duration;

use bytes::Bytes;
use machinery_spdy::{Incoming, Reader, Writer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::seams::{self, ExecSpec, SeamError, TerminalSize};
use crate::streams::output::{self, Output};
use crate::streams::{Version, frame, outcome};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// Nobody writes a longer size of a terminal.
const SIZE: usize = 1024;

/// Serves an upgraded connection. `start` runs once the client's streams are there, so that its failure reaches it.
pub async fn serve<R, W, F>(read: R, write: W, version: Version, wanted: ExecSpec, start: F)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    F: Future<Output = Result<seams::Streams, SeamError>> + Send,
{
    let session = |mut incoming: Incoming| async move {
        let opened = Opened::all(&mut incoming, version, &wanted);
        match tokio::time::timeout(OPENING, opened).await {
            Ok(Some(opened)) => opened.run(version, start).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("timed out waiting for client to create streams"),
        }
    };
    // It holds buffers of its own.
    if let Err(error) = Box::pin(machinery_spdy::serve(read, write, session)).await {
        tracing::debug!(error = seams::chain(&error), "remote command client broke off");
    }
}

type Halves = (Reader, Writer);

/// The streams that a client has opened.
#[derive(Default)]
struct Opened {
    error: Option<Halves>,
    stdin: Option<Halves>,
    stdout: Option<Halves>,
    stderr: Option<Halves>,
    resize: Option<Halves>,
}

impl Opened {
    /// Waits for as many as the request asked for; `None` when the client is gone before.
    async fn all(incoming: &mut Incoming, version: Version, wanted: &ExecSpec) -> Option<Self> {
        let sizes = wanted.tty && version != Version::V2;
        let mut missing =
            1 + [wanted.stdin, wanted.stdout, wanted.stderr, sizes].into_iter().filter(|wanted| *wanted).count();
        let mut opened = Self::default();
        while missing > 0 {
            let stream = incoming.next().await?;
            let place = match stream.headers.get("streamType") {
                Some("error") => &mut opened.error,
                Some("stdin") => &mut opened.stdin,
                Some("stdout") => &mut opened.stdout,
                Some("stderr") => &mut opened.stderr,
                Some("resize") => &mut opened.resize,
                _ => {
                    stream.refuse().await;
                    continue;
                }
            };
            if place.is_some() {
                stream.refuse().await;
                continue;
            }
            *place = Some(stream.accept().await.ok()?);
            missing -= 1;
        }
        Some(opened)
    }

    async fn run(self, version: Version, start: impl Future<Output = Result<seams::Streams, SeamError>>) {
        let (error, stdin, resize) = (split(self.error), split(self.stdin), split(self.resize));
        let (stdout, stderr) = (split(self.stdout), split(self.stderr));
        let mut outputs = Outputs { stdout: stdout.1, stderr: stderr.1 };
        let result = match start.await {
            Ok(streams) => {
                let inputs = async {
                    tokio::join!(input(stdin.0, streams.stdin), sizes(resize.0, streams.resize));
                    // The end of the input is not the session's.
                    std::future::pending().await
                };
                tokio::select! {
                    result = output::run(streams.stdout, streams.stderr, streams.exit, &mut outputs) => result,
                    never = inputs => never,
                }
            }
            Err(failed) => Err(failed),
        };
        for mut writer in [outputs.stdout, outputs.stderr].into_iter().flatten() {
            writer.finish().await;
        }
        if let Some(mut writer) = error.1 {
            let told = outcome::told(version == Version::V4, &result);
            // A client that is gone need not know.
            let _ = writer.send(Bytes::from(told)).await;
            writer.finish().await;
        }
        for mut writer in [stdin.1, resize.1].into_iter().flatten() {
            writer.finish().await;
        }
    }
}

fn split(halves: Option<Halves>) -> (Option<Reader>, Option<Writer>) {
    halves.map_or((None, None), |(reader, writer)| (Some(reader), Some(writer)))
}

async fn input(reader: Option<Reader>, mut stdin: Option<seams::Writer>) {
    let Some(mut reader) = reader else { return };
    // A reset ends it like the end does.
    while let Ok(Some(data)) = reader.next().await {
        if let Some(writer) = &mut stdin
            && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
        {
            stdin = None; // the process reads no more; what still comes is thrown away
        }
    }
}

/// Each size is a line.
async fn sizes(reader: Option<Reader>, resize: mpsc::UnboundedSender<TerminalSize>) {
    let Some(mut reader) = reader else { return };
    let mut unread = Vec::new();
    while let Ok(Some(data)) = reader.next().await {
        unread.extend_from_slice(&data);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            match frame::size(&line) {
                // The process may just have ended.
                Ok(size) => drop(resize.send(size)),
                Err(error) => tracing::debug!(%error, "terminal not resized"),
            }
        }
        if unread.len() > SIZE {
            unread.clear();
        }
    }
}

struct Outputs {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
}

impl output::Client for Outputs {
    async fn show(&mut self, output: Output, data: &[u8]) -> bool {
        let writer = match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        match writer {
            Some(writer) => writer.send(Bytes::copy_from_slice(data)).await.is_ok(),
            None => true, // not asked for
        }
    }
}

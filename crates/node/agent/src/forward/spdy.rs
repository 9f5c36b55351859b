//! Ports over SPDY: each connection is a pair of streams of one `requestID`, one for data and one for what goes wrong.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use machinery_spdy::{Incoming, Reader, Stream, StreamId, Writer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::forward::carry::{self, Gone, Inward, Outward};
use crate::forward::{Target, number};
use crate::seams::chain;

/// How long the second stream of a pair may take.
const PAIRING: Duration = Duration::from_secs(30);

pub(super) async fn serve<R, W>(read: R, write: W, target: Target, gone: impl Future<Output = ()> + Send)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let session = |incoming: Incoming| async {
        tokio::select! {
            () = run(incoming, &target) => {}
            () = gone => tracing::debug!(pod = target.name, "forwarding ends with its pod"),
        }
    };
    // It holds buffers of its own.
    if let Err(error) = Box::pin(machinery_spdy::serve(read, write, session)).await {
        tracing::debug!(pod = target.name, error = chain(&error), "a forwarding client broke off");
    }
}

/// What one of the things that go on at once has come to.
enum Done {
    Over,
    Accepted(StreamId, Half, Reader, Writer),
    /// Nobody may wait for the other stream any more.
    Expired(String, StreamId),
}

/// All waiting is done inside `going`: whoever waits for a place in the connection's queue is given it in turn, and must be
/// there to take it, or everybody behind would wait for ever.
async fn run(mut incoming: Incoming, target: &Target) {
    let mut pairs = Pairs::default();
    let mut going: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => going.push(accept(stream).boxed()),
                None => return,
            },
            Some(done) = going.next() => match done {
                Done::Over => {}
                Done::Accepted(id, half, reader, writer) => {
                    let request = half.request.clone();
                    going.push(match pairs.add(id, half, reader, writer) {
                        Added::First => tokio::time::sleep(PAIRING).map(move |()| Done::Expired(request, id)).boxed(),
                        Added::Pair(pair) => pair.forward(target).map(|()| Done::Over).boxed(),
                        Added::Twice(waiting, mut writer, why) => async move {
                            waiting.give_up(why).await;
                            writer.reset().await;
                            Done::Over
                        }
                        .boxed(),
                    });
                }
                Done::Expired(request, began) => {
                    if let Some(waiting) = pairs.expire(&request, began) {
                        let why = format!("(request={request}) timed out waiting for streams");
                        going.push(waiting.give_up(why).map(|()| Done::Over).boxed());
                    }
                }
            },
        }
    }
}

async fn accept(stream: Stream) -> Done {
    let Some(half) = Half::of(&stream) else {
        stream.refuse().await;
        return Done::Over;
    };
    let id = stream.id;
    match stream.accept().await {
        Ok((reader, writer)) => Done::Accepted(id, half, reader, writer),
        Err(_) => Done::Over,
    }
}

/// Which half of a pair a stream says it is.
#[derive(Debug, PartialEq, Eq)]
struct Half {
    request: String,
    /// `None`: the half for what goes wrong.
    data: Option<u16>,
}

impl Half {
    fn of(stream: &Stream) -> Option<Self> {
        let header = |name| stream.headers.get(name);
        Self::read(stream.id, header("streamType")?, header("port")?, header("requestID"))
    }

    fn read(id: StreamId, kind: &str, port: &str, request: Option<&str>) -> Option<Self> {
        let port = number(port).ok()?;
        let data = match kind {
            "data" => Some(port),
            "error" => None,
            _ => return None,
        };
        let request = match request.filter(|request| !request.is_empty()) {
            Some(request) => request.to_owned(),
            // The oldest clients name no request, and open the stream for errors right before the one for data.
            None => id.checked_sub(if data.is_some() { 2 } else { 0 })?.to_string(),
        };
        Some(Self { request, data })
    }
}

/// Requests of which one stream has come.
#[derive(Default)]
struct Pairs(HashMap<String, Waiting>);

struct Waiting {
    began: StreamId,
    data: Option<(u16, Reader, Writer)>,
    error: Option<Writer>,
}

enum Added {
    First,
    Pair(Pair),
    /// There was such a half already: what waited, the new one, and what to say.
    Twice(Waiting, Writer, String),
}

struct Pair {
    port: u16,
    reader: Reader,
    data: Writer,
    error: Writer,
}

impl Pairs {
    fn add(&mut self, id: StreamId, half: Half, reader: Reader, writer: Writer) -> Added {
        let Half { request, data } = half;
        let Some(Waiting { began, data: data_before, error: error_before }) = self.0.remove(&request) else {
            let waiting = match data {
                Some(port) => Waiting { began: id, data: Some((port, reader, writer)), error: None },
                None => Waiting { began: id, data: None, error: Some(writer) },
            };
            self.0.insert(request, waiting);
            return Added::First;
        };
        match (data, data_before, error_before) {
            (Some(port), None, Some(error)) => Added::Pair(Pair { port, reader, data: writer, error }),
            (None, Some((port, reader, data)), None) => Added::Pair(Pair { port, reader, data, error: writer }),
            (_, data_before, error_before) => {
                let kind = if data.is_some() { "data" } else { "error" };
                let why = format!("error processing stream for request {request}: {kind} stream already assigned");
                Added::Twice(Waiting { began, data: data_before, error: error_before }, writer, why)
            }
        }
    }

    /// What still waits for its other half since that stream.
    fn expire(&mut self, request: &str, began: StreamId) -> Option<Waiting> {
        let still = self.0.get(request).is_some_and(|waiting| waiting.began == began);
        still.then(|| self.0.remove(request)).flatten()
    }
}

impl Waiting {
    async fn give_up(self, why: String) {
        if let Some(mut error) = self.error {
            // The client may be gone.
            let _ = error.send(why.into()).await;
            error.finish().await;
        }
        if let Some((_, _, mut data)) = self.data {
            data.reset().await;
        }
    }
}

impl Pair {
    async fn forward(mut self, target: &Target) {
        carry::forward(target, self.port, &mut self.reader, &mut self.data, &mut self.error).await;
    }
}

impl Inward for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        Reader::next(self).await.map_err(|_| Gone)
    }
}

impl Outward for Writer {
    async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        Writer::send(self, data).await.map_err(|_| Gone)
    }

    async fn finish(&mut self) {
        Writer::finish(self).await;
    }

    async fn reset(&mut self) {
        Writer::reset(self).await;
    }
}

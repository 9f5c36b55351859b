//! Commands and attached containers, at the URL that the runtime answers: its server speaks `v4.channel.k8s.io` over SPDY.

use std::pin::pin;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use machinery_spdy::{Gone, Opener, Reader, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::seams::{SeamError, Streams, TerminalSize, chain};

/// What waits for a slow reader.
const BUFFER: usize = 64 * 1024;
const PROTOCOL: &str = "v4.channel.k8s.io";

#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) tty: bool,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) async fn open(
    url: &str,
    wanted: Wanted,
    operation: &'static str,
    container: &str,
) -> Result<Streams, SeamError> {
    let upgraded = upgrade(url).await.map_err(|cause| SeamError::new(operation, container, cause))?;
    let (resize, sizes) = mpsc::unbounded_channel();
    let pipe = |wanted: bool| match wanted {
        true => {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            (Some(ours), Some(theirs))
        }
        false => (None, None),
    };
    let (stdin, to_send) = pipe(wanted.stdin);
    let (stdout, out) = pipe(wanted.stdout);
    let (stderr, err) = pipe(wanted.stderr);
    let pipes = Pipes { stdin: to_send, stdout: out, stderr: err, sizes: wanted.tty.then_some(sizes) };
    let subject = container.to_owned();
    // Whoever waits for the end drives the streams; whoever lets go of it hangs up.
    let exit = async move {
        let (read, write): (ReadHalf<_>, WriteHalf<_>) = tokio::io::split(TokioIo::new(upgraded));
        let mut told = Err(SeamError::new(operation, subject.clone(), "the runtime broke off"));
        let session = async |opener: Opener| {
            if let Ok(Some(end)) = carry(&opener, pipes).await {
                told = outcome(&end).map_err(|cause| SeamError::new(operation, subject.clone(), cause));
            }
        };
        let run = machinery_spdy::call(read, write, session).await;
        if let (Err(error), Err(_)) = (&run, &told) {
            tracing::debug!(error = chain(error), "the runtime's streams broke");
        }
        told
    };
    Ok(Streams {
        stdin: stdin.map(|stream| Box::new(stream) as _),
        stdout: stdout.map(|stream| Box::new(stream) as _),
        stderr: stderr.map(|stream| Box::new(stream) as _),
        resize,
        exit: Box::pin(exit),
    })
}

async fn upgrade(url: &str) -> Result<hyper::upgrade::Upgraded, Cause> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the URL has no host")?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url}: only http is spoken to a runtime's streams").into());
    }
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", PROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let upgraded = async move {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Cause::from(format!("the runtime's streams answered {}", answer.status())));
        }
        Ok(hyper::upgrade::on(answer).await?)
    };
    let connection = async { connection.with_upgrades().await.map_err(Cause::from) };
    let ((), upgraded) = tokio::try_join!(connection, upgraded)?;
    Ok(upgraded)
}

struct Pipes {
    stdin: Option<DuplexStream>,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    sizes: Option<mpsc::UnboundedReceiver<TerminalSize>>,
}

/// Until all outputs and the word of how it ended are through.
async fn carry(opener: &Opener, pipes: Pipes) -> Result<Option<Bytes>, Gone> {
    let stream = async |kind: &str, wanted: bool| match wanted {
        true => opener.open([("streamtype", kind)].into_iter().collect()).await.map(Some),
        false => Ok(None),
    };
    let (error, mut unused) = opener.open([("streamtype", "error")].into_iter().collect()).await?;
    unused.finish().await;
    let stdin = stream("stdin", pipes.stdin.is_some()).await?;
    let stdout = stream("stdout", pipes.stdout.is_some()).await?;
    let stderr = stream("stderr", pipes.stderr.is_some()).await?;
    let resize = stream("resize", pipes.sizes.is_some()).await?;
    let outputs = async {
        let end = whole(error);
        let ((), (), end) = tokio::join!(output(stdout, pipes.stdout), output(stderr, pipes.stderr), end);
        end
    };
    let inputs = async {
        tokio::join!(input(pipes.stdin, stdin), sizes(pipes.sizes, resize));
        // The end of the input is not the session's.
        std::future::pending().await
    };
    let (outputs, inputs) = (pin!(outputs), pin!(inputs));
    Ok(tokio::select! {
        end = outputs => end,
        never = inputs => never,
    })
}

type Halves = Option<(Reader, Writer)>;

async fn output(halves: Halves, pipe: Option<DuplexStream>) {
    let (Some((mut reader, mut writer)), Some(mut pipe)) = (halves, pipe) else { return };
    writer.finish().await;
    while let Ok(Some(data)) = reader.next().await {
        // Who no longer listens lets the process go on.
        let _ = pipe.write_all(&data).await;
    }
    let _ = pipe.shutdown().await;
}

async fn input(pipe: Option<DuplexStream>, halves: Halves) {
    let (Some(mut pipe), Some((_reader, mut writer))) = (pipe, halves) else { return };
    let mut buffer = vec![0; BUFFER / 2];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if writer.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    return;
                }
            }
        }
    }
    writer.finish().await;
}

async fn sizes(sizes: Option<mpsc::UnboundedReceiver<TerminalSize>>, halves: Halves) {
    let (Some(mut sizes), Some((_reader, mut writer))) = (sizes, halves) else { return };
    while let Some(TerminalSize { width, height }) = sizes.recv().await {
        let line = format!("{}\n", json!({ "Width": width, "Height": height }));
        if writer.send(Bytes::from(line)).await.is_err() {
            return;
        }
    }
}

/// What a stream says to its end; `None` when it breaks off without a word.
async fn whole(mut reader: Reader) -> Option<Bytes> {
    let mut said = Vec::new();
    let ended = loop {
        match reader.next().await {
            Ok(Some(data)) => said.extend_from_slice(&data),
            Ok(None) => break true,
            Err(Gone) => break false,
        }
    };
    (ended || !said.is_empty()).then(|| Bytes::from(said))
}

/// The exit code, from the `Status` that says how it ended.
fn outcome(said: &[u8]) -> Result<i32, Cause> {
    if said.is_empty() {
        return Ok(0);
    }
    let status: Value = serde_json::from_slice(said).map_err(|_| String::from_utf8_lossy(said).into_owned())?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
    match code.and_then(|code| code["message"].as_str()?.parse().ok()) {
        Some(code) => Ok(code),
        None => {
            let message = status["message"].as_str().unwrap_or("the command failed");
            // The node says it once more.
            Err(message.trim_start_matches("Internal error occurred: ").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use machinery_spdy::Incoming;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_end_is_a_code_or_a_reason() {
        assert_eq!(outcome(b"").unwrap(), 0);
        assert_eq!(outcome(br#"{"status": "Success"}"#).unwrap(), 0);
        let code = br#"{"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}"#;
        assert_eq!(outcome(code).unwrap(), 7);
        let failed =
            outcome(br#"{"status": "Failure", "message": "Internal error occurred: no such file"}"#).unwrap_err();
        assert_eq!(failed.to_string(), "no such file");
        assert_eq!(outcome(b"words").unwrap_err().to_string(), "words");
    }

    /// A runtime's server that upper-cases its input and fails with code 3.
    async fn shouts(listener: TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("post /exec/token http/1.1") && head.contains(PROTOCOL), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (read, write) = stream.into_split();
        let serve = |mut incoming: Incoming| async move {
            let mut streams = std::collections::HashMap::new();
            for _ in 0..3 {
                let stream = incoming.next().await.unwrap();
                let kind = stream.headers.get("streamType").unwrap().to_owned();
                streams.insert(kind, stream.accept().await.unwrap());
            }
            let ((mut stdin, _), (_, mut stdout)) =
                (streams.remove("stdin").unwrap(), streams.remove("stdout").unwrap());
            while let Ok(Some(data)) = stdin.next().await {
                stdout.send(Bytes::from(data.to_ascii_uppercase())).await.unwrap();
            }
            stdout.finish().await;
            let status = json!({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
            let (_, mut error) = streams.remove("error").unwrap();
            error.send(Bytes::from(status.to_string())).await.unwrap();
            error.finish().await;
        };
        machinery_spdy::serve(read, write, serve).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_is_carried_and_its_code_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
        let server = tokio::spawn(shouts(listener));
        let wanted = Wanted { tty: false, stdin: true, stdout: true, stderr: false };
        let mut streams = open(&url, wanted, "exec in container", "c").await.unwrap();
        let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
        let write = async move {
            stdin.write_all(b"hello").await.unwrap();
            drop(stdin);
        };
        let mut said = String::new();
        let (_, read, code) = tokio::join!(write, stdout.read_to_string(&mut said), streams.exit);
        read.unwrap();
        assert_eq!((said.as_str(), code.unwrap()), ("HELLO", 3));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_speak_so_is_an_error() {
        let wanted = Wanted { tty: false, stdin: false, stdout: true, stderr: false };
        for url in ["", "https://127.0.0.1:1/x", "http://127.0.0.1:1/x", "/x"] {
            assert!(open(url, wanted, "exec in container", "c").await.is_err(), "{url}");
        }
    }
}

//! From a process to its client, until it has ended.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::seams::{Reader, SeamError};

const CHUNK: usize = 32 * 1024;
/// How long output may stay silent after the process's end before its inherited pipes are given up.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

pub(super) trait Client {
    /// Whether the client still listens.
    fn show(&mut self, output: Output, data: &[u8]) -> impl Future<Output = bool> + Send;
}

/// Returns when the process has ended and its output is through.
pub(super) async fn run(
    mut stdout: Option<Reader>,
    mut stderr: Option<Reader>,
    exit: impl Future<Output = Result<i32, SeamError>>,
    client: &mut impl Client,
) -> Result<i32, SeamError> {
    tokio::pin!(exit);
    let mut ended = None;
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let open = stdout.is_some() || stderr.is_some();
        let silence = async {
            match (&ended, open) {
                (Some(_), false) => {}
                (Some(_), true) => tokio::time::sleep(SILENCE).await,
                (None, _) => std::future::pending().await,
            }
        };
        let listens = tokio::select! {
            result = &mut exit, if ended.is_none() => {
                ended = Some(result);
                true
            }
            count = read(&mut stdout, &mut out) => count == 0 || client.show(Output::Stdout, &out[..count]).await,
            count = read(&mut stderr, &mut err) => count == 0 || client.show(Output::Stderr, &err[..count]).await,
            () = silence => break,
        };
        if !listens {
            break;
        }
    }
    ended.unwrap_or_else(|| Err(SeamError::new("send", "output", "the client is gone")))
}

/// 0 at the end, once; never resolves on a stream that is not there or has ended.
async fn read(stream: &mut Option<Reader>, buffer: &mut [u8]) -> usize {
    let Some(reader) = stream else { return std::future::pending().await };
    // A stream that breaks has ended.
    let count = reader.read(buffer).await.unwrap_or(0);
    if count == 0 {
        *stream = None;
    }
    count
}

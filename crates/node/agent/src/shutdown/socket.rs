//! Both ends of the socket by which a host says that it goes down: a word, then lines of progress up to the last.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Below the agent's directory.
const NAME: &str = "drain.sock";
const WORD: &str = "drain";

/// What is told, in this order; of the pods that end, one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// So many pods of one band have so many seconds.
    Ending {
        pods: usize,
        seconds: u64,
    },
    Ended {
        pod: String,
    },
    /// The end: what still runs, or what the API has not been told of.
    Done {
        left: Vec<String>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("no node listens at {path}", path = path.display())]
    NoNode { path: PathBuf, source: io::Error },
    #[error("follow the node's shutdown")]
    Follow(#[source] io::Error),
    #[error("the node ended before its pods did")]
    Cut,
    #[error("the node says what this program does not know")]
    Unknown(#[source] serde_json::Error),
}

/// Asks the agent of that directory to shut its node down, and tells how it goes; answers what is left.
pub async fn drain(agent_dir: &Path, mut tell: impl FnMut(&Progress)) -> Result<Vec<String>, DrainError> {
    let path = agent_dir.join(NAME);
    let connected = UnixStream::connect(&path).await;
    let mut stream = connected.map_err(|source| DrainError::NoNode { path, source })?;
    stream.write_all(format!("{WORD}\n").as_bytes()).await.map_err(DrainError::Follow)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(DrainError::Follow)? {
        let progress = serde_json::from_str(&line).map_err(DrainError::Unknown)?;
        tell(&progress);
        if let Progress::Done { left } = progress {
            return Ok(left);
        }
    }
    Err(DrainError::Cut)
}

/// For root alone.
pub(super) fn listen(agent_dir: &Path) -> io::Result<UnixListener> {
    let path = agent_dir.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether the one who came asks for it.
pub(super) async fn asks(stream: &mut BufReader<UnixStream>) -> bool {
    let mut line = String::new();
    stream.read_line(&mut line).await.is_ok() && line.trim_end() == WORD
}

/// All there was and will be told, up to the last.
pub(super) async fn follow(
    mut stream: BufReader<UnixStream>,
    mut told: watch::Receiver<Vec<Progress>>,
) -> io::Result<()> {
    let mut at = 0;
    loop {
        let new = told.borrow_and_update()[at..].to_vec();
        at += new.len();
        for progress in new {
            let line = serde_json::to_string(&progress)? + "\n";
            stream.write_all(line.as_bytes()).await?;
            if matches!(progress, Progress::Done { .. }) {
                return stream.shutdown().await;
            }
        }
        if told.changed().await.is_err() {
            return Ok(());
        }
    }
}

//! One plug-in asked one thing: a program that reads its configuration and prints its answer.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::record::Record;

/// Upstream's kubelet waits so long for a request to its runtime.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of an answer, and of what is printed beside it.
const MOST_ANSWER: u64 = 1 << 20;
const MOST_ERROR: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Check,
    Del,
    Status,
    Gc,
}

impl Verb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("there is no such program in {}", .folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "))]
    Missing { folders: Vec<PathBuf> },
    #[error("run {}", .program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("it printed more than {MOST_ANSWER} bytes")]
    Long,
    /// In its own words.
    #[error("{message}")]
    Refused { code: u64, message: String },
    #[error("{status}: {stderr}")]
    Failed { status: ExitStatus, stderr: String },
}

/// How plug-ins say that they failed.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// `None` where it is not about one pod.
pub(crate) async fn call(
    folders: &[PathBuf],
    kind: &str,
    verb: Verb,
    about: Option<&Record>,
    config: &[u8],
) -> Result<Vec<u8>, CallError> {
    let found = folders.iter().map(|folder| folder.join(kind)).find(|program| program.is_file());
    let program = found.ok_or_else(|| CallError::Missing { folders: folders.to_vec() })?;
    let failed = |source| CallError::Run { program: program.clone(), source };
    let mut command = tokio::process::Command::new(&program);
    let path = std::env::join_paths(folders).unwrap_or_default();
    command.env("CNI_COMMAND", verb.word()).env("CNI_PATH", path);
    if let Some(record) = about {
        // DEL of a pod whose namespace is gone: the plug-in frees what else there is.
        let netns = if record.netns.exists() { record.netns.as_path() } else { Path::new("") };
        command.env("CNI_CONTAINERID", &record.sandbox).env("CNI_NETNS", netns);
        command.env("CNI_IFNAME", crate::INTERFACE).env("CNI_ARGS", &record.args);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let told = async {
            if let Some(mut stdin) = stdin {
                // One that does not ask closes it.
                let _ = stdin.write_all(config).await;
            }
        };
        let answer = async {
            let mut text = Vec::new();
            match stdout {
                Some(stdout) => stdout.take(MOST_ANSWER + 1).read_to_end(&mut text).await.map(|_| text),
                None => Ok(text),
            }
        };
        let beside = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(MOST_ERROR).read_to_end(&mut text).await;
                // The rest is not kept, and must not block it.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            text
        };
        let ((), answer, beside) = tokio::join!(told, answer, beside);
        let answer = answer.map_err(failed)?;
        if answer.len() as u64 > MOST_ANSWER {
            return Err(CallError::Long);
        }
        Ok((child.wait().await.map_err(failed)?, answer, beside))
    };
    let (status, answer, beside) = tokio::time::timeout(PATIENCE, talk).await.map_err(|_| CallError::Late)??;
    if status.success() {
        return Ok(answer);
    }
    Err(match serde_json::from_slice::<Refusal>(&answer) {
        Ok(Refusal { code, msg, details }) if !msg.is_empty() => {
            let message = if details.is_empty() { msg } else { format!("{msg}; {details}") };
            CallError::Refused { code, message }
        }
        _ => CallError::Failed { status, stderr: String::from_utf8_lossy(&beside).trim().to_owned() },
    })
}

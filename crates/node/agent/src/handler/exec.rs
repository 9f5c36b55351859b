//! A command in a container.

use k8s_openapi::api::core::v1::ExecAction;
use tokio::io::AsyncReadExt;

use super::Target;
use crate::seams::{ExecSpec, Reader, chain};

/// What an Event quotes of a command's output.
const OUTPUT_LIMIT: u64 = 10 * 1024;

/// Runs the command until it ends; its exit code decides.
pub async fn exec(action: &ExecAction, target: &Target) -> Result<(), String> {
    let args = action.command.clone().unwrap_or_default();
    let spec = ExecSpec { args, tty: false, stdin: false, stdout: true, stderr: true };
    let mut streams = target.runtime.exec(&target.container, spec).await.map_err(|error| chain(&error))?;
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    let (mut output, errors, code) =
        tokio::join!(beginning(stdout, OUTPUT_LIMIT), beginning(stderr, OUTPUT_LIMIT), streams.exit);
    output.extend(errors);
    match code {
        Ok(0) => Ok(()),
        Ok(_) => Err(String::from_utf8_lossy(&output).into_owned()),
        Err(error) => Err(chain(&error)),
    }
}

/// Keeps so many bytes of a stream and reads on to its end, so that the command is never stopped by its own output.
pub(crate) async fn beginning(stream: Option<Reader>, limit: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(stream) = stream {
        let mut stream = stream.take(limit);
        // A broken stream only shortens what is kept; the exit code decides.
        let _ = stream.read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await;
    }
    kept
}

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
    let mut output = Vec::new();
    let mut errors = Vec::new();
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    let ((), (), code) = tokio::join!(quote(stdout, &mut output), quote(stderr, &mut errors), streams.exit);
    output.extend(errors);
    match code {
        Ok(0) => Ok(()),
        Ok(_) => Err(String::from_utf8_lossy(&output).into_owned()),
        Err(error) => Err(chain(&error)),
    }
}

/// Keeps the beginning of a stream and reads on to its end, so that the command is never stopped by its own output.
async fn quote(stream: Option<Reader>, beginning: &mut Vec<u8>) {
    if let Some(stream) = stream {
        let mut stream = stream.take(OUTPUT_LIMIT);
        // A broken stream only shortens the quotation; the exit code decides.
        let _ = stream.read_to_end(beginning).await;
        let _ = tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await;
    }
}

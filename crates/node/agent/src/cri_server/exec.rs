//! A command that is waited for.

use std::time::Duration;

use node_grpc::messages::cri;
use node_grpc::{Code, Status};

use super::{Server, failed, spec};
use crate::handler::beginning;
use crate::seams::ExecSpec;

/// Bytes of one stream, by the interface.
const MOST: u64 = 16 << 20;
/// Both together must fit into what clients take.
const TOGETHER: usize = (16 << 20) - 1024;

impl Server {
    pub(super) async fn exec_sync(&self, request: cri::ExecSyncRequest) -> Result<cri::ExecSyncResponse, Status> {
        let (_, container) = self.running(&request.container_id).await?;
        if request.cmd.is_empty() {
            return Err(spec::invalid("no command specified"));
        }
        let spec = ExecSpec { args: request.cmd, tty: false, stdin: false, stdout: true, stderr: true };
        let run = async {
            let mut streams = self.machine.runtime.exec(&container.id, spec).await.map_err(failed)?;
            let (out, err) = (streams.stdout.take(), streams.stderr.take());
            let (mut stdout, mut stderr, code) = tokio::join!(beginning(out, MOST), beginning(err, MOST), streams.exit);
            stdout.truncate(TOGETHER);
            stderr.truncate(TOGETHER - stdout.len());
            Ok(cri::ExecSyncResponse { stdout, stderr, exit_code: code.map_err(failed)? })
        };
        match u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0) {
            None => run.await,
            // The command is killed with its streams.
            Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), run).await.unwrap_or_else(|_| {
                let message = format!("the command did not end in {seconds} s and was killed");
                Err(Status::new(Code::DeadlineExceeded, message))
            }),
        }
    }
}

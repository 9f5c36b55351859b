//! `sampan drain`: the host is about to go down, and its node with it.

use std::io::Write;

use anyhow::{Context, Result, bail};
use node_agent::Progress;

use crate::config::DataDir;

/// Returns once every pod has ended; fails when some have not, in the time they have.
pub async fn run(data: DataDir) -> Result<()> {
    let left = node_agent::drain(&data.data_dir.join("agent"), say).await.context("shutting the node down")?;
    if !left.is_empty() {
        bail!("not ended in time: {}", left.join(", "));
    }
    Ok(())
}

fn say(progress: &Progress) {
    let line = match progress {
        Progress::Ending { pods: 1, seconds } => format!("ending one pod, in {seconds} s at most"),
        Progress::Ending { pods, seconds } => format!("ending {pods} pods, in {seconds} s at most"),
        Progress::Ended { pod } => format!("pod {pod} has ended"),
        Progress::Done { left } if left.is_empty() => {
            "all pods have ended; the node takes no more until it is started again".to_owned()
        }
        Progress::Done { .. } => return,
    };
    // Who no longer reads does not change what happens.
    let _ = writeln!(std::io::stdout(), "{line}");
}

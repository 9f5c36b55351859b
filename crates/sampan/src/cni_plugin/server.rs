//! The node's side.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use node_agent::seams::{Dns, Network, Wiring, chain};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Answer, Command, Question};

/// No question is longer.
const LONGEST: u64 = 64 << 10;

/// Connects the sandboxes of whoever is root on this host.
pub fn serve(tasks: &Tasks, socket: &Path, network: Arc<dyn Network>) -> Result<()> {
    // An earlier run's.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("closing {} to others", socket.display()))?;
    let questions = tasks.child("questions");
    tasks.spawn("cni-plug-in", async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let network = Arc::clone(&network);
                    questions.spawn("question", async move {
                        if let Err(error) = answer(stream, &*network).await {
                            tracing::debug!(%error, "a CNI plug-in broke off");
                        }
                    });
                }
                Err(error) => {
                    // Of descriptors, say; they come back.
                    tracing::warn!(%error, "a CNI plug-in was not heard");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

async fn answer(stream: UnixStream, network: &dyn Network) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let question: Question = serde_json::from_str(&line)?;
    let answer = act(&question, network).await;
    write.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await
}

async fn act(question: &Question, network: &dyn Network) -> Answer {
    let done = match question.command {
        Command::Add => {
            let [name, namespace, uid] = question.pod.clone();
            let mut pod = Pod::default();
            (pod.metadata.name, pod.metadata.namespace, pod.metadata.uid) = (Some(name), Some(namespace), Some(uid));
            let wiring = Wiring { sandbox: &question.sandbox, netns: &question.netns, pod: &pod, dns: &Dns::default() };
            network.attach(wiring).await
        }
        Command::Delete => network.detach(&question.sandbox).await.map(|()| Vec::new()),
    };
    done.map_err(|error| chain(&error))
}

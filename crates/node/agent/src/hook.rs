//! Lifecycle hooks: what a container is given to do right after its start and before its stop signal.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::handler::{self, HttpGet, Target};

const AGENT: &str = "kube-lifecycle/1.36";

/// Runs the handler to its end. Whoever calls bounds the time; the error is for the log alone, since a command's output
/// may hold secrets that an Event would show.
pub async fn run(hook: &LifecycleHandler, target: &Target) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        return handler::exec(action, target).await;
    }
    if let Some(action) = &hook.http_get {
        // An answer is an answer, whatever its status code.
        return HttpGet::new(action, target, AGENT).await?.send().await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    // The API accepts tcpSocket, and upstream's kubelet never had it either.
    Err("invalid handler".into())
}

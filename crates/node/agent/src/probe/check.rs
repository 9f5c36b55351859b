//! One probe attempt: HTTP, TCP, gRPC or a command. Failures carry what the Event says.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::handler::{self, HttpGet, Target};

const AGENT: &str = "kube-probe/1.36";

pub(super) async fn check(probe: &Probe, target: &Target, timeout: Duration) -> Result<(), String> {
    if let Some(action) = &probe.exec {
        return exec(action, target, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return http_get(action, target, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp(action, target, timeout).await;
    }
    if let Some(action) = &probe.grpc {
        return grpc(action, target, timeout).await;
    }
    Err("missing probe handler".into())
}

async fn exec(action: &ExecAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let expired = || {
        let command = action.command.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        format!("command timed out: {command:?} timed out after {}s", timeout.as_secs())
    };
    tokio::time::timeout(timeout, handler::exec(action, target)).await.unwrap_or_else(|_| Err(expired()))
}

async fn tcp(action: &TCPSocketAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let port = handler::port(&action.port, target)?;
    let address = handler::address(action.host.as_deref(), port, target).await?;
    match tokio::time::timeout(timeout, handler::dial(address)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn grpc(action: &GRPCAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let port = handler::port(&IntOrString::Int(action.port), target)?;
    let address = handler::address(None, port, target).await?;
    let service = action.service.as_deref().unwrap_or_default();
    match tokio::time::timeout(timeout, handler::health(address, service, AGENT)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("timeout: health rpc did not complete within {}s", timeout.as_secs())),
    }
}

async fn http_get(action: &HTTPGetAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let get = HttpGet::new(action, target, AGENT).await?;
    let status = match tokio::time::timeout(timeout, get.send()).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("Get {:?}: {error}", get.url())),
        Err(_) => return Err(format!("Get {:?}: context deadline exceeded (Client.Timeout exceeded)", get.url())),
    };
    // A redirect counts as an answer.
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

//! What a controller with kube-rs does, against a running cluster over HTTPS: KUBECONFIG says which.
//!
//! Prints what held, line by line; the first thing that does not ends it.

mod controller;
mod objects;
mod streams;
mod watching;

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;

/// The longest any wait takes before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn ok(what: &str) {
    println!("ok: {what}");
}

/// Waits for one thing that is to happen.
async fn soon<T>(what: &str, happening: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, happening).await.with_context(|| format!("{what}: not in {PATIENCE:?}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = Client::try_default().await.context("the kubeconfig")?;
    let version = client.apiserver_version().await?;
    anyhow::ensure!(version.git_version.starts_with("v1.36."), "{version:?}");
    objects::check(&client).await.context("objects")?;
    watching::check(&client).await.context("watching")?;
    controller::check(&client).await.context("a controller")?;
    streams::check(&client).await.context("streams")
}

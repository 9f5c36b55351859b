//! A pod: its log as it comes, and a command in it with input and output.

use anyhow::{Context, Result, ensure};
use futures::AsyncBufReadExt;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, DeleteParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{ok, soon};

pub async fn check(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let command = ["sh", "-c", "echo started; exec sleep 1000"];
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "rust"}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox:1.37", "command": command}]}}))?;
    pods.create(&PostParams::default(), &pod).await?;
    soon("a running pod", await_condition(pods.clone(), "rust", conditions::is_pod_running())).await??;
    let log = pods.log_stream("rust", &LogParams { follow: true, ..LogParams::default() }).await?;
    let line = soon("a line of the log", log.lines().try_next()).await??;
    ensure!(line.as_deref() == Some("started"), "{line:?}");

    let script = "read x; echo got $x; echo bad >&2; exit 3";
    let params = AttachParams::default().stdin(true).stdout(true).stderr(true);
    let mut process = pods.exec("rust", ["sh", "-c", script], &params).await?;
    let status = process.take_status().context("a status")?;
    let (mut stdout, mut stderr) = (process.stdout().context("stdout")?, process.stderr().context("stderr")?);
    let mut stdin = process.stdin().context("stdin")?;
    stdin.write_all(b"hello\n").await?;
    let (mut out, mut err) = (String::new(), String::new());
    let outputs = async { tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) };
    soon("the outputs", outputs).await??;
    let status = soon("the status", status).await?.context("a status")?;
    ensure!((&*out, &*err) == ("got hello\n", "bad\n"), "{out:?} {err:?}");
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
    pods.delete("rust", &DeleteParams::default()).await?;
    ok("a pod: its log, exec with input, both outputs and its end");
    Ok(())
}

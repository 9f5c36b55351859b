//! How fast the API reads, lists and creates, by wrk.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::{Value, json};

use super::Setting;
use super::api::{Api, Connection};
use super::disk::durable_write;
use super::inside::inside;
use super::report::Report;
use super::stats::median;
use super::wrk::{Create, Load, Wrk};

const RUNS: usize = 3;
const CONNECTIONS: u32 = 32;
const GET_BYTES: usize = 1300;
const LIST_ITEMS: usize = 500;
const LIST_ITEM_BYTES: usize = 800;
const CREATE_BYTES: usize = 1200;

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let wrk = Wrk::new(&api)?;
    let (one, all) = inside(&cluster.namespace, || prepare(&api))?;

    let get = "/api/v1/namespaces/default/configmaps/one";
    rate(report, "get", &format!("{one} bytes"), |_| {
        wrk.run(&cluster, &Load { url: api.url(get), connections: CONNECTIONS, seconds: 3, create: None })
    })?;
    rate(report, "list", &format!("{all} bytes"), |_| {
        wrk.run(
            &cluster,
            &Load { url: api.url(&collection("list")), connections: CONNECTIONS, seconds: 3, create: None },
        )
    })?;
    let filler = "x".repeat(CREATE_BYTES - config_map(&"n".repeat(12), 0).to_string().len());
    let disk = durable_write(&cluster.data_dir())?;
    let size = format!("{CREATE_BYTES} bytes; a durable write of the disk alone {disk:.2} ms");
    rate(report, "create", &size, |tag| {
        let create = Create { collection: collection("create"), filler: filler.clone(), tag };
        wrk.run(
            &cluster,
            &Load { url: api.url(&collection("create")), connections: CONNECTIONS, seconds: 2, create: Some(create) },
        )
    })
}

fn rate(report: &mut Report, name: &str, size: &str, run: impl Fn(usize) -> Result<super::wrk::Rates>) -> Result<()> {
    let rates: Vec<_> = (0..RUNS).map(&run).collect::<Result<_>>().with_context(|| format!("the row {name}"))?;
    let all: Vec<f64> = rates.iter().map(|rates| rates.per_second).collect();
    let p99: Vec<&str> = rates.iter().map(|rates| rates.p99.as_str()).collect();
    let value = median(&all).context("no runs")?;
    let transfer = rates.first().map(|rates| rates.transfer.as_str()).unwrap_or_default();
    let p99 = p99.join(", ");
    report.measured(name, value, format!("{size}; median of {RUNS} runs; read {transfer}/s; latency p99 {p99}"));
    Ok(())
}

fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

pub(super) fn config_map(name: &str, filler: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"filler": "x".repeat(filler)}})
}

/// How much to fill in for an object that is served with `bytes` bytes.
async fn filler(connection: &mut Connection, bytes: usize) -> Result<usize> {
    let probe = format!("{}/probe", collection("default"));
    connection.create(&collection("default"), &config_map("probe", 0)).await?;
    let empty = connection.call(Method::GET, &probe, "").await?.len();
    connection.call(Method::DELETE, &probe, "").await?;
    bytes.checked_sub(empty).with_context(|| format!("an empty ConfigMap has {empty} bytes already"))
}

/// Creates what is read; returns the sizes of the one object and of the list.
async fn prepare(api: &Api) -> Result<(usize, usize)> {
    let mut connection = api.connect().await?;
    for namespace in ["list", "create"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        connection.create("/api/v1/namespaces", &object).await?;
    }
    let fill = filler(&mut connection, GET_BYTES).await?;
    connection.create(&collection("default"), &config_map("one", fill)).await?;
    let one = connection.call(Method::GET, &format!("{}/one", collection("default")), "").await?.len();
    let fill = filler(&mut connection, LIST_ITEM_BYTES).await.unwrap_or(0);
    for item in 0..LIST_ITEMS {
        connection.create(&collection("list"), &config_map(&format!("item-{item:03}"), fill)).await?;
    }
    let list = connection.call(Method::GET, &collection("list"), "").await?;
    let items = serde_json::from_slice::<Value>(&list)?["items"].as_array().map_or(0, |items| {
        // The service account's controller may keep a ConfigMap of its own in every namespace.
        items.iter().filter(|item| item["data"]["filler"].is_string()).count()
    });
    ensure!(items == LIST_ITEMS, "the list has {items} ConfigMaps");
    Ok((one, list.len()))
}

//! Watchers of both kinds, their stores, and the objects they skip and note.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{ok, soon};

pub async fn check(client: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    for number in 0..5 {
        secrets.create(&PostParams::default(), &secret(number)?).await?;
    }
    let config = watcher::Config::default().labels("watched=rust");
    follow(&secrets, config.clone().page_size(2), "pages, then a watch").await?;
    // The list comes as events, and a bookmark says that it is whole.
    follow(&secrets, config.clone().streaming_lists(), "a streaming list").await?;
    reflect(&secrets, config.clone()).await?;
    metadata(client, config).await?;
    secrets.delete_collection(&DeleteParams::default(), &ListParams::default().labels("watched=rust")).await?;
    Ok(())
}

fn secret(number: usize) -> Result<Secret> {
    let name = format!("watched-{number}");
    Ok(serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"watched": "rust"}}, "stringData": {"a": "1"}}),
    )?)
}

/// Every event from the first on, through one change of each kind.
async fn follow(secrets: &Api<Secret>, config: watcher::Config, what: &str) -> Result<()> {
    let events = watcher::watcher(secrets.clone(), config);
    pin_mut!(events);
    let mut initial = Vec::new();
    loop {
        match soon(what, events.try_next()).await??.context("the watch ended")? {
            Event::Init => ensure!(initial.is_empty(), "the list came twice"),
            Event::InitApply(secret) => initial.push(secret.name_any()),
            Event::InitDone => break,
            other => anyhow::bail!("{other:?} before the list was whole"),
        }
    }
    initial.sort();
    ensure!(initial == (0..5).map(|number| format!("watched-{number}")).collect::<Vec<_>>(), "{what}: {initial:?}");
    secrets.create(&PostParams::default(), &secret(9)?).await?;
    let added = soon(what, events.try_next()).await??;
    ensure!(matches!(&added, Some(Event::Apply(secret)) if secret.name_any() == "watched-9"), "{what}: {added:?}");
    secrets.delete("watched-9", &DeleteParams::default()).await?;
    let gone = soon(what, events.try_next()).await??;
    ensure!(matches!(&gone, Some(Event::Delete(secret)) if secret.name_any() == "watched-9"), "{what}: {gone:?}");
    ok(what);
    Ok(())
}

async fn reflect(secrets: &Api<Secret>, config: watcher::Config) -> Result<()> {
    let (store, writer) = reflector::store();
    let events = watcher::watcher(secrets.clone(), config.streaming_lists());
    let events = events.default_backoff().reflect(writer).applied_objects();
    let reading = tokio::spawn(events.for_each(|_| async {}));
    soon("the store", store.wait_until_ready()).await??;
    let found: Option<Arc<Secret>> = store.get(&ObjectRef::new("watched-3").within("default"));
    ensure!(found.is_some() && store.len() == 5, "{} in the store", store.len());
    reading.abort();
    ok("a reflector's store");
    Ok(())
}

async fn metadata(client: &Client, config: watcher::Config) -> Result<()> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::default_namespaced(client.clone());
    let touched = watcher::watcher(secrets, config.streaming_lists()).touched_objects();
    pin_mut!(touched);
    let first = soon("metadata", touched.try_next()).await??.context("the watch ended")?;
    ensure!(first.types.as_ref().is_some_and(|types| types.kind == "PartialObjectMetadata"), "{first:?}");
    ok("a watch of metadata alone, as a streaming list");
    Ok(())
}

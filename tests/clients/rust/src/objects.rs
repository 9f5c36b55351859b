//! Create, entry, patches of every type, apply, status, subresources, deletion; discovery.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::wait::delete::delete_and_finalize;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{PATIENCE, ok};

pub async fn check(client: &Client) -> Result<()> {
    discovery(client).await?;
    patches(client).await?;
    entries(client).await?;
    subresources(client).await
}

async fn discovery(client: &Client) -> Result<()> {
    let found = Discovery::new(client.clone()).run_aggregated().await?;
    let apart = Discovery::new(client.clone()).run().await?;
    let names = |discovery: &Discovery| {
        let groups = discovery.groups();
        let kinds = groups.flat_map(|group| group.recommended_resources());
        let mut names: Vec<_> = kinds.map(|(kind, _)| format!("{}/{}", kind.api_version, kind.kind)).collect();
        names.sort();
        names
    };
    ensure!(names(&found) == names(&apart), "aggregated: {:?}; apart: {:?}", names(&found), names(&apart));
    let apps = found.get("apps").context("the group apps")?;
    let (resource, can) = apps.recommended_kind("Deployment").context("Deployment")?;
    ensure!(resource.plural == "deployments" && can.scope == Scope::Namespaced && can.supports_operation(verbs::WATCH));
    ensure!(can.subresources.iter().any(|(sub, _)| sub.plural == "scale"), "{:?}", can.subresources);
    ok("discovery, aggregated and apart");
    Ok(())
}

async fn patches(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "rust-"}, "data": {"a": "1"}}))?;
    let made = maps.create(&PostParams::default(), &map).await?;
    let name = made.name_any();
    let params = PatchParams::default();
    let patched = maps.patch(&name, &params, &Patch::Strategic(json!({"data": {"b": "2"}}))).await?;
    ensure!(patched.data.iter().flatten().count() == 2, "{patched:?}");
    let patched = maps.patch(&name, &params, &Patch::Merge(json!({"data": {"a": null}}))).await?;
    ensure!(patched.data.iter().flatten().count() == 1, "{patched:?}");
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "mine"}});
    match maps.patch(&name, &PatchParams::apply("rust"), &Patch::Apply(&apply)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let details = status.details.context("details")?;
            ensure!(
                details.causes[0].reason == "FieldManagerConflict" && details.causes[0].field == ".data.b",
                "{details:?}"
            );
        }
        other => bail!("somebody else's field was applied: {other:?}"),
    }
    let forced = maps.patch(&name, &PatchParams::apply("rust").force(), &Patch::Apply(&apply)).await?;
    ensure!(forced.data.iter().flatten().any(|(key, value)| key == "b" && value == "mine"), "{forced:?}");
    let labels = json!({"metadata": {"labels": {"l": "1"}}});
    let meta = maps.patch_metadata(&name, &params, &Patch::Merge(labels)).await?;
    ensure!(meta.types.context("types")?.kind == "PartialObjectMetadata" && meta.metadata.labels.is_some());
    let listed = maps.list_metadata(&ListParams::default().labels("l=1")).await?;
    ensure!(listed.items.len() == 1 && listed.metadata.resource_version.is_some(), "{listed:?}");
    let wrong = Preconditions { uid: Some("other".into()), resource_version: None };
    let refused = maps.delete(&name, &DeleteParams::default().preconditions(wrong)).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409), "{refused:?}");
    let deleted = maps.delete(&name, &DeleteParams::default()).await?;
    ensure!(deleted.right().is_some_and(|status| status.is_success()), "a Status of success");
    ok("patches of every type, apply and its conflicts, metadata alone, preconditions");
    Ok(())
}

async fn entries(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let entry = maps.entry("entry").await?.or_insert(ConfigMap::default);
    let mut entry = entry.and_modify(|map| {
        map.data.get_or_insert_default().insert("a".into(), "1".into());
    });
    entry.commit(&PostParams::default()).await?;
    // Twice the same is no write.
    let before = maps.get("entry").await?.resource_version();
    let mut again = maps
        .entry("entry")
        .await?
        .and_modify(|map| {
            map.data.get_or_insert_default().insert("a".into(), "1".into());
        })
        .or_insert(ConfigMap::default);
    again.commit(&PostParams::default()).await?;
    ensure!(maps.get("entry").await?.resource_version() == before);
    tokio::time::timeout(PATIENCE, delete_and_finalize(maps.clone(), "entry", &DeleteParams::foreground())).await??;
    ensure!(maps.get_opt("entry").await?.is_none());
    ok("entries, and a deletion in the foreground that is waited for");
    Ok(())
}

async fn subresources(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let template = json!({"metadata": {"labels": {"app": "rust"}}, "spec": {"containers": [{"name": "c", "image": "none.invalid/i:1"}]}});
    let web: Deployment = serde_json::from_value(json!({"metadata": {"name": "rust"},
        "spec": {"replicas": 0, "paused": true, "selector": {"matchLabels": {"app": "rust"}}, "template": template}}))?;
    deployments.create(&PostParams::default(), &web).await?;
    let scale = deployments
        .patch_scale("rust", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}})))
        .await?;
    ensure!(scale.status.context("a status")?.selector.as_deref() == Some("app=rust"));
    let status = json!({"status": {"conditions": [{"type": "Seen", "status": "True"}]}});
    let seen = deployments.patch_status("rust", &PatchParams::default(), &Patch::Strategic(status)).await?;
    let conditions = seen.status.unwrap_or_default().conditions.unwrap_or_default();
    ensure!(conditions.iter().any(|condition| condition.type_ == "Seen"), "{conditions:?}");
    deployments.restart("rust").await?;
    let annotations =
        deployments.get("rust").await?.spec.and_then(|spec| spec.template.metadata).and_then(|meta| meta.annotations);
    ensure!(annotations.is_some_and(|all| all.contains_key("kube.kubernetes.io/restartedAt")));
    deployments.delete("rust", &DeleteParams::background()).await?;
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    ensure!(user.as_deref() == Some("kubernetes-admin"), "{user:?}");
    ok("scale, status, restart, and who the client is");
    Ok(())
}

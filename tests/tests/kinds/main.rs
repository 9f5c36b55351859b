//! What holds for every kind, checked on each that discovery lists: a new kind without an entry in `objects/` fails.

mod complete;
mod entry;
mod events;
mod story;
mod value;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::{Connector, Http, JSON, without_node};
use tokio::task::JoinSet;

use crate::entry::{Entries, GADGETS};
use crate::story::Kind;

#[test]
fn every_kind_is_written_read_and_watched_alike() {
    without_node(async |_, connector| all(connector).await);
}

async fn all(connector: Connector) -> Result<()> {
    let http = connector.connect().await?;
    let definition: Value = serde_norway::from_str(GADGETS)?;
    http.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?.expect(201)?;
    let mut group = http.watch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=true", JSON).await?;
    while !served(&http).await? {
        group.line().await?.context("the watch of definitions ended")?;
    }
    let mut entries = Entries::load()?;
    let mut stories = JoinSet::new();
    let mut failures = Vec::new();
    let resources = resources(&http).await?;
    let document = http.get("/openapi/v2", JSON).await?.expect(200)?;
    failures.extend(complete::check(&document, &resources, &entries).err().map(|error| format!("{error:#}")));
    for resource in resources {
        let Some(entry) = entries.take(&resource.id()) else {
            failures.push(format!("{} has no entry in tests/tests/kinds/objects", resource.id()));
            continue;
        };
        let connector = connector.clone();
        stories.spawn(async move {
            let id = resource.id();
            let told = async { Kind::new(connector.connect().await?, resource, entry).tell().await };
            told.await.with_context(|| id)
        });
    }
    failures.extend(entries.left().map(|id| format!("{id} has an entry and is not served")));
    while let Some(told) = stories.join_next().await {
        match told {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(format!("{error:#}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures.sort();
    ensure!(failures.is_empty(), "{} kinds fail:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

async fn served(http: &Http) -> Result<bool> {
    Ok(http.get("/apis/table.example.com/v1", JSON).await?.code == 200)
}

/// A resource as discovery shows it.
pub struct Listed {
    /// As in `apiVersion`.
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
    pub subresources: BTreeSet<String>,
}

impl Listed {
    fn id(&self) -> String {
        format!("{}/{}", self.version, self.plural)
    }
}

async fn resources(http: &Http) -> Result<Vec<Listed>> {
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = http.get("/apis", JSON).await?.expect(200)?;
    for group in groups["groups"].as_array().context("groups")? {
        for version in group["versions"].as_array().context("versions")? {
            versions.push(format!("/apis/{}", version["groupVersion"].as_str().context("a version")?));
        }
    }
    let mut all: Vec<Listed> = Vec::new();
    for path in versions {
        let list = http.get(&path, JSON).await?.expect(200)?;
        let version = list["groupVersion"].as_str().context("a version")?;
        for resource in list["resources"].as_array().context("resources")? {
            let name = resource["name"].as_str().context("a name")?;
            if let Some((plural, subresource)) = name.split_once('/') {
                let parent = all.iter_mut().find(|one| one.version == version && one.plural == plural);
                // Bindings of a pod and the like come after their parents.
                let Some(parent) = parent else { bail!("{name} goes before {plural}") };
                parent.subresources.insert(subresource.to_owned());
                continue;
            }
            let verbs = resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str);
            all.push(Listed {
                version: version.to_owned(),
                plural: name.to_owned(),
                kind: resource["kind"].as_str().context("a kind")?.to_owned(),
                namespaced: resource["namespaced"] == true,
                verbs: verbs.map(str::to_owned).collect(),
                subresources: BTreeSet::new(),
            });
        }
    }
    Ok(all)
}

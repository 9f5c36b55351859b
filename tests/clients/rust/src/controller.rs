//! A custom kind by derive, applied; a controller of it with a finalizer, that owns ConfigMaps.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{ok, soon};

const FINALIZER: &str = "check.example/settled";

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "check.example", version = "v1", kind = "Wheel", namespaced, status = "WheelStatus", shortname = "wh")]
#[kube(printcolumn = r#"{"name":"Spokes","type":"integer","jsonPath":".spec.spokes"}"#)]
#[kube(validation = "self.spec.spokes % 2 == 0 || self.metadata.name == 'odd'")]
pub struct WheelSpec {
    #[schemars(range(min = 2, max = 100))]
    spokes: u32,
    #[serde(default = "rim")]
    rim: Option<Rim>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub enum Rim {
    #[default]
    Wood,
    Steel,
}

fn rim() -> Option<Rim> {
    Some(Rim::default())
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct WheelStatus {
    turning: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("asking the API")]
    Api(#[from] kube::Error),
    #[error("the finalizer")]
    Finalizer(#[source] Box<finalizer::Error<Failure>>),
}

pub async fn check(client: &Client) -> Result<()> {
    define(client).await?;
    let wheels: Api<Wheel> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let maps_of_ours = watcher::Config::default().labels("wheel=yes");
    let run = Controller::new(wheels.clone(), watcher::Config::default().streaming_lists())
        .owns(maps.clone(), maps_of_ours)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), Arc::new(client.clone()));
    let running = tokio::spawn(run.for_each(|_| async {}));
    let applied = Wheel::new("one", WheelSpec { spokes: 8, rim: rim() });
    let params = PatchParams::apply("check").force();
    wheels.patch("one", &params, &Patch::Apply(&applied)).await?;
    let turning =
        |wheel: Option<&Wheel>| wheel.and_then(|wheel| wheel.status.as_ref()).is_some_and(|status| status.turning);
    let wheel =
        soon("a wheel that turns", await_condition(wheels.clone(), "one", turning)).await??.context("a wheel")?;
    ensure!(wheel.finalizers() == [FINALIZER], "{wheel:?}");
    ensure!(wheel.spec.rim == Some(Rim::Wood) && wheel.meta().generation == Some(1), "{wheel:?}");
    // What it owns comes back, and goes with it.
    let first = maps.get("wheel-one").await?.uid().context("a uid")?;
    maps.delete("wheel-one", &DeleteParams::default()).await?;
    let again = |map: Option<&ConfigMap>| map.is_some_and(|map| map.uid().as_ref() != Some(&first));
    soon("the owned map again", await_condition(maps.clone(), "wheel-one", again)).await??;
    wheels.delete("one", &DeleteParams::default()).await?;
    let uid = wheel.uid().context("a uid")?;
    soon("a settled wheel", await_condition(wheels.clone(), "one", conditions::is_deleted(&uid))).await??;
    ensure!(maps.get_opt("settled-one").await?.is_some(), "the finalizer had its turn");
    let none = |map: Option<&ConfigMap>| map.is_none();
    soon("the owned map's end", await_condition(maps.clone(), "wheel-one", none)).await??;
    maps.delete("settled-one", &DeleteParams::default()).await?;
    running.abort();
    ok("a controller: finalizer, status, what it owns");
    Api::<CustomResourceDefinition>::all(client.clone()).delete(Wheel::crd_name(), &DeleteParams::default()).await?;
    Ok(())
}

async fn define(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch(Wheel::crd_name(), &PatchParams::apply("check"), &Patch::Apply(Wheel::crd())).await?;
    let established = await_condition(definitions.clone(), Wheel::crd_name(), conditions::is_crd_established());
    soon("an established kind", established).await??;
    let wheels: Api<Wheel> = Api::default_namespaced(client.clone());
    for (name, spokes, message) in [
        ("few", 1, "spec.spokes: Invalid value: 1: spec.spokes in body should be greater than or equal to 2"),
        ("three", 3, "failed rule: self.spec.spokes % 2 == 0 || self.metadata.name == 'odd'"),
    ] {
        let refused = wheels.create(&PostParams::default(), &Wheel::new(name, WheelSpec { spokes, rim: None })).await;
        let Err(kube::Error::Api(status)) = refused else { anyhow::bail!("{name} was not refused: {refused:?}") };
        ensure!(status.code == 422 && status.message.contains(message), "{}", status.message);
    }
    ok("a kind by derive, its schema and rules");
    Ok(())
}

async fn reconcile(wheel: Arc<Wheel>, client: Arc<Client>) -> Result<Action, Failure> {
    let wheels: Api<Wheel> = Api::default_namespaced((*client).clone());
    let settled = finalizer(&wheels, FINALIZER, wheel, |event| async {
        match event {
            finalizer::Event::Apply(wheel) => turn(&client, &wheels, &wheel).await,
            finalizer::Event::Cleanup(wheel) => settle(&client, &wheel).await,
        }
    });
    settled.await.map_err(|error| Failure::Finalizer(Box::new(error)))
}

async fn turn(client: &Client, wheels: &Api<Wheel>, wheel: &Wheel) -> Result<Action, Failure> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let name = format!("wheel-{}", wheel.name_any());
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"wheel": "yes"}, "ownerReferences": [wheel.controller_owner_ref(&())]},
        "data": {"spokes": wheel.spec.spokes.to_string()}});
    maps.patch(&name, &PatchParams::apply("wheels"), &Patch::Apply(map)).await?;
    let status = json!({"status": WheelStatus { turning: true }});
    wheels.patch_status(&wheel.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(Action::await_change())
}

async fn settle(client: &Client, wheel: &Wheel) -> Result<Action, Failure> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut map = ConfigMap::default();
    map.metadata.name = Some(format!("settled-{}", wheel.name_any()));
    maps.create(&PostParams::default(), &map).await?;
    Ok(Action::await_change())
}

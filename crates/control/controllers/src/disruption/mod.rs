//! Counts for each PodDisruptionBudget how many of its pods may be evicted. Upstream's disruption controller.

mod plan;
mod scale;
mod stale;

use std::sync::Arc;

use base_meta::selector::LabelSelector;
use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use machinery_client::kube::api::PostParams;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, informer};

use crate::reconcile::{self, Again, During, Error, is_code};
use crate::replicaset::regarding;
use crate::world::{PodFacts, World};

struct Controller {
    client: Client,
    world: World,
    budgets: Informer<PodDisruptionBudget>,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    stale::start(tasks, client, world);
    let budgets =
        informer(tasks, Api::all(client.clone()), Config::default(), |budget: PodDisruptionBudget| Some(budget));
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &budgets, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    reconcile::wake(tasks, &world.pods, {
        let (queue, budgets) = (queue.clone(), budgets.clone());
        move |change| {
            let (old, new) = match change {
                Change::Applied { old, new, .. } => (old.as_deref(), Some(&**new)),
                Change::Deleted { old, .. } => (Some(&**old), None),
            };
            let pods = [old, new];
            let concerned = budgets.select(|key, budget| {
                key.namespace == change.key().namespace && {
                    let selector = selector(budget);
                    pods.iter().flatten().any(|pod| selects(&selector, pod))
                }
            });
            concerned.into_iter().for_each(|(key, _)| queue.add(key));
        }
    });
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        budgets,
        recorder: Recorder::new(tasks, client.clone(), "controllermanager", None),
    });
    let ready = {
        let controller = Arc::clone(&controller);
        async move {
            controller.budgets.synced().await;
            controller.world.pods.synced().await;
            controller.world.replica_sets.synced().await;
            controller.world.deployments.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    });
}

/// Validation lets no other selector in; that selects nothing.
fn selector(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    LabelSelector::from_typed(budget.spec.as_ref()?.selector.as_ref()).ok()
}

fn selects(selector: &Option<LabelSelector>, pod: &PodFacts) -> bool {
    selector.as_ref().is_some_and(|selector| selector.matches(|key| pod.labels.get(key).map(String::as_str)))
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(None) };
        let selector = selector(&budget);
        let pods = self.world.pods.select(|pod, facts| pod.namespace == key.namespace && selects(&selector, facts));
        let mut pods: Vec<Arc<PodFacts>> = pods.into_iter().map(|(_, pod)| pod).collect();
        pods.sort_by(|a, b| a.key.cmp(&b.key));
        let pods: Vec<&PodFacts> = pods.iter().map(Arc::as_ref).collect();
        let scale = match &budget.spec {
            Some(spec) if plan::asks_controllers(spec) => scale::wanted(&self.client, &self.world, &pods).await?,
            _ => scale::Wanted::Pods { wanted: 0, unmanaged: false },
        };
        let now = Timestamp::now();
        let (status, again) = match scale {
            scale::Wanted::Pods { wanted, .. } => plan::status(&budget, &pods, wanted, now),
            scale::Wanted::Unknown(ref why) => (plan::failed(&budget, why, now), None),
        };
        if budget.status.as_ref() == Some(&status) {
            return Ok(again.map(jiff::SignedDuration::unsigned_abs));
        }
        match scale {
            scale::Wanted::Unknown(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.event(&budget, EventKind::Warning, "CalculateExpectedPodCountFailed", &message);
            }
            scale::Wanted::Pods { .. } if pods.is_empty() => {
                self.event(&budget, EventKind::Normal, "NoPods", "No matching pods found");
            }
            scale::Wanted::Pods { unmanaged: true, .. } => {
                let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged: set .spec.minAvailable \
                               to an integer value to account for them";
                self.event(&budget, EventKind::Warning, "UnmanagedPods", message);
            }
            scale::Wanted::Pods { .. } => {}
        }
        self.write(key, &budget, status).await?;
        Ok(again.map(jiff::SignedDuration::unsigned_abs))
    }

    fn event(&self, budget: &PodDisruptionBudget, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&regarding(budget), kind, reason, message);
    }

    /// Over the version that was read: an eviction that was granted meanwhile is not undone.
    async fn write(
        &self,
        key: &ObjectKey,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        let new = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &new).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => other.map(drop).during("writing a PodDisruptionBudget's status"),
        }
    }
}

//! IPAddresses show which Service has which address, and ServiceCIDRs are ready, or held while addresses are in them.
//!
//! Upstream's allocator makes the IPAddress itself. Here the allocation is a key of the store, which the API server
//! keeps, and the object follows the Service; whatever else holds an address by an IPAddress keeps it from Services.

mod plan;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use machinery_client::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, Regarding, informer};
use serde_json::{Value, json};

use self::plan::{AddressFacts, Wanted};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

/// Until other API servers have seen that a range goes, as upstream's.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Service(ObjectKey),
    Address(IpAddr),
    Cidr(String),
}

#[derive(Clone)]
struct Controller {
    client: Client,
    services: Informer<Service>,
    addresses: Informer<AddressFacts>,
    cidrs: Informer<ServiceCIDR>,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let all = Config::default;
    let controller = Controller {
        client: client.clone(),
        services: world.services.clone(),
        addresses: informer(tasks, Api::all(client.clone()), all(), |address: IPAddress| {
            Some(AddressFacts::of(&address))
        }),
        cidrs: informer(tasks, Api::all(client.clone()), all(), |cidr: ServiceCIDR| Some(cidr)),
        recorder: Recorder::new(tasks, client.clone(), "ipallocator-repair-controller", None),
    };
    let queue = reconcile::queue::<Key>();
    wake(tasks, &controller, &queue);
    let ready = {
        let controller = controller.clone();
        async move {
            controller.services.synced().await;
            controller.addresses.synced().await;
            controller.cidrs.synced().await;
        }
    };
    let controller = Arc::new(controller);
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move {
            match key {
                Key::Service(key) => controller.service(&key).await,
                Key::Address(ip) => controller.address(ip).await,
                Key::Cidr(name) => controller.cidr(&name).await,
            }
        }
    });
}

fn wake(tasks: &Tasks, controller: &Controller, queue: &WorkQueue<Key>) {
    reconcile::wake(tasks, &controller.services, {
        let queue = queue.clone();
        move |change| {
            queue.add(Key::Service(change.key().clone()));
            let old = match change {
                Change::Applied { old, .. } => old.as_ref(),
                Change::Deleted { old, .. } => Some(old),
            };
            old.into_iter().flat_map(|old| plan::addresses(old)).for_each(|ip| queue.add(Key::Address(ip)));
        }
    });
    reconcile::wake(tasks, &controller.addresses, {
        let (queue, cidrs) = (queue.clone(), controller.cidrs.clone());
        move |change| {
            let (Change::Applied { key, new: facts, .. } | Change::Deleted { key, old: facts }) = change;
            if let Ok(ip) = key.name.parse() {
                queue.add(Key::Address(ip));
            }
            facts.service.iter().for_each(|service| queue.add(Key::Service(service.clone())));
            // It may hold a range, or have held it.
            let going = cidrs.select(|_, cidr| cidr.metadata.deletion_timestamp.is_some());
            going.into_iter().for_each(|(key, _)| queue.add(Key::Cidr(key.name)));
        }
    });
    let (queue, cidrs) = (queue.clone(), controller.cidrs.clone());
    // Each can stand in for another.
    reconcile::wake(tasks, &controller.cidrs, move |change| {
        queue.add(Key::Cidr(change.key().name.clone()));
        let going = cidrs.select(|_, cidr| cidr.metadata.deletion_timestamp.is_some());
        going.into_iter().for_each(|(key, _)| queue.add(Key::Cidr(key.name)));
    });
}

impl Controller {
    fn holds(&self, service: &ObjectKey, ip: IpAddr) -> bool {
        self.services.get(service).is_some_and(|service| plan::addresses(&service).contains(&ip))
    }

    async fn service(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(service) = self.services.get(key) else { return Ok(None) };
        for ip in plan::addresses(&service) {
            let stored = self.addresses.get(&ObjectKey::new("", ip.to_string()));
            let family = plan::family(ip);
            let warn = |reason, message: &str| self.warn(key, &service, reason, message);
            if self.cidrs.select(|_, cidr| plan::contains(cidr, ip)).is_empty() {
                warn(
                    "ClusterIPOutOfRange",
                    &format!(
                        "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
                    ),
                );
                continue;
            }
            match plan::address(key, stored.as_deref(), |other| self.holds(other, ip)) {
                Wanted::Nothing => {}
                Wanted::Create => self.create(ip, key).await?,
                Wanted::Recreate => {
                    let (namespace, name) = (&key.namespace, &key.name);
                    warn(
                        "ClusterIPNotAllocated",
                        &format!(
                            "the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing"
                        ),
                    );
                    self.delete(ip).await?;
                    self.create(ip, key).await?;
                }
                Wanted::Disputed => warn(
                    "ClusterIPAlreadyAllocated",
                    &format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"),
                ),
            }
        }
        Ok(None)
    }

    fn warn(&self, key: &ObjectKey, service: &Service, reason: &str, message: &str) {
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Service".into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            field_path: None,
        };
        self.recorder.event(&regarding, EventKind::Warning, reason, message);
    }

    /// One that no Service stands behind any more goes.
    async fn address(&self, ip: IpAddr) -> Result<Again, Error> {
        let Some(facts) = self.addresses.get(&ObjectKey::new("", ip.to_string())) else { return Ok(None) };
        let held = facts.service.as_ref().is_some_and(|service| self.holds(service, ip));
        if facts.managed && !held {
            self.delete(ip).await?;
        }
        Ok(None)
    }

    async fn create(&self, ip: IpAddr, service: &ObjectKey) -> Result<(), Error> {
        let api: Api<IPAddress> = Api::all(self.client.clone());
        let made = match api.create(&PostParams::default(), &plan::make(ip, service)).await {
            // The informer is behind; the object wakes us again.
            Err(error) if is_code(&error, 409) => return Ok(()),
            made => made.during("making an IPAddress")?,
        };
        Ok(self.addresses.caught_up(&made.metadata.resource_version.unwrap_or_default()).await?)
    }

    async fn delete(&self, ip: IpAddr) -> Result<(), Error> {
        let api: Api<IPAddress> = Api::all(self.client.clone());
        match api.delete(&ip.to_string(), &DeleteParams::default()).await {
            Err(error) if !is_code(&error, 404) => Err(error).during("deleting an IPAddress"),
            _ => Ok(()),
        }
    }

    async fn cidr(&self, name: &str) -> Result<Again, Error> {
        let Some(cidr) = self.cidrs.get(&ObjectKey::new("", name)) else { return Ok(None) };
        let protected = cidr.metadata.finalizers.iter().flatten().any(|one| one == plan::FINALIZER);
        let Some(deleted) = &cidr.metadata.deletion_timestamp else {
            if !protected {
                let mut finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(plan::FINALIZER.into());
                self.finalizers(name, &finalizers).await?;
            }
            self.condition(&cidr, "True", "", "Kubernetes Service CIDR is ready").await?;
            return Ok(None);
        };
        let others = self.cidrs.select(|key, other| key.name != name && other.metadata.deletion_timestamp.is_none());
        let others: Vec<&ServiceCIDR> = others.iter().map(|(_, other)| &**other).collect();
        let held = self.addresses.select(|_, facts| facts.managed);
        let held: Vec<IpAddr> = held.into_iter().filter_map(|(key, _)| key.name.parse().ok()).collect();
        if !plan::may_go(&cidr, &others, held.iter()) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            self.condition(&cidr, "False", "Terminating", message).await?;
            return Ok(None);
        }
        let since = Duration::try_from(Timestamp::now().duration_since(deleted.0)).unwrap_or_default();
        if let Some(left) = GRACE.checked_sub(since).filter(|left| !left.is_zero()) {
            return Ok(Some(left));
        }
        if protected {
            let kept = cidr.metadata.finalizers.iter().flatten().filter(|one| *one != plan::FINALIZER);
            self.finalizers(name, &kept.cloned().collect::<Vec<_>>()).await?;
        }
        Ok(None)
    }

    async fn finalizers(&self, name: &str, finalizers: &[String]) -> Result<(), Error> {
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"finalizers": finalizers}});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_code(&error, 404) => Err(error).during("changing a ServiceCIDR's finalizers"),
            _ => Ok(()),
        }
    }

    async fn condition(&self, cidr: &ServiceCIDR, status: &str, reason: &str, message: &str) -> Result<(), Error> {
        let mut conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
        // The API server's own says the same in other words.
        if conditions.any(|one| one.type_ == "Ready" && one.status == status && one.reason == reason) {
            return Ok(());
        }
        let condition: Value = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        let name = cidr.metadata.name.clone().unwrap_or_default();
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Err(error) if !is_code(&error, 404) => Err(error).during("saying whether a ServiceCIDR is ready"),
            _ => Ok(()),
        }
    }
}

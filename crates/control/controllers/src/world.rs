//! The shared informers and what they keep of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::volume::{Claim, Class, Volume};
use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount, Toleration,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Informer, ObjectKey, Regarding, informer};

use crate::nodes::{self, LeaseFacts, NodeFacts};

/// What the controllers read of a pod: a whole typed pod is 25 KB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    pub key: ObjectKey,
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    /// The owner with `controller: true`.
    pub controller: Option<Owner>,
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    pub node: Option<String>,
    /// The one node on which it may be scheduled, where its affinity names one.
    pub meant_for: Option<String>,
    pub phase: Phase,
    /// When the Ready condition turned true; `None` while it is not.
    pub ready_since: Option<Timestamp>,
    pub restarts: i32,
    pub ips: Vec<String>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// Named container ports: (name, protocol) → number.
    pub ports: Vec<(String, String, i32)>,
    /// Names of the claims it uses.
    pub claims: Vec<String>,
    /// Whether some of them are made for it.
    pub own_claims: bool,
    pub tolerations: Vec<Toleration>,
    /// Since when something else than the pod itself is about to end it; not what its own node does.
    pub disrupted_since: Option<Timestamp>,
    /// Ended by its node for want of room.
    pub evicted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl PodFacts {
    pub fn of(pod: Pod) -> Self {
        let key = ObjectKey::of(&pod);
        let controller = controller_of(&pod.metadata);
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        let uses = api::volume::uses(&key.name, &spec);
        let own_claims = uses.iter().any(|used| used.own);
        let claims = uses.into_iter().map(|used| used.claim).collect();
        let ready_since = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready" && condition.status == "True")
            .map(|condition| condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0));
        let disrupted_since = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
            .filter(|condition| condition.reason.as_deref() != Some("TerminationByKubelet"))
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(|time| time.0);
        let meant_for =
            spec.node_name.is_none().then(|| api::node_selector::only_node(spec.affinity.as_ref()?)).flatten();
        // Sidecars are init containers that go on running, and their ports can be named by a Service as well.
        let sidecars = spec
            .init_containers
            .into_iter()
            .flatten()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = spec
            .containers
            .into_iter()
            .chain(sidecars)
            .flat_map(|container| container.ports.unwrap_or_default())
            .filter_map(|port| Some((port.name?, port.protocol.unwrap_or_else(|| "TCP".into()), port.container_port)))
            .collect();
        let mut ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|address| address.ip).collect();
        if ips.is_empty() {
            ips.extend(status.pod_ip.filter(|ip| !ip.is_empty()));
        }
        Self {
            key,
            uid: pod.metadata.uid.unwrap_or_default(),
            resource_version: pod.metadata.resource_version.unwrap_or_default(),
            labels: pod.metadata.labels.unwrap_or_default(),
            controller,
            created: pod.metadata.creation_timestamp.map(|time| time.0),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node: spec.node_name.filter(|node| !node.is_empty()),
            meant_for,
            phase: match status.phase.as_deref() {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            ready_since,
            restarts: status.container_statuses.iter().flatten().map(|container| container.restart_count).sum(),
            ips,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            ports,
            claims,
            own_claims,
            tolerations: spec.tolerations.unwrap_or_default(),
            disrupted_since,
            evicted: status.reason.as_deref() == Some("Evicted"),
        }
    }

    /// Neither ended nor being deleted: counts towards a ReplicaSet's replicas.
    pub fn active(&self) -> bool {
        !self.deleting && !self.terminal()
    }

    /// Where it runs, or will.
    pub fn destination(&self) -> Option<&str> {
        self.node.as_deref().or(self.meant_for.as_deref())
    }

    pub fn terminal(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    pub fn ready(&self) -> bool {
        self.ready_since.is_some()
    }

    pub fn regarding(&self) -> Regarding {
        Regarding {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.uid.clone(),
            field_path: None,
        }
    }
}

/// The owner with `controller: true`.
pub fn controller_of(meta: &ObjectMeta) -> Option<Owner> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(|owner| Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// The reference by which `owner` controls what it makes.
pub fn owned_by<K>(owner: &K) -> OwnerReference
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Every list the controllers share.
#[derive(Clone)]
pub struct World {
    pub pods: Informer<PodFacts>,
    pub replica_sets: Informer<ReplicaSet>,
    pub deployments: Informer<Deployment>,
    pub services: Informer<Service>,
    pub slices: Informer<EndpointSlice>,
    pub endpoints: Informer<Endpoints>,
    pub namespaces: Informer<Namespace>,
    pub service_accounts: Informer<ServiceAccountFacts>,
    pub nodes: Informer<NodeFacts>,
    pub node_leases: Informer<LeaseFacts>,
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    pub classes: Informer<Class>,
}

/// That a ServiceAccount exists is all the controllers need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountFacts;

impl World {
    pub fn start(tasks: &Tasks, client: &Client) -> Self {
        let all = Config::default;
        Self {
            pods: informer(tasks, Api::all(client.clone()), all(), |pod: Pod| Some(PodFacts::of(pod))),
            replica_sets: informer(tasks, Api::all(client.clone()), all(), |set: ReplicaSet| Some(set)),
            deployments: informer(tasks, Api::all(client.clone()), all(), |deployment: Deployment| Some(deployment)),
            services: informer(tasks, Api::all(client.clone()), all(), |service: Service| Some(service)),
            slices: informer(tasks, Api::all(client.clone()), all(), |slice: EndpointSlice| Some(slice)),
            endpoints: informer(tasks, Api::all(client.clone()), all(), |endpoints: Endpoints| Some(endpoints)),
            namespaces: informer(tasks, Api::all(client.clone()), all(), |namespace: Namespace| Some(namespace)),
            service_accounts: informer(tasks, Api::all(client.clone()), all(), |_: ServiceAccount| {
                Some(ServiceAccountFacts)
            }),
            nodes: informer(tasks, Api::all(client.clone()), all(), |node: Node| Some(NodeFacts::of(node))),
            node_leases: informer(tasks, Api::namespaced(client.clone(), nodes::LEASES), all(), |lease: Lease| {
                Some(LeaseFacts::of(&lease))
            }),
            claims: informer(tasks, Api::all(client.clone()), all(), |claim: PersistentVolumeClaim| {
                Some(Claim::of(claim))
            }),
            volumes: informer(tasks, Api::all(client.clone()), all(), |volume: PersistentVolume| {
                Some(Volume::of(volume))
            }),
            classes: informer(tasks, Api::all(client.clone()), all(), |class: StorageClass| Some(Class::of(class))),
        }
    }

    /// The pods of a namespace.
    pub fn pods_in(&self, namespace: &str) -> Vec<Arc<PodFacts>> {
        self.pods.select(|key, _| key.namespace == namespace).into_iter().map(|(_, pod)| pod).collect()
    }
}

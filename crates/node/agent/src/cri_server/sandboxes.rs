//! Sandboxes: those of the node's pods are shown and stopped, a client's own are made and removed as well.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use node_grpc::messages::cri;
use node_grpc::{Code, Status};
use serde_json::json;

use super::find::gone_is_none;
use super::foreign::Said;
use super::{Server, failed, info, new_id, shown, spec};
use crate::pods::Message;
use crate::seams::{Dns, Resources, Sandbox, Wiring, label};

impl Server {
    pub(super) async fn run_sandbox(&self, request: cri::RunPodSandboxRequest) -> Result<String, Status> {
        let mut config = request.config.unwrap_or_default();
        if !request.runtime_handler.is_empty() {
            let message = format!("no runtime for {:?} is configured", request.runtime_handler);
            return Err(Status::new(Code::NotFound, message));
        }
        let id = new_id()?;
        let asked = spec::sandbox(&id, &config)?;
        config.hostname.clone_from(&asked.hostname);
        let _making = self.making.lock().await;
        let metadata = config.metadata.clone();
        let same = |sandbox: &&Sandbox| sandbox.is_foreign() && Some(shown::pod_metadata(&sandbox.labels)) == metadata;
        if let Some(before) = self.sandboxes().await?.iter().find(same) {
            let message = format!("a sandbox of that name, uid and attempt is there: {}", before.id);
            return Err(Status::new(Code::AlreadyExists, message));
        }
        let sandbox = self.machine.runtime.create_sandbox(asked).await.map_err(failed)?;
        let made = async {
            let ips = self.connect(&sandbox, config.dns_config.as_ref()).await?;
            self.write_files(&id, &config, &ips)?;
            self.addresses().insert(id.clone(), ips);
            Ok(())
        };
        if let Err(error) = made.await {
            self.dismantle(&sandbox).await?;
            return Err(error);
        }
        Ok(id)
    }

    /// Connects a client's own sandbox, or finds it connected.
    async fn connect(&self, sandbox: &Sandbox, dns: Option<&cri::DnsConfig>) -> Result<Vec<IpAddr>, Status> {
        let Some(netns) = &sandbox.netns else { return Ok(Vec::new()) };
        let dns = dns.cloned().unwrap_or_default();
        let dns = Dns { servers: dns.servers, searches: dns.searches, options: dns.options };
        let wiring = Wiring { sandbox: &sandbox.id, netns, pod: &pod(sandbox), dns: &dns };
        self.machine.network.attach(wiring).await.map_err(failed)
    }

    /// After a restart: what is connected is told again to those who balance its connections.
    pub(super) async fn reconnect(&self) {
        let own = self.sandboxes().await.unwrap_or_default().into_iter();
        for sandbox in own.filter(|sandbox| sandbox.is_foreign() && sandbox.ready) {
            match self.connect(&sandbox, None).await {
                Ok(ips) => drop(self.addresses().insert(sandbox.id, ips)),
                Err(error) => tracing::warn!(sandbox = sandbox.id, %error, "network of a running sandbox lost"),
            }
        }
    }

    /// The worker of a pod is told first, so that it does not start containers anew in a sandbox that ends: it makes
    /// another sandbox.
    pub(super) async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let Some(sandbox) = gone_is_none(self.sandbox(id).await)? else { return Ok(()) };
        if !sandbox.is_foreign() {
            self.machine.routes.send(&sandbox.id, Message::SandboxLost);
            return self.machine.runtime.stop_sandbox(&sandbox.id).await.map_err(failed);
        }
        if sandbox.netns.is_some() {
            self.machine.network.detach(&sandbox.id).await.map_err(failed)?;
        }
        self.addresses().remove(&sandbox.id);
        self.machine.runtime.stop_sandbox(&sandbox.id).await.map_err(failed)
    }

    /// That of a pod is its worker's to remove, which [`Self::stop_sandbox`] has it do.
    pub(super) async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let Some(sandbox) = gone_is_none(self.sandbox(id).await)? else { return Ok(()) };
        if !sandbox.is_foreign() {
            return self.stop_sandbox(&sandbox.id).await;
        }
        self.dismantle(&sandbox).await
    }

    async fn dismantle(&self, sandbox: &Sandbox) -> Result<(), Status> {
        self.stop_sandbox(&sandbox.id).await?;
        self.machine.runtime.remove_sandbox(&sandbox.id).await.map_err(failed)?;
        self.remove_files(&sandbox.id);
        Ok(())
    }

    pub(super) async fn sandbox_status(
        &self,
        request: cri::PodSandboxStatusRequest,
    ) -> Result<cri::PodSandboxStatusResponse, Status> {
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        let pod = sandbox.labels.get(label::POD_UID).and_then(|uid| self.pod(uid));
        let ips = match Said::of(&sandbox.labels) {
            Some(_) => self.addresses().get(&sandbox.id).cloned().unwrap_or_default(),
            None => {
                pod.as_deref().filter(|_| sandbox.netns.is_some() && sandbox.ready).map(addresses).unwrap_or_default()
            }
        };
        let mut containers = Vec::with_capacity(sandbox.containers.len());
        for container in &sandbox.containers {
            containers.push(self.shown_container(container).await?);
        }
        let more = json!({
            "id": sandbox.id,
            "netns": sandbox.netns,
            "labels": sandbox.labels,
            "containers": sandbox.containers.iter().map(|container| &container.id).collect::<Vec<_>>(),
        });
        Ok(cri::PodSandboxStatusResponse {
            status: Some(shown::sandbox_status(&sandbox, &ips, pod.as_deref())),
            info: info(request.verbose, "info", &more),
            containers_statuses: containers,
            timestamp: shown::nanoseconds(self.machine.clock.now()),
        })
    }

    pub(super) async fn list_sandboxes(
        &self,
        request: cri::ListPodSandboxRequest,
    ) -> Result<cri::ListPodSandboxResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let mut items: Vec<_> = self.sandboxes().await?.iter().map(shown::sandbox).collect();
        items.retain(|item| {
            item.id.starts_with(&filter.id)
                && filter.state.is_none_or(|wanted| wanted.state == item.state)
                && has_all(&item.labels, &filter.label_selector)
        });
        Ok(cri::ListPodSandboxResponse { items })
    }

    /// Bounds of the sandbox as a whole.
    pub(super) async fn update_sandbox(&self, request: cri::UpdatePodSandboxResourcesRequest) -> Result<(), Status> {
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        let resources = spec::resources(request.resources.as_ref(), Resources::unbounded())?;
        self.machine.runtime.resize_sandbox(&sandbox.id, &resources).await.map_err(failed)
    }
}

pub(super) fn has_all(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// As its status says, the primary one first.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.filter_map(|ip| ip.ip.parse().ok()).collect()
}

/// What plug-ins of the network are told of a sandbox that is no pod's.
fn pod(sandbox: &Sandbox) -> Pod {
    let (labels, annotations) = shown::told(&sandbox.labels);
    let cri::PodSandboxMetadata { name, uid, namespace, .. } = shown::pod_metadata(&sandbox.labels);
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace),
        uid: Some(uid),
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: Some(PodSpec::default()), status: None }
}

//! A data plane driven by changes of objects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use machinery_client::{Change, ObjectKey};
use net_proxy::{
    EndpointView, Family, Feeds, HostPorts, PortView, Protocol, Proxy, ProxyConfig, ServiceView, SliceView, Zone,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{Peer, service};

pub const WEB: IpAddr = service(Family::V4, 9);

pub struct Cluster {
    pub services: UnboundedSender<Change<ServiceView>>,
    pub slices: UnboundedSender<Change<SliceView>>,
    pub zones: UnboundedSender<Change<Zone>>,
    /// Kept open.
    host_ports: UnboundedSender<Change<HostPorts>>,
    pub proxy: Proxy,
    tasks: Tasks,
}

impl Cluster {
    pub fn start(config: ProxyConfig) -> Self {
        let (services, service_changes) = unbounded_channel();
        let (slices, slice_changes) = unbounded_channel();
        let (zones, zone_changes) = unbounded_channel();
        let (host_ports, host_port_changes) = unbounded_channel();
        let feeds = Feeds {
            services: service_changes,
            slices: slice_changes,
            zones: zone_changes,
            host_ports: host_port_changes,
        };
        let tasks = Tasks::root("test");
        let proxy = Proxy::drive(&tasks, feeds, config).unwrap();
        Self { services, slices, zones, host_ports, proxy, tasks }
    }

    /// A Service with TCP port 80 and UDP port 53.
    pub fn add_service(&self) {
        self.add(key(), ServiceView { cluster_ips: vec![WEB], ..Self::web() });
    }

    pub fn web() -> ServiceView {
        let port = |name: &str, protocol, port| PortView { name: name.into(), protocol, port, node_port: None };
        let ports = vec![port("web", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)];
        ServiceView { ports, ..ServiceView::default() }
    }

    pub fn add(&self, key: ObjectKey, view: ServiceView) {
        self.services.send(Change::Applied { key, old: None, new: Arc::new(view) }).unwrap();
    }

    /// Publishes the slice and waits until the kernel follows it.
    pub async fn set_endpoints(&self, revision: u64, pods: &[(&Peer, bool)]) {
        let endpoint = |(pod, ready): &(&Peer, bool)| EndpointView {
            ready: *ready,
            terminating: !ready,
            ..EndpointView::ready(pod.ip(Family::V4), "here")
        };
        let endpoints = pods.iter().map(endpoint).collect();
        self.set_views(revision, endpoints).await;
    }

    pub async fn set_views(&self, revision: u64, endpoints: Vec<EndpointView>) {
        self.set_views_of(key(), revision, endpoints).await;
    }

    pub async fn set_views_of(&self, key: ObjectKey, revision: u64, endpoints: Vec<EndpointView>) {
        let view = SliceView {
            service: key.clone(),
            revision,
            ports: vec![("web".into(), Protocol::Tcp, 8080), ("dns".into(), Protocol::Udp, 8080)],
            endpoints,
        };
        self.slices.send(Change::Applied { key, old: None, new: Arc::new(view) }).unwrap();
        self.proxy.programmed().wait_for(|programmed| *programmed >= revision).await.unwrap();
    }

    pub async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

pub fn key() -> ObjectKey {
    ObjectKey::new("default", "web")
}

/// In the calling thread's network namespace.
pub fn story(config: ProxyConfig, story: impl AsyncFnOnce(Cluster)) {
    on_a_runtime(async || {
        let cluster = Cluster::start(config);
        let tasks = cluster.tasks.clone();
        // Else it may read of endpoints after it looked for Services.
        cluster.proxy.loaded().await;
        story(cluster).await;
        tasks.shutdown(Duration::from_secs(5)).await;
    });
}

pub fn on_a_runtime(story: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story());
}

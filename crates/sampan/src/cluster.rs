//! The control plane: storage, kinds, API server, controllers, scheduler.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use base_tasks::Tasks;
use control_policy::rbac::Loaded;
use control_policy::{ClientCertificates, Kinds, Rbac};
use control_resources::{Deps, ServiceRange, bootstrap};
use machinery_apiserver::{ApiServer, Limits, VersionInfo};
use machinery_client::kube::Client;
use machinery_registry::{Resource, UserInfo};
use machinery_storage::embedded::Embedded;

use crate::config::Server;
use crate::pki::Authority;

pub struct ControlPlane {
    pub api: ApiServer,
    storage: Embedded,
    rbac: Arc<Rbac>,
    /// What is to be done about the roles once the API serves.
    loaded: Option<Loaded>,
}

impl ControlPlane {
    /// Opens the store and writes what every cluster has; nothing is served yet.
    pub async fn open(
        tasks: &Tasks,
        data_dir: &Path,
        options: &Server,
        authority: &Authority,
        facts: bootstrap::Facts,
    ) -> Result<Self> {
        let storage = Embedded::open(&data_dir.join("store")).await.context("opening the store")?;
        let rbac = Arc::new(Rbac::default());
        let plugins = control_policy::plugins(&rbac);
        let kubelet_client = authority.client("kube-apiserver-kubelet-client", &["system:masters"])?;
        let resources = control_resources::resources(Deps {
            storage: Arc::new(storage.clone()),
            admission: plugins.chain.clone(),
            service_range: ServiceRange::parse(&options.service_cidr.to_string()).context("the service range")?,
            node_ports: options.service_node_port_range,
            kubelet_tls: Arc::new(authority.client_config(&kubelet_client)?),
            tasks: tasks.child("node-streams"),
        })
        .await
        .context("loading the store")?;
        let all = resources.all();
        plugins.lookups.bind(&all);
        let advertise_address = facts.api_server.to_string();
        bootstrap::write(&resources, &facts)
            .await
            .map_err(|status| anyhow!("writing the first objects: {}", status.message))?;
        let loaded =
            rbac.load(Kinds::of(&all)).await.map_err(|status| anyhow!("reading the roles: {}", status.message))?;
        let api = ApiServer::new(machinery_apiserver::Config {
            resources: all.into_iter().chain(control_policy::review::resources(&rbac)).collect(),
            authenticators: vec![Arc::new(ClientCertificates)],
            authorizers: control_policy::authorizers(&rbac),
            version: VersionInfo::kubernetes_1_36(env!("CARGO_PKG_VERSION"), ""),
            health_checks: Vec::new(),
            limits: Limits::default(),
            advertise_address,
        });
        let published = api.clone();
        resources
            .definitions()
            .start(Box::new(move |group, kinds| published.set_resources(group, kinds)), &tasks.child("definitions"))
            .await
            .map_err(|status| anyhow!("reading the definitions of kinds: {}", status.message))?;
        Ok(Self { api, storage, rbac, loaded: Some(loaded) })
    }

    /// A client of this process that is `name`.
    pub fn client(&self, name: &str, groups: &[&str]) -> Client {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = UserInfo { name: name.to_owned(), groups, ..UserInfo::default() };
        machinery_client::over(self.api.in_process(user))
    }

    pub fn start_controllers(&mut self, tasks: &Tasks) {
        if let Some(loaded) = self.loaded.take() {
            self.rbac.follow(&tasks.child("rbac"), loaded);
        }
        control_controllers::start(&tasks.child("controllers"), &self.client("system:kube-controller-manager", &[]));
        control_scheduler::start(&tasks.child("scheduler"), &self.client("system:kube-scheduler", &[]));
    }

    /// The very last step of a shutdown.
    pub async fn close(self) {
        self.storage.close().await;
    }
}

/// Where the API, and the cluster's DNS, are reached.
pub fn facts(node_ip: IpAddr, port: u16, cluster_dns: IpAddr) -> bootstrap::Facts {
    bootstrap::Facts {
        api_server: SocketAddr::new(node_ip, port),
        cluster_dns,
        // Every node answers on the cluster DNS address itself.
        dns_endpoints: vec![SocketAddr::new(cluster_dns, 53)],
    }
}

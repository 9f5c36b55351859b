//! The control plane: storage, kinds, API server, controllers, scheduler.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use base_sys::route::IpCidr;
use base_tasks::Tasks;
use control_controllers::Supply;
use control_policy::rbac::Loaded;
use control_policy::tokens::{self, BootstrapTokens, ServiceAccountTokens, TokenRequests};
use control_policy::{ClientCertificates, Kinds, Rbac, RequestHeaders};
use control_resources::{Deps, ServiceRange, bootstrap};
use machinery_apiserver::audit::{Audit, LogFile, Policy, Rotation};
use machinery_apiserver::{ApiServer, Authenticator, Limits, VersionInfo};
use machinery_client::kube::Client;
use machinery_registry::{Resource, UserInfo};
use machinery_storage::embedded::Embedded;

use crate::config::Server;
use crate::front_proxy::FrontProxy;
use crate::pki::Authority;
use crate::renewing::Renewing;
use crate::token_key;

pub struct ControlPlane {
    pub api: ApiServer,
    storage: Embedded,
    rbac: Arc<Rbac>,
    /// What is to be done about the roles once the API serves.
    loaded: Option<Loaded>,
    tokens: Tokens,
    authority: Arc<Authority>,
    /// What aggregated servers are told of whom to believe.
    trust: BTreeMap<String, String>,
    /// Where the API is: host and port.
    address: String,
}

/// What the Secrets of service accounts are filled with.
struct Tokens {
    keys: Arc<tokens::Keys>,
    lookups: Arc<control_policy::Lookups>,
    secrets: Option<Arc<dyn Resource>>,
    ca_pem: String,
}

impl ControlPlane {
    /// Opens the store and writes what every cluster has; nothing is served yet.
    pub async fn open(
        tasks: &Tasks,
        data_dir: &Path,
        options: &Server,
        authority: &Arc<Authority>,
        front_proxy: &FrontProxy,
        facts: bootstrap::Facts,
    ) -> Result<Self> {
        let storage = Embedded::open(&data_dir.join("store")).await.context("opening the store")?;
        let rbac = Arc::new(Rbac::default());
        let plugins = control_policy::plugins(&rbac);
        let issuer = format!("https://kubernetes.default.svc.{}", options.cluster_domain);
        let keys = Arc::new(token_key::open(&data_dir.join("tls"), issuer)?);
        let bearers = Arc::new(ServiceAccountTokens::new(keys.clone(), plugins.lookups.clone()));
        let bootstrap_tokens = Arc::new(BootstrapTokens(plugins.lookups.clone()));
        let kubelet_client = Renewing::new({
            let authority = authority.clone();
            move || authority.client("kube-apiserver-kubelet-client", &["system:masters"])?.certified(&[])
        })?;
        let resources = control_resources::resources(Deps {
            storage: Arc::new(storage.clone()),
            admission: plugins.chain.clone(),
            service_ranges: ranges(options)?,
            node_ports: options.service_node_port_range,
            kubelet_tls: Arc::new(authority.trust.client(kubelet_client)?),
            tasks: tasks.child("node-streams"),
        })
        .await
        .context("loading the store")?;
        let all = resources.all();
        plugins.lookups.bind(&all);
        plugins
            .webhooks
            .follow(&all, &resources.dialer, &tasks.child("webhooks"))
            .await
            .map_err(|status| anyhow!("reading the webhooks: {}", status.message))?;
        let requests = TokenRequests::new(keys.clone(), plugins.lookups.clone());
        resources.service_accounts.handle("token", Arc::new(requests));
        let secrets = all.iter().find(|resource| resource.def().plural == "secrets").cloned();
        let ca_pem = authority.trust.pem.clone();
        let tokens = Tokens { keys, lookups: plugins.lookups.clone(), secrets, ca_pem };
        let advertise_address = facts.api_server.to_string();
        let address = advertise_address.clone();
        bootstrap::write(&resources, &facts)
            .await
            .map_err(|status| anyhow!("writing the first objects: {}", status.message))?;
        let loaded =
            rbac.load(Kinds::of(&all)).await.map_err(|status| anyhow!("reading the roles: {}", status.message))?;
        let documents = vec![
            ("/openid/v1/jwks", tokens.keys.key_set()),
            ("/.well-known/openid-configuration", tokens.keys.configuration(&advertise_address)),
        ];
        let reviews =
            control_policy::review::resources(&rbac, &plugins.authorizers, &bearers, &bootstrap_tokens, &plugins.chain);
        let mut authenticators: Vec<Arc<dyn Authenticator>> = Vec::new();
        match &front_proxy.believed {
            Some(proxies) => {
                let proxies = RequestHeaders::new(proxies.clone()).context("--requestheader-client-ca-file")?;
                authenticators.push(Arc::new(proxies));
                authenticators.push(Arc::new(ClientCertificates::of(authority.trust.pem.as_bytes())?));
            }
            None => authenticators.push(Arc::new(ClientCertificates::default())),
        }
        // Bearers of service accounts last: they refuse what none has known.
        authenticators.extend([bootstrap_tokens as Arc<dyn Authenticator>, bearers]);
        let admission_metrics = plugins.metrics.clone();
        let aggregation = resources.aggregation(front_proxy.identity.clone());
        let config = machinery_apiserver::Config {
            resources: all.into_iter().chain(reviews).collect(),
            authenticators,
            authorizers: plugins.authorizers.all(),
            version: VersionInfo::kubernetes_1_36(env!("CARGO_PKG_VERSION"), ""),
            health_checks: Vec::new(),
            limits: Limits::default(),
            advertise_address,
            documents,
            metrics: vec![
                Box::new(move |registry| admission_metrics.register(registry)),
                Box::new(aggregation.metrics()),
            ],
        };
        plugins
            .policies
            .follow(&config.resources, &tasks.child("policies"))
            .await
            .map_err(|status| anyhow!("reading the admission policies: {}", status.message))?;
        let served = plugins.policies.served.clone();
        let api = ApiServer::with_audit(config, audit(options)?);
        let (published, (told, groups)) = (api.clone(), tokio::sync::mpsc::unbounded_channel());
        let publish = move |group: &str, kinds: Vec<Arc<dyn Resource>>| {
            let versions = kinds.iter().map(|kind| kind.def().gvk.version.to_string()).collect();
            served.set_custom(group, &kinds);
            published.set_resources(group, kinds);
            // Nobody follows them any more when the server ends.
            let _ = told.send((group.to_owned(), versions));
        };
        resources
            .definitions()
            .start(Box::new(publish), &tasks.child("definitions"))
            .await
            .map_err(|status| anyhow!("reading the definitions of kinds: {}", status.message))?;
        aggregation
            .start(api.clone(), &tasks.child("aggregation"))
            .await
            .map_err(|status| anyhow!("reading the APIServices: {}", status.message))?;
        resources.managed().start(groups, &tasks.child("apiservices"));
        let trust = front_proxy.trust(&authority.trust.pem);
        Ok(Self { trust, address, api, storage, rbac, loaded: Some(loaded), tokens, authority: authority.clone() })
    }

    /// A client of this process that is `name`.
    pub fn client(&self, name: &str, groups: &[&str]) -> Client {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = UserInfo { name: name.to_owned(), groups, ..UserInfo::default() };
        machinery_client::over(self.api.in_process(user))
    }

    pub fn start_controllers(&mut self, tasks: &Tasks, pods: Vec<IpCidr>, balancers: Supply) {
        if let Some(loaded) = self.loaded.take() {
            self.rbac.follow(&tasks.child("rbac"), loaded);
        }
        let Tokens { keys, lookups, secrets, ca_pem } = &self.tokens;
        if let Some(secrets) = secrets {
            let tasks = tasks.child("tokens");
            tokens::follow_secrets(&tasks, keys.clone(), lookups.clone(), secrets.clone(), ca_pem.clone());
        }
        let client = self.client("system:kube-controller-manager", &[]);
        let (authority, trust) = (self.authority.clone(), std::mem::take(&mut self.trust));
        let (ca_pem, address) = (ca_pem.clone(), self.address.clone());
        let cluster = control_controllers::Cluster { ca_pem, address, authority, trust, pods, balancers };
        control_controllers::start(&tasks.child("controllers"), &client, cluster);
        control_scheduler::start(&tasks.child("scheduler"), &self.client("system:kube-scheduler", &[]));
    }

    /// The very last step of a shutdown.
    pub async fn close(self) {
        self.storage.close().await;
    }
}

/// The record of requests, where one is asked for; the two options come together.
fn audit(options: &Server) -> Result<Option<Audit>> {
    let (Some(policy), Some(log)) = (&options.audit_policy_file, &options.audit_log_path) else { return Ok(None) };
    let text = std::fs::read_to_string(policy).with_context(|| format!("reading {}", policy.display()))?;
    let policy = Policy::parse(&text).with_context(|| policy.display().to_string())?;
    Ok(Some(Audit::new(policy, LogFile::open(log, Rotation::default())?)))
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

/// The preferred family's first.
fn ranges(options: &Server) -> Result<Vec<ServiceRange>> {
    let parse = |block: IpCidr| ServiceRange::parse(&block.to_string()).context("the service range");
    options.service_cidr.iter().map(parse).collect()
}

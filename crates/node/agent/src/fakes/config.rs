//! What the agent of a test is told.

use std::path::Path;
use std::sync::Arc;

use crate::config::{AgentConfig, Versions};
use crate::node::Reserved;

pub fn config(data_dir: &Path) -> AgentConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    AgentConfig {
        node_name: "node".into(),
        node_ips: "192.0.2.1".parse().unwrap(),
        node_cidrs: Vec::new(),
        external_ips: Vec::new(),
        data_dir: data_dir.to_owned(),
        kubelet_dir: data_dir.join("kubelet"),
        cluster_dns: "10.43.0.10".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        resolv_conf: "/nonexistent".into(),
        tls: Arc::new(tls),
        pod_manifest_path: None,
        kubelet_port: 0,
        max_pods: 110,
        reserved: Reserved::default(),
        images: crate::collect::ImagePolicy::default(),
        eviction: Default::default(),
        shutdown: Default::default(),
        pod_max_pids: None,
        credential_providers: Arc::default(),
        unsafe_sysctls: Default::default(),
        features: crate::config::RuntimeFeatures::embedded(crate::users::UserRanges::block(0, 110)),
        versions: Versions { kubelet: "v1.36.0+sampan".into(), container_runtime: "sampan://0.1.0".into() },
    }
}

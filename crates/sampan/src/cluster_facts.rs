//! What all nodes of a cluster must agree on: the server's options, published as a ConfigMap that nodes read when they join.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_sys::route::IpCidr;
use k8s_openapi::api::core::v1::ConfigMap;
use machinery_client::kube::api::{ObjectMeta, Patch, PatchParams};
use machinery_client::kube::{Api, Client, Error};
use serde::{Deserialize, Serialize};

use crate::config::Blocks;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sampan-cluster";
const RETRY: Duration = Duration::from_secs(1);

/// Networks are kept as text, as users write them: one block, or one of each family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterFacts {
    cluster_cidr: String,
    service_cidr: String,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    /// Tells this cluster's packets between nodes from other clusters': 24 bits.
    pub network_id: u32,
}

impl ClusterFacts {
    pub fn new(pods: &Blocks, services: &Blocks, cluster_dns: IpAddr, cluster_domain: &str, network_id: u32) -> Self {
        Self {
            cluster_cidr: pods.to_string(),
            service_cidr: services.to_string(),
            cluster_dns,
            cluster_domain: cluster_domain.to_owned(),
            network_id,
        }
    }

    pub fn cluster_cidrs(&self) -> Result<Vec<IpCidr>> {
        list(&self.cluster_cidr).context("cluster-cidr, the ranges of pod addresses")
    }

    pub fn service_cidrs(&self) -> Result<Vec<IpCidr>> {
        list(&self.service_cidr).context("service-cidr, the ranges of service addresses")
    }

    /// As the ConfigMap holds them.
    fn data(&self) -> BTreeMap<String, String> {
        [
            ("cluster-cidr", self.cluster_cidr.clone()),
            ("service-cidr", self.service_cidr.clone()),
            ("cluster-dns", self.cluster_dns.to_string()),
            ("cluster-domain", self.cluster_domain.clone()),
            ("network-id", self.network_id.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    fn of_data(data: &BTreeMap<String, String>) -> Result<Self> {
        let field = |key: &str| data.get(key).with_context(|| format!("it does not say {key}"));
        let facts = Self {
            cluster_cidr: field("cluster-cidr")?.clone(),
            service_cidr: field("service-cidr")?.clone(),
            cluster_dns: field("cluster-dns")?.parse().context("cluster-dns")?,
            cluster_domain: field("cluster-domain")?.clone(),
            network_id: field("network-id")?.parse().context("network-id")?,
        };
        facts.cluster_cidrs()?;
        facts.service_cidrs()?;
        Ok(facts)
    }

    /// For nodes to read, over whatever was there.
    pub async fn publish(&self, client: &Client) -> Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let wanted = ConfigMap {
            metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
            data: Some(self.data()),
            ..ConfigMap::default()
        };
        let published = api.patch(NAME, &PatchParams::apply("sampan").force(), &Patch::Apply(&wanted)).await;
        published.map(drop).context("telling nodes about the cluster")
    }

    /// From the server; asks again while it does not answer.
    pub async fn read(client: &Client) -> Result<Self> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let mut told = false;
        loop {
            match api.get(NAME).await {
                Ok(found) => {
                    let data = found.data.unwrap_or_default();
                    return Self::of_data(&data).with_context(|| format!("in the ConfigMap {NAMESPACE}/{NAME}"));
                }
                Err(Error::Api(status)) if status.code == 401 || status.code == 403 => {
                    bail!("the server does not tell this node about the cluster: {}", status.message)
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the server");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Blocks with commas between them.
pub fn list(text: &str) -> Result<Vec<IpCidr>> {
    text.split(',').map(|block| block.parse().with_context(|| format!("{block:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_the_config_map_and_bad_ones_are_named() {
        let cidr = |text: &str| crate::config::blocks(text).expect("blocks");
        let dns = IpAddr::from([10, 43, 0, 10]);
        let facts = ClusterFacts::new(&cidr("10.42.0.0/16"), &cidr("10.43.0.0/16"), dns, "cluster.local", 7);
        let data = facts.data();
        assert_eq!(ClusterFacts::of_data(&data).expect("read"), facts);
        let both = ClusterFacts::new(&cidr("10.42.0.0/16,fd42::/56"), &cidr("10.43.0.0/16,fd43::/108"), dns, "x", 7);
        assert_eq!(ClusterFacts::of_data(&both.data()).expect("read"), both);
        assert_eq!(both.cluster_cidrs().expect("blocks").len(), 2);
        for key in data.keys() {
            let mut bad = data.clone();
            bad.remove(key);
            let error = ClusterFacts::of_data(&bad).expect_err("refused");
            assert!(error.to_string().contains(key), "{error:#}");
        }
        let mut bad = data;
        bad.insert("cluster-cidr".into(), "x".into());
        assert!(ClusterFacts::of_data(&bad).is_err());
    }
}

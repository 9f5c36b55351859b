//! What all nodes of a cluster must agree on: the server's options, published as a ConfigMap that nodes read when they join.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_sys::route::{Ipv4Cidr, Ipv6Cidr};
use k8s_openapi::api::core::v1::ConfigMap;
use machinery_client::kube::api::{ObjectMeta, Patch, PatchParams};
use machinery_client::kube::{Api, Client, Error};
use serde::{Deserialize, Serialize};

use crate::config::Blocks;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sampan-cluster";
const RETRY: Duration = Duration::from_secs(1);

/// Networks are kept as text, as users write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterFacts {
    cluster_cidr: String,
    service_cidr: String,
    /// The blocks of IPv6 of pods and of services, where the cluster has both.
    #[serde(default)]
    six: Option<[String; 2]>,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    /// Tells this cluster's packets between nodes from other clusters': 24 bits.
    pub network_id: u32,
}

impl ClusterFacts {
    pub fn new(pods: Blocks, services: Blocks, cluster_dns: Ipv4Addr, cluster_domain: &str, network_id: u32) -> Self {
        Self {
            cluster_cidr: pods.v4.to_string(),
            service_cidr: services.v4.to_string(),
            six: pods.v6.zip(services.v6).map(|(pods, services)| [pods.to_string(), services.to_string()]),
            cluster_dns,
            cluster_domain: cluster_domain.to_owned(),
            network_id,
        }
    }

    pub fn cluster_cidr(&self) -> Result<Ipv4Cidr> {
        self.cluster_cidr.parse().context("the range of pod addresses")
    }

    pub fn service_cidr(&self) -> Result<Ipv4Cidr> {
        self.service_cidr.parse().context("the range of service addresses")
    }

    /// The blocks of IPv6 of pods and of services.
    pub fn six(&self) -> Result<Option<(Ipv6Cidr, Ipv6Cidr)>> {
        let Some([pods, services]) = &self.six else { return Ok(None) };
        let pods = pods.parse().context("the IPv6 range of pod addresses")?;
        Ok(Some((pods, services.parse().context("the IPv6 range of service addresses")?)))
    }

    /// As the ConfigMap holds them.
    fn data(&self) -> BTreeMap<String, String> {
        let six = self.six.iter().flat_map(|[pods, services]| [("cluster-cidr-6", pods), ("service-cidr-6", services)]);
        [
            ("cluster-cidr", self.cluster_cidr.clone()),
            ("service-cidr", self.service_cidr.clone()),
            ("cluster-dns", self.cluster_dns.to_string()),
            ("cluster-domain", self.cluster_domain.clone()),
            ("network-id", self.network_id.to_string()),
        ]
        .into_iter()
        .chain(six.map(|(key, value)| (key, value.clone())))
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    fn of_data(data: &BTreeMap<String, String>) -> Result<Self> {
        let field = |key: &str| data.get(key).with_context(|| format!("it does not say {key}"));
        let facts = Self {
            cluster_cidr: field("cluster-cidr")?.clone(),
            service_cidr: field("service-cidr")?.clone(),
            six: data.get("cluster-cidr-6").cloned().zip(data.get("service-cidr-6").cloned()).map(Into::into),
            cluster_dns: field("cluster-dns")?.parse().context("cluster-dns")?,
            cluster_domain: field("cluster-domain")?.clone(),
            network_id: field("network-id")?.parse().context("network-id")?,
        };
        facts.cluster_cidr()?;
        facts.service_cidr()?;
        facts.six()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_the_config_map_and_bad_ones_are_named() {
        let cidr = |text: &str| crate::config::blocks(text).expect("blocks");
        let dns = Ipv4Addr::new(10, 43, 0, 10);
        let facts = ClusterFacts::new(cidr("10.42.0.0/16"), cidr("10.43.0.0/16"), dns, "cluster.local", 7);
        let data = facts.data();
        assert_eq!(ClusterFacts::of_data(&data).expect("read"), facts);
        let six = ClusterFacts::new(cidr("10.42.0.0/16,fd42::/56"), cidr("10.43.0.0/16,fd43::/108"), dns, "x", 7);
        assert_eq!(ClusterFacts::of_data(&six.data()).expect("read"), six);
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

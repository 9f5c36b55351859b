//! What the administrator's kubeconfig says, without kubectl.

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::Value;

use crate::cluster::Cluster;

/// Certificates and key as PEM.
pub struct Kubeconfig {
    /// `https://ADDRESS:PORT`.
    pub server: String,
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Kubeconfig {
    pub fn read(cluster: &Cluster) -> Result<Self> {
        let path = cluster.data_dir().join("kubeconfig.yaml");
        let config: Value = serde_norway::from_str(&std::fs::read_to_string(path)?).context("the kubeconfig")?;
        let (of_cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let pem = |name: &str, value: &Value| -> Result<String> {
            let encoded = value.as_str().with_context(|| format!("the {name} is missing"))?;
            let pem = base64::engine::general_purpose::STANDARD.decode(encoded).context(name.to_owned())?;
            String::from_utf8(pem).context(name.to_owned())
        };
        Ok(Self {
            server: of_cluster["server"].as_str().context("a server")?.to_owned(),
            authority: pem("authority", &of_cluster["certificate-authority-data"])?,
            certificate: pem("client's certificate", &user["client-certificate-data"])?,
            key: pem("client's key", &user["client-key-data"])?,
        })
    }
}

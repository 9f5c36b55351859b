//! The API as it is on the wire, with no client library between.

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::Value;

use crate::cluster::Cluster;

/// The answer to one request.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    /// `Null` where it is no JSON.
    pub body: Value,
    pub text: String,
}

/// A TLS client with the credentials of the kubeconfig.
pub struct Api<'a> {
    cluster: &'a Cluster,
    server: String,
    authority: String,
    certificate: String,
    key: String,
}

impl<'a> Api<'a> {
    pub fn new(cluster: &'a Cluster) -> Result<Self> {
        let path = cluster.data_dir().join("kubeconfig.yaml");
        let config: Value = serde_norway::from_str(&std::fs::read_to_string(path)?).context("the kubeconfig")?;
        let (of_cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let file = |name: &str, value: &Value| -> Result<String> {
            let encoded = value.as_str().with_context(|| format!("{name} is missing"))?;
            let pem = base64::engine::general_purpose::STANDARD.decode(encoded).context(name.to_owned())?;
            cluster.write(name, &String::from_utf8(pem)?)
        };
        Ok(Self {
            cluster,
            server: of_cluster["server"].as_str().context("a server")?.to_owned(),
            authority: file("authority.pem", &of_cluster["certificate-authority-data"])?,
            certificate: file("client.pem", &user["client-certificate-data"])?,
            key: file("client.key", &user["client-key-data"])?,
        })
    }

    /// `headers` as `Name: value`.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Reply> {
        self.curl(&["--cert", &self.certificate, "--key", &self.key], method, path, headers, body)
    }

    /// Without a client certificate.
    pub fn anonymous(&self, method: &str, path: &str, headers: &[&str]) -> Result<Reply> {
        self.curl(&[], method, path, headers, "")
    }

    pub fn get(&self, path: &str) -> Result<Reply> {
        self.request("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.request("POST", path, &["Content-Type: application/json"], &body.to_string())
    }

    fn curl(&self, credentials: &[&str], method: &str, path: &str, headers: &[&str], body: &str) -> Result<Reply> {
        let url = format!("{}{path}", self.server);
        let mut arguments = vec!["-sS", "--cacert", &self.authority, "-X", method, "-w", "\n%{http_code}", &url];
        arguments.extend(credentials);
        arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
        if !body.is_empty() {
            arguments.extend(["--data-binary", body]);
        }
        let printed = self.cluster.node("curl", &arguments)?.ok();
        let (text, code) = printed.rsplit_once('\n').context("curl prints a code")?;
        let body = serde_json::from_str(text).unwrap_or_default();
        Ok(Reply { code: code.parse().context("an HTTP code")?, body, text: text.to_owned() })
    }
}

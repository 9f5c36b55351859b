//! The API as it is on the wire, with no client library between.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::kubeconfig::Kubeconfig;

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
        let config = Kubeconfig::read(cluster)?;
        Ok(Self {
            cluster,
            authority: cluster.write("authority.pem", &config.authority)?,
            certificate: cluster.write("client.pem", &config.certificate)?,
            key: cluster.write("client.key", &config.key)?,
            server: config.server,
        })
    }

    /// `headers` as `Name: value`.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Reply> {
        self.curl(&["--cert", &self.certificate, "--key", &self.key], method, path, headers, body)
    }

    /// A connection to talk HTTP on by hand.
    pub fn tls(&self) -> Result<Command> {
        let host = self.server.strip_prefix("https://").context("an address")?;
        let mut command = self.cluster.namespace.command("openssl");
        command.args(["s_client", "-quiet", "-verify_quiet", "-connect", host, "-CAfile", &self.authority]);
        command.args(["-cert", &self.certificate, "-key", &self.key]);
        Ok(command)
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

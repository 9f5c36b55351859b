//! The API of this host's server, as the administrator whom the data directory's kubeconfig names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base_tasks::Tasks;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use machinery_dial::{ClientConfig, Dialer, Resolver, Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::Value;

use crate::trust::Trust;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Api {
    server: Server,
    /// The cluster's.
    pub authority: Trust,
}

/// It is named by its address.
struct NoServices;

#[async_trait::async_trait]
impl Resolver for NoServices {
    async fn resolve(&self, namespace: &str, name: &str, _: u16) -> Result<(String, u16), String> {
        Err(format!("the Service {namespace}/{name} cannot be reached from here"))
    }
}

/// What a kubeconfig says of its one cluster and user.
fn parse(text: &str) -> Result<(ClientConfig, Trust, SingleCertAndKey)> {
    let value: Value = serde_norway::from_str(text)?;
    let field = |pointer: &str| {
        let field = value.pointer(pointer).and_then(Value::as_str);
        field.with_context(|| format!("it does not say {}", pointer.rsplit('/').next().unwrap_or(pointer)))
    };
    let bytes = |pointer: &str| -> Result<Vec<u8>> { Ok(STANDARD.decode(field(pointer)?)?) };
    let ca = bytes("/clusters/0/cluster/certificate-authority-data")?;
    let authority = Trust::of_pem(String::from_utf8(ca.clone())?)?;
    let bad = |error: &dyn std::fmt::Debug| anyhow!("{error:?}");
    let certificate = CertificateDer::from_pem_slice(&bytes("/users/0/user/client-certificate-data")?);
    let key = PrivateKeyDer::from_pem_slice(&bytes("/users/0/user/client-key-data")?);
    let key = rustls::crypto::ring::sign::any_supported_type(&key.map_err(|error| bad(&error))?)?;
    let certified = CertifiedKey::new(vec![certificate.map_err(|error| bad(&error))?], key);
    let config = ClientConfig {
        url: Some(field("/clusters/0/cluster/server")?.to_owned()),
        ca_bundle: serde_json::from_value(Value::from(STANDARD.encode(ca))).ok(),
        ..ClientConfig::default()
    };
    Ok((config, authority, SingleCertAndKey::from(certified)))
}

impl Api {
    pub fn of(data_dir: &Path, tasks: &Tasks) -> Result<Self> {
        let path = data_dir.join("kubeconfig.yaml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {} (has a server ever run there?)", path.display()))?;
        let (config, authority, identity) = parse(&text).with_context(|| format!("in {}", path.display()))?;
        let dialer = Dialer::new(Arc::new(NoServices), tasks.clone()).presenting(Arc::new(identity));
        let server = dialer.server(&config).with_context(|| format!("in {}", path.display()))?;
        Ok(Self { server, authority })
    }

    /// The answer's body; a refusal is an error in the server's words.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let json = HeaderValue::from_static("application/json");
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header(ACCEPT, &json).header(CONTENT_TYPE, &json);
        let request = request.body(Full::from(bytes).map_err(|never| match never {}).boxed_unsync())?;
        let exchange = async {
            let response = self.server.send(request).await.context("asking the server (does it run?)")?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| anyhow!("{error}"))?.to_bytes();
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            if !status.is_success() {
                let message = answer["message"].as_str().map(str::to_owned);
                bail!("{}", message.unwrap_or_else(|| format!("the server answered {status}")));
            }
            Ok(answer)
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("the server did not answer in time")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig;
    use crate::pki::Authority;

    #[test]
    fn our_own_kubeconfig_is_understood_and_others_are_explained() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::open(dir.path()).expect("made");
        let admin = authority.client("kubernetes-admin", &["system:masters"]).expect("signed");
        let text = kubeconfig::render("https://127.0.0.1:6443", &authority.trust.pem, &admin);
        let (config, found, _) = parse(&text).expect("understood");
        assert_eq!(found.hash(), authority.trust.hash());
        assert_eq!(config.url.as_deref(), Some("https://127.0.0.1:6443"));
        assert!(config.ca_bundle.is_some_and(|bundle| bundle.0 == authority.trust.pem.as_bytes()));
        for (bad, said) in
            [("", "certificate-authority-data"), (&*text.replace("client-key-data", "x"), "client-key-data")]
        {
            let error = parse(bad).expect_err("refused");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(parse(&text.replace("client-key-data: ", "client-key-data: AAAA")).is_err());
    }
}

//! The endpoints to try for a name, in order: mirrors, then the registry itself.

use super::{Address, Auth, Registries, Tls};
use crate::name::Name;

/// One place that may have the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub plain_http: bool,
    pub host: String,
    /// The repository at this endpoint.
    pub repository: String,
    /// The registry this one stands in for; `None` for the registry itself.
    pub mirror_of: Option<String>,
    pub auth: Option<Auth>,
    pub tls: Tls,
}

impl Registries {
    pub(crate) fn endpoints(&self, name: &Name) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(name.registry()).or_else(|| self.mirrors.get("*"));
        let own = own_address(name.registry());
        let mut endpoints = Vec::new();
        for address in mirror.iter().flat_map(|mirror| &mirror.endpoints) {
            let rewrites = mirror.iter().flat_map(|mirror| &mirror.rewrites);
            let repository = rewrites
                .into_iter()
                .find(|(pattern, _)| pattern.is_match(name.repository()))
                .map(|(pattern, to)| pattern.replace_all(name.repository(), to.as_str()).into_owned())
                .unwrap_or_else(|| name.repository().to_owned());
            let itself = address.host == own.host || address.host == name.registry();
            let mirror_of = (!itself).then(|| name.registry().to_owned());
            endpoints.push(self.endpoint(address, repository, mirror_of, name));
        }
        // A registry listed as its own mirror (to set plain HTTP, say) is not tried twice.
        if endpoints.iter().all(|endpoint| endpoint.mirror_of.is_some()) {
            endpoints.push(self.endpoint(&own, name.repository().to_owned(), None, name));
        }
        endpoints
    }

    fn endpoint(&self, address: &Address, repository: String, mirror_of: Option<String>, name: &Name) -> Endpoint {
        let repository =
            if address.prefix.is_empty() { repository } else { format!("{}/{repository}", address.prefix) };
        // Docker Hub's settings may be written under either of its names.
        let host = self
            .hosts
            .get(&address.host)
            .or_else(|| mirror_of.is_none().then(|| self.hosts.get(name.registry())).flatten());
        let host = host.cloned().unwrap_or_default();
        Endpoint {
            plain_http: address.plain_http,
            host: address.host.clone(),
            repository,
            mirror_of,
            auth: host.auth,
            tls: host.tls,
        }
    }
}

fn own_address(registry: &str) -> Address {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    Address { plain_http: is_loopback(registry), host: host.to_owned(), prefix: String::new() }
}

/// A registry on this machine speaks plain HTTP unless told otherwise, as with Docker and containerd.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

//! Objects of the default namespace as tests ask for them, read with kubectl.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::host::repository;

impl Cluster {
    /// Applies the tutorial's own manifest and waits until both pods are ready.
    pub fn run_my_nginx(&self) -> Result<()> {
        let manifest = repository().join("examples/run-my-nginx.yaml");
        self.kubectl(&["apply", "-f", &manifest.to_string_lossy()])?.ok();
        self.rolled_out("my-nginx")
    }

    pub fn rolled_out(&self, deployment: &str) -> Result<()> {
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=60s"])?.ok();
        Ok(())
    }

    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl_input(&["apply", "-f", "-"], manifest)?.ok();
        Ok(())
    }

    /// Any object or list as `-o json` gives it.
    pub fn object(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        ensure!(answer.success, "kubectl get {arguments:?}: {}", answer.stderr);
        serde_json::from_str(&answer.stdout).context("kubectl prints JSON")
    }

    /// Name and address of every pod that a selector finds and that is not being deleted.
    pub fn pods(&self, selector: &str) -> Result<BTreeMap<String, IpAddr>> {
        let list = self.object(&["pods", "-l", selector])?;
        let items = list["items"].as_array().context("a list has items")?;
        let staying = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let pairs = staying.map(|pod| {
            let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
            let ip = pod["status"]["podIP"].as_str().with_context(|| format!("pod {name} has no address"))?;
            Ok((name.to_owned(), ip.parse().context("a pod's address")?))
        });
        pairs.collect()
    }

    /// All addresses of a pod.
    pub fn pod_ips(&self, pod: &str) -> Result<Vec<IpAddr>> {
        let pod = self.object(&["pod", pod])?;
        let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
        ips.map(|ip| ip["ip"].as_str().context("an ip")?.parse().context("an address")).collect()
    }

    /// A Service's ClusterIPs with its first port.
    pub fn service_ips(&self, name: &str) -> Result<Vec<SocketAddr>> {
        let service = self.object(&["service", name])?;
        let port = service["spec"]["ports"][0]["port"].as_u64().context("a Service has a port")?;
        let port = u16::try_from(port).context("ports have 16 bits")?;
        let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
        ips.map(|ip| Ok(SocketAddr::new(ip.as_str().context("an ip")?.parse().context("an address")?, port))).collect()
    }

    /// A Service's ClusterIP with its first port.
    pub fn service(&self, name: &str) -> Result<SocketAddr> {
        let service = self.object(&["service", name])?;
        let ip = service["spec"]["clusterIP"].as_str().context("a Service has a clusterIP")?;
        let port = service["spec"]["ports"][0]["port"].as_u64().context("a Service has a port")?;
        format!("{ip}:{port}").parse().with_context(|| format!("{name} has the address {ip}"))
    }

    /// Asserts that EndpointSlices, Endpoints and the kernel agree on these ready endpoints (port 80) of a Service.
    pub fn endpoints_are(&self, service: &str, wanted: &BTreeSet<IpAddr>) -> Result<()> {
        let slices = self.object(&["endpointslices", "-l", &format!("kubernetes.io/service-name={service}")])?;
        let endpoints = slices["items"].as_array().into_iter().flatten();
        let endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let sliced = addresses(ready.map(|endpoint| &endpoint["addresses"][0]))?;
        ensure!(sliced == *wanted, "the EndpointSlices have {sliced:?}, not {wanted:?}");

        let legacy = self.object(&["endpoints", service])?;
        let subsets = legacy["subsets"].as_array().into_iter().flatten();
        let listed = subsets.flat_map(|subset| subset["addresses"].as_array().into_iter().flatten());
        let listed = addresses(listed.map(|address| &address["ip"]))?;
        ensure!(listed == *wanted, "the Endpoints have {listed:?}, not {wanted:?}");

        let address = self.service(service)?;
        let kernel = self.programmed(address)?.with_context(|| format!("the kernel does not know {address}"))?;
        let wanted: BTreeSet<SocketAddr> = wanted.iter().map(|ip| SocketAddr::new(*ip, 80)).collect();
        ensure!(kernel == wanted, "the kernel has {kernel:?}, not {wanted:?}");
        Ok(())
    }
}

fn addresses<'a>(values: impl Iterator<Item = &'a Value>) -> Result<BTreeSet<IpAddr>> {
    values.map(|value| value.as_str().context("no address")?.parse().context("an address")).collect()
}

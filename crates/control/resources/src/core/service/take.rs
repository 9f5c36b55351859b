//! What a service needs when it is created or changes, taken from the ranges; all of it or none.

use std::sync::Arc;

use api::service::{is_headless, needs_cluster_ip, needs_health_check_node_port, needs_node_ports};
use base_meta::field::{self, Path};
use base_meta::{Gvk, Status};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery_registry::strategy::Undo;
use serde_json::json;

use super::allocations::{Allocation, Allocations, Owner, Refused};
use super::families;

pub(super) fn owner(service: &Service) -> Owner {
    let said = |slot: &Option<String>| slot.clone().unwrap_or_default();
    Owner {
        namespace: said(&service.metadata.namespace),
        name: said(&service.metadata.name),
        uid: said(&service.metadata.uid),
    }
}

/// Everything the object says it holds.
pub(super) fn held(service: &Service) -> Vec<Allocation> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ips = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).map(Allocation::ClusterIp);
    let mut all: Vec<_> = ips.collect();
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port).chain(spec.health_check_node_port);
    all.extend(ports.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0).map(Allocation::NodePort));
    all.sort_unstable();
    all.dedup();
    all
}

pub(super) async fn for_create(
    allocations: &Arc<Allocations>,
    service: &mut Service,
    dry_run: bool,
) -> Result<Option<Undo>, Status> {
    change(allocations, service, None, dry_run).await
}

pub(super) async fn for_update(
    allocations: &Arc<Allocations>,
    new: &mut Service,
    old: &Service,
    dry_run: bool,
) -> Result<Option<Undo>, Status> {
    change(allocations, new, Some(old), dry_run).await
}

async fn change(
    allocations: &Arc<Allocations>,
    service: &mut Service,
    old: Option<&Service>,
    dry_run: bool,
) -> Result<Option<Undo>, Status> {
    let owner = owner(service);
    let had = old.map(held).unwrap_or_default();
    let before = old.and_then(|old| old.spec.as_ref());
    let Some(spec) = &mut service.spec else { return Ok(None) };
    let mut purse = Purse { allocations, owner: &owner, had, took: Vec::new(), dry_run };
    let result = fill(&mut purse, spec, before).await;
    let took = std::mem::take(&mut purse.took);
    match result {
        Ok(()) if took.is_empty() || dry_run => Ok(None),
        Ok(()) => {
            let allocations = allocations.clone();
            Ok(Some(Box::new(move || async move { give_back(&allocations, took, &owner).await }.boxed())))
        }
        Err(status) => {
            if !dry_run {
                give_back(allocations, took, &owner).await;
            }
            Err(status)
        }
    }
}

async fn give_back(allocations: &Allocations, took: Vec<Allocation>, owner: &Owner) {
    for each in took {
        allocations.release(each, owner).await;
    }
}

async fn fill(purse: &mut Purse<'_>, spec: &mut ServiceSpec, before: Option<&ServiceSpec>) -> Result<(), Status> {
    families::fill(spec, before, &purse.allocations.families()).map_err(|errors| purse.refused(&errors))?;
    if needs_cluster_ip(spec) && !is_headless(spec) {
        let asked = spec.cluster_ips.take().unwrap_or_default();
        let mut ips = Vec::new();
        for (index, family) in spec.ip_families.iter().flatten().enumerate() {
            ips.push(match asked.get(index) {
                Some(ip) => purse.ip(ip, &asked).await?,
                None => purse.any_ip(family).await?,
            });
        }
        spec.cluster_ip = ips.first().cloned();
        spec.cluster_ips = Some(ips);
    }
    if needs_node_ports(spec) {
        node_ports(purse, spec).await?;
    }
    if needs_health_check_node_port(spec) {
        let path = Path::new("spec").child("healthCheckNodePort");
        spec.health_check_node_port = Some(purse.port(spec.health_check_node_port.unwrap_or(0), &path).await?);
    }
    Ok(())
}

async fn node_ports(purse: &mut Purse<'_>, spec: &mut ServiceSpec) -> Result<(), Status> {
    let mut given: Vec<(i32, String, i32)> = Vec::new();
    for (index, port) in spec.ports.iter_mut().flatten().enumerate() {
        let path = Path::new("spec").child("ports").index(index).child("nodePort");
        let protocol = port.protocol.clone().unwrap_or_default();
        let asked = port.node_port.unwrap_or(0);
        // One number serves a port over TCP and UDP alike.
        let twin = given.iter().find(|(number, other, node_port)| {
            *other != protocol && if asked == 0 { *number == port.port } else { *node_port == asked }
        });
        let number = match twin {
            Some((_, _, node_port)) if !given.iter().any(|(_, p, n)| *p == protocol && n == node_port) => *node_port,
            _ => purse.port(asked, &path).await?,
        };
        port.node_port = Some(number);
        given.push((port.port, protocol, number));
    }
    Ok(())
}

/// One change's takings.
struct Purse<'a> {
    allocations: &'a Arc<Allocations>,
    owner: &'a Owner,
    /// What the stored object holds already.
    had: Vec<Allocation>,
    took: Vec<Allocation>,
    dry_run: bool,
}

impl Purse<'_> {
    fn invalid(&self, error: field::Error) -> Status {
        self.refused(&[error])
    }

    fn refused(&self, errors: &[field::Error]) -> Status {
        Status::invalid(&Gvk::of("", "v1", "Service"), &self.owner.name, errors)
    }

    async fn any_ip(&mut self, family: &str) -> Result<String, Status> {
        match self.allocations.take_any_ip(family, self.owner, self.dry_run).await? {
            Ok(ip) => {
                self.took.push(Allocation::ClusterIp(ip));
                Ok(ip.to_string())
            }
            Err(refused) => Err(Status::internal(format!("failed to allocate a serviceIP: {refused}"))),
        }
    }

    /// `asked` is all that the Service asks for.
    async fn ip(&mut self, text: &str, asked: &[String]) -> Result<String, Status> {
        let ranges = self.allocations.ranges().await?;
        let path = Path::new("spec").child("clusterIPs");
        let error = |problem: String| {
            field::Error::invalid(&path, &json!(asked), format!("failed to allocate IP {text}: {problem}"))
        };
        let Some(ip) = text.parse().ok().filter(|ip| ranges.iter().any(|range| range.contains(*ip))) else {
            let valid: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            let valid = valid.join(",");
            let problem =
                format!("the provided IP ({text}) is not in the valid range. The range of valid IPs is {valid}");
            return Err(self.invalid(error(problem)));
        };
        let which = Allocation::ClusterIp(ip);
        if self.had.contains(&which) {
            return Ok(text.to_owned());
        }
        match self.allocations.take(which, self.owner, self.dry_run).await? {
            Ok(()) => {
                self.took.push(which);
                Ok(text.to_owned())
            }
            Err(_) => Err(self.invalid(error("provided IP is already allocated".to_owned()))),
        }
    }

    async fn port(&mut self, asked: i32, path: &Path) -> Result<i32, Status> {
        if asked == 0 {
            return match self.allocations.take_any_port(self.owner, self.dry_run).await? {
                Ok(port) => {
                    self.took.push(Allocation::NodePort(port));
                    Ok(i32::from(port))
                }
                Err(refused) => Err(Status::internal(format!("failed to allocate a nodePort: {refused}"))),
            };
        }
        let range = self.allocations.node_ports;
        let Some(which) = u16::try_from(asked).ok().filter(|_| range.contains(asked)).map(Allocation::NodePort) else {
            let problem = format!("provided port is not in the valid range. The range of valid ports is {range}");
            return Err(self.invalid(field::Error::invalid(path, asked, problem)));
        };
        if self.had.contains(&which) || self.took.contains(&which) {
            return Ok(asked);
        }
        match self.allocations.take(which, self.owner, self.dry_run).await? {
            Ok(()) => {
                self.took.push(which);
                Ok(asked)
            }
            Err(Refused::Taken | Refused::Full) => {
                Err(self.invalid(field::Error::invalid(path, asked, "provided port is already allocated")))
            }
        }
    }
}

//! The EndpointSlices a Service should have, changed as little as possible from those it has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backends::{Backend, Family, ResolvedPort};
use crate::world::owned_by;

pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The most endpoints in one slice, as upstream's `--max-endpoints-per-slice`.
const PER_SLICE: usize = 100;

#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(EndpointSlice),
    Update(EndpointSlice),
    Delete(String),
}

/// `backends` are the Service's; `existing` the slices this controller made for it.
pub fn plan(service: &Service, families: &[Family], backends: &[Backend], existing: &[&EndpointSlice]) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut kept: Vec<&str> = Vec::new();
    for family in families {
        let mut groups: BTreeMap<&[ResolvedPort], Vec<Endpoint>> = BTreeMap::new();
        for backend in backends {
            if let Some(endpoint) = endpoint(service, backend, *family) {
                groups.entry(&backend.ports).or_default().push(endpoint);
            }
        }
        if groups.is_empty() {
            // A Service without endpoints still has one (empty) slice: consumers can tell "none" from "not yet".
            groups.insert(&[], Vec::new());
        }
        for (ports, endpoints) in groups {
            let ports: Vec<EndpointPort> = ports.iter().map(port).collect();
            let same: Vec<&EndpointSlice> = existing
                .iter()
                .copied()
                .filter(|slice| slice.address_type == family.as_str() && same_ports(slice, &ports))
                .filter(|slice| slice.metadata.deletion_timestamp.is_none())
                .collect();
            fill(service, *family, &ports, endpoints, &same, &mut writes, &mut kept);
        }
    }
    for slice in existing {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        if !kept.contains(&name) && slice.metadata.deletion_timestamp.is_none() {
            writes.push(Write::Delete(name.to_owned()));
        }
    }
    writes
}

/// Spreads `wanted` over the slices in `same`: an endpoint stays where it is, new ones fill gaps, then new slices.
fn fill<'a>(
    service: &Service,
    family: Family,
    ports: &[EndpointPort],
    wanted: Vec<Endpoint>,
    same: &[&'a EndpointSlice],
    writes: &mut Vec<Write>,
    kept: &mut Vec<&'a str>,
) {
    let mut unplaced: BTreeMap<String, Endpoint> =
        wanted.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut placed: Vec<(&EndpointSlice, Vec<Endpoint>)> = same
        .iter()
        .map(|slice| {
            let stay = slice.endpoints.iter().flatten().filter_map(|old| unplaced.remove(&identity(old))).collect();
            (*slice, stay)
        })
        .collect();
    let mut unplaced = unplaced.into_values();
    // The fullest first, so that slices end up few.
    placed.sort_by_key(|(_, stay)| std::cmp::Reverse(stay.len()));
    for (_, stay) in &mut placed {
        let room = PER_SLICE.saturating_sub(stay.len());
        stay.extend(unplaced.by_ref().take(room));
    }
    let rest: Vec<Endpoint> = unplaced.collect();
    let keep_empty = rest.is_empty() && placed.iter().all(|(_, stay)| stay.is_empty());
    for (index, (slice, stay)) in placed.into_iter().enumerate() {
        if stay.is_empty() && !(keep_empty && index == 0) {
            continue; // deleted by the caller
        }
        kept.push(slice.metadata.name.as_deref().unwrap_or_default());
        let labels = labels(service);
        let endpoints = (!stay.is_empty()).then_some(stay);
        let unchanged = slice.endpoints.as_deref().unwrap_or_default() == endpoints.as_deref().unwrap_or_default();
        if !unchanged || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut new = (*slice).clone();
            new.endpoints = endpoints;
            new.metadata.labels = Some(labels);
            writes.push(Write::Update(new));
        }
    }
    let chunks: Vec<&[Endpoint]> =
        if rest.is_empty() && same.is_empty() { vec![&[]] } else { rest.chunks(PER_SLICE).collect() };
    for chunk in chunks {
        writes.push(Write::Create(EndpointSlice {
            address_type: family.as_str().into(),
            endpoints: (!chunk.is_empty()).then(|| chunk.to_vec()),
            ports: (!ports.is_empty()).then(|| ports.to_vec()),
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", service.metadata.name.as_deref().unwrap_or_default())),
                namespace: service.metadata.namespace.clone(),
                labels: Some(labels(service)),
                owner_references: Some(vec![owned_by(service)]),
                ..ObjectMeta::default()
            },
        }));
    }
}

/// The pod behind an endpoint; addresses may repeat while a pod is replaced.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{}/{uid}", endpoint.addresses.first().map(String::as_str).unwrap_or_default())
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

fn endpoint(service: &Service, backend: &Backend, family: Family) -> Option<Endpoint> {
    let address = backend.pod.ips.iter().find(|ip| family.contains(ip))?.clone();
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let serving = backend.pod.ready();
    let pod = &backend.pod;
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !pod.deleting)),
            serving: Some(serving),
            terminating: Some(pod.deleting),
        }),
        hostname: backend.hostname(service),
        node_name: pod.node.clone(),
        target_ref: Some(backend.target()),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    })
}

fn port(port: &ResolvedPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    let key = |port: &EndpointPort| {
        (port.name.clone().unwrap_or_default(), port.protocol.clone(), port.port, port.app_protocol.clone())
    };
    let mut one: Vec<_> = slice.ports.iter().flatten().map(key).collect();
    let mut two: Vec<_> = ports.iter().map(key).collect();
    one.sort();
    two.sort();
    one == two
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::{Phase, PodFacts};

    fn service() -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "service" },
            "spec": { "clusterIP": "10.43.0.7", "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        }))
        .expect("a Service")
    }

    fn backend(number: usize) -> Backend {
        let pod = PodFacts {
            key: machinery_client::ObjectKey::new("default", format!("web-{number}")),
            uid: format!("uid-{number}"),
            ips: vec![format!("10.42.{}.{}", number / 200, number % 200)],
            phase: Phase::Running,
            ready_since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..PodFacts::default()
        };
        let port = ResolvedPort { name: String::new(), number: 80, protocol: "TCP".into(), app_protocol: None };
        Backend { pod: Arc::new(pod), zone: None, ports: vec![port] }
    }

    fn ready(slice: &EndpointSlice) -> Vec<Option<bool>> {
        slice.endpoints.iter().flatten().map(|e| e.conditions.as_ref().and_then(|c| c.ready)).collect()
    }

    /// Applies writes to a list of slices, as the API would.
    fn apply(mut slices: Vec<EndpointSlice>, writes: Vec<Write>) -> Vec<EndpointSlice> {
        let newest = slices.iter().filter_map(|slice| slice.metadata.name.as_ref()?.strip_prefix("web-")?.parse().ok());
        let mut newest: usize = newest.max().unwrap_or(0);
        for write in writes {
            match write {
                Write::Create(mut slice) => {
                    newest += 1;
                    slice.metadata.name = Some(format!("web-{newest}"));
                    slices.push(slice);
                }
                Write::Update(new) => {
                    let old = slices.iter_mut().find(|slice| slice.metadata.name == new.metadata.name);
                    *old.expect("updated slices exist") = new;
                }
                Write::Delete(name) => slices.retain(|slice| slice.metadata.name.as_deref() != Some(&name)),
            }
        }
        slices
    }

    fn step(slices: Vec<EndpointSlice>, backends: &[Backend]) -> Vec<EndpointSlice> {
        let writes = plan(&service(), &[Family::V4], backends, &slices.iter().collect::<Vec<_>>());
        apply(slices, writes)
    }

    #[test]
    fn a_plan_that_changes_nothing_writes_nothing() {
        let backends = [backend(1), backend(2)];
        let slices = step(Vec::new(), &backends);
        assert_eq!(ready(&slices[0]), [Some(true), Some(true)]);
        assert_eq!(plan(&service(), &[Family::V4], &backends, &slices.iter().collect::<Vec<_>>()), []);
    }

    #[test]
    fn a_pod_being_deleted_stays_as_terminating_and_not_ready() {
        let mut leaving = backend(1);
        Arc::make_mut(&mut leaving.pod).deleting = true;
        let slices = step(step(Vec::new(), &[backend(1)]), &[leaving]);
        let conditions = slices[0].endpoints.as_ref().expect("endpoints")[0].conditions.clone().expect("conditions");
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
    }

    #[test]
    fn no_pods_leave_one_empty_slice() {
        let slices = step(Vec::new(), &[]);
        assert_eq!((slices.len(), slices[0].endpoints.clone()), (1, None));
        let slices = step(step(slices, &[backend(1)]), &[]);
        assert_eq!(slices.len(), 1);
    }

    #[test]
    fn slices_hold_a_hundred_and_one_change_touches_one() {
        let mut backends: Vec<Backend> = (0..250).map(backend).collect();
        let slices = step(Vec::new(), &backends);
        let sizes: Vec<usize> = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [100, 100, 50]);
        Arc::make_mut(&mut backends[7].pod).ready_since = None;
        let writes = plan(&service(), &[Family::V4], &backends, &slices.iter().collect::<Vec<_>>());
        assert_eq!(writes.len(), 1);
    }
}

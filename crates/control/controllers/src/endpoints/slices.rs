//! The EndpointSlices a Service should have, changed as little as possible from those it has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backends::{Backend, Family, ResolvedPort};
use super::hints;
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
    let living: Vec<&EndpointSlice> =
        existing.iter().copied().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
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
        let ours = living.iter().copied().filter(|slice| slice.address_type == family.as_str());
        let mut packing = Packing { service, family: *family, spare: ours.collect(), created: Vec::new() };
        for (ports, endpoints) in groups {
            packing.pack(&ports.iter().map(port).collect::<Vec<_>>(), endpoints, &mut writes);
        }
        packing.finish(&mut writes);
    }
    let families: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
    let foreign = living.iter().filter(|slice| !families.contains(&slice.address_type.as_str()));
    writes.extend(foreign.map(|slice| Write::Delete(name(slice))));
    writes
}

/// Spreads endpoints over one family's slices as upstream does: as few slices as possible change, and none is filled
/// up merely because it has room.
struct Packing<'a> {
    service: &'a Service,
    family: Family,
    /// Existing slices that nothing uses yet.
    spare: Vec<&'a EndpointSlice>,
    created: Vec<EndpointSlice>,
}

/// A slice and what shall be in it.
struct Filled<'a> {
    slice: &'a EndpointSlice,
    endpoints: Vec<Endpoint>,
}

impl Filled<'_> {
    fn room(&self) -> usize {
        PER_SLICE.saturating_sub(self.endpoints.len())
    }

    fn changed(&self) -> bool {
        self.slice.endpoints.as_deref().unwrap_or_default() != self.endpoints
    }
}

impl<'a> Packing<'a> {
    fn pack(&mut self, ports: &[EndpointPort], wanted: Vec<Endpoint>, writes: &mut Vec<Write>) {
        let placeholder = wanted.is_empty();
        let mut unplaced: BTreeMap<String, Endpoint> =
            wanted.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
        let (same, spare): (Vec<_>, Vec<_>) = self.spare.drain(..).partition(|slice| same_ports(slice, ports));
        self.spare = spare;
        let mut filled: Vec<Filled<'a>> = Vec::new();
        for slice in same {
            let endpoints: Vec<Endpoint> =
                slice.endpoints.iter().flatten().filter_map(|old| unplaced.remove(&identity(old))).collect();
            // One that loses all its endpoints goes, save the last of a Service without any.
            if endpoints.is_empty() && !(placeholder && filled.is_empty()) {
                self.spare.push(slice);
            } else {
                filled.push(Filled { slice, endpoints });
            }
        }
        let mut unplaced = unplaced.into_values();
        // Whatever is written anyway takes newcomers, the fullest first.
        filled.sort_by_key(|one| (!one.changed(), std::cmp::Reverse(one.endpoints.len())));
        for one in filled.iter_mut().take_while(|one| one.changed()) {
            let room = one.room();
            one.endpoints.extend(unplaced.by_ref().take(room));
        }
        let mut rest: Vec<Endpoint> = unplaced.collect();
        while !rest.is_empty() {
            // An untouched slice that takes all the rest, the one that is then fullest; else a new one.
            let fits = |one: &&mut Filled<'_>| !one.changed() && one.room() >= rest.len();
            match filled.iter_mut().filter(fits).min_by_key(|one| one.room()) {
                Some(one) => one.endpoints.append(&mut rest),
                None => {
                    let chunk = rest.drain(..rest.len().min(PER_SLICE)).collect();
                    self.created.push(self.slice(ports, chunk));
                }
            }
        }
        if placeholder && filled.is_empty() {
            self.created.push(self.slice(ports, Vec::new()));
        }
        let labels = labels(self.service);
        for one in filled.into_iter().filter(|one| one.changed() || one.slice.metadata.labels.as_ref() != Some(&labels))
        {
            let mut new = one.slice.clone();
            new.endpoints = (!one.endpoints.is_empty()).then_some(one.endpoints);
            new.metadata.labels = Some(labels.clone());
            writes.push(Write::Update(new));
        }
    }

    /// A slice that would be deleted becomes one that would be created.
    fn finish(self, writes: &mut Vec<Write>) {
        let mut spare = self.spare.into_iter();
        for created in self.created {
            writes.push(match spare.next() {
                Some(old) => Write::Update(EndpointSlice {
                    metadata: ObjectMeta { labels: created.metadata.labels.clone(), ..old.metadata.clone() },
                    ..created
                }),
                None => Write::Create(created),
            });
        }
        writes.extend(spare.map(|slice| Write::Delete(name(slice))));
    }

    fn slice(&self, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            address_type: self.family.as_str().into(),
            endpoints: (!endpoints.is_empty()).then_some(endpoints),
            ports: (!ports.is_empty()).then(|| ports.to_vec()),
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", self.service.metadata.name.as_deref().unwrap_or_default())),
                namespace: self.service.metadata.namespace.clone(),
                labels: Some(labels(self.service)),
                owner_references: Some(vec![owned_by(self.service)]),
                ..ObjectMeta::default()
            },
        }
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
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
    let ready = publish || (serving && !pod.deleting);
    Some(Endpoint {
        addresses: vec![address],
        hints: hints::of(service, ready, backend.zone.as_deref(), pod.node.as_deref()),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(pod.deleting),
        }),
        hostname: backend.hostname(service),
        node_name: pod.node.clone(),
        target_ref: Some(backend.target()),
        zone: backend.zone.clone(),
        deprecated_topology: None,
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

pub(crate) fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
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

    fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect()
    }

    #[test]
    fn newcomers_change_as_few_slices_as_possible() {
        let some = |range: std::ops::Range<usize>| range.map(backend).collect::<Vec<_>>();
        // 100, 100, 50: one more pod goes where there is room for it.
        let slices = step(Vec::new(), &some(0..250));
        let slices = step(slices, &some(0..251));
        assert_eq!(sizes(&slices), [100, 100, 51]);
        // More than that slice takes: a new one, and the old one stays as it is.
        let slices = step(slices, &some(0..310));
        assert_eq!(sizes(&slices), [100, 100, 51, 59]);
        // Some of the first go; what changes anyway takes the newcomers.
        let without = |slice: &EndpointSlice, count: usize, all: Vec<Backend>| -> Vec<Backend> {
            let first = slice.endpoints.iter().flatten().take(count).map(|endpoint| endpoint.addresses[0].clone());
            let gone: std::collections::BTreeSet<String> = first.collect();
            all.into_iter().filter(|backend| !gone.contains(&backend.pod.ips[0])).collect()
        };
        let left = without(&slices[0], 50, some(0..320));
        let slices = step(slices, &left);
        assert_eq!(sizes(&slices), [60, 100, 51, 59]);
        // A slice that empties goes.
        let left = without(&slices[1], 100, left);
        assert_eq!(sizes(&step(slices, &left)), [60, 51, 59]);
    }

    #[test]
    fn a_slice_that_would_go_takes_what_would_need_a_new_one() {
        let slices = step(Vec::new(), &[backend(1)]);
        let mut moved = backend(1);
        moved.ports[0].number = 8080;
        let writes = plan(&service(), &[Family::V4], &[moved], &slices.iter().collect::<Vec<_>>());
        let [Write::Update(slice)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(slice.metadata.name, slices[0].metadata.name);
        assert_eq!(slice.ports.as_ref().map(|ports| ports[0].port), Some(Some(8080)));
    }

    #[test]
    fn one_set_of_slices_per_family() {
        let mut both = backend(1);
        Arc::make_mut(&mut both.pod).ips.push("fd42::1".into());
        let writes = plan(&service(), &[Family::V4, Family::V6], &[both.clone(), backend(2)], &[]);
        let slices = apply(Vec::new(), writes);
        let seen: Vec<_> = slices.iter().map(|slice| slice.address_type.as_str()).zip(sizes(&slices)).collect();
        assert_eq!(seen, [("IPv4", 2), ("IPv6", 1)]);
        // The Service gives a family up.
        let writes = plan(&service(), &[Family::V4], &[both, backend(2)], &slices.iter().collect::<Vec<_>>());
        assert!(matches!(&writes[..], [Write::Delete(_)]), "{writes:?}");
    }

    #[test]
    fn a_service_may_publish_pods_that_are_not_ready() {
        let mut unready = backend(1);
        Arc::make_mut(&mut unready.pod).ready_since = None;
        let mut service = service();
        let made = |service: &Service| {
            let writes = plan(service, &[Family::V4], std::slice::from_ref(&unready), &[]);
            let slice = &apply(Vec::new(), writes)[0];
            let conditions = slice.endpoints.as_ref().expect("endpoints")[0].conditions.clone().expect("conditions");
            (conditions.ready, conditions.serving)
        };
        assert_eq!(made(&service), (Some(false), Some(false)));
        service.spec.as_mut().expect("a spec").publish_not_ready_addresses = Some(true);
        assert_eq!(made(&service), (Some(true), Some(false)));
    }
}

//! From one Endpoints object to the EndpointSlices that say the same. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{self as core, EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoints::{Family, MANAGED_BY, SERVICE_NAME, Write, same_ports};
use crate::world::owned_by;

pub const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// Whoever writes slices itself says so by this label on its Endpoints.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are somebody's lock for an election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints object itself.
const OWN_ANNOTATIONS: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// The most addresses of a subset, as upstream's `--mirroring-max-endpoints-per-subset`.
pub const PER_SUBSET: usize = 1000;

/// What to write, and what was left out.
#[derive(Debug, Default, PartialEq)]
pub struct Mirror {
    pub writes: Vec<Write>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses beyond [`PER_SUBSET`].
    pub skipped: usize,
}

/// Whether somebody else's Endpoints stand for a Service whose pods nobody selects.
pub fn wanted(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let lock = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    let selects = |service: &Service| {
        service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_some_and(|labels| !labels.is_empty()))
    };
    meta.deletion_timestamp.is_none() && !skip && !lock && service.is_some_and(|service| !selects(service))
}

/// `existing` are the slices made for these Endpoints before.
pub fn plan(endpoints: &Endpoints, existing: &[&EndpointSlice]) -> Mirror {
    let mut mirror = Mirror::default();
    let mut spare: Vec<&EndpointSlice> =
        existing.iter().copied().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
    for (family, ports, wanted) in groups(endpoints, &mut mirror) {
        let new = slice(endpoints, family, ports, wanted);
        let same = |old: &&&EndpointSlice| {
            old.address_type == new.address_type && same_ports(old, new.ports.as_deref().unwrap_or_default())
        };
        let Some(old) = spare.iter().find(same).copied() else {
            mirror.writes.push(Write::Create(new));
            continue;
        };
        spare.retain(|slice| slice.metadata.name != old.metadata.name);
        let annotations = |slice: &EndpointSlice| slice.metadata.annotations.clone().unwrap_or_default();
        let unchanged = old.endpoints == new.endpoints
            && old.metadata.labels == new.metadata.labels
            && annotations(old) == annotations(&new);
        if !unchanged {
            let ObjectMeta { labels, annotations, .. } = new.metadata.clone();
            let metadata = ObjectMeta { labels, annotations, ..old.metadata.clone() };
            mirror.writes.push(Write::Update(EndpointSlice { metadata, ..new }));
        }
    }
    mirror.writes.extend(spare.iter().map(|slice| Write::Delete(slice.metadata.name.clone().unwrap_or_default())));
    mirror
}

/// One per family and set of ports, with at most [`PER_SUBSET`] endpoints.
fn groups(endpoints: &Endpoints, mirror: &mut Mirror) -> Vec<(Family, Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut groups: Vec<(Family, Vec<EndpointPort>, BTreeMap<IpAddr, Endpoint>)> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        ports.sort_by(|one, two| one.name.cmp(&two.name).then(one.port.cmp(&two.port)));
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let mut taken = 0;
        for (address, ready) in ready.chain(unready) {
            if taken == PER_SUBSET {
                mirror.skipped += 1;
                continue;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                mirror.invalid += 1;
                continue;
            };
            taken += 1;
            let family = Family::of_address(ip);
            let at = groups.iter().position(|(of, with, _)| *of == family && *with == ports).unwrap_or_else(|| {
                groups.push((family, ports.clone(), BTreeMap::new()));
                groups.len() - 1
            });
            groups[at].2.entry(ip).or_insert_with(|| endpoint(address, ip, ready));
        }
    }
    let cut = |all: BTreeMap<IpAddr, Endpoint>| all.into_values().take(PER_SUBSET).collect();
    groups.into_iter().map(|(family, ports, all)| (family, ports, cut(all))).collect()
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn slice(endpoints: &Endpoints, family: Family, ports: Vec<EndpointPort>, wanted: Vec<Endpoint>) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
    EndpointSlice {
        address_type: family.as_str().into(),
        endpoints: (!wanted.is_empty()).then_some(wanted),
        ports: (!ports.is_empty()).then_some(ports),
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owned_by(endpoints)]),
            ..ObjectMeta::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "u", "labels": {"app": "db"}, "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "kept",
            }},
            "subsets": subsets,
        }))
        .expect("Endpoints")
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).expect("a Service")
    }

    fn created(mirror: &Mirror) -> Vec<EndpointSlice> {
        let slice = |(index, write): (usize, &Write)| match write {
            Write::Create(slice) => {
                let mut slice = slice.clone();
                slice.metadata.name = Some(format!("db-{index}"));
                slice
            }
            other => panic!("{other:?}"),
        };
        mirror.writes.iter().enumerate().map(slice).collect()
    }

    #[test]
    fn whose_endpoints_are_mirrored() {
        let ours = endpoints(json!([]));
        assert!(wanted(&ours, Some(&service(json!({})))));
        assert!(!wanted(&ours, None));
        assert!(!wanted(&ours, Some(&service(json!({"selector": {"app": "db"}})))));
        let with = |place: &str, key: &str, value: &str| {
            let mut object = serde_json::to_value(&ours).expect("JSON");
            object["metadata"][place][key] = json!(value);
            serde_json::from_value::<Endpoints>(object).expect("Endpoints")
        };
        assert!(!wanted(&with("labels", SKIP, "true"), Some(&service(json!({})))));
        assert!(wanted(&with("labels", SKIP, "false"), Some(&service(json!({})))));
        assert!(!wanted(&with("annotations", LEADER, "{}"), Some(&service(json!({})))));
    }

    #[test]
    fn one_slice_per_family_and_ports() {
        let source = endpoints(json!([
            {"addresses": [{"ip": "192.0.2.1", "hostname": "h", "nodeName": "n"}, {"ip": "2001:db8::1"}],
             "notReadyAddresses": [{"ip": "192.0.2.2"}, {"ip": "nonsense"}], "ports": [{"name": "a", "port": 5432}]},
            {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"name": "a", "port": 5432}]},
            {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 53, "protocol": "UDP"}]},
        ]));
        let mirror = plan(&source, &[]);
        assert_eq!((mirror.invalid, mirror.skipped), (1, 0));
        let slices = created(&mirror);
        let seen: Vec<_> = slices
            .iter()
            .map(|slice| {
                let of = |e: &Endpoint| (e.addresses[0].clone(), e.conditions.as_ref().and_then(|c| c.ready));
                (slice.address_type.as_str(), slice.endpoints.iter().flatten().map(of).collect::<Vec<_>>())
            })
            .collect();
        let ip = |text: &str, ready| (text.to_owned(), Some(ready));
        assert_eq!(
            seen,
            [
                ("IPv4", vec![ip("192.0.2.1", true), ip("192.0.2.2", false), ip("192.0.2.3", true)]),
                ("IPv6", vec![ip("2001:db8::1", true)]),
                ("IPv4", vec![ip("192.0.2.1", true)]),
            ]
        );
        let meta = &slices[0].metadata;
        let labels = meta.labels.as_ref().expect("labels");
        assert_eq!(
            (labels[SERVICE_NAME].as_str(), labels[MANAGED_BY].as_str(), labels["app"].as_str()),
            ("db", CONTROLLER, "db")
        );
        assert_eq!(meta.annotations.as_ref().expect("annotations").keys().collect::<Vec<_>>(), ["note"]);
        let owner = &meta.owner_references.as_ref().expect("an owner")[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.controller), ("Endpoints", "db", Some(true)));
        // Nothing more to do; then a subset goes.
        assert_eq!(plan(&source, &slices.iter().collect::<Vec<_>>()).writes, []);
        let less = endpoints(json!([{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"name": "a", "port": 5432}]}]));
        let writes = plan(&less, &slices.iter().collect::<Vec<_>>()).writes;
        let [Write::Update(update), Write::Delete(_), Write::Delete(_)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(update.metadata.name.as_deref(), Some("db-0"));
        assert_eq!(update.endpoints.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn a_subset_is_cut_at_a_thousand() {
        let addresses: Vec<Value> = (0..1010).map(|n| json!({"ip": format!("10.9.{}.{}", n / 250, n % 250)})).collect();
        let mirror = plan(&endpoints(json!([{"addresses": addresses, "ports": [{"port": 80}]}])), &[]);
        assert_eq!(mirror.skipped, 10);
        assert_eq!(created(&mirror)[0].endpoints.as_ref().map(Vec::len), Some(1000));
    }
}

//! The kinds over a real store: what a request would see.

use std::sync::Arc;

use base_meta::Status;
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Service;
use machinery_registry::{CreateOptions, DeleteOptions, MediaType, Payload, RequestContext, UpdateOptions};
use machinery_storage::embedded::Embedded;
use serde_json::{Value, json};

use super::*;

pub(crate) async fn started(storage: Arc<dyn Storage>, range: &str) -> Resources {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let deps = Deps {
        storage,
        admission: Default::default(),
        service_ranges: range.split(',').map(|range| ServiceRange::parse(range).expect("a range")).collect(),
        node_ports: NodePortRange::parse("30000-30015").expect("a range"),
        kubelet_tls: Arc::new(tls),
        tasks: Tasks::root("test"),
    };
    resources(deps).await.expect("started")
}

async fn store() -> Arc<dyn Storage> {
    Arc::new(Embedded::in_memory().await.expect("a store"))
}

fn ctx(resource: &dyn Resource, namespace: Option<&str>) -> RequestContext {
    RequestContext {
        user: Arc::default(),
        gvr: resource.def().gvr(),
        subresource: None,
        namespace: namespace.map(Arc::from),
        warnings: Default::default(),
    }
}

fn payload(value: &Value) -> Payload {
    Payload { media: MediaType::Json, bytes: value.to_string().into() }
}

async fn create(resource: &dyn Resource, value: Value, dry_run: bool) -> Result<Value, Status> {
    let ctx = ctx(resource, value["metadata"]["namespace"].as_str());
    let options = CreateOptions { dry_run, ..CreateOptions::default() };
    let written = resource.create(&ctx, payload(&value), options).await?;
    written.object.to_value().map_err(Status::internal)
}

async fn replace(resource: &dyn Resource, name: &str, value: Value) -> Result<(), Status> {
    let ctx = ctx(resource, value["metadata"]["namespace"].as_str());
    resource.update(&ctx, name, payload(&value), UpdateOptions::default()).await.map(drop)
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn web() -> Value {
    json!({"selector": {"run": "my-nginx"}, "ports": [{"port": 80, "protocol": "TCP"}]})
}

async fn keys(storage: &Arc<dyn Storage>) -> Vec<String> {
    let listing = storage.list("/sampan/allocations/", None, 0, None).await.expect("a listing");
    listing.entries.iter().map(|entry| entry.key.to_string()).collect()
}

#[tokio::test]
async fn every_row_has_its_columns_and_every_field_a_value() {
    let resources = started(store().await, "10.43.0.0/16").await;
    for resource in resources.all() {
        let def = resource.def();
        assert!(!def.columns.is_empty(), "{}", def.gvk);
        assert_eq!(def.columns.iter().filter(|column| column.format == "name").count(), 1, "{}", def.gvk);
        // The registry itself serves what is read and written like the object; tokens are signed elsewhere.
        for sub in def.subresources.iter().filter(|sub| sub.verbs != define::READ_AND_CHANGE && sub.name != "token") {
            assert!(resource.handler(sub.name).is_some(), "{}/{} has a handler", def.plural, sub.name);
        }
    }
}

#[tokio::test]
async fn a_service_gets_an_address_and_gives_it_back() {
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16").await;
    let services = &*resources.services;
    let made = create(services, service("my-nginx", web()), false).await.expect("created");
    let spec = &made["spec"];
    let ip = spec["clusterIP"].as_str().expect("an address").to_owned();
    assert!(ip.starts_with("10.43."), "{ip}");
    assert_eq!(spec["clusterIPs"], json!([ip]));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert_eq!(keys(&storage).await, [format!("/sampan/allocations/clusterips/{ip}")]);

    let taken = create(services, service("thief", json!({"clusterIP": ip, "ports": [{"port": 80}]})), false).await;
    let status = taken.expect_err("taken");
    assert_eq!(status.code, 422);
    assert!(
        status.message.ends_with(&format!("failed to allocate IP {ip}: provided IP is already allocated")),
        "{status}"
    );

    let outside =
        create(services, service("x", json!({"clusterIP": "10.9.9.9", "ports": [{"port": 80}]})), false).await;
    assert!(outside.expect_err("outside").message.contains("the provided IP (10.9.9.9) is not in the valid range"));

    services.delete(&ctx(services, Some("default")), "my-nginx", DeleteOptions::default()).await.expect("deleted");
    assert!(keys(&storage).await.is_empty());
}

#[tokio::test]
async fn dry_runs_and_failed_creates_hold_nothing() {
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16").await;
    let services = &*resources.services;
    let made = create(services, service("a", web()), true).await.expect("would be created");
    assert!(made["spec"]["clusterIP"].is_string());
    let half = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]});
    let status = create(services, service("a", half), false).await.expect_err("out of range");
    assert!(
        status.message.ends_with(
            "spec.ports[0].nodePort: Invalid value: 1: provided port is not in the valid range. The range of valid ports is 30000-30015"
        ),
        "{status}"
    );
    assert!(keys(&storage).await.is_empty());
}

#[tokio::test]
async fn node_ports_come_and_go_with_the_type() {
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16").await;
    let services = &*resources.services;
    let both = json!({"type": "NodePort", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]});
    let made = create(services, service("dns", both), false).await.expect("created");
    let port = |index: usize| made["spec"]["ports"][index]["nodePort"].as_i64().expect("a node port");
    assert_eq!(port(0), port(1), "one number serves both protocols");
    assert_eq!(keys(&storage).await.len(), 2);

    let mut plain = made.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    replace(services, "dns", plain).await.expect("updated");
    assert_eq!(keys(&storage).await.len(), 1);

    let mut external = made;
    external["spec"]["type"] = json!("ExternalName");
    external["spec"]["externalName"] = json!("a.example");
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "externalTrafficPolicy",
        "internalTrafficPolicy",
        "ports",
    ] {
        external["spec"].as_object_mut().expect("a spec").remove(field);
    }
    external["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    replace(services, "dns", external).await.expect("updated");
    assert!(keys(&storage).await.is_empty());
}

#[tokio::test]
async fn a_small_range_runs_full_and_says_so() {
    let resources = started(store().await, "10.43.0.0/29").await;
    let services = &*resources.services;
    for number in 0..6 {
        create(services, service(&format!("s{number}"), web()), false).await.expect("room");
    }
    let status = create(services, service("late", web()), false).await.expect_err("full");
    assert_eq!(
        (status.code, status.message.as_str()),
        (500, "Internal error occurred: failed to allocate a serviceIP: range is full")
    );
}

#[tokio::test]
async fn repair_reclaims_leaks_and_restores_what_is_missing() {
    use machinery_storage::{Expect, Op};
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16").await;
    let made = create(&*resources.services, service("a", web()), false).await.expect("created");
    let key = format!("/sampan/allocations/clusterips/{}", made["spec"]["clusterIP"].as_str().expect("an address"));
    let entry = storage.get(&key).await.expect("read").expect("there");
    storage.write(&key, Expect::At(entry.modified), Op::Delete { last: entry.value }).await.expect("lost");
    let leak = json!({"namespace": "default", "name": "gone", "uid": "1", "since": "2020-01-01T00:00:00Z"});
    let young = json!({"namespace": "default", "name": "new", "uid": "2", "since": jiff::Timestamp::now().to_string()});
    for (ip, record) in [("10.43.9.9", leak), ("10.43.9.8", young)] {
        let key = format!("/sampan/allocations/clusterips/{ip}");
        storage.write(&key, Expect::Absent, Op::Put(record.to_string().into())).await.expect("written");
    }
    let repaired = resources.repair().await.expect("repaired");
    assert_eq!(repaired, Repaired { reclaimed: 1, restored: 1, disputed: 0 });
    let left = keys(&storage).await;
    assert!(left.contains(&key) && left.iter().any(|key| key.ends_with("10.43.9.8")), "{left:?}");
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn bootstrap_is_idempotent() {
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16").await;
    let facts = bootstrap::Facts {
        api_server: "192.0.2.1:6443".parse().expect("an address"),
        cluster_dns: "10.43.0.10".parse().expect("an address"),
        dns_endpoints: vec!["192.0.2.1:53".parse().expect("an address")],
    };
    bootstrap::write(&resources, &facts).await.expect("written");
    let before = storage.revision().await.expect("a revision");
    bootstrap::write(&resources, &facts).await.expect("written");
    assert_eq!(storage.revision().await.expect("a revision"), before, "nothing changed");

    let all: Vec<Service> = resources.services.list_typed(None).await.expect("listed");
    let found: Vec<_> = all
        .iter()
        .map(|service| {
            let spec = service.spec.as_ref().expect("a spec");
            (service.metadata.name.as_deref().expect("a name"), spec.cluster_ip.as_deref().expect("an address"))
        })
        .collect();
    assert_eq!(found, [("kubernetes", "10.43.0.1"), ("kube-dns", "10.43.0.10")]);
    let namespaces = resources.namespaces.list_typed(None).await.expect("listed");
    assert_eq!(namespaces.len(), 4);

    let moved = bootstrap::Facts { api_server: "192.0.2.9:6443".parse().expect("an address"), ..facts };
    bootstrap::write(&resources, &moved).await.expect("written");
    let slices = resources.endpoint_slices.list_typed(Some("default")).await.expect("listed");
    assert_eq!(slices[0].endpoints.as_ref().expect("endpoints")[0].addresses, ["192.0.2.9"]);
}

#[tokio::test]
async fn a_namespace_goes_in_two_steps() {
    use http_body_util::BodyExt as _;
    let resources = started(store().await, "10.43.0.0/16").await;
    let namespaces = &*resources.namespaces;
    let made = create(namespaces, json!({"metadata": {"name": "a"}}), false).await.expect("created");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    let ctx = ctx(namespaces, None);
    namespaces.delete(&ctx, "a", DeleteOptions::default()).await.expect("marked");
    let marked = resources.namespaces.get_typed(&ctx, "a").await.expect("still there");
    assert_eq!(marked.status.and_then(|status| status.phase).as_deref(), Some("Terminating"));
    let body = http_body_util::Full::new(bytes::Bytes::from(
        json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}}).to_string(),
    ));
    let request = http::Request::put("/").body(body.map_err(|never| match never {}).boxed_unsync()).expect("a request");
    let handler = namespaces.handler("finalize").expect("a handler");
    handler.handle(&ctx, "a", request).await.expect("finalised");
    assert_eq!(resources.namespaces.get_typed(&ctx, "a").await.expect_err("gone").code, 404);
}

#[tokio::test]
async fn a_service_of_two_families_has_an_address_of_each() {
    let storage = store().await;
    let resources = started(storage.clone(), "10.43.0.0/16,fd43::/108").await;
    let services = &*resources.services;
    let ips = |made: &Value| serde_json::from_value::<Vec<String>>(made["spec"]["clusterIPs"].clone()).expect("IPs");
    let spec = |policy: &str| {
        let mut spec = web();
        spec["ipFamilyPolicy"] = json!(policy);
        spec
    };
    let one = create(services, service("one", web()), false).await.expect("created");
    assert_eq!((ips(&one).len(), &one["spec"]["ipFamilies"]), (1, &json!(["IPv4"])));
    let two = create(services, service("two", spec("RequireDualStack")), false).await.expect("created");
    assert_eq!(two["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let [four, six] = &ips(&two)[..] else { panic!("{two}") };
    assert!(four.starts_with("10.43.") && six.starts_with("fd43::"), "{two}");
    assert_eq!(two["spec"]["clusterIP"], json!(four));
    assert_eq!(keys(&storage).await.iter().filter(|key| key.contains("clusterips")).count(), 3);
    // It gives the second one up, and takes another again.
    let mut single = two.clone();
    single["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    replace(services, "two", single).await.expect("replaced");
    assert_eq!(keys(&storage).await.iter().filter(|key| key.contains("clusterips")).count(), 2);
    let mut again = service("two", spec("PreferDualStack"));
    again["spec"]["clusterIP"] = json!(four);
    replace(services, "two", again).await.expect("replaced");
    assert_eq!(keys(&storage).await.iter().filter(|key| key.contains("clusterips")).count(), 3);
    // The order of the ranges is the cluster's preference.
    let turned = started(store().await, "fd43::/108,10.43.0.0/16").await;
    let made = create(&*turned.services, service("one", web()), false).await.expect("created");
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv6"]));
}

#[tokio::test]
async fn further_ranges_give_addresses_while_they_are_ready() {
    let resources = started(store().await, "10.43.0.0/29").await;
    let services = &*resources.services;
    let all = resources.all();
    let kind = |plural: &str| all.iter().find(|resource| resource.def().plural == plural).expect("a kind").clone();
    let (cidrs, addresses) = (kind("servicecidrs"), kind("ipaddresses"));
    let mut full = None;
    for n in 0.. {
        if let Err(status) = create(services, service(&format!("s{n}"), web()), false).await {
            full = Some((n, status.message));
            break;
        }
    }
    let (count, message) = full.expect("the range fills up");
    assert_eq!(
        (count, message.as_str()),
        (6, "Internal error occurred: failed to allocate a serviceIP: range is full")
    );
    let further = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.44.0.0/28"]}});
    let mut made = create(&*cidrs, further, false).await.expect("created");
    let mut asked = web();
    asked["clusterIP"] = json!("10.44.0.5");
    create(services, service("early", asked.clone()), false).await.expect_err("it is not ready");
    made["status"] = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let status = RequestContext { subresource: Some("status".into()), ..ctx(&*cidrs, None) };
    cidrs.update(&status, "more", payload(&made), UpdateOptions::default()).await.expect("a status");
    create(services, service("asked", asked), false).await.expect("created");
    let next = create(services, service("next", web()), false).await.expect("created");
    assert!(next["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("10.44.0.")), "{next}");
    // Somebody else holds an address.
    let held = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.44.0.7"},
        "spec": {"parentRef": {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default",
            "name": "g"}}});
    create(&*addresses, held, false).await.expect("created");
    let mut asked = web();
    asked["clusterIP"] = json!("10.44.0.7");
    let status = create(services, service("held", asked), false).await.expect_err("it is held");
    assert!(status.message.contains("provided IP is already allocated"), "{}", status.message);
}

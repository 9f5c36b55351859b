use super::*;
use crate::frontend::Protocol;
use crate::slice_view::EndpointView;
use crate::view::PortView;

fn world() -> World {
    World::new(Locality { node_name: "here".into(), ..Locality::default() })
}

fn service(last: u8) -> Arc<ServiceView> {
    let port = PortView { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None };
    Arc::new(ServiceView { cluster_ips: vec![[10, 43, 0, last].into()], ports: vec![port], ..ServiceView::default() })
}

fn slice(service: &str, revision: u64, pods: &[u8]) -> Arc<SliceView> {
    let endpoint = |last: &u8| EndpointView::ready([10, 42, 0, *last].into(), "here");
    Arc::new(SliceView {
        service: ObjectKey::new("n", service),
        revision,
        ports: vec![(String::new(), Protocol::Tcp, 80)],
        endpoints: pods.iter().map(endpoint).collect(),
    })
}

fn applied<P>(name: &str, new: Arc<P>) -> Change<P> {
    Change::Applied { key: ObjectKey::new("n", name), old: None, new }
}

fn deleted<P>(name: &str, old: Arc<P>) -> Change<P> {
    Change::Deleted { key: ObjectKey::new("n", name), old }
}

fn sizes(delta: &Delta) -> Vec<Option<usize>> {
    delta.frontends.values().map(|backends| backends.as_ref().map(|backends| backends.endpoints.len())).collect()
}

#[test]
fn slices_and_services_may_come_in_any_order() {
    let mut world = world();
    world.slice_changed(applied("a-1", slice("a", 3, &[2, 3])));
    assert_eq!(sizes(&world.replan()), []);
    world.service_changed(applied("a", service(9)));
    let delta = world.replan();
    assert_eq!((sizes(&delta), delta.entered.len(), world.revision()), (vec![Some(2)], 2, 3));
    assert_eq!(sizes(&world.replan()), []);
}

#[test]
fn an_address_that_moves_to_another_service_is_not_removed() {
    let mut world = world();
    world.service_changed(applied("a", service(9)));
    world.replan();
    world.service_changed(deleted("a", service(9)));
    world.service_changed(applied("b", service(9)));
    world.slice_changed(applied("b-1", slice("b", 4, &[5])));
    assert_eq!(sizes(&world.replan()), [Some(1)]);
}

#[test]
fn a_pod_in_two_services_stays_a_hairpin_until_both_drop_it() {
    let mut world = world();
    for name in ["a", "b"] {
        world.service_changed(applied(name, service(name.as_bytes()[0])));
        world.slice_changed(applied(name, slice(name, 1, &[2])));
    }
    assert_eq!(world.replan().add_hairpins.len(), 1);
    world.slice_changed(deleted("a", slice("a", 1, &[2])));
    let delta = world.replan();
    assert_eq!((delta.remove_hairpins.len(), delta.left.len()), (0, 1));
    world.service_changed(deleted("b", service(b'b')));
    let delta = world.replan();
    assert_eq!((delta.remove_hairpins.len(), delta.left.len()), (1, 1));
    assert!(world.in_service().is_empty());
}

#[test]
fn another_zone_or_a_suspicion_plans_everything_anew() {
    let mut world = world();
    for name in ["a", "b"] {
        world.service_changed(applied(name, service(name.as_bytes()[0])));
        let mut view = SliceView::clone(&slice(name, 1, &[2, 3]));
        view.endpoints[1].node = Some("there".into());
        view.endpoints[1].zones = vec!["far".into()];
        view.endpoints[0].zones = vec!["near".into()];
        world.slice_changed(applied(name, Arc::new(view)));
    }
    assert_eq!(sizes(&world.replan()), [Some(2), Some(2)]);
    world.locality_changed(|locality| locality.zone = Some("near".into()));
    assert_eq!(sizes(&world.replan()), [Some(1), Some(1)]);
    world.locality_changed(|locality| locality.zone = Some("near".into()));
    assert_eq!(sizes(&world.replan()), []);
    world.locality_changed(|locality| locality.zone = None);
    world.locality_changed(|locality| locality.suspects = BTreeSet::from(["there".into()]));
    let delta = world.replan();
    assert_eq!((sizes(&delta), delta.left.len()), (vec![Some(1), Some(1)], 0));
    world.locality_changed(|locality| locality.suspects.clear());
    assert_eq!(sizes(&world.replan()), [Some(2), Some(2)]);
}

#[test]
fn health_follows_the_ready_endpoints_here() {
    let mut world = world();
    let balanced = ServiceView { health_port: Some(31_000), ..ServiceView::clone(&service(9)) };
    world.service_changed(applied("a", Arc::new(balanced)));
    world.slice_changed(applied("a-1", slice("a", 1, &[2, 3])));
    world.replan();
    let health = |world: &World| world.health().get(&ObjectKey::new("n", "a")).copied();
    assert_eq!(health(&world), Some(Health { port: 31_000, endpoints: 2 }));
    world.slice_changed(applied("a-1", slice("a", 2, &[2])));
    world.replan();
    assert_eq!(health(&world), Some(Health { port: 31_000, endpoints: 1 }));
    world.service_changed(deleted("a", service(9)));
    world.replan();
    assert_eq!(health(&world), None);
}

#[test]
fn of_two_services_with_one_external_address_the_older_has_it() {
    let mut world = world();
    world.locality_changed(|locality| locality.service_ranges = vec!["10.43.0.0/16".parse().expect("a block")]);
    let shared = |last: u8, created: i64| {
        let created = Some(Timestamp::from_second(created).expect("a time"));
        let (service, external_ips) = (service(last), vec![IpAddr::from([203, 0, 113, 1])]);
        Arc::new(ServiceView { created, external_ips, ..(*service).clone() })
    };
    let backend = |world: &World| {
        let (frontends, _) = world.everything();
        let shared =
            frontends.iter().find(|(frontend, _)| frontend.address == FrontendAddress::Ip([203, 0, 113, 1].into()));
        shared
            .map(|(_, backends)| backends.endpoints.first().map(|endpoint| endpoint.ip.to_string()).unwrap_or_default())
    };
    world.slice_changed(applied("young-1", slice("young", 3, &[3])));
    world.slice_changed(applied("old-1", slice("old", 4, &[4])));
    world.service_changed(applied("young", shared(8, 20)));
    world.replan();
    assert_eq!(backend(&world).as_deref(), Some("10.42.0.3"));
    world.service_changed(applied("old", shared(9, 10)));
    let delta = world.replan();
    assert_eq!(backend(&world).as_deref(), Some("10.42.0.4"));
    // What the kernel is told is the same.
    let (everything, _) = world.everything();
    assert!(
        delta.frontends.iter().all(|(frontend, backends)| backends.as_ref() == everything.get(frontend)),
        "{delta:?}"
    );
    // A change of the other one changes nothing of the address.
    world.slice_changed(applied("young-1", slice("young", 5, &[5])));
    world.replan();
    assert_eq!(backend(&world).as_deref(), Some("10.42.0.4"));
    world.service_changed(deleted("old", shared(9, 10)));
    let delta = world.replan();
    assert_eq!(backend(&world).as_deref(), Some("10.42.0.5"));
    assert_eq!(sizes(&delta).iter().filter(|size| **size == Some(1)).count(), 2, "for both origins: {delta:?}");
}

#[test]
fn a_host_port_comes_and_goes_with_its_pod() {
    let mut world = world();
    let port = crate::HostPort { protocol: Protocol::Tcp, address: None, number: 8080, container_port: 80 };
    let ports = || Arc::new(HostPorts { ips: vec![[10, 42, 0, 2].into()], ports: vec![port], ..HostPorts::default() });
    world.host_ports_changed(applied("p", ports()));
    let delta = world.replan();
    assert_eq!(sizes(&delta), [Some(1), Some(1)]);
    // No Service leads to it, so nobody waits for its withdrawal; it may reach itself.
    assert_eq!((delta.entered.len(), delta.add_hairpins.len()), (0, 1));
    world.host_ports_changed(deleted("p", ports()));
    let delta = world.replan();
    assert_eq!((sizes(&delta), delta.remove_hairpins.len()), (vec![None, None], 1));
}

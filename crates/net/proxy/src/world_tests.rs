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

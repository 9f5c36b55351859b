use super::*;
use crate::fixture::{Fixture, zone};

fn walked(namespace: &str, name: &str) -> Vec<String> {
    let host = [Name::from_ascii("corp.test.").expect("a name")];
    let name = Name::from_ascii(name).expect("a name");
    candidates(&zone(), &Fixture::new(), &host, namespace, &name).iter().map(Name::to_ascii).collect()
}

#[test]
fn the_rest_of_a_pods_search_list_is_tried_in_its_order() {
    let all = ["db.other.svc.cluster.local.", "db.other.cluster.local.", "db.other.corp.test.", "db.other."];
    assert_eq!(walked("default", "db.other.default.svc.cluster.local."), all);
    assert_eq!(
        walked("default", "Example.org.default.svc.cluster.local.").last().map(String::as_str),
        Some("Example.org.")
    );
}

#[test]
fn what_is_no_search_of_that_pod_is_not_walked() {
    for (namespace, name) in [
        // Another namespace, or the name of the search domain itself.
        ("other", "example.org.default.svc.cluster.local."),
        ("default", "default.svc.cluster.local."),
        ("default", "example.org."),
        // A Service, or an endpoint of one, that is not there.
        ("default", "gone.default.svc.cluster.local."),
        ("default", "my-pet-9.headless.default.svc.cluster.local."),
    ] {
        assert_eq!(walked(namespace, name), Vec::<String>::new(), "{name} from {namespace}");
    }
}

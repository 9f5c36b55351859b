//! The rules of the cluster's own parts: upstream's bootstrap roles in miniature.

use machinery_apiserver::Authorizer;
use machinery_apiserver::{Attributes, Decision};

use super::rules::{Rule, resources};
use super::silent;

const READ: &[&str] = &["get", "list", "watch"];
const REPORT: &[&str] = &["create", "patch", "update"];
const HOLD: &[&str] = &["create", "get", "patch", "update"];

const EVENTS: Rule = resources(REPORT, &["", "events.k8s.io"], &["events"]);
const LEASES: Rule = resources(HOLD, &["coordination.k8s.io"], &["leases"]);

const ANONYMOUS: &str = "system:unauthenticated";

enum Subject {
    User(&'static str),
    Group(&'static str),
}

const TABLE: &[(Subject, &[Rule])] = &[
    (
        Subject::User("system:kube-controller-manager"),
        &[
            // The garbage collector and the namespace controller follow and remove objects of every kind.
            resources(&["delete", "deletecollection", "get", "list", "patch", "update", "watch"], &["*"], &["*"]),
            resources(&["create"], &[""], &["endpoints", "pods", "secrets", "configmaps", "serviceaccounts"]),
            resources(&["create"], &["apps"], &["replicasets"]),
            resources(&["create"], &["discovery.k8s.io"], &["endpointslices"]),
            EVENTS,
            LEASES,
        ],
    ),
    (
        Subject::User("system:kube-scheduler"),
        &[
            resources(READ, &[""], &["nodes", "pods", "namespaces", "services"]),
            resources(READ, &["apps"], &["replicasets"]),
            resources(&["create"], &[""], &["bindings", "pods/binding"]),
            resources(&["patch", "update"], &[""], &["pods/status"]),
            resources(&["delete"], &[""], &["pods"]),
            EVENTS,
            LEASES,
        ],
    ),
    (
        Subject::User("system:kube-proxy"),
        &[
            resources(READ, &[""], &["endpoints", "namespaces", "nodes", "services"]),
            resources(READ, &["discovery.k8s.io"], &["endpointslices"]),
            EVENTS,
        ],
    ),
    (
        Subject::User("system:kube-dns"),
        &[
            resources(READ, &[""], &["endpoints", "namespaces", "nodes", "pods", "services"]),
            resources(READ, &["discovery.k8s.io"], &["endpointslices"]),
            EVENTS,
        ],
    ),
    (
        Subject::Group("system:authenticated"),
        &[Rule::Paths {
            verbs: &["get"],
            paths: &[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ],
        }],
    ),
    (
        Subject::Group(ANONYMOUS),
        &[Rule::Paths { verbs: &["get"], paths: &["/healthz", "/livez", "/readyz", "/version", "/version/"] }],
    ),
];

pub struct Builtin;

#[async_trait::async_trait]
impl Authorizer for Builtin {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let is = |subject: &Subject| match subject {
            Subject::User(name) => attributes.user.name == *name,
            // A caller inside this process is who it says, though nobody added the group.
            Subject::Group("system:authenticated") => !attributes.user.groups.iter().any(|group| group == ANONYMOUS),
            Subject::Group(name) => attributes.user.groups.iter().any(|group| group == name),
        };
        let mine = TABLE.iter().filter(|(subject, _)| is(subject)).flat_map(|(_, rules)| rules.iter());
        if mine.into_iter().any(|rule| rule.allows(attributes.verb, &attributes.action)) {
            Decision::Allow
        } else {
            silent()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::allowed;

    #[tokio::test]
    async fn the_clusters_parts_may_do_their_work_and_no_more() {
        let table = [
            ("system:kube-controller-manager", "create", "replicasets.apps", true),
            ("system:kube-controller-manager", "create", "pods", true),
            ("system:kube-controller-manager", "deletecollection", "secrets", true),
            ("system:kube-controller-manager", "update", "namespaces/finalize", true),
            ("system:kube-controller-manager", "create", "nodes", false),
            ("system:kube-controller-manager", "create", "pods/exec", false),
            ("system:kube-scheduler", "create", "pods/binding", true),
            ("system:kube-scheduler", "update", "pods/status", true),
            ("system:kube-scheduler", "update", "pods", false),
            ("system:kube-scheduler", "list", "secrets", false),
            ("system:kube-proxy", "watch", "endpointslices.discovery.k8s.io", true),
            ("system:kube-proxy", "update", "services", false),
            ("system:kube-dns", "list", "services", true),
            ("system:kube-dns", "list", "secrets", false),
        ];
        for (user, verb, what, expected) in table {
            assert_eq!(
                allowed(user, &["system:authenticated"], verb, what, ("a", "x")).await,
                expected,
                "{user} {verb} {what}"
            );
        }
    }

    #[tokio::test]
    async fn everyone_may_discover_and_anyone_may_ask_for_health() {
        let none = ("", "");
        assert!(allowed("jane", &["system:authenticated"], "get", "/apis/apps/v1", none).await);
        assert!(allowed("system:kube-controller-manager", &[], "get", "/apis", none).await);
        assert!(!allowed("jane", &["system:authenticated"], "get", "/debug", none).await);
        assert!(allowed("system:anonymous", &["system:unauthenticated"], "get", "/readyz", none).await);
        assert!(!allowed("system:anonymous", &["system:unauthenticated"], "get", "/api/v1", none).await);
        assert!(!allowed("system:anonymous", &["system:unauthenticated"], "list", "pods", none).await);
    }
}

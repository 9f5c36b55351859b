//! What the built-in identities may do, as data: upstream's bootstrap roles in miniature, until RBAC objects hold them.

/// `*` stands for every group, resource or verb.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub groups: &'static [&'static str],
    /// `pods`, or `pods/binding` for a subresource.
    pub resources: &'static [&'static str],
    pub verbs: &'static [&'static str],
}

impl Rule {
    pub fn allows(&self, group: &str, resource: &str, subresource: &str, verb: &str) -> bool {
        let named = |list: &[&str], wanted: &str| list.iter().any(|item| *item == "*" || *item == wanted);
        let resource_matches = self.resources.iter().any(|rule| match rule.split_once('/') {
            _ if *rule == "*" => true,
            Some((parent, child)) => parent == resource && child == subresource,
            None => *rule == resource && subresource.is_empty(),
        });
        resource_matches && named(self.groups, group) && named(self.verbs, verb)
    }
}

const READ: &[&str] = &["get", "list", "watch"];
const EVENTS: Rule =
    Rule { groups: &["", "events.k8s.io"], resources: &["events"], verbs: &["create", "patch", "update"] };

/// The controllers: they collect garbage and empty namespaces of any kind, so they read and delete everything.
const CONTROLLERS: &[Rule] = &[
    Rule { groups: &["*"], resources: &["*"], verbs: READ },
    Rule { groups: &["*"], resources: &["*"], verbs: &["delete", "deletecollection", "patch"] },
    Rule {
        groups: &["apps"],
        resources: &["deployments/status", "replicasets", "replicasets/status"],
        verbs: &["create", "update"],
    },
    Rule { groups: &[""], resources: &["pods", "endpoints", "serviceaccounts"], verbs: &["create", "update"] },
    Rule { groups: &[""], resources: &["namespaces/finalize", "namespaces/status"], verbs: &["update"] },
    Rule { groups: &["discovery.k8s.io"], resources: &["endpointslices"], verbs: &["create", "update"] },
    EVENTS,
];

const SCHEDULER: &[Rule] = &[
    Rule { groups: &[""], resources: &["pods", "nodes"], verbs: READ },
    Rule { groups: &[""], resources: &["pods/binding"], verbs: &["create"] },
    Rule { groups: &[""], resources: &["pods/status"], verbs: &["patch", "update"] },
    EVENTS,
];

/// The data plane and the cluster DNS.
const NETWORK: &[Rule] = &[
    Rule { groups: &[""], resources: &["services", "nodes", "namespaces"], verbs: READ },
    Rule { groups: &["discovery.k8s.io"], resources: &["endpointslices"], verbs: READ },
    EVENTS,
];

/// By user name.
pub const BUILT_IN: &[(&str, &[Rule])] = &[
    ("system:kube-controller-manager", CONTROLLERS),
    ("system:kube-scheduler", SCHEDULER),
    ("system:kube-proxy", NETWORK),
];

/// Every node; what must be a node's own is checked beyond these.
pub const NODE: &[Rule] = &[
    Rule { groups: &[""], resources: &["services", "namespaces", "nodes", "pods"], verbs: READ },
    Rule { groups: &[""], resources: &["configmaps", "secrets", "serviceaccounts"], verbs: &["get"] },
    Rule { groups: &[""], resources: &["nodes"], verbs: &["create", "update", "patch"] },
    Rule { groups: &[""], resources: &["nodes/status"], verbs: &["update", "patch"] },
    Rule { groups: &[""], resources: &["pods"], verbs: &["delete"] },
    Rule { groups: &[""], resources: &["pods/status"], verbs: &["update", "patch"] },
    Rule {
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        verbs: &["get", "create", "update", "patch", "delete"],
    },
    EVENTS,
];

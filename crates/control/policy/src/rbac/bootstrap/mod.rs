//! The policy that every cluster starts with: upstream's default roles and bindings, and two roles of our own for the
//! parts that run in this process.
//!
//! Pure: says which objects there should be, and what one that is there lacks.

mod controllers;
mod namespaced;
mod reconcile;
mod roles;
mod table;
#[cfg(test)]
mod tests;

use serde_json::Value;

use controllers::CONTROLLERS;
use roles::{READ, ROLES};
use table::Rule::{Of, On};
use table::Subject::{Account, Group, User};
use table::{Role, Subject, cluster_binding, role};

pub(super) use reconcile::{Step, reconcile};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ClusterRoles,
    ClusterRoleBindings,
    Roles,
    RoleBindings,
}

impl Kind {
    /// Roles first, so that nothing is bound to what is not there.
    pub const ALL: [Self; 4] = [Self::ClusterRoles, Self::ClusterRoleBindings, Self::Roles, Self::RoleBindings];

    pub const fn kind(self) -> &'static str {
        match self {
            Self::ClusterRoles => "ClusterRole",
            Self::ClusterRoleBindings => "ClusterRoleBinding",
            Self::Roles => "Role",
            Self::RoleBindings => "RoleBinding",
        }
    }

    pub const fn plural(self) -> &'static str {
        match self {
            Self::ClusterRoles => "clusterroles",
            Self::ClusterRoleBindings => "clusterrolebindings",
            Self::Roles => "roles",
            Self::RoleBindings => "rolebindings",
        }
    }
}

/// To whom the default ClusterRoles are bound.
const BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", &[Group("system:authenticated")]),
    ("system:basic-user", &[Group("system:authenticated")]),
    ("system:public-info-viewer", &[Group("system:authenticated"), Group("system:unauthenticated")]),
    ("system:node-proxier", &[User("system:kube-proxy")]),
    ("system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-dns", &[Account("kube-dns")]),
    ("system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", &[User("system:kube-scheduler")]),
    ("system:node", &[]),
    ("system:service-account-issuer-discovery", &[Group("system:serviceaccounts")]),
    // As kubeadm and k3s bind them: who joins with a token asks for its node's certificate, a node for its next one.
    ("system:node-bootstrapper", &[Group(JOINING)]),
    ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", &[Group(JOINING)]),
    ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[Group("system:nodes")]),
];

/// Of the holders of tokens that `sampan token create` makes.
const JOINING: &str = api::bootstrap_token::JOINING;

/// All controllers of this process share one identity, which holds what upstream grants each of them; and ours approve
/// nodes' serving certificates, which upstream leaves to others, say how far the data planes of all nodes are, and make
/// the objects that show who has which address, which upstream's API server makes itself.
const OUR_CONTROLLERS: Role = role(
    "system:sampan:controllers",
    &[
        Of("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving"),
        Of("get patch", "coordination.k8s.io", "leases", "sampan-programmed"),
        On("create delete", "networking.k8s.io", "ipaddresses"),
    ],
);
/// The data plane and the cluster DNS share the identity of kube-proxy.
const OUR_NETWORK: Role = role(
    "system:sampan:network",
    &[
        On(READ, "core", "namespaces pods services endpoints"),
        On(READ, "discovery.k8s.io", "endpointslices"),
        On(READ, "networking.k8s.io", "networkpolicies"),
    ],
);

/// Every object of the default policy, with its kind.
pub(super) fn policy() -> Vec<(Kind, Value)> {
    let mut all: Vec<(Kind, Value)> = ROLES.iter().map(|role| role.object("")).collect();
    let mut ours = OUR_CONTROLLERS.object("");
    let mut rules: Vec<Value> = ours.1["rules"].as_array().cloned().unwrap_or_default();
    for (name, own) in CONTROLLERS {
        let name = format!("system:controller:{name}");
        let mut object = role("", own).object("");
        object.1["metadata"]["name"] = Value::from(name);
        for rule in object.1["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        all.push(object);
    }
    ours.1["rules"] = rules.into();
    all.push(ours);
    all.push(OUR_NETWORK.object(""));

    all.extend(BINDINGS.iter().map(|(role, subjects)| cluster_binding(role, subjects)));
    for (name, _) in CONTROLLERS {
        all.push(cluster_binding(&format!("system:controller:{name}"), &[Account(name)]));
    }
    all.push(cluster_binding(OUR_CONTROLLERS.name, &[User("system:kube-controller-manager")]));
    all.push(cluster_binding(OUR_NETWORK.name, &[User("system:kube-proxy")]));
    all.extend(namespaced::objects());
    all
}

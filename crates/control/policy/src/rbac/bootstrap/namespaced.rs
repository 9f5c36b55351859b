//! Upstream's default Roles and RoleBindings, in `kube-system` and `kube-public`, and two of ours.

use serde_json::Value;

use super::Kind;
use super::roles::{EVENTS, READ};
use super::table::Rule::{Of, On};
use super::table::Subject::{Account, Group, User};
use super::table::{Role, Rule, Subject, binding, role};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";

/// What it takes to lead among several of a kind.
const LEADING: &[Rule] = &[
    On("create get list update watch", "coordination.k8s.io", "leases"),
    On("create get list update watch", "coordination.k8s.io", "leasecandidates"),
];

const ROLES: &[(&str, Role)] = &[
    (
        SYSTEM,
        role(
            "extension-apiserver-authentication-reader",
            &[Of(READ, "core", "configmaps", "extension-apiserver-authentication")],
        ),
    ),
    (SYSTEM, role("system:controller:bootstrap-signer", &[On(READ, "core", "secrets")])),
    (SYSTEM, role("system:controller:cloud-provider", &[On("create get list watch", "core", "configmaps")])),
    (SYSTEM, role("system:controller:token-cleaner", &[On("delete get list watch", "core", "secrets"), EVENTS])),
    (SYSTEM, role("system::leader-locking-kube-controller-manager", LEADING)),
    (SYSTEM, role("system::leader-locking-kube-scheduler", LEADING)),
    // Ours: the settings of the cluster DNS, which runs as kube-proxy or as its node, and what a node that joins is told.
    (SYSTEM, role("system:sampan:dns", &[Of(READ, "core", "configmaps", "sampan-dns")])),
    (SYSTEM, role("system:sampan:cluster", &[Of("get", "core", "configmaps", "sampan-cluster")])),
    (
        PUBLIC,
        role(
            "system:controller:bootstrap-signer",
            &[On(READ, "core", "configmaps"), Of("update", "core", "configmaps", "cluster-info"), EVENTS],
        ),
    ),
];

/// Namespace, name, role, subjects.
const BINDINGS: &[(&str, &str, &str, &[Subject])] = &[
    (
        SYSTEM,
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            User("system:kube-controller-manager"),
            Account("kube-controller-manager"),
            Account("leader-election-controller"),
        ],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User("system:kube-scheduler"), Account("kube-scheduler")],
    ),
    (
        SYSTEM,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
    (SYSTEM, "system:controller:cloud-provider", "system:controller:cloud-provider", &[Account("cloud-provider")]),
    (SYSTEM, "system:controller:token-cleaner", "system:controller:token-cleaner", &[Account("token-cleaner")]),
    (SYSTEM, "system:sampan:dns", "system:sampan:dns", &[User("system:kube-proxy"), Group("system:nodes")]),
    (SYSTEM, "system:sampan:cluster", "system:sampan:cluster", &[Group("system:nodes")]),
    (
        PUBLIC,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
];

pub(super) fn objects() -> impl Iterator<Item = (Kind, Value)> {
    let roles = ROLES.iter().map(|(namespace, role)| role.object(namespace));
    roles.chain(BINDINGS.iter().map(|(namespace, name, role, subjects)| binding(namespace, name, role, subjects)))
}

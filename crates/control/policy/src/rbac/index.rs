//! Subject → bindings → rules: what authorization looks up, kept current one object at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base_meta::selector::LabelSelector;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule, RoleRef, Subject};
use machinery_registry::UserInfo;
use serde::Deserialize;

/// A role's or a binding's place; `namespace` is empty for the cluster-wide kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// What authorization reads of a Role or ClusterRole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Role {
    pub(super) metadata: Head,
    pub(super) rules: Option<Vec<PolicyRule>>,
    pub(super) aggregation_rule: Option<AggregationRule>,
}

/// What authorization reads of a RoleBinding or ClusterRoleBinding.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Binding {
    pub(super) metadata: Head,
    pub(super) role_ref: RoleRef,
    pub(super) subjects: Option<Vec<Subject>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
}

impl Head {
    pub(super) fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }
}

/// A role granted to one subject by one binding.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    binding: Key,
    role: Key,
    /// Upstream's words for why, made once.
    pub(super) reason: Arc<str>,
}

#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    within: HashMap<Arc<str>, Vec<Grant>>,
}

/// Of the labels and rules of ClusterRoles: what aggregation reads.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) selectors: Vec<LabelSelector>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    roles: HashMap<Key, Arc<[PolicyRule]>>,
    /// By name, in order.
    pub(super) cluster_roles: BTreeMap<Arc<str>, Labelled>,
    bindings: HashMap<Key, Vec<Subject>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

impl Index {
    pub(super) fn put_role(&mut self, role: Role) {
        let key = role.metadata.key();
        if key.namespace.is_empty() {
            let aggregation = role.aggregation_rule.and_then(|rule| rule.cluster_role_selectors).unwrap_or_default();
            // Validation has refused selectors that do not parse.
            let selectors = aggregation.iter().filter_map(|selector| LabelSelector::from_typed(Some(selector)).ok());
            let labelled = Labelled { labels: role.metadata.labels, selectors: selectors.collect() };
            self.cluster_roles.insert(key.name.clone(), labelled);
        }
        self.roles.insert(key, role.rules.unwrap_or_default().into());
    }

    pub(super) fn remove_role(&mut self, key: &Key) {
        self.roles.remove(key);
        if key.namespace.is_empty() {
            self.cluster_roles.remove(&key.name);
        }
    }

    pub(super) fn put_binding(&mut self, binding: Binding) {
        let key = binding.metadata.key();
        self.remove_binding(&key);
        let within = if binding.role_ref.kind == "Role" { &*key.namespace } else { "" };
        let role = Key::new(within, &binding.role_ref.name);
        let subjects = binding.subjects.unwrap_or_default();
        for subject in &subjects {
            let Some(grants) = self.grants_mut(subject, &key.namespace) else { continue };
            let list = if key.namespace.is_empty() {
                &mut grants.everywhere
            } else {
                grants.within.entry(key.namespace.clone()).or_default()
            };
            let reason = reason(&key, &binding.role_ref, subject).into();
            list.push(Grant { binding: key.clone(), role: role.clone(), reason });
        }
        self.bindings.insert(key, subjects);
    }

    pub(super) fn remove_binding(&mut self, key: &Key) {
        for subject in self.bindings.remove(key).unwrap_or_default() {
            let Some(grants) = self.grants_mut(&subject, &key.namespace) else { continue };
            grants.everywhere.retain(|grant| grant.binding != *key);
            if let Some(list) = grants.within.get_mut(&key.namespace) {
                list.retain(|grant| grant.binding != *key);
                if list.is_empty() {
                    grants.within.remove(&key.namespace);
                }
            }
        }
    }

    fn grants_mut(&mut self, subject: &Subject, namespace: &str) -> Option<&mut Grants> {
        match subject.kind.as_str() {
            "User" => Some(self.users.entry(subject.name.clone()).or_default()),
            "Group" => Some(self.groups.entry(subject.name.clone()).or_default()),
            "ServiceAccount" => {
                let own = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
                let user = format!("system:serviceaccount:{own}:{}", subject.name);
                (!own.is_empty()).then(|| self.users.entry(user).or_default())
            }
            _ => None,
        }
    }

    pub(super) fn role_keys(&self) -> impl Iterator<Item = &Key> {
        self.roles.keys()
    }

    pub(super) fn binding_keys(&self) -> impl Iterator<Item = &Key> {
        self.bindings.keys()
    }

    pub(super) fn rules(&self, role: &Key) -> Option<&Arc<[PolicyRule]>> {
        self.roles.get(role)
    }

    pub(super) fn set_rules(&mut self, role: Key, rules: Vec<PolicyRule>) {
        self.roles.insert(role, rules.into());
    }

    /// Shows every grant that holds for this user in this namespace (empty: cluster-wide ones alone), with its
    /// role's rules (`Err`: the role that is not there), until `see` answers true.
    pub(super) fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut see: impl FnMut(&'a Grant, Result<&'a [PolicyRule], &'a Key>) -> bool,
    ) {
        let groups = || user.groups.iter().filter_map(|group| self.groups.get(group));
        let all = || self.users.get(&user.name).into_iter().chain(groups());
        let everywhere = all().flat_map(|grants| &grants.everywhere);
        let within =
            all().filter(|_| !namespace.is_empty()).filter_map(|grants| grants.within.get(namespace)).flatten();
        for grant in everywhere.chain(within) {
            let rules = self.roles.get(&grant.role).map(|rules| &**rules).ok_or(&grant.role);
            if see(grant, rules) {
                return;
            }
        }
    }
}

fn reason(binding: &Key, role: &RoleRef, subject: &Subject) -> String {
    let to = match subject.kind.as_str() {
        "ServiceAccount" => {
            let own = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(&binding.namespace);
            format!("{}/{own}", subject.name)
        }
        _ => subject.name.clone(),
    };
    let by = if binding.namespace.is_empty() {
        format!("ClusterRoleBinding {:?}", binding.name)
    } else {
        format!("RoleBinding {:?}", format!("{}/{}", binding.name, binding.namespace))
    };
    format!("RBAC: allowed by {by} of {} {:?} to {} {to:?}", role.kind, role.name, subject.kind)
}

//! The order of groups and versions, which decides what an unqualified name means to a client.

use std::cmp::Ordering;

use machinery_registry::ResourceDef;

use crate::dynamic::Delegated;
use crate::routes::Routes;

pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    /// The preferred one first.
    pub(crate) versions: Vec<Version<'a>>,
}

pub(crate) struct Version<'a> {
    pub(crate) name: &'a str,
    /// By plural.
    pub(crate) resources: Vec<&'a ResourceDef>,
    pub(crate) delegated: Option<&'a Delegated>,
}

/// Upstream's built-in groups by falling priority; any other group (a CustomResourceDefinition's) comes after them.
const PRIORITY: [&str; 23] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// As upstream's `groupPriorityMinimum`: built-in groups a hundred apart, custom resources far below.
fn priority(group: &Group<'_>) -> i32 {
    if let Some(rank) = PRIORITY.iter().position(|known| *known == group.name) {
        return 18_000 - 100 * i32::try_from(rank).unwrap_or_default();
    }
    let own = group.versions.iter().any(|version| version.delegated.is_none()).then_some(1000);
    let delegated =
        group.versions.iter().filter_map(|version| version.delegated).map(|delegated| delegated.group_priority);
    own.into_iter().chain(delegated).max().unwrap_or_default()
}

pub(crate) fn sorted(routes: &Routes) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for def in routes.defs() {
        version(&mut groups, &def.gvk.group, &def.gvk.version).resources.push(def);
    }
    for (group, delegated) in routes.delegated() {
        version(&mut groups, group, &delegated.version).delegated = Some(delegated);
    }
    groups.sort_by(|one, other| (priority(other), one.name).cmp(&(priority(one), other.name)));
    for group in &mut groups {
        let priority = |version: &Version<'_>| version.delegated.map_or(0, |delegated| delegated.version_priority);
        group.versions.sort_by(|one, other| {
            priority(other).cmp(&priority(one)).then_with(|| compare_versions(one.name, other.name))
        });
        for version in &mut group.versions {
            version.resources.sort_by(|one, other| one.plural.cmp(&other.plural));
        }
    }
    groups
}

fn version<'g, 'a>(groups: &'g mut Vec<Group<'a>>, group: &'a str, version: &'a str) -> &'g mut Version<'a> {
    let at = groups.iter().position(|known| known.name == group).unwrap_or_else(|| {
        groups.push(Group { name: group, versions: Vec::new() });
        groups.len() - 1
    });
    let versions = &mut groups[at].versions;
    let at = versions.iter().position(|known| known.name == version).unwrap_or_else(|| {
        versions.push(Version { name: version, resources: Vec::new(), delegated: None });
        versions.len() - 1
    });
    &mut versions[at]
}

/// Major, stability (2 stable, 1 beta, 0 alpha), minor of `v1beta2`; `None` for a name of another form.
fn parse(version: &str) -> Option<(u32, u8, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let tail = &rest[digits..];
    if tail.is_empty() {
        return Some((major, 2, 0));
    }
    let (stability, minor) = match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (_, Some(minor)) => (0, minor),
        _ => return None,
    };
    Some((major, stability, minor.parse().ok()?))
}

/// Stable before beta before alpha, newer before older; other names last, by alphabet.
fn compare_versions(one: &str, other: &str) -> Ordering {
    match (parse(one), parse(other)) {
        (Some((major, stability, minor)), Some((major2, stability2, minor2))) => {
            (stability2, major2, minor2).cmp(&(stability, major, minor))
        }
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_stability_then_age() {
        let mut versions = ["v1alpha1", "foo", "v1", "v2beta1", "v2", "v1beta2", "v1beta10", "v10"];
        versions.sort_by(|one, other| compare_versions(one, other));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}

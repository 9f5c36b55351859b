//! Fields that nobody ever owns: they say which object it is, or only the server sets them.

use std::sync::LazyLock;

use super::set::Set;

const METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

pub(super) fn at_root(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind")
}

pub(super) fn in_metadata(name: &str) -> bool {
    METADATA.contains(&name)
}

static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    let mut paths: Vec<Vec<&str>> = vec![vec!["apiVersion"], vec!["kind"], vec!["metadata"]];
    paths.extend(METADATA.iter().map(|name| vec!["metadata", name]));
    Set::of_fields(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
});

pub(super) fn strip(set: &Set) -> Set {
    set.difference(&STRIPPED)
}

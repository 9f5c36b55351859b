//! What upstream has and we do not, in groups and versions that we serve, each with its reason. It must shrink. And what we
//! have beside upstream.

/// A resource (or subresource) of a group and version: as in discovery, `v1 nodes/proxy`.
pub(super) const RESOURCES: &[(&str, &str)] = &[];

/// Paths of the OpenAPI documents.
pub(super) fn path(path: &str) -> Option<&'static str> {
    if path.contains("/watch/") {
        return Some("the deprecated watch prefix is served, not published");
    }
    None
}

/// Definitions whose texts we do not have.
pub(super) fn prose(name: &str) -> Option<&'static str> {
    match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.Patch" => Some("a placeholder"),
        "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent" => Some("several types in one to the crate with the texts"),
        _ if name.ends_with("List") => Some("the crate with the texts has one type for the lists of all kinds"),
        _ => None,
    }
}

/// A group that upstream's API server leaves to another server (metrics-server's), and ours has built in.
pub(super) const OUR_GROUP: &str = "metrics.k8s.io";

/// Of that group, among paths and definitions.
pub(super) fn ours(name: &str) -> bool {
    name.starts_with("/apis/metrics.k8s.io/") || name.starts_with("io.k8s.metrics.")
}

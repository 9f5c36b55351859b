//! What upstream has and we do not, in groups and versions that we serve, each with its reason. It must shrink.

/// A resource (or subresource) of a group and version: as in discovery, `v1 nodes/proxy`.
pub(super) const RESOURCES: &[(&str, &str)] = &[];

/// Paths of the OpenAPI documents.
pub(super) fn path(path: &str) -> Option<&'static str> {
    if path.contains("/watch/") {
        return Some("the deprecated watch prefix is served, not published");
    }
    None
}

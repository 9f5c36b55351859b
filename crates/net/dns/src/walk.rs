//! Search-path walks answered here. A pod's resolver asks for `example.org.default.svc.cluster.local` before, in the
//! end, it asks for `example.org`; when the first does not exist, the names it would try next are tried for it.
//!
//! Only for a name below the namespace of the very pod that asks: others do not search there. Only for two labels or more:
//! `missing` of a namespace is a Service that is not there, and must not become somebody's `missing.` elsewhere. Not below a
//! Service that exists: its endpoint that is not there is what was meant.

use hickory_proto::rr::Name;

use crate::facts::View;
use crate::zone::Zone;

/// What a resolver would try after `name`, in its order; nothing where `name` is not the first of a search of `namespace`.
/// `searches` are the host's, which pods search last.
pub fn candidates(zone: &Zone, view: &dyn View, searches: &[Name], namespace: &str, name: &Name) -> Vec<Name> {
    let Some(first) = zone.name(&format!("{namespace}.svc")) else { return Vec::new() };
    if !first.zone_of(name) {
        return Vec::new();
    }
    let count = usize::from(name.num_labels().saturating_sub(first.num_labels()));
    let Ok(base) = Name::from_labels(name.iter().take(count)) else { return Vec::new() };
    let Some(last) = base.iter().next_back().filter(|_| count > 1) else { return Vec::new() };
    let service = String::from_utf8_lossy(last).to_ascii_lowercase();
    if view.service(namespace, &service).is_some() {
        return Vec::new();
    }
    let mut relative = base;
    relative.set_fqdn(false);
    let below = |domain: &Name| relative.clone().append_domain(domain).ok();
    let mut all: Vec<Name> = zone.name("svc").iter().chain([zone.apex()]).chain(searches).filter_map(below).collect();
    relative.set_fqdn(true);
    all.push(relative);
    all
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

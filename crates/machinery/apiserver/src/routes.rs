//! Which resource a path addresses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use machinery_registry::{Resource, ResourceDef};
use tokio_util::sync::CancellationToken;

use crate::dynamic::Delegated;

/// One resource, and the end of its time.
pub(crate) struct Route {
    pub(crate) resource: Arc<dyn Resource>,
    /// Cancelled when the resource is taken away, or the server drains: watches end.
    pub(crate) ended: CancellationToken,
}

/// The resources by plural; the few that share one are told apart by group and version.
#[derive(Default)]
pub(crate) struct Routes {
    by_plural: HashMap<String, Vec<Arc<Route>>>,
    /// By group and version.
    delegated: BTreeMap<(String, String), Delegated>,
}

impl Routes {
    /// The first of two resources with one name counts. Those that were in `old` keep their time; the others' ends.
    pub(crate) fn new(
        resources: impl Iterator<Item = Arc<dyn Resource>>,
        delegated: impl Iterator<Item = (String, Delegated)>,
        old: &Self,
        drain: &CancellationToken,
    ) -> Self {
        let mut by_plural: HashMap<String, Vec<Arc<Route>>> = HashMap::new();
        for resource in resources {
            let def = resource.def();
            let same_plural = by_plural.entry(def.plural.to_string()).or_default();
            if find(same_plural, &def.gvk.group, &def.gvk.version).is_some() {
                continue;
            }
            let kept = old.by_plural.get(&*def.plural).into_iter().flatten();
            let kept = kept.into_iter().find(|route| Arc::ptr_eq(&route.resource, &resource)).cloned();
            same_plural.push(kept.unwrap_or_else(|| Arc::new(Route { resource, ended: drain.child_token() })));
        }
        let delegated = delegated.map(|(group, delegated)| ((group, delegated.version.clone()), delegated)).collect();
        let new = Self { by_plural, delegated };
        for route in old.by_plural.values().flatten() {
            let gvk = &route.resource.def().gvk;
            let now = new.find(&gvk.group, &gvk.version, &route.resource.def().plural);
            if !now.is_some_and(|now| Arc::ptr_eq(now, route)) {
                route.ended.cancel();
            }
        }
        new
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Route>> {
        find(self.by_plural.get(plural)?, group, version)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_plural.values().flatten()
    }

    /// Those of groups and versions that this server answers for: all but what is delegated.
    pub(crate) fn defs(&self) -> impl Iterator<Item = &ResourceDef> {
        self.all()
            .map(|route| route.resource.def())
            .filter(|def| self.delegate_of(&def.gvk.group, &def.gvk.version).is_none())
    }

    pub(crate) fn delegated(&self) -> impl Iterator<Item = (&str, &Delegated)> {
        self.delegated.iter().map(|((group, _), delegated)| (group.as_str(), delegated))
    }

    fn delegate_of(&self, group: &str, version: &str) -> Option<&Delegated> {
        if self.delegated.is_empty() {
            return None;
        }
        self.delegated.get(&(group.to_owned(), version.to_owned()))
    }

    /// Who answers for this path: `/apis/GROUP/VERSION…`, `/openapi/v3/apis/GROUP/VERSION`.
    pub(crate) fn delegate(&self, path: &str) -> Option<&Delegated> {
        let rest = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?;
        let mut parts = rest.split('/');
        self.delegate_of(parts.next()?, parts.next()?)
    }
}

fn find<'a>(same_plural: &'a [Arc<Route>], group: &str, version: &str) -> Option<&'a Arc<Route>> {
    same_plural.iter().find(|route| {
        let gvk = &route.resource.def().gvk;
        gvk.group == group && gvk.version == version
    })
}

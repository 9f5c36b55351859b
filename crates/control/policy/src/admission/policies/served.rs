//! What is served, found by kind: parameters are of any.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use base_meta::Gvk;
use machinery_registry::{Resource, ResourceDef};

/// By group. Held weakly: resources hold the plug-ins that look here.
#[derive(Default)]
pub struct Served {
    built_in: RwLock<Vec<Weak<dyn Resource>>>,
    custom: RwLock<BTreeMap<String, Vec<Weak<dyn Resource>>>>,
}

impl Served {
    pub(super) fn set_built_in(&self, all: &[Arc<dyn Resource>]) {
        *self.built_in.write().unwrap_or_else(PoisonError::into_inner) = all.iter().map(Arc::downgrade).collect();
    }

    /// Replaces the kinds that definitions make of a group.
    pub fn set_custom(&self, group: &str, all: &[Arc<dyn Resource>]) {
        let all = all.iter().map(Arc::downgrade).collect();
        self.custom.write().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned(), all);
    }

    pub(super) fn find(&self, gvk: &Gvk) -> Option<Arc<dyn Resource>> {
        self.find_in(&gvk.group, |def| def.gvk == *gvk)
    }

    pub(super) fn find_plural(&self, group: &str, version: &str, plural: &str) -> Option<Arc<dyn Resource>> {
        self.find_in(group, |def| def.gvk.group == group && def.gvk.version == version && def.plural == plural)
    }

    fn find_in(&self, group: &str, is: impl Fn(&ResourceDef) -> bool) -> Option<Arc<dyn Resource>> {
        let mine = |resource: &Weak<dyn Resource>| resource.upgrade().filter(|resource| is(resource.def()));
        let built_in = self.built_in.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(mine);
        built_in.or_else(|| {
            let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
            custom.get(group)?.iter().find_map(mine)
        })
    }
}

//! Which resource a path addresses.

use std::collections::HashMap;
use std::sync::Arc;

use machinery_registry::{Resource, ResourceDef};

/// The resources by plural; the few that share one are told apart by group and version.
#[derive(Default)]
pub(crate) struct Routes {
    by_plural: HashMap<String, Vec<Arc<dyn Resource>>>,
}

impl Routes {
    pub(crate) fn new(resources: Vec<Arc<dyn Resource>>) -> Self {
        let mut by_plural: HashMap<String, Vec<Arc<dyn Resource>>> = HashMap::new();
        for resource in resources {
            by_plural.entry(resource.def().plural.to_string()).or_default().push(resource);
        }
        Self { by_plural }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<dyn Resource>> {
        self.by_plural.get(plural)?.iter().find(|resource| {
            let gvk = &resource.def().gvk;
            gvk.group == group && gvk.version == version
        })
    }

    pub(crate) fn defs(&self) -> impl Iterator<Item = &ResourceDef> {
        self.by_plural.values().flatten().map(|resource| resource.def())
    }
}

//! Everything that follows from the set of resources, replaced as one when the set changes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use base_meta::schema::SchemaRef;
use machinery_registry::Resource;
use tokio_util::sync::CancellationToken;

use crate::definitions;
use crate::discovery::Discovery;
use crate::dynamic::Delegated;
use crate::openapi::OpenApi;
use crate::routes::Routes;
use crate::server::Inner;

pub(crate) struct Served {
    pub(crate) routes: Routes,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    /// Of `Status`, for failures in protobuf.
    pub(crate) status: Option<SchemaRef>,
}

/// What was set at run time, by group.
#[derive(Default)]
pub(crate) struct Dynamic {
    pub(crate) resources: BTreeMap<String, Vec<Arc<dyn Resource>>>,
    pub(crate) delegated: BTreeMap<String, Vec<Delegated>>,
}

/// What never changes.
pub(crate) struct Fixed {
    pub(crate) resources: Vec<Arc<dyn Resource>>,
    pub(crate) advertise_address: String,
    pub(crate) drain: CancellationToken,
}

impl Served {
    pub(crate) fn first(fixed: &Fixed) -> Self {
        Self::new(fixed, &Dynamic::default(), &Routes::default(), &OpenApi::default(), None)
    }

    /// `changed`: the group that is not as it was in the old set; `None`: all.
    fn new(fixed: &Fixed, dynamic: &Dynamic, old: &Routes, old_openapi: &OpenApi, changed: Option<&str>) -> Self {
        let resources = fixed.resources.iter().chain(dynamic.resources.values().flatten()).cloned();
        let delegated = dynamic.delegated.iter();
        let delegated = delegated.flat_map(|(group, all)| all.iter().map(|one| (group.clone(), one.clone())));
        let routes = Routes::new(resources, delegated, old, &fixed.drain);
        let status = fixed
            .resources
            .iter()
            .find_map(|resource| definitions::by_name(resource.def().schema.table, definitions::STATUS));
        Self {
            discovery: Discovery::new(&routes, &fixed.advertise_address),
            openapi: OpenApi::new(&routes, old_openapi, changed),
            routes,
            status,
        }
    }
}

impl Inner {
    pub(crate) fn served(&self) -> Arc<Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes and publishes the set that follows from a change of what `group` has.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Dynamic), group: &str) {
        // Held throughout: of two changes at once, the later must see the earlier.
        let mut dynamic = self.dynamic.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut dynamic);
        let old = self.served();
        let new = Arc::new(Served::new(&self.fixed, &dynamic, &old.routes, &old.openapi, Some(group)));
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

//! Clients that the kernel remembers, with endpoints that they may not be sent to any more.
//!
//! The kernel fills the maps itself, so they are read back here: after a withdrawal to make clients forget the endpoint,
//! and before a load from scratch, which would lose them all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use base_sys::nft::{self, Batch, Data, Element, Nft, StoredElement};

use crate::diff::Slots;
use crate::frontend::{Backends, Endpoint, Frontend};
use crate::kernel::FAMILY;
use crate::pick::Pick;
use crate::shape::{Shape, endpoint_data};

/// A client can expire between our reading and our deleting, which the kernel refuses whole.
const ATTEMPTS: usize = 8;

/// What clients of some front ends may remember.
#[derive(Clone, Debug, Default)]
pub struct StaleClients {
    /// By the front end's key: the endpoints as elements hold them.
    allowed: HashMap<(Shape, Vec<u8>), HashSet<Vec<u8>>>,
}

impl StaleClients {
    /// Of front ends whose clients were remembered and that lose endpoints or the affinity by this change.
    pub(crate) fn of(current: &HashMap<Frontend, Slots>, wanted: &BTreeMap<Frontend, Option<Backends>>) -> Self {
        let none = BTreeSet::new();
        let changes = wanted.iter().filter_map(|(frontend, backends)| {
            let old = current.get(frontend).filter(|old| old.pick.and_then(Pick::affinity).is_some())?;
            let sticky = backends.as_ref().filter(|backends| backends.affinity.is_some());
            let endpoints = sticky.map_or(&none, |backends| &backends.endpoints);
            let loses = old.endpoints.iter().any(|endpoint| !endpoints.contains(endpoint));
            loses.then(|| entry(frontend, endpoints))
        });
        Self { allowed: changes.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Makes the kernel forget them.
    pub(crate) fn delete(&self, nft: &mut Nft, table: &str) -> Result<(), nft::Error> {
        let shapes: BTreeSet<Shape> = self.allowed.keys().map(|(shape, _)| *shape).collect();
        for shape in shapes {
            let mut attempts = 0;
            while let Err(error) = self.delete_of(shape, nft, table) {
                attempts += 1;
                if !error.is_not_found() || attempts == ATTEMPTS {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn delete_of(&self, shape: Shape, nft: &mut Nft, table: &str) -> Result<(), nft::Error> {
        let stored = nft.elements(FAMILY, table, &shape.affinities())?;
        let stale = stored.into_iter().filter(|element| self.is_stale(shape, element));
        let mut batch = Batch::new(FAMILY, table);
        batch.delete_elements(&shape.affinities(), stale.map(|element| Element::new(element.key, None)));
        nft.commit(batch)
    }

    fn is_stale(&self, shape: Shape, element: &StoredElement) -> bool {
        let Some(frontend) = shape.frontend_of(&element.key) else { return false };
        let allowed = self.allowed.get(&(shape, frontend.to_vec()));
        allowed.is_some_and(|allowed| !element.data.as_ref().is_some_and(|data| allowed.contains(data)))
    }
}

/// What a former table remembers and a new one with these front ends may go on with.
pub(crate) fn recover(
    nft: &mut Nft,
    table: &str,
    frontends: &BTreeMap<Frontend, Backends>,
) -> Result<Vec<(Shape, Element)>, nft::Error> {
    let sticky = frontends.iter().filter(|(_, backends)| backends.affinity.is_some());
    let allowed: HashMap<_, _> = sticky.map(|(frontend, backends)| entry(frontend, &backends.endpoints)).collect();
    let mut recovered = Vec::new();
    if allowed.is_empty() {
        return Ok(recovered);
    }
    for shape in Shape::ALL {
        for StoredElement { key, data, expiry, .. } in nft.elements(FAMILY, table, &shape.affinities())? {
            let known = shape.frontend_of(&key).and_then(|frontend| allowed.get(&(shape, frontend.to_vec())));
            // One that expires now would stay for good.
            let lives = expiry.is_some_and(|expiry| !expiry.left.is_zero());
            if let Some(data) = data.filter(|data| lives && known.is_some_and(|known| known.contains(data))) {
                recovered.push((shape, Element { expiry, ..Element::new(key, Some(Data::Fields(data))) }));
            }
        }
    }
    Ok(recovered)
}

fn entry(frontend: &Frontend, endpoints: &BTreeSet<Endpoint>) -> ((Shape, Vec<u8>), HashSet<Vec<u8>>) {
    let key = (Shape::of(frontend), Shape::key(frontend, None));
    (key, endpoints.iter().map(endpoint_data).collect())
}

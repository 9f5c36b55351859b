//! Writes plans into the kernel's table and remembers what is there. Blocking, for microseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use base_sys::nft::{self, Batch, Data, Element, Family, Nft, concat};
use base_sys::route::Ipv4Cidr;

use crate::affinity::{self, StaleClients};
use crate::diff::{Changes, Slots, Step};
use crate::frontend::{Backends, Frontend};
use crate::layout::{self, FIRST_PICKS, HAIRPINS};
use crate::pick::Pick;
use crate::rules::{Shape, endpoint_data};

pub(crate) const FAMILY: Family = Family::Inet;

/// What the data plane owns and where it runs.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The nftables table (family inet): one per data directory, all of it ours.
    pub table: String,
    pub cluster_cidr: Ipv4Cidr,
    pub service_cidr: Ipv4Cidr,
    pub node_name: String,
    /// The source address of a pod that reaches itself through a Service.
    pub node_ip: Ipv4Addr,
    /// The names of this node's pod links start with it.
    pub pod_interface_prefix: String,
}

/// The table in the kernel, as far as services change it.
#[derive(Debug)]
pub struct Kernel {
    nft: Nft,
    config: ProxyConfig,
    slots: HashMap<Frontend, Slots>,
    picks: HashSet<(Shape, Pick)>,
    /// Which maps of clients exist.
    affinities: HashSet<Shape>,
}

impl Kernel {
    /// Opens a socket in the calling thread's network namespace; changes nothing.
    pub fn open(config: ProxyConfig) -> Result<Self, nft::Error> {
        Ok(Self { nft: Nft::open()?, config, slots: HashMap::new(), picks: HashSet::new(), affinities: HashSet::new() })
    }

    /// Replaces the whole table in one transaction: whatever was in it is gone, and no packet sees it half done.
    /// Established connections keep their translation, and clients with an affinity their endpoint.
    pub fn load(
        &mut self,
        frontends: &BTreeMap<Frontend, Backends>,
        hairpins: &BTreeSet<Ipv4Addr>,
    ) -> Result<(), nft::Error> {
        let clients = affinity::recover(&mut self.nft, &self.config.table, frontends)?;
        let mut batch = Batch::new(FAMILY, &self.config.table);
        // Creating first makes the deletion valid also when there is no table yet.
        batch.add_table();
        batch.delete_table();
        layout::create(&mut batch, &self.config);
        let wanted = frontends.iter().map(|(frontend, backends)| (*frontend, Some(backends.clone()))).collect();
        let mut changes = Changes::of(&HashMap::new(), &wanted);
        changes.first.add_hairpins = hairpins.iter().copied().collect();
        let first = |shape| (1..=FIRST_PICKS).map(move |count| (shape, Pick::new(count, None)));
        self.picks = Shape::ALL.into_iter().flat_map(first).collect();
        self.affinities.clear();
        self.slots.clear();
        self.commit(batch, changes, clients)
    }

    /// Brings some front ends (`None`: shall be gone) and hairpins up to date, with at most two small transactions, and
    /// makes clients forget withdrawn endpoints. A packet in flight may still have one remembered: what is returned is
    /// to be deleted again a little later.
    /// After an error the kernel's state is unknown: [`Kernel::load`] again.
    pub fn apply(
        &mut self,
        frontends: &BTreeMap<Frontend, Option<Backends>>,
        add_hairpins: Vec<Ipv4Addr>,
        remove_hairpins: Vec<Ipv4Addr>,
    ) -> Result<StaleClients, nft::Error> {
        let stale = StaleClients::of(&self.slots, frontends);
        let mut changes = Changes::of(&self.slots, frontends);
        changes.first.add_hairpins = add_hairpins;
        changes.second.remove_hairpins = remove_hairpins;
        let batch = Batch::new(FAMILY, &self.config.table);
        self.commit(batch, changes, Vec::new())?;
        stale.delete(&mut self.nft, &self.config.table)?;
        Ok(stale)
    }

    /// `clients` are the remembered ones to begin with.
    fn commit(&mut self, mut batch: Batch, changes: Changes, clients: Vec<(Shape, Element)>) -> Result<(), nft::Error> {
        let new_picks = self.missing_picks(&changes.first);
        let sticky = new_picks.iter().filter(|(_, pick)| pick.affinity().is_some()).map(|(shape, _)| *shape);
        let affinities: BTreeSet<Shape> = sticky.filter(|shape| !self.affinities.contains(shape)).collect();
        for shape in &affinities {
            layout::add_affinities(&mut batch, *shape);
            let clients = clients.iter().filter(|(of, _)| of == shape).map(|(_, client)| client.clone());
            batch.add_elements(shape.affinities(), clients);
        }
        for (shape, pick) in &new_picks {
            layout::add_pick(&mut batch, *shape, *pick);
        }
        encode(&mut batch, &changes.first);
        self.nft.commit(batch)?;
        self.picks.extend(new_picks);
        self.affinities.extend(affinities);
        let mut second = Batch::new(FAMILY, &self.config.table);
        encode(&mut second, &changes.second);
        self.nft.commit(second)?;
        for (frontend, slots) in changes.after {
            match slots {
                Some(slots) => self.slots.insert(frontend, slots),
                None => self.slots.remove(&frontend),
            };
        }
        Ok(())
    }

    /// Ways to pick that the table has no chain for, each after those it needs.
    fn missing_picks(&self, step: &Step) -> BTreeSet<(Shape, Pick)> {
        let mut missing = BTreeSet::new();
        for (frontend, pick) in step.add_counts.iter().filter(|(_, pick)| pick.count() > 0) {
            let shape = Shape::of(frontend);
            for pick in [pick.without_affinity(), *pick] {
                if !self.picks.contains(&(shape, pick)) {
                    missing.insert((shape, pick));
                }
            }
        }
        missing
    }

    /// How many front ends the table has.
    pub fn frontends(&self) -> usize {
        self.slots.len()
    }
}

fn encode(batch: &mut Batch, step: &Step) {
    for shape in Shape::ALL {
        let ours = |frontend: &Frontend| Shape::of(frontend) == shape;
        let counts = step.remove_counts.iter().filter(|f| ours(f));
        batch.delete_elements(shape.counts(), counts.map(|frontend| element(Shape::key(frontend, None), None)));
        let slots = step.remove_slots.iter().filter(|(f, _)| ours(f));
        batch.delete_elements(
            shape.slots(),
            slots.map(|(frontend, slot)| element(Shape::key(frontend, Some(*slot)), None)),
        );
        let slots = step.add_slots.iter().filter(|(f, ..)| ours(f));
        batch.add_elements(
            shape.slots(),
            slots.map(|(frontend, slot, endpoint)| {
                element(Shape::key(frontend, Some(*slot)), Some(endpoint_data(endpoint)))
            }),
        );
        let counts = step.add_counts.iter().filter(|(f, _)| ours(f));
        batch.add_elements(
            shape.counts(),
            counts
                .map(|(frontend, pick)| element(Shape::key(frontend, None), Some(pick.code().to_ne_bytes().to_vec()))),
        );
    }
    let hairpin = |ip: &Ipv4Addr| element(concat(&[&ip.octets(), &ip.octets()]), None);
    batch.delete_elements(HAIRPINS, step.remove_hairpins.iter().map(hairpin));
    batch.add_elements(HAIRPINS, step.add_hairpins.iter().map(hairpin));
}

fn element(key: Vec<u8>, data: Option<Vec<u8>>) -> Element {
    Element { key, data: data.map(Data::Fields), expiry: None, last: None }
}

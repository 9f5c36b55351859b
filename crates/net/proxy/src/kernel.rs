//! Writes plans into the kernel's table and remembers what is there. Blocking, for microseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use base_sys::nft::{self, Batch, Data, Element, Family, Nft, concat};
use base_sys::route::Ipv4Cidr;

use crate::diff::{Changes, Slots, Step};
use crate::frontend::{Endpoint, Frontend};
use crate::layout::{self, FIRST_PICKS, HAIRPINS};
use crate::rules::Shape;

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
    picks: HashSet<(Shape, u32)>,
}

impl Kernel {
    /// Opens a socket in the calling thread's network namespace; changes nothing.
    pub fn open(config: ProxyConfig) -> Result<Self, nft::Error> {
        Ok(Self { nft: Nft::open()?, config, slots: HashMap::new(), picks: HashSet::new() })
    }

    /// Replaces the whole table in one transaction: whatever was in it is gone, and no packet sees it half done.
    /// Established connections keep their translation.
    pub fn load(
        &mut self,
        frontends: &BTreeMap<Frontend, BTreeSet<Endpoint>>,
        hairpins: &BTreeSet<Ipv4Addr>,
    ) -> Result<(), nft::Error> {
        let mut batch = Batch::new(FAMILY, &self.config.table);
        // Creating first makes the deletion valid also when there is no table yet.
        batch.add_table();
        batch.delete_table();
        layout::create(&mut batch, &self.config);
        let wanted = frontends.iter().map(|(frontend, endpoints)| (*frontend, Some(endpoints.clone()))).collect();
        let mut changes = Changes::of(&HashMap::new(), &wanted);
        changes.first.add_hairpins = hairpins.iter().copied().collect();
        self.picks = Shape::ALL.into_iter().flat_map(|shape| (1..=FIRST_PICKS).map(move |n| (shape, n))).collect();
        self.slots.clear();
        self.commit(batch, changes)
    }

    /// Brings some front ends (`None`: shall be gone) and hairpins up to date, with at most two small transactions.
    /// After an error the kernel's state is unknown: [`Kernel::load`] again.
    pub fn apply(
        &mut self,
        frontends: &BTreeMap<Frontend, Option<BTreeSet<Endpoint>>>,
        add_hairpins: Vec<Ipv4Addr>,
        remove_hairpins: Vec<Ipv4Addr>,
    ) -> Result<(), nft::Error> {
        let mut changes = Changes::of(&self.slots, frontends);
        changes.first.add_hairpins = add_hairpins;
        changes.second.remove_hairpins = remove_hairpins;
        let batch = Batch::new(FAMILY, &self.config.table);
        self.commit(batch, changes)
    }

    fn commit(&mut self, mut batch: Batch, changes: Changes) -> Result<(), nft::Error> {
        let counts = changes.first.add_counts.iter().filter(|(_, count)| *count > 0);
        let new_picks: BTreeSet<(Shape, u32)> = counts
            .map(|(frontend, count)| (Shape::of(frontend), *count))
            .filter(|pick| !self.picks.contains(pick))
            .collect();
        for (shape, count) in &new_picks {
            layout::add_pick(&mut batch, *shape, *count);
        }
        encode(&mut batch, &changes.first);
        self.nft.commit(batch)?;
        self.picks.extend(new_picks);
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
                let data = concat(&[&endpoint.ip.octets(), &endpoint.port.to_be_bytes()]);
                element(Shape::key(frontend, Some(*slot)), Some(data))
            }),
        );
        let counts = step.add_counts.iter().filter(|(f, _)| ours(f));
        batch.add_elements(
            shape.counts(),
            counts.map(|(frontend, count)| element(Shape::key(frontend, None), Some(count.to_ne_bytes().to_vec()))),
        );
    }
    let hairpin = |ip: &Ipv4Addr| element(concat(&[&ip.octets(), &ip.octets()]), None);
    batch.delete_elements(HAIRPINS, step.remove_hairpins.iter().map(hairpin));
    batch.add_elements(HAIRPINS, step.add_hairpins.iter().map(hairpin));
}

fn element(key: Vec<u8>, data: Option<Vec<u8>>) -> Element {
    Element { key, data: data.map(Data::Fields) }
}

//! Writes plans into the kernel's table and remembers what is there. Blocking, for microseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use base_sys::nft::{self, Batch, Data, Element, Family, Nft, concat};

use crate::affinity::{self, StaleClients};
use crate::diff::{Changes, Slots, Step};
use crate::frontend::{self, Backends, Frontend};
use crate::layout;
use crate::network::ProxyConfig;
use crate::pick::Pick;
use crate::shape::{Shape, endpoint_data, octets};
use crate::stored::{self, Stored};

pub(crate) const FAMILY: Family = Family::Inet;

/// The table in the kernel, as far as services change it.
#[derive(Debug)]
pub struct Kernel {
    nft: Nft,
    config: ProxyConfig,
    slots: HashMap<Frontend, Slots>,
    picks: HashSet<(Shape, Pick)>,
    /// Which maps of clients and which sets of sources exist.
    affinities: HashSet<Shape>,
    sources: HashSet<Shape>,
}

impl Kernel {
    /// Opens a socket in the calling thread's network namespace; changes nothing.
    pub fn open(config: ProxyConfig) -> Result<Self, nft::Error> {
        Ok(Self {
            nft: Nft::open()?,
            config,
            slots: HashMap::new(),
            picks: HashSet::new(),
            affinities: HashSet::new(),
            sources: HashSet::new(),
        })
    }

    /// Begins with what an earlier run left: where its table is laid out as ours would be, only what differs changes,
    /// so that no packet meets an empty map. Otherwise as [`Kernel::load`].
    pub fn resume(
        &mut self,
        frontends: &BTreeMap<Frontend, Backends>,
        hairpins: &BTreeSet<IpAddr>,
    ) -> Result<StaleClients, nft::Error> {
        let Some(stored) = stored::read(&mut self.nft, &self.config)? else {
            return self.load(frontends, hairpins).map(|()| StaleClients::default());
        };
        let Stored { slots, picks, hairpins: before } = stored;
        self.affinities = picks.iter().filter(|(_, pick)| pick.affinity().is_some()).map(|(shape, _)| *shape).collect();
        self.sources = picks.iter().filter(|(_, pick)| pick.is_guarded()).map(|(shape, _)| *shape).collect();
        self.picks = picks;
        let gone = slots.keys().map(|frontend| (*frontend, None));
        let mut wanted: BTreeMap<_, _> = gone.collect();
        wanted.extend(frontends.iter().map(|(frontend, backends)| (*frontend, Some(backends.clone()))));
        self.slots = slots;
        let add = hairpins.difference(&before).copied().collect();
        let remove = before.difference(hairpins).copied().collect();
        match self.apply(&wanted, add, remove) {
            // Somebody else was at the table, or it changed under the reading: nothing of it is worth keeping.
            Err(error @ nft::Error::Rejected { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an earlier run's table is replaced");
                self.load(frontends, hairpins).map(|()| StaleClients::default())
            }
            result => result,
        }
    }

    /// Replaces the whole table in one transaction: whatever was in it is gone, and no packet sees it half done.
    /// Established connections keep their translation, and clients with an affinity their endpoint.
    pub fn load(
        &mut self,
        frontends: &BTreeMap<Frontend, Backends>,
        hairpins: &BTreeSet<IpAddr>,
    ) -> Result<(), nft::Error> {
        let clients = affinity::recover(&mut self.nft, &self.config.table, frontends)?;
        let mut batch = Batch::new(FAMILY, &self.config.table);
        // Creating first makes the deletion valid also when there is no table yet.
        batch.add_table();
        batch.delete_table();
        batch.add_commented_table(&layout::version(&self.config));
        layout::create(&mut batch, &self.config);
        let wanted = frontends.iter().map(|(frontend, backends)| (*frontend, Some(backends.clone()))).collect();
        let mut changes = Changes::of(&HashMap::new(), &wanted);
        changes.first.add_hairpins = hairpins.iter().copied().collect();
        self.picks = layout::first_picks().collect();
        self.affinities.clear();
        self.sources.clear();
        self.slots.clear();
        self.commit(batch, changes, Vec::new(), clients)
    }

    /// Brings some front ends (`None`: shall be gone) and hairpins up to date, with at most two small transactions, and
    /// makes clients forget withdrawn endpoints. A packet in flight may still have one remembered: what is returned is
    /// to be deleted again a little later.
    /// After an error the kernel's state is unknown: [`Kernel::load`] again.
    pub fn apply(
        &mut self,
        frontends: &BTreeMap<Frontend, Option<Backends>>,
        add_hairpins: Vec<IpAddr>,
        remove_hairpins: Vec<IpAddr>,
    ) -> Result<StaleClients, nft::Error> {
        let stale = StaleClients::of(&self.slots, frontends);
        let mut changes = Changes::of(&self.slots, frontends);
        changes.first.add_hairpins = add_hairpins;
        let batch = Batch::new(FAMILY, &self.config.table);
        self.commit(batch, changes, remove_hairpins, Vec::new())?;
        stale.delete(&mut self.nft, &self.config.table)?;
        Ok(stale)
    }

    /// `clients` are the remembered ones to begin with.
    fn commit(
        &mut self,
        mut batch: Batch,
        mut changes: Changes,
        remove_hairpins: Vec<IpAddr>,
        clients: Vec<(Shape, Element)>,
    ) -> Result<(), nft::Error> {
        changes.second.remove_hairpins = remove_hairpins;
        let new_picks = self.missing_picks(&changes.first);
        let shapes_of = |which: fn(&Pick) -> bool, there: &HashSet<Shape>| -> BTreeSet<Shape> {
            let shapes = new_picks.iter().filter(|(_, pick)| which(pick)).map(|(shape, _)| *shape);
            shapes.filter(|shape| !there.contains(shape)).collect()
        };
        let affinities = shapes_of(|pick| pick.affinity().is_some(), &self.affinities);
        for shape in &affinities {
            layout::add_affinities(&mut batch, *shape);
            let clients = clients.iter().filter(|(of, _)| of == shape).map(|(_, client)| client.clone());
            batch.add_elements(&shape.affinities(), clients);
        }
        let sources = shapes_of(|pick| pick.is_guarded(), &self.sources);
        sources.iter().for_each(|shape| layout::add_sources(&mut batch, *shape));
        // The plainer come first: the others lead to them.
        for (shape, pick) in &new_picks {
            layout::add_pick(&mut batch, *shape, *pick);
        }
        encode(&mut batch, &changes.first);
        self.nft.commit(batch)?;
        self.picks.extend(new_picks);
        self.affinities.extend(affinities);
        self.sources.extend(sources);
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
    fn missing_picks(&self, step: &Step) -> Vec<(Shape, Pick)> {
        let mut missing = Vec::new();
        for (frontend, pick) in &step.add_counts {
            let shape = Shape::of(frontend);
            let needed: Vec<Pick> = std::iter::successors(Some(*pick), |pick| pick.simpler()).collect();
            for pick in needed.into_iter().rev() {
                if !self.picks.contains(&(shape, pick)) && !missing.contains(&(shape, pick)) {
                    missing.push((shape, pick));
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
    if step.is_empty() {
        return;
    }
    for shape in Shape::ALL {
        let ours = |frontend: &Frontend| Shape::of(frontend) == shape;
        let counts = step.remove_counts.iter().filter(|f| ours(f));
        batch.delete_elements(&shape.counts(), counts.map(|frontend| Element::new(Shape::key(frontend, None), None)));
        let slots = step.remove_slots.iter().filter(|(f, _)| ours(f));
        batch.delete_elements(
            &shape.slots(),
            slots.map(|(frontend, slot)| Element::new(Shape::key(frontend, Some(*slot)), None)),
        );
        let sources = step.remove_sources.iter().filter(|(f, _)| ours(f));
        batch.delete_elements(&shape.sources(), sources.map(|(frontend, block)| shape.source(frontend, *block)));
        let sources = step.add_sources.iter().filter(|(f, _)| ours(f));
        batch.add_elements(&shape.sources(), sources.map(|(frontend, block)| shape.source(frontend, *block)));
        let slots = step.add_slots.iter().filter(|(f, ..)| ours(f));
        batch.add_elements(
            &shape.slots(),
            slots.map(|(frontend, slot, endpoint)| {
                Element::new(Shape::key(frontend, Some(*slot)), Some(Data::Fields(endpoint_data(endpoint))))
            }),
        );
        let counts = step.add_counts.iter().filter(|(f, _)| ours(f));
        batch.add_elements(
            &shape.counts(),
            counts.map(|(frontend, pick)| {
                Element::new(Shape::key(frontend, None), Some(Data::Fields(pick.code().to_ne_bytes().to_vec())))
            }),
        );
    }
    for family in frontend::Family::ALL {
        let of_family = |ips: &[IpAddr]| -> Vec<Element> {
            let ours = ips.iter().filter(|ip| frontend::Family::of(**ip) == family);
            ours.map(|ip| Element::new(concat(&[&octets(*ip), &octets(*ip)]), None)).collect()
        };
        batch.delete_elements(family.hairpins(), of_family(&step.remove_hairpins));
        batch.add_elements(family.hairpins(), of_family(&step.add_hairpins));
    }
}

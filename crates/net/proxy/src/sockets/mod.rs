//! The fast path: sockets of this node and its pods that connect to a front end connect to an endpoint of it instead, so that
//! no packet needs translation. Only what is in the map is balanced here; all else goes on to nftables, which knows every front
//! end. `plan` says what is in the map (pure), `program` reads it in the kernel, `maps` and `netns` write it.

mod maps;
mod netns;
mod plan;
mod program;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_sys::bpf;

use crate::diff::Changes;
use crate::frontend::{Backends, Frontend};
use crate::pick::Pick;
use maps::{Element, MOST_ELEMENTS, Maps, Pins};
use plan::Held;

pub use netns::Namespaces;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("keep eBPF pins at {}", .path.display())]
    Pins {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("find the hierarchy of cgroup version 2")]
    Hierarchy(#[source] io::Error),
    #[error("open the cgroup {}", .path.display())]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("balance sockets by eBPF")]
    Bpf(#[from] bpf::Error),
    #[error("tell a network namespace")]
    NetNs(#[from] base_sys::netns::Error),
    #[error("the sandbox's name {0} is too long")]
    Name(String),
}

/// What the fast path owns.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// A directory for nothing else; a file system is mounted there.
    pub pins: PathBuf,
    /// Whose sockets may be balanced; absent: everybody's, by the root of the version 2 hierarchy.
    pub cgroup: Option<PathBuf>,
}

/// The map as front ends change it. Blocking, for microseconds.
#[derive(Debug)]
pub(crate) struct Sockets {
    pins: Pins,
    cgroup: File,
    maps: Arc<Maps>,
    held: Held,
    attached: bool,
}

impl Sockets {
    /// In the node's network namespace. An earlier run's programs go on with its map.
    pub(crate) fn open(config: &SocketConfig) -> Result<(Self, Namespaces), Error> {
        let path = match &config.cgroup {
            Some(path) => path.clone(),
            None => hierarchy().map_err(Error::Hierarchy)?,
        };
        let cgroup = File::open(&path).map_err(|source| Error::Cgroup { path, source })?;
        let pins = Pins::open(&config.pins)?;
        let maps = Arc::new(Maps::open(&pins)?);
        let namespaces = Namespaces::open(Arc::clone(&maps))?;
        Ok((Self { pins, cgroup, maps, held: Held::default(), attached: false }, namespaces))
    }

    /// Makes the map hold these, whatever is in it, and nothing else; only what differs is written. Then our programs take the
    /// place of an earlier run's.
    pub(crate) fn load(&mut self, frontends: &BTreeMap<Frontend, Backends>) -> Result<(), Error> {
        let wanted = frontends.iter().map(|(frontend, backends)| (*frontend, Some(backends.clone()))).collect();
        let held = Held::default();
        let changes = held.changes(&wanted, MOST_ELEMENTS);
        let map = &self.maps.endpoints;
        let mut surplus: HashSet<Element> = map.keys()?.into_iter().collect();
        // Slots before counts.
        for (key, value) in slots(&changes).chain(counts(&changes)) {
            if !surplus.remove(&key) || map.get(&key)? != Some(value) {
                map.set(&key, &value)?;
            }
        }
        // Counts before slots.
        let (counts, slots): (Vec<_>, Vec<_>) = surplus.iter().partition(|key| maps::is_count(key));
        counts.into_iter().chain(slots).try_for_each(|key| map.remove(key))?;
        self.held = held;
        self.held.changed(changes.after);
        if !self.attached {
            self.attach()?;
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        for attach in program::ALL {
            let program = program::load(attach, &self.maps)?;
            self.pins.attach(attach, &program, self.cgroup.as_fd())?;
        }
        self.attached = true;
        if let Err(error) = self.pins.forget_others() {
            tracing::warn!(error = &error as &dyn std::error::Error, "an earlier layout's eBPF maps stay");
        }
        Ok(())
    }

    /// Brings some front ends up to date (`None`: shall be gone). No transaction: the order of the steps keeps a socket that
    /// connects meanwhile from an empty slot, and one that meets it all the same is left to nftables.
    pub(crate) fn apply(&mut self, frontends: &BTreeMap<Frontend, Option<Backends>>) -> Result<(), Error> {
        let changes = self.held.changes(frontends, MOST_ELEMENTS);
        let map = &self.maps.endpoints;
        slots(&changes).try_for_each(|(key, value)| map.set(&key, &value))?;
        let kept = |frontend: &Frontend| changes.after.get(frontend).is_some_and(Option::is_some);
        let gone = changes.first.remove_counts.iter().filter(|frontend| !kept(frontend));
        gone.map(maps::count_key).try_for_each(|key| map.remove(&key))?;
        counts(&changes).try_for_each(|(key, value)| map.set(&key, &value))?;
        let surplus = changes.second.remove_slots.iter();
        surplus.map(|(frontend, slot)| maps::slot_key(frontend, *slot)).try_for_each(|key| map.remove(&key))?;
        self.held.changed(changes.after);
        Ok(())
    }

    /// Sockets connect to what they are told.
    pub(crate) fn give_up(self) -> Result<(), Error> {
        self.pins.detach().map_err(|source| self.pins.error(source))
    }
}

fn slots(changes: &Changes) -> impl Iterator<Item = (Element, Element)> {
    let slots = changes.first.add_slots.iter();
    slots.map(|(frontend, slot, endpoint)| (maps::slot_key(frontend, *slot), maps::endpoint(endpoint)))
}

/// A plain pick's code is the count, and only such are held.
fn counts(changes: &Changes) -> impl Iterator<Item = (Element, Element)> {
    let count = |(frontend, pick): &(Frontend, Pick)| (maps::count_key(frontend), maps::count(pick.code()));
    changes.first.add_counts.iter().map(count)
}

fn hierarchy() -> io::Result<PathBuf> {
    let mounted = base_sys::mounts::all()?.into_iter().find(|mounted| mounted.kind == "cgroup2");
    mounted.map(|mounted| mounted.at).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not mounted"))
}

/// Ends what an earlier run began: sockets connect to what they are told. None there is fine.
pub fn remove(pins: &Path) -> Result<(), Error> {
    maps::remove(pins).map_err(|source| Error::Pins { path: pins.into(), source })
}

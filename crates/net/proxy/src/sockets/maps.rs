//! What the programs read, and where it outlives us.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use base_sys::bpf::{self, Attach, Link, Map, Program};

use super::Error;
use super::program;
use crate::frontend::{Endpoint, Frontend, FrontendAddress};

/// Part of the maps' names: another number, other maps. Raise it whenever keys, values or sizes change.
const LAYOUT: u32 = 1;
/// Address, port, and a number.
pub(super) const ELEMENT: usize = 20;
/// What is noted of a socket: two addresses with their ports.
pub(super) const PEER: usize = 2 * ELEMENT;
/// The longest name of a sandbox.
pub(super) const NAME: usize = 64;
/// Counts and slots of all front ends; the tables' heads take 2 MB of the kernel's memory.
pub(super) const MOST_ELEMENTS: usize = 131_072;
const MOST_NETNS: u32 = 4096;

pub(super) type Element = [u8; ELEMENT];

#[derive(Debug)]
pub(super) struct Maps {
    /// The cookies of network namespaces whose sockets are balanced, with their sandboxes' names; the node's has none.
    pub(super) netns: Map<8, NAME>,
    /// In slot 0 of a front end how many endpoints it has; from 1 on these.
    pub(super) endpoints: Map<ELEMENT, ELEMENT>,
    /// For each socket that was balanced: whom it wanted and whom it got.
    pub(super) peers: Map<4, PEER>,
}

impl Maps {
    /// An earlier run's, else new ones.
    pub(super) fn open(pins: &Pins) -> Result<Self, Error> {
        let most_elements = u32::try_from(MOST_ELEMENTS).expect("a constant far below 2^32");
        Ok(Self {
            netns: pins.map("netns", || Map::hash("sampan_netns", MOST_NETNS))?,
            endpoints: pins.map("endpoints", || Map::hash("sampan_endpoint", most_elements))?,
            peers: pins.map("peers", || Map::of_sockets("sampan_peers"))?,
        })
    }
}

/// Slots count from 0; the map has the number of endpoints in front of them.
pub(super) fn slot_key(frontend: &Frontend, slot: u32) -> Element {
    key(frontend, u16::try_from(slot + 1).expect("plans have at most 16,382 endpoints"))
}

pub(super) fn count_key(frontend: &Frontend) -> Element {
    key(frontend, 0)
}

fn key(frontend: &Frontend, number: u16) -> Element {
    let FrontendAddress::Ip(ip) = frontend.address else { unreachable!("only front ends with an address are held") };
    element(ip, frontend.port, number)
}

pub(super) fn endpoint(endpoint: &Endpoint) -> Element {
    element(endpoint.ip, endpoint.port, 0)
}

pub(super) fn count(count: u32) -> Element {
    element(Ipv6Addr::UNSPECIFIED.into(), 0, u16::try_from(count).expect("plans have at most 16,382 endpoints"))
}

/// Whether a key is that of a front end's count.
pub(super) fn is_count(key: &Element) -> bool {
    key[18..] == [0, 0]
}

/// IPv4 as IPv6, as sockets of IPv6 have it.
fn element(ip: IpAddr, port: u16, number: u16) -> Element {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; ELEMENT];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..18].copy_from_slice(&port.to_be_bytes());
    bytes[18..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// A file system of our own in which maps and links outlive the binary.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
}

impl Pins {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let opened = || {
            std::fs::create_dir_all(directory)?;
            let directory = directory.canonicalize()?;
            if !base_sys::mounts::is_mounted(&directory)? {
                bpf::mount(&directory)?;
            }
            Ok(Self { directory })
        };
        opened().map_err(|source| Error::Pins { path: directory.into(), source })
    }

    fn map<const K: usize, const V: usize>(
        &self,
        name: &str,
        create: impl FnOnce() -> Result<Map<K, V>, bpf::Error>,
    ) -> Result<Map<K, V>, Error> {
        let path = self.directory.join(format!("{name}-{LAYOUT}"));
        if let Some(map) = Map::open(&path)? {
            return Ok(map);
        }
        let map = create()?;
        map.pin(&path)?;
        Ok(map)
    }

    /// Puts a program in the place of an earlier run's, or beside those of others.
    pub(super) fn attach(&self, attach: Attach, program: &Program, cgroup: BorrowedFd<'_>) -> Result<(), Error> {
        let path = self.directory.join(link(attach));
        if let Some(link) = Link::open(&path)? {
            return Ok(link.replace(program)?);
        }
        Ok(Link::attach(cgroup, program, attach)?.pin(&path)?)
    }

    /// Ends the programs. One that was not attached is fine.
    pub(super) fn detach(&self) -> io::Result<()> {
        for attach in program::ALL {
            match std::fs::remove_file(self.directory.join(link(attach))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn error(&self, source: io::Error) -> Error {
        Error::Pins { path: self.directory.clone(), source }
    }

    /// Removes maps of other layouts.
    pub(super) fn forget_others(&self) -> io::Result<()> {
        let ours = |name: &str| {
            name.ends_with(&format!("-{LAYOUT}")) || program::ALL.into_iter().any(|attach| link(attach) == name)
        };
        pinned(&self.directory)?.into_iter().filter(|name| !ours(name)).try_for_each(|name| {
            let path = self.directory.join(name);
            std::fs::remove_file(path)
        })
    }
}

/// What is pinned in a directory. Names with a dot are the kernel's own.
fn pinned(directory: &Path) -> io::Result<Vec<String>> {
    let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: io::Result<Vec<String>> = names.collect();
    Ok(names?.into_iter().filter(|name| !name.contains('.')).collect())
}

fn link(attach: Attach) -> &'static str {
    match attach {
        Attach::Connect4 => "connect4",
        Attach::Connect6 => "connect6",
        Attach::PeerName4 => "peername4",
        Attach::PeerName6 => "peername6",
    }
}

/// Removes every pin, which ends the programs, and the file system with its directory. None there is fine.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    // One by one: another mount namespace may have a copy of the mount.
    for name in pinned(&directory)? {
        std::fs::remove_file(directory.join(name))?;
    }
    base_sys::mounts::unmount(&directory)?;
    std::fs::remove_dir(&directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{Origin, Protocol};

    #[test]
    fn elements_are_as_the_programs_read_them() {
        let address = FrontendAddress::Ip([10, 43, 0, 9].into());
        let frontend = Frontend { origin: Origin::Cluster, address, protocol: Protocol::Tcp, port: 0x1234 };
        let mut expected = [0; ELEMENT];
        expected[10..18].copy_from_slice(&[0xff, 0xff, 10, 43, 0, 9, 0x12, 0x34]);
        assert_eq!(count_key(&frontend), expected);
        assert!(is_count(&expected));
        expected[18..].copy_from_slice(&0x0102_u16.to_ne_bytes());
        assert_eq!(slot_key(&frontend, 0x0101), expected);
        assert!(!is_count(&expected));
        let six: IpAddr = Ipv6Addr::LOCALHOST.into();
        assert_eq!(endpoint(&Endpoint { ip: six, port: 1 })[15..], [1, 0, 1, 0, 0]);
        assert_eq!(count(3)[..18], [0; 18]);
    }
}

//! Which sandbox has which addresses: a pool per block in memory, and one small file per address so that they survive
//! the binary, however it ends.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base_sys::route::IpCidr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} the lease {}", .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("every address of {0} is in use")]
    Exhausted(IpCidr),
}

/// The addresses of one block. Hands out the one after the last it gave, so that an address rests as long as possible
/// before another pod gets it.
#[derive(Debug)]
pub(crate) struct Pool {
    block: IpCidr,
    /// The number within the block of the last one given.
    last: u128,
    used: HashSet<IpAddr>,
}

impl Pool {
    pub(crate) fn new(block: IpCidr) -> Self {
        Self { block, last: 0, used: HashSet::new() }
    }

    /// The next free address; the first and the last of the block are never given.
    pub(crate) fn take(&mut self) -> Option<IpAddr> {
        let end = number(self.block.last()) - number(self.block.network());
        let start = self.last + 1;
        let mut numbers = (start..end).chain(1..start.min(end));
        let (last, address) = numbers.find_map(|n| {
            let address = self.block.nth(n)?;
            (!self.used.contains(&address)).then_some((n, address))
        })?;
        self.last = last;
        self.used.insert(address);
        Some(address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u32::from(four).into(),
        IpAddr::V6(six) => six.into(),
    }
}

/// The leases of one node: `leases/<address>` holds the sandbox's id.
#[derive(Debug)]
pub(crate) struct Leases {
    directory: PathBuf,
    /// In the order of the blocks.
    by_sandbox: HashMap<String, Vec<IpAddr>>,
    pools: Vec<Pool>,
}

impl Leases {
    /// Reads what an earlier run left. Continues after the newest lease of each block.
    pub(crate) fn open(directory: &Path, blocks: impl IntoIterator<Item = IpCidr>) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::File { operation, path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
        let pools = blocks.into_iter().map(Pool::new).collect();
        let mut leases = Self { directory: directory.to_owned(), by_sandbox: HashMap::new(), pools };
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed("list"))? {
            let entry = entry.map_err(failed("list"))?;
            // A half-written file has another name, since leases are renamed into place.
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse::<IpAddr>().ok()) else {
                continue;
            };
            let sandbox = fs::read_to_string(entry.path()).map_err(failed("read"))?;
            let written: SystemTime = entry.metadata().and_then(|m| m.modified()).map_err(failed("read"))?;
            found.push((written, address, sandbox));
        }
        found.sort();
        for (_, address, sandbox) in found {
            if let Some(pool) = leases.pools.iter_mut().find(|pool| pool.block.contains(address)) {
                pool.last = number(address) - number(pool.block.network());
                pool.used.insert(address);
            }
            leases.note(sandbox, address);
        }
        Ok(leases)
    }

    /// Empty where the sandbox has none.
    pub(crate) fn get(&self, sandbox: &str) -> &[IpAddr] {
        self.by_sandbox.get(sandbox).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.by_sandbox.iter().map(|(sandbox, addresses)| (sandbox.as_str(), addresses.as_slice()))
    }

    /// Gives the sandbox an address of each block of which it has none, written down before they are returned. On
    /// failure it has what it had before.
    pub(crate) fn grant(&mut self, sandbox: &str) -> Result<&[IpAddr], Error> {
        let mut new = Vec::new();
        for index in 0..self.pools.len() {
            let block = self.pools[index].block;
            if self.get(sandbox).iter().any(|address| block.contains(*address)) {
                continue;
            }
            let taken = self.pools[index].take().ok_or(Error::Exhausted(block));
            let granted = taken.and_then(|address| {
                self.write(sandbox, address).map(|()| address).inspect_err(|_| {
                    self.pools[index].used.remove(&address);
                })
            });
            match granted {
                Ok(address) => {
                    self.note(sandbox.to_owned(), address);
                    new.push(address);
                }
                Err(error) => {
                    for address in new {
                        self.give_back(sandbox, address)?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(self.get(sandbox))
    }

    pub(crate) fn revoke(&mut self, sandbox: &str) -> Result<(), Error> {
        for address in self.get(sandbox).to_vec() {
            self.give_back(sandbox, address)?;
        }
        Ok(())
    }

    fn note(&mut self, sandbox: String, address: IpAddr) {
        let place = |address: &IpAddr| self.pools.iter().position(|pool| pool.block.contains(*address));
        let addresses = self.by_sandbox.entry(sandbox).or_default();
        addresses.push(address);
        addresses.sort_by_key(place);
    }

    fn give_back(&mut self, sandbox: &str, address: IpAddr) -> Result<(), Error> {
        let path = self.directory.join(address.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { operation: "remove", path, source });
            }
            _ => {}
        }
        if let Some(addresses) = self.by_sandbox.get_mut(sandbox) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                self.by_sandbox.remove(sandbox);
            }
        }
        // One of an earlier run's block is in none.
        for pool in &mut self.pools {
            pool.used.remove(&address);
        }
        Ok(())
    }

    /// No fsync: a power cut ends the pods too.
    fn write(&self, sandbox: &str, address: IpAddr) -> Result<(), Error> {
        let path = self.directory.join(address.to_string());
        let draft = self.directory.join(format!("{address}.new"));
        fs::write(&draft, sandbox).and_then(|()| fs::rename(&draft, &path)).map_err(|source| Error::File {
            operation: "write",
            path,
            source,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 42, 0, last].into()
    }

    fn blocks(texts: &[&str]) -> Vec<IpCidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_rotate_and_wrap() {
        let mut pool = Pool::new("10.42.0.0/29".parse().unwrap());
        assert_eq!(pool.take(), Some(ip(1)));
        pool.used.remove(&ip(1));
        let given: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(given, [ip(2), ip(3), ip(4), ip(5), ip(6), ip(1)]);
        pool.used.remove(&ip(3));
        assert_eq!((pool.take(), pool.take()), (Some(ip(3)), None));
    }

    #[test]
    fn leases_survive_and_the_rotation_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let both = || blocks(&["10.42.0.0/24", "fd42::/64"]);
        let mut leases = Leases::open(directory.path(), both()).unwrap();
        let (a, b) = (leases.grant("a").unwrap().to_vec(), leases.grant("b").unwrap().to_vec());
        assert_eq!(a, [ip(1), "fd42::1".parse().unwrap()]);
        assert_eq!(leases.grant("a").unwrap(), a);
        leases.revoke("a").unwrap();
        fs::write(directory.path().join("10.42.0.9.new"), "half").unwrap();

        let mut again = Leases::open(directory.path(), both()).unwrap();
        assert_eq!((again.get("a"), again.get("b")), (&[][..], &b[..]));
        let c = again.grant("c").unwrap();
        assert!(c.iter().all(|address| !a.contains(address) && !b.contains(address)), "{c:?}");
    }

    #[test]
    fn a_sandbox_of_one_family_gets_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let four = Leases::open(directory.path(), blocks(&["10.42.0.0/24"])).unwrap().grant("a").unwrap().to_vec();
        let mut both = Leases::open(directory.path(), blocks(&["fd42::/64", "10.42.0.0/24"])).unwrap();
        assert_eq!(both.grant("a").unwrap(), ["fd42::1".parse().unwrap(), four[0]]);
    }

    #[test]
    fn a_full_block_and_an_unwritable_directory_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = Leases::open(directory.path(), blocks(&["fd42::/64", "10.42.0.0/32"])).unwrap();
        assert!(matches!(leases.grant("a"), Err(Error::Exhausted(_))));
        assert_eq!((leases.get("a"), fs::read_dir(directory.path()).unwrap().count()), (&[][..], 0));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Leases::open(&file, blocks(&["10.42.0.0/24"])), Err(Error::File { .. })));
    }
}

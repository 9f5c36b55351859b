//! Which sandbox has which address: a pool in memory, and one small file per lease so that addresses survive the
//! binary, however it ends.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base_sys::route::Ipv4Cidr;

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
    Exhausted(Ipv4Cidr),
}

/// The addresses of one block. Hands out the one after the last it gave, so that an address rests as long as possible
/// before another pod gets it.
#[derive(Debug)]
pub(crate) struct Pool {
    block: Ipv4Cidr,
    last: Option<Ipv4Addr>,
    /// How many hold each address: its sandbox, and whoever waits for its withdrawal.
    users: HashMap<Ipv4Addr, usize>,
}

impl Pool {
    pub(crate) fn new(block: Ipv4Cidr) -> Self {
        Self { block, last: None, users: HashMap::new() }
    }

    /// The next free address; the first and the last of the block are never given.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let first = u32::from(self.block.network()).checked_add(1)?;
        let end = u32::from(self.block.last());
        let start = self.last.map_or(first, |last| u32::from(last) + 1);
        let address =
            (start..end).chain(first..start.min(end)).map(Ipv4Addr::from).find(|a| !self.users.contains_key(a))?;
        self.last = Some(address);
        self.hold(address);
        Some(address)
    }

    pub(crate) fn hold(&mut self, address: Ipv4Addr) {
        *self.users.entry(address).or_default() += 1;
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        if let Some(users) = self.users.get_mut(&address) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&address);
            }
        }
    }
}

/// The leases of one node: `leases/<address>` holds the sandbox's id.
#[derive(Debug)]
pub(crate) struct Leases {
    directory: PathBuf,
    by_sandbox: HashMap<String, Ipv4Addr>,
    pub(crate) pool: Pool,
}

impl Leases {
    /// Reads what an earlier run left. Continues after the newest lease.
    pub(crate) fn open(directory: &Path, block: Ipv4Cidr) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::File { operation, path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
        let mut leases = Self { directory: directory.to_owned(), by_sandbox: HashMap::new(), pool: Pool::new(block) };
        let mut newest = SystemTime::UNIX_EPOCH;
        for entry in fs::read_dir(directory).map_err(failed("list"))? {
            let entry = entry.map_err(failed("list"))?;
            // A half-written file has another name, since leases are renamed into place.
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()) else {
                continue;
            };
            let sandbox = fs::read_to_string(entry.path()).map_err(failed("read"))?;
            let written = entry.metadata().and_then(|m| m.modified()).map_err(failed("read"))?;
            if block.contains(address) && written >= newest {
                newest = written;
                leases.pool.last = Some(address);
            }
            leases.pool.hold(address);
            leases.by_sandbox.insert(sandbox, address);
        }
        Ok(leases)
    }

    pub(crate) fn get(&self, sandbox: &str) -> Option<Ipv4Addr> {
        self.by_sandbox.get(sandbox).copied()
    }

    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        self.by_sandbox.iter().map(|(sandbox, address)| (sandbox.as_str(), *address))
    }

    /// Gives the sandbox an address, written down before it is returned.
    pub(crate) fn grant(&mut self, sandbox: &str) -> Result<Ipv4Addr, Error> {
        let address = self.pool.take().ok_or(Error::Exhausted(self.pool.block))?;
        if let Err(error) = self.write(sandbox, address) {
            self.pool.release(address);
            return Err(error);
        }
        self.by_sandbox.insert(sandbox.to_owned(), address);
        Ok(address)
    }

    pub(crate) fn revoke(&mut self, sandbox: &str) -> Result<(), Error> {
        let Some(address) = self.get(sandbox) else { return Ok(()) };
        let path = self.directory.join(address.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { operation: "remove", path, source });
            }
            _ => {}
        }
        self.by_sandbox.remove(sandbox);
        self.pool.release(address);
        Ok(())
    }

    /// No fsync: a power cut ends the pods too.
    fn write(&self, sandbox: &str, address: Ipv4Addr) -> Result<(), Error> {
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

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 42, 0, last)
    }

    #[test]
    fn addresses_rotate_and_wrap() {
        let mut pool = Pool::new("10.42.0.0/29".parse().unwrap());
        assert_eq!(pool.take(), Some(ip(1)));
        pool.release(ip(1));
        let given: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(given, [ip(2), ip(3), ip(4), ip(5), ip(6), ip(1)]);
        pool.release(ip(3));
        assert_eq!((pool.take(), pool.take()), (Some(ip(3)), None));
    }

    #[test]
    fn a_held_address_is_not_given() {
        let mut pool = Pool::new("10.42.0.0/30".parse().unwrap());
        assert_eq!(pool.take(), Some(ip(1)));
        pool.hold(ip(1));
        pool.release(ip(1));
        assert_eq!((pool.take(), pool.take()), (Some(ip(2)), None));
        pool.release(ip(1));
        assert_eq!(pool.take(), Some(ip(1)));
    }

    #[test]
    fn leases_survive_and_the_rotation_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let block = "10.42.0.0/24".parse().unwrap();
        let mut leases = Leases::open(directory.path(), block).unwrap();
        let (a, b) = (leases.grant("a").unwrap(), leases.grant("b").unwrap());
        leases.revoke("a").unwrap();
        fs::write(directory.path().join("10.42.0.9.new"), "half").unwrap();

        let mut again = Leases::open(directory.path(), block).unwrap();
        assert_eq!((again.get("a"), again.get("b")), (None, Some(b)));
        assert!(![a, b].contains(&again.grant("c").unwrap()));
    }

    #[test]
    fn a_full_block_and_an_unwritable_directory_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = Leases::open(directory.path(), "10.42.0.0/32".parse().unwrap()).unwrap();
        assert!(matches!(leases.grant("a"), Err(Error::Exhausted(_))));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Leases::open(&file, "10.42.0.0/24".parse().unwrap()), Err(Error::File { .. })));
    }
}

//! Maps that programs read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::Error;
use super::call::{self, Command, address, bpf, bpf_fd};

const HASH: u32 = 1;
const STORAGE_OF_SOCKETS: u32 = 24;
const NO_PREALLOCATION: u32 = 1;

/// A map whose keys are `K` bytes and whose values `V`.
#[derive(Debug)]
pub struct Map<const K: usize, const V: usize> {
    fd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    types_fd: u32,
    key_type: u32,
    value_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

impl<const K: usize, const V: usize> Map<K, V> {
    /// A hash table of at most so many elements, each of which takes memory once it is there.
    pub fn hash(name: &'static str, max_entries: u32) -> Result<Self, Error> {
        Self::create(name, Create { kind: HASH, max_entries, flags: NO_PREALLOCATION, ..Create::default() })
    }

    /// What programs note about sockets; it goes with them.
    pub fn of_sockets(name: &'static str) -> Result<Self, Error> {
        const { assert!(K == 4, "the kernel's key of a socket is a descriptor") };
        let types = types(V as u32).map_err(|source| Error::Map { name, source })?;
        let types_fd = types.as_raw_fd().cast_unsigned();
        let kinds = Create { types_fd, key_type: INT, value_type: ARRAY, ..Create::default() };
        Self::create(name, Create { kind: STORAGE_OF_SOCKETS, flags: NO_PREALLOCATION, ..kinds })
    }

    fn create(name: &'static str, mut create: Create) -> Result<Self, Error> {
        (create.key_size, create.value_size) = (K as u32, V as u32);
        // The last byte stays zero.
        create.name.iter_mut().zip(name.bytes().take(15)).for_each(|(to, byte)| *to = byte);
        // SAFETY: the structure is the command's, of words only, and holds no address.
        let fd = unsafe { bpf_fd(Command::MapCreate, &mut create) }.map_err(|source| Error::Map { name, source })?;
        Ok(Self { fd })
    }

    /// What is pinned there, where something is.
    ///
    /// The caller has pinned it with these sizes.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        Ok(call::open(path)?.map(|fd| Self { fd }))
    }

    pub fn pin(&self, path: &Path) -> Result<(), Error> {
        call::pin(self.fd.as_fd(), path)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Adds or replaces; a program sees the old or the new value, never a mixture.
    pub fn set(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Error> {
        self.call(Command::MapUpdate, Some(key), address(value)).map_err(Error::Element)
    }

    /// None there is fine.
    pub fn remove(&self, key: &[u8; K]) -> Result<(), Error> {
        absent(self.call(Command::MapDelete, Some(key), 0)).map(drop).map_err(Error::Element)
    }

    pub fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Error> {
        let mut value = [0; V];
        let found = self.call(Command::MapLookup, Some(key), address(&raw mut value));
        Ok(absent(found).map_err(Error::Read)?.map(|()| value))
    }

    /// Every key, where nobody else changes the map meanwhile.
    pub fn keys(&self) -> Result<Vec<[u8; K]>, Error> {
        let mut keys = Vec::new();
        loop {
            let mut next = [0; K];
            let found = self.call(Command::MapNextKey, keys.last(), address(&raw mut next));
            match absent(found).map_err(Error::Read)? {
                Some(()) => keys.push(next),
                None => return Ok(keys),
            }
        }
    }

    fn call(&self, command: Command, key: Option<&[u8; K]>, value: u64) -> io::Result<()> {
        let map = self.fd.as_raw_fd().cast_unsigned();
        let key = key.map_or(0, |key| address(key));
        let mut element = Element { map, key, value, ..Element::default() };
        // SAFETY: the structure is the command's, its padding a field. Key and value live in the caller, who is one of the
        // functions above, and have the sizes that the map was made with.
        unsafe { bpf(command, &mut element) }.map(drop)
    }
}

fn absent(result: io::Result<()>) -> io::Result<Option<()>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

const INT: u32 = 1;
const ARRAY: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Types {
    data: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    log_true_size: u32,
}

/// The type description that the kernel wants for storage of sockets: a whole number as key, an array of them as value.
fn types(value_size: u32) -> io::Result<OwnedFd> {
    const MAGIC_AND_VERSION: u32 = 0x0001_eb9f;
    const KIND_INT: u32 = 1 << 24;
    const KIND_ARRAY: u32 = 3 << 24;
    const NAME: u32 = 1;
    let strings = *b"\0word\0\0\0";
    let kinds = [
        // A name, its kind, four bytes; all its 32 bits are used.
        [NAME, KIND_INT, 4].as_slice(),
        &[32],
        // No name, its kind, no size; of INT, counted by INT, so many.
        &[0, KIND_ARRAY, 0],
        &[INT, INT, value_size / 4],
    ]
    .concat();
    let length = size_of_val(kinds.as_slice()) as u32;
    let header = [MAGIC_AND_VERSION, 24, 0, length, length, strings.len() as u32];
    let words = header.iter().chain(&kinds).flat_map(|word| word.to_ne_bytes());
    let data: Vec<u8> = words.chain(strings).collect();
    let mut load = Types { data: address(data.as_ptr()), size: data.len() as u32, ..Types::default() };
    // SAFETY: the structure is the command's without padding; the data outlives the call and its size is told.
    unsafe { bpf_fd(Command::TypesLoad, &mut load) }
}

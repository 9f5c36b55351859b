//! Random access to the members of an uncompressed tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

pub struct Members {
    file: File,
    places: HashMap<String, Place>,
}

enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// Older `docker save` writes a repeated layer as a link to its first copy.
    Link(String),
}

impl Members {
    /// Reads the headers, skips the contents.
    pub fn list(file: File) -> io::Result<Self> {
        let total = file.metadata()?.len();
        let mut places = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            let kind = entry.header().entry_type();
            let place = if kind.is_file() || kind.is_contiguous() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > total) {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("{} is cut short", path.display()),
                    ));
                }
                Place::At { offset, size }
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Some(target) = entry.link_name()?
            {
                let beside = if kind.is_symlink() { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                Place::Link(plain(&beside.join(target)))
            } else {
                continue;
            };
            places.insert(plain(&path), place);
        }
        Ok(Self { file, places })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub fn open(&self, name: &str) -> Option<Member<'_>> {
        let mut place = self.places.get(&plain(Path::new(name)))?;
        if let Place::Link(target) = place {
            place = self.places.get(target)?;
        }
        match place {
            Place::At { offset, size } => Some(Member { file: &self.file, offset: *offset, left: *size }),
            Place::Link(_) => None,
        }
    }
}

/// A path as a key: `./a/../b` is `b`.
fn plain(path: &Path) -> String {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy()),
            Component::ParentDir => {
                names.pop();
            }
            _ => {}
        }
    }
    names.join("/")
}

/// The content of one member.
pub struct Member<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Member<'_> {
    /// Bytes not yet read.
    pub fn len(&self) -> u64 {
        self.left
    }
}

impl Read for Member<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let read = self.file.read_at(&mut buf[..wanted], self.offset)?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

//! Kernel parameters below `/proc/sys`: written with the previous value handed back, so that it can be restored.

use std::fs;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name:?} is not a kernel parameter's name")]
    Name { name: String },
    #[error("read the kernel parameter {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("write {value:?} to the kernel parameter {name}")]
    Write {
        name: String,
        value: String,
        #[source]
        source: io::Error,
    },
}

/// Reads a parameter by its path below `/proc/sys` (`net/ipv4/ip_forward`), in the calling thread's namespaces.
pub fn read(name: &str) -> Result<String, Error> {
    let value = fs::read_to_string(path(name)?).map_err(|source| Error::Read { name: name.into(), source })?;
    Ok(value.trim_end().to_owned())
}

/// Writes a parameter and returns what it was before; writes nothing when it already has that value.
pub fn write(name: &str, value: &str) -> Result<String, Error> {
    let previous = read(name)?;
    if previous != value {
        let path = path(name)?;
        fs::write(path, value).map_err(|source| Error::Write { name: name.into(), value: value.into(), source })?;
    }
    Ok(previous)
}

/// Slashes, not dots, since interface names may hold dots.
fn path(name: &str) -> Result<PathBuf, Error> {
    let plain = !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if plain { Ok(PathBuf::from("/proc/sys").join(name)) } else { Err(Error::Name { name: name.into() }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    #[test]
    fn a_write_returns_the_previous_value() {
        NetNs::create()
            .unwrap()
            .run(|| {
                let before = read("net/ipv4/ip_forward").unwrap();
                let other = if before == "1" { "0" } else { "1" };
                assert_eq!(write("net/ipv4/ip_forward", other).unwrap(), before);
                assert_eq!(read("net/ipv4/ip_forward").unwrap(), other);
            })
            .unwrap();
    }

    #[test]
    fn names_cannot_leave_the_tree() {
        for name in ["", "/etc/passwd", "../etc/passwd", "net//x", "a/../b"] {
            assert!(matches!(read(name), Err(Error::Name { .. })), "{name}");
        }
        assert!(matches!(read("net/no_such_parameter"), Err(Error::Read { .. })));
    }
}

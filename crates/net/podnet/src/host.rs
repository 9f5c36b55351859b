//! What the node's own namespace needs once: forwarding, and a route that covers the service block.
//!
//! Kernel parameters are shared by every Sampan in a namespace. The first one to come records the value it found, the
//! last one to go restores it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use base_sys::netns::{self, NetNs};
use base_sys::route::{Ipv4Cidr, Request, Route, RouteSpec};
use base_sys::{route, sysctl};
use serde::{Deserialize, Serialize};

/// Parameters we need and their values. Reverse path filtering stays as it is: every pod's address is routed to the
/// link it comes from, which also the strict mode accepts.
const PARAMETERS: [(&str, &str); 1] = [("net/ipv4/ip_forward", "1")];
const LOOPBACK: u32 = 1;
const ESRCH: i32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("record kernel parameters in {}", .path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the record of kernel parameters {} is damaged", .path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("change a kernel parameter")]
    Sysctl(#[from] sysctl::Error),
    #[error("identify the node's network namespace")]
    NetNs(#[from] netns::Error),
    #[error("route the service block")]
    Route(#[from] route::Error),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Interface prefixes of the Sampans that rely on the parameters.
    users: BTreeSet<String>,
    /// What the parameters were before the first user.
    original: BTreeMap<String, String>,
    /// What else than [`PARAMETERS`] was set.
    #[serde(default)]
    ours: BTreeMap<String, String>,
}

/// Sets the parameters for `user`. Idempotent.
pub(crate) fn acquire(directory: &Path, user: &str) -> Result<(), Error> {
    change(directory, |record| {
        record.users.insert(user.to_owned());
        PARAMETERS.iter().try_for_each(|parameter| set(record, *parameter))
    })
}

/// Sets one more parameter, for as long as the others.
pub(crate) fn acquire_also(directory: &Path, user: &str, parameter: (&str, &str)) -> Result<(), Error> {
    change(directory, |record| {
        record.users.insert(user.to_owned());
        record.ours.insert(parameter.0.to_owned(), parameter.1.to_owned());
        set(record, parameter)
    })
}

fn set(record: &mut Record, (name, value): (&str, &str)) -> Result<(), Error> {
    let previous = sysctl::read(name)?;
    // Recorded before it is changed, so that a crash in between restores a value that is already there.
    record.original.entry(name.to_owned()).or_insert(previous);
    sysctl::write(name, value)?;
    Ok(())
}

/// Ends `user`'s need; restores the parameters when nobody is left. Nothing happens when nothing was recorded.
pub(crate) fn release(directory: &Path, user: &str) -> Result<(), Error> {
    change(directory, |record| {
        record.users.remove(user);
        if record.users.is_empty() {
            let others = std::mem::take(&mut record.ours);
            for (name, original) in std::mem::take(&mut record.original) {
                let ours = PARAMETERS.iter().find(|(parameter, _)| *parameter == name).map(|(_, value)| *value);
                let ours = ours.or_else(|| others.get(&name).map(String::as_str));
                // Somebody else's later choice is theirs.
                if ours == Some(sysctl::read(&name)?.as_str()) {
                    sysctl::write(&name, &original)?;
                }
            }
        }
        Ok(())
    })
}

/// Reads, changes and writes this namespace's record under an exclusive lock.
fn change(directory: &Path, apply: impl FnOnce(&mut Record) -> Result<(), Error>) -> Result<(), Error> {
    let path = directory.join(format!("sysctl-{}.json", NetNs::current()?.cookie()?));
    let failed = |source| Error::Record { path: path.clone(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = loop {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        // The last user of before may have removed the file while we waited for its lock.
        if same_file(&file, &path) {
            break file;
        }
    };
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let mut record: Record = match text.as_str() {
        "" => Record::default(),
        text => serde_json::from_str(text).map_err(|source| Error::Damaged { path: path.clone(), source })?,
    };
    let result = apply(&mut record);
    if record.users.is_empty() && record.original.is_empty() {
        fs::remove_file(&path).map_err(failed)?;
    } else {
        let text = serde_json::to_vec(&record).map_err(|e| failed(e.into()))?;
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&text)).map_err(failed)?;
    }
    result
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino(),
        _ => false,
    }
}

/// Gives the node's own clients a route and a source address for service addresses, also on a host without a default
/// route. Translation changes where the packets go before they leave; what stays untranslated is refused.
pub(crate) fn add_service_route(host: &mut Route, service_cidr: Ipv4Cidr, node_ip: Ipv4Addr) -> Result<(), Error> {
    Ok(host.apply([Request::set_route(&service_route(service_cidr, Some(node_ip)))])?)
}

pub(crate) fn remove_service_route(host: &mut Route, service_cidr: Ipv4Cidr) -> Result<(), Error> {
    match host.apply([Request::delete_route(&service_route(service_cidr, None))]) {
        Err(error) if error.errno() == Some(ESRCH) => Ok(()),
        result => Ok(result?),
    }
}

fn service_route(service_cidr: Ipv4Cidr, source: Option<Ipv4Addr>) -> RouteSpec {
    RouteSpec { source, ..RouteSpec::to_link(service_cidr.network(), service_cidr.prefix(), LOOPBACK) }
}

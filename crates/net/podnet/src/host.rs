//! What the node's own namespace needs once: forwarding, and a route that covers the service block.
//!
//! Kernel parameters are shared by every Sampan in a namespace. The first one to come records the value it found, the
//! last one to go restores it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base_sys::netns::{self, NetNs};
use base_sys::route::{Link, Request, Route, RouteSpec};
use base_sys::{route, sysctl};
use serde::{Deserialize, Serialize};

use crate::network::Network;

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
    #[error("talk to the kernel's routing")]
    Route(#[from] route::Error),
    #[error("no link has this node's address {0}")]
    NoUplink(IpAddr),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Interface prefixes of the Sampans that rely on the parameters.
    users: BTreeSet<String>,
    /// What the parameters were before the first user.
    original: BTreeMap<String, String>,
    /// What was set.
    ours: BTreeMap<String, String>,
}

/// A kernel parameter below `/proc/sys`, and its value.
pub(crate) type Parameter = (String, String);

/// What forwarding packets between addresses of the families of `addresses` needs, in this order. Reverse path filtering
/// stays as it is: every pod's address is routed to the link it comes from, which also the strict mode accepts.
pub(crate) fn forwarding(route: &mut Route, addresses: &[IpAddr]) -> Result<Vec<Parameter>, Error> {
    let mut parameters = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) {
        parameters.push(("net/ipv4/ip_forward".to_owned(), "1".to_owned()));
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        // A router takes no advertised routes, and forgets those it has, unless it is told otherwise first.
        let accept_ra = |link: Link| format!("net/ipv6/conf/{}/accept_ra", link.name);
        let links = route.links("")?.into_iter().map(accept_ra);
        let accepting = links.filter(|name| sysctl::read(name).is_ok_and(|value| value == "1"));
        parameters.extend(accepting.map(|name| (name, "2".to_owned())));
        parameters.push(("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned()));
    }
    Ok(parameters)
}

/// Connection tracking that does not take a packet outside of the window it expects for one of no connection: such a
/// packet of a translated connection would keep its untranslated address, and whoever gets it resets the connection. A
/// kernel that tracks nothing has no such parameter.
pub(crate) fn liberal() -> Option<Parameter> {
    const NAME: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
    sysctl::read(NAME).is_ok().then(|| (NAME.to_owned(), "1".to_owned()))
}

/// Sets the parameters for `user`, beside those of before. Idempotent.
pub(crate) fn acquire(directory: &Path, user: &str, parameters: &[Parameter]) -> Result<(), Error> {
    change(directory, |record| {
        record.users.insert(user.to_owned());
        for (name, value) in parameters {
            let previous = sysctl::read(name)?;
            // Recorded before it is changed, so that a crash in between restores a value that is already there.
            record.original.entry(name.clone()).or_insert(previous);
            record.ours.insert(name.clone(), value.clone());
            sysctl::write(name, value)?;
        }
        Ok(())
    })
}

/// Ends `user`'s need; restores the parameters when nobody is left. Nothing happens when nothing was recorded.
pub(crate) fn release(directory: &Path, user: &str) -> Result<(), Error> {
    change(directory, |record| {
        record.users.remove(user);
        if record.users.is_empty() {
            let ours = std::mem::take(&mut record.ours);
            for (name, original) in std::mem::take(&mut record.original) {
                // Somebody else's later choice is theirs; a link's parameters go with it.
                if sysctl::read(&name).is_ok_and(|value| ours.get(&name) == Some(&value)) {
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
pub(crate) fn add_service_route(host: &mut Route, network: &Network) -> Result<(), Error> {
    // A route of IPv6 to loopback would refuse.
    let link = match network.node_ip {
        IpAddr::V4(_) => LOOPBACK,
        IpAddr::V6(_) => uplink(host, network.node_ip)?,
    };
    let source = Some(network.node_ip);
    Ok(host.apply([Request::set_route(&RouteSpec { source, ..service_route(network, link) })])?)
}

pub(crate) fn remove_service_route(host: &mut Route, network: &Network) -> Result<(), Error> {
    let link = match network.node_ip {
        IpAddr::V4(_) => LOOPBACK,
        // Without the address, or its link, there is no such route either.
        IpAddr::V6(_) => match uplink(host, network.node_ip) {
            Err(Error::NoUplink(_)) => return Ok(()),
            found => found?,
        },
    };
    match host.apply([Request::delete_route(&service_route(network, link))]) {
        Err(error) if error.errno() == Some(ESRCH) => Ok(()),
        result => Ok(result?),
    }
}

fn service_route(network: &Network, link: u32) -> RouteSpec {
    RouteSpec::to_link(network.service_cidr.network(), network.service_cidr.prefix(), link)
}

/// The link that has an address of this node.
pub(crate) fn uplink(host: &mut Route, node_ip: IpAddr) -> Result<u32, Error> {
    let found = host.addresses()?.into_iter().find(|(_, address)| *address == node_ip);
    found.map(|(link, _)| link).ok_or(Error::NoUplink(node_ip))
}

//! A tiny process that holds the DNS sockets while the main one restarts: queries then wait in the kernel's queues
//! instead of being refused.
//!
//! It is the same binary, re-executed with [`ARGUMENT`]; it speaks one byte over a Unix socket: [`GIVE`] is answered with the two
//! sockets, [`QUIT`] ends it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base_sys::sockopt;
use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};

/// The first argument of the re-executed binary.
pub const ARGUMENT: &str = "dns-keeper";
const GIVE: u8 = b'g';
const QUIT: u8 = b'q';
const PORT: u16 = 53;
/// A keeper that does not answer this soon is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Paths {
    pub directory: PathBuf,
    pub socket: PathBuf,
    /// The cgroup the keeper moves to, below each hierarchy's root: outside the service's own.
    pub cgroup: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening port 53 of {address}")]
    Bind {
        address: IpAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("starting the keeper of the DNS sockets")]
    Spawn(#[source] std::io::Error),
    #[error("talking to the keeper of the DNS sockets at {path}")]
    Talk {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the keeper of the DNS sockets sent {got} sockets, not two")]
    Count { got: usize },
}

pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// The sockets of a running keeper, or of a new one.
pub fn sockets(paths: &Paths, address: IpAddr) -> Result<Sockets, Error> {
    if let Some(sockets) = ask(paths)? {
        match sockets.udp.local_addr() {
            Ok(local) if local.ip() == address => return Ok(sockets),
            // The cluster DNS address was changed: that keeper has served.
            _ => quit(paths)?,
        }
    }
    let sockets = open(address)?;
    start(paths, &sockets)?;
    Ok(sockets)
}

/// Ends the keeper, if one runs.
pub fn quit(paths: &Paths) -> Result<(), Error> {
    let talk = |source| Error::Talk { path: paths.socket.clone(), source };
    let Ok(mut stream) = UnixStream::connect(&paths.socket) else { return Ok(()) };
    stream.write_all(&[QUIT]).map_err(talk)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(talk)?;
    // It closes the stream as the last thing it does.
    let _ = stream.read(&mut [0]).map_err(talk)?;
    Ok(())
}

/// `None` when no keeper runs.
fn ask(paths: &Paths) -> Result<Option<Sockets>, Error> {
    let talk = |source| Error::Talk { path: paths.socket.clone(), source };
    let Ok(mut stream) = UnixStream::connect(&paths.socket) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE)).map_err(talk)?;
    stream.write_all(&[GIVE]).map_err(talk)?;
    let received = base_sys::fdpass::receive(&stream, 2).map_err(talk)?;
    let got = received.len();
    let mut received = received.into_iter();
    match (received.next(), received.next()) {
        (Some(udp), Some(tcp)) => Ok(Some(Sockets { udp: udp.into(), tcp: tcp.into() })),
        _ => Err(Error::Count { got }),
    }
}

fn open(address: IpAddr) -> Result<Sockets, Error> {
    let open = |kind, protocol_is_tcp: bool| -> std::io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, kind, flags, None)?;
        sockopt::freebind(fd.as_fd(), address)?;
        if protocol_is_tcp {
            setsockopt(&fd, ReuseAddr, &true)?;
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(SocketAddr::new(address, PORT)))?;
        if protocol_is_tcp {
            listen(&fd, Backlog::MAXCONN)?;
        }
        Ok(fd)
    };
    let udp = open(SockType::Datagram, false).map_err(|source| Error::Bind { address, source })?;
    let tcp = open(SockType::Stream, true).map_err(|source| Error::Bind { address, source })?;
    Ok(Sockets { udp: udp.into(), tcp: tcp.into() })
}

/// Starts a keeper and hands it copies of the sockets through its standard input.
fn start(paths: &Paths, sockets: &Sockets) -> Result<(), Error> {
    std::fs::create_dir_all(&paths.directory).map_err(Error::Spawn)?;
    // A socket file without a listener is left over.
    match std::fs::remove_file(&paths.socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::Spawn(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&paths.socket).map_err(Error::Spawn)?;
    std::fs::set_permissions(&paths.socket, std::fs::Permissions::from_mode(0o600)).map_err(Error::Spawn)?;
    let (ours, theirs) = UnixStream::pair().map_err(Error::Spawn)?;
    Command::new("/proc/self/exe")
        .arg0("sampan")
        .arg(ARGUMENT)
        .arg(&paths.cgroup)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Error::Spawn)?;
    let fds = [listener.as_fd(), sockets.udp.as_fd(), sockets.tcp.as_fd()];
    base_sys::fdpass::send(&ours, &fds).map_err(Error::Spawn)
}

/// The keeper itself: returns when told to quit. `cgroup` is the argument after [`ARGUMENT`].
pub fn main(cgroup: Option<&str>) -> i32 {
    // Its own session: a terminal's or a service manager's signals are not for it.
    let _ = nix::unistd::setsid();
    if let Some(cgroup) = cgroup {
        leave_service(Path::new("/sys/fs/cgroup"), cgroup);
    }
    let run = || -> std::io::Result<()> {
        let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let received = base_sys::fdpass::receive(&parent, 3)?;
        drop(parent);
        let Ok([listener, udp, tcp]) = <[OwnedFd; 3]>::try_from(received) else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        let listener = UnixListener::from(listener);
        loop {
            let (mut client, _) = listener.accept()?;
            let mut command = [0];
            // A client that goes away is no reason to stop.
            match client.read(&mut command) {
                Ok(1) if command[0] == GIVE => {
                    let _ = base_sys::fdpass::send(&client, &[udp.as_fd(), tcp.as_fd()]);
                }
                Ok(1) if command[0] == QUIT => {
                    drop((udp, tcp));
                    return Ok(());
                }
                _ => {}
            }
        }
    };
    i32::from(run().is_err())
}

/// Removes the keeper's cgroups, and the data directory's where that was the last.
pub fn remove_cgroup(cgroup: &str) {
    for hierarchy in hierarchies(Path::new("/sys/fs/cgroup")) {
        // Gone already, or still somebody's.
        let _ = std::fs::remove_dir(hierarchy.join(cgroup).join("dns"));
        let _ = std::fs::remove_dir(hierarchy.join(cgroup));
    }
}

/// Joins `<hierarchy>/<cgroup>/dns` of every hierarchy, where it can: a service manager that stops the main process
/// stops everything in the service's own cgroup.
fn leave_service(root: &Path, cgroup: &str) {
    for hierarchy in hierarchies(root) {
        let own = hierarchy.join(cgroup).join("dns");
        if std::fs::create_dir_all(&own).is_ok() {
            // A cpuset without processors takes nobody; the main process's place is then as good.
            let _ = std::fs::write(own.join("cgroup.procs"), std::process::id().to_string());
        }
    }
}

fn hierarchies(root: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    below.chain([root.to_owned()]).filter(|path| path.join("cgroup.procs").exists()).collect()
}

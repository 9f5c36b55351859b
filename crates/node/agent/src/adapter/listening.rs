//! Whether programs of a sandbox listen, as its kernel knows it: asking them by connecting would be noticed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use base_sys::netns::NetNs;

use crate::seams::{SeamError, chain};

/// How the kernel's tables write that a socket listens: TCP_LISTEN.
const LISTENS: &str = "0A";

/// Every one of the TCP ports has a listener.
pub(super) async fn all(netns: PathBuf, sandbox: &str, ports: &[u16]) -> Result<bool, SeamError> {
    let failed = |cause: String| SeamError::new("read listeners of sandbox", sandbox, cause);
    // The tables are those of the reading thread's namespace.
    let found = tokio::task::spawn_blocking(move || NetNs::open(&netns)?.run(listeners));
    let found = found.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(chain(&error)))?;
    let found = found.map_err(|error| failed(error.to_string()))?;
    Ok(ports.iter().all(|port| found.contains(port)))
}

fn listeners() -> io::Result<BTreeSet<u16>> {
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(Path::new("/proc/thread-self/net").join(table)) {
            Ok(text) => found.extend(parse(&text)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Of lines such as `0: 00000000:0050 00000000:0000 0A …`.
fn parse(table: &str) -> impl Iterator<Item = u16> {
    table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, port) = local.split_once(':')?;
        (state == LISTENS).then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    #[tokio::test]
    async fn listeners_of_the_namespace_are_found_and_others_are_not() {
        let netns = NetNs::create().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", netns.fd().as_raw_fd()));
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(!all(path.clone(), "s", &[host]).await.unwrap());
        let four = netns.run(|| TcpListener::bind("0.0.0.0:0")).unwrap().unwrap();
        let six = netns.run(|| TcpListener::bind("[::]:0")).unwrap().unwrap();
        let ports = [&four, &six].map(|listener| listener.local_addr().unwrap().port());
        assert!(all(path.clone(), "s", &ports).await.unwrap());
        drop(six);
        assert!(!all(path, "s", &ports).await.unwrap());
        assert!(all(PathBuf::from("/nowhere"), "s", &ports).await.is_err());
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:0050 00000000:0000 0A 0\n   1: 0100007F:1F90 \
                     0100007F:0051 01 0\n x\n";
        assert_eq!(parse(table).collect::<Vec<_>>(), [80]);
    }
}

//! The host's resolver configuration, read again when the file has changed. Nothing polls: whoever forwards a query looks.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::rr::Name;
use hickory_resolver::system_conf::parse_resolv_conf;

/// How often the file is looked at under load.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
const PORT: u16 = 53;

#[derive(Debug)]
pub struct Host {
    path: PathBuf,
    looked: Option<Instant>,
    stamp: Stamp,
}

/// What tells one version of the file from another; `None` without a file.
type Stamp = Option<(SystemTime, u64)>;

impl Host {
    pub fn new(path: PathBuf) -> Self {
        Self { path, looked: None, stamp: None }
    }

    /// The servers, where they may have changed since the last call. `own` are this server's own addresses: asking itself
    /// would never end.
    pub fn changed(&mut self, own: &[IpAddr], now: Instant) -> Option<Vec<SocketAddr>> {
        let first = self.looked.is_none();
        if self.looked.is_some_and(|looked| now.duration_since(looked) < AT_MOST_EVERY) {
            return None;
        }
        self.looked = Some(now);
        let stamp = stamp(&self.path);
        if !first && stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        let text = std::fs::read(&self.path).unwrap_or_default();
        let servers = servers(&text, own);
        if servers.is_empty() {
            tracing::warn!(path = %self.path.display(), "the host names no resolvers besides this one; foreign names fail");
        }
        Some(servers)
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn servers(text: &[u8], own: &[IpAddr]) -> Vec<SocketAddr> {
    let Ok((config, _)) = parse_resolv_conf(text) else { return Vec::new() };
    let all = config.name_servers.iter().map(|server| server.ip).filter(|ip| !own.contains(ip));
    all.map(|ip| SocketAddr::new(ip, PORT)).collect()
}

/// The host's search list, which pods search last.
pub fn searches(path: &Path) -> Vec<Name> {
    let text = std::fs::read(path).unwrap_or_default();
    let all = parse_resolv_conf(text).map(|(config, _)| config.search).unwrap_or_default();
    all.into_iter().filter(|name| !name.is_root()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_server_never_asks_itself_and_sees_the_file_change() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        let own: IpAddr = "10.43.0.10".parse().expect("an address");
        std::fs::write(&path, "search . example.org\nnameserver 10.43.0.10\nnameserver 192.0.2.53\n").expect("written");
        let mut host = Host::new(path.clone());
        let start = Instant::now();
        assert_eq!(host.changed(&[own], start), Some(vec!["192.0.2.53:53".parse().expect("an address")]));
        assert_eq!(searches(&path).iter().map(Name::to_ascii).collect::<Vec<_>>(), ["example.org"]);

        std::fs::write(&path, "nameserver 10.43.0.10\n").expect("written");
        assert_eq!(host.changed(&[own], start), None, "too soon");
        let later = start + AT_MOST_EVERY;
        assert_eq!(host.changed(&[own], later), Some(Vec::new()));
        assert_eq!(host.changed(&[own], later + AT_MOST_EVERY), None, "the same file");

        std::fs::remove_file(&path).expect("removed");
        assert_eq!(host.changed(&[own], later + AT_MOST_EVERY * 2), Some(Vec::new()));
    }
}

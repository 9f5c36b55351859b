//! `/etc/hosts` and `/etc/resolv.conf` of clients' own sandboxes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use node_grpc::messages::cri;
use node_grpc::{Code, Status};

use super::Server;
use crate::files::hosts;
use crate::seams::{Access, Mount, Propagation};

const HOST_HOSTS: &str = "/etc/hosts";

impl Server {
    /// What clients' own sandboxes have of files.
    fn files_root(&self) -> PathBuf {
        self.machine.config.data_dir.join("cri")
    }

    pub(super) fn files_dir(&self, sandbox: &str) -> PathBuf {
        self.files_root().join(sandbox)
    }

    /// `ips` is empty with the node's network.
    pub(super) fn write_files(&self, id: &str, config: &cri::PodSandboxConfig, ips: &[IpAddr]) -> Result<(), Status> {
        let dir = self.files_dir(id);
        // A host without the file has nothing to inherit.
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let host = ips.is_empty().then(|| read(Path::new(HOST_HOSTS)));
        let hosts = hosts(ips, &config.hostname, None, &[], host.as_deref());
        let resolv = match &config.dns_config {
            Some(dns) => resolv_conf(dns),
            None => read(&self.machine.config.resolv_conf),
        };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            std::fs::write(dir.join("hosts"), hosts)?;
            std::fs::write(dir.join("resolv.conf"), resolv)
        };
        write().map_err(|error| Status::new(Code::Internal, format!("write the files of {}: {error}", dir.display())))
    }

    pub(super) fn remove_files(&self, id: &str) {
        let dir = self.files_dir(id);
        if let Err(error) = crate::pods::remove_dir(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "files of a sandbox that is gone not removed");
        }
    }

    pub(super) fn file_mounts(&self, sandbox: &str) -> Vec<Mount> {
        let mount = |name: &str| Mount {
            source: self.files_dir(sandbox).join(name),
            target: Path::new("/etc").join(name),
            access: Access::ReadWrite,
            propagation: Propagation::Private,
        };
        ["hosts", "resolv.conf"].map(mount).into()
    }
}

fn resolv_conf(dns: &cri::DnsConfig) -> String {
    let mut text = String::new();
    let mut line = |key: &str, values: &[String]| {
        if !values.is_empty() {
            text.push_str(&format!("{key} {}\n", values.join(" ")));
        }
    };
    line("search", &dns.searches);
    for server in &dns.servers {
        line("nameserver", std::slice::from_ref(server));
    }
    line("options", &dns.options);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_written_as_it_is_read() {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let dns = cri::DnsConfig {
            servers: list(&["10.0.0.1", "::1"]),
            searches: list(&["a", "b"]),
            options: list(&["ndots:5"]),
        };
        assert_eq!(resolv_conf(&dns), "search a b\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:5\n");
        assert_eq!(resolv_conf(&cri::DnsConfig::default()), "");
    }
}

//! /etc/hosts.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::HostAlias;

const BASE: &str = "\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";

/// The file for a pod; `host` is the host's own file when the pod shares the host's network.
pub fn hosts(
    ips: &[IpAddr],
    hostname: &str,
    domain: Option<&str>,
    aliases: &[HostAlias],
    host: Option<&str>,
) -> String {
    let mut text = match host {
        Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
        None => BASE.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Writing to a string cannot fail.
    if host.is_none() {
        for ip in ips {
            let _ = match domain {
                Some(domain) => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
                None => writeln!(text, "{ip}\t{hostname}"),
            };
        }
    }
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            let _ = writeln!(text, "{}\t{names}", alias.ip);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_itself_and_its_aliases() {
        let aliases = [HostAlias { ip: "10.1.2.3".into(), hostnames: Some(vec!["foo".into(), "bar".into()]) }];
        let ips = ["10.42.0.7".parse().unwrap()];
        let text = hosts(&ips, "web-0", Some("stores.shop.svc.cluster.local"), &aliases, None);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.42.0.7\tweb-0.stores.shop.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n10.1.2.3\tfoo\tbar\n"));
    }

    #[test]
    fn a_host_network_pod_has_the_hosts_own_lines() {
        let text = hosts(&["192.0.2.1".parse().unwrap()], "node", None, &[], Some("127.0.0.1 localhost"));
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n");
    }
}

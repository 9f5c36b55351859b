//! Kernel settings of a pod's own: which are safe to give to whoever asks, and whose namespace they are of.

/// Namespaced, and of no effect on anything outside of the pod; with the minor version of v1 since which it counts as safe.
pub const SAFE: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// The namespace that a setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    Network,
    Ipc,
}

/// `None`: it is of the whole host.
pub fn namespace_of(name: &str) -> Option<Namespace> {
    const IPC: [&str; 3] = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name.starts_with("net.") {
        Some(Namespace::Network)
    } else if name == "kernel.sem" || IPC.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Namespace::Ipc)
    } else {
        None
    }
}

/// With dots between its parts: where the first separator is a slash, dots stand for themselves within a part.
pub fn with_dots(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => {
            let swap = |c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_of_a_namespace_or_of_the_host() {
        let table = [
            ("net.core.somaxconn", Some(Namespace::Network)),
            ("kernel.shmmax", Some(Namespace::Ipc)),
            ("kernel.sem", Some(Namespace::Ipc)),
            ("fs.mqueue.msg_max", Some(Namespace::Ipc)),
            ("kernel.semaphore", None),
            ("vm.swappiness", None),
        ];
        for (name, expected) in table {
            assert_eq!(namespace_of(name), expected, "{name}");
        }
        assert!(SAFE.iter().all(|(name, _)| namespace_of(name).is_some()));
    }

    #[test]
    fn slashes_separate_as_dots_do() {
        assert_eq!(with_dots("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(with_dots("net.ipv4.conf.eno2/100.rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(with_dots("kernel"), "kernel");
    }
}

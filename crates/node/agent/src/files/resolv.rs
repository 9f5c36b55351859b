//! /etc/resolv.conf by dnsPolicy.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

/// The host's resolver configuration, as far as pods inherit it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl HostResolver {
    /// Lenient as libc is: unknown lines are skipped, the last `search` or `domain` line counts.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(Into::into)),
                Some("search" | "domain") => {
                    // "." would make every name absolute.
                    resolver.searches = words.filter(|word| *word != ".").map(Into::into).collect();
                }
                Some("options") => resolver.options.extend(words.map(Into::into)),
                _ => {}
            }
        }
        resolver
    }
}

/// The file for a pod. libc reads at most three nameservers; more are cut, as upstream cuts them.
pub fn resolv_conf(pod: &Pod, host: &HostResolver, cluster_dns: IpAddr, cluster_domain: &str) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
    let mut resolver = match spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst") {
        "None" => HostResolver::default(),
        "Default" => host.clone(),
        "ClusterFirst" if host_network => host.clone(),
        _ => HostResolver {
            nameservers: vec![cluster_dns.to_string()],
            searches: [format!("{namespace}.svc."), "svc.".to_owned(), String::new()]
                .into_iter()
                .map(|prefix| format!("{prefix}{cluster_domain}"))
                .chain(host.searches.iter().cloned())
                .collect(),
            options: vec!["ndots:5".into()],
        },
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        resolver.nameservers.extend(config.nameservers.iter().flatten().cloned());
        resolver.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            resolver.options.retain(|known| known.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    render(&unique(resolver))
}

fn unique(mut resolver: HostResolver) -> HostResolver {
    for list in [&mut resolver.nameservers, &mut resolver.searches] {
        let mut seen = std::collections::HashSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    resolver.nameservers.truncate(3);
    resolver.searches.truncate(32);
    resolver
}

fn render(resolver: &HostResolver) -> String {
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        text.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for nameserver in &resolver.nameservers {
        text.push_str(&format!("nameserver {nameserver}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HOST: &str = "# made by hand\nnameserver 192.0.2.53 ; old\nsearch . example.org\noptions edns0\nbogus\n";

    fn render_for(spec: Value) -> String {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = serde_json::from_value(json!({"metadata": {"namespace": "shop"}, "spec": spec})).unwrap();
        resolv_conf(&pod, &HostResolver::parse(HOST), "10.43.0.10".parse().unwrap(), "cluster.local")
    }

    #[test]
    fn cluster_first_asks_the_cluster_and_searches_the_namespace_first() {
        let want = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                    nameserver 10.43.0.10\noptions ndots:5\n";
        assert_eq!(render_for(json!({})), want);
        assert_eq!(render_for(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})), want);
    }

    #[test]
    fn default_and_host_network_inherit_the_hosts() {
        let want = "search example.org\nnameserver 192.0.2.53\noptions edns0\n";
        assert_eq!(render_for(json!({"dnsPolicy": "Default"})), want);
        assert_eq!(render_for(json!({"hostNetwork": true})), want);
    }

    #[test]
    fn none_takes_only_the_pods_own_and_options_override_by_name() {
        let config = json!({"nameservers": ["1.1.1.1", "1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]});
        assert_eq!(
            render_for(json!({"dnsPolicy": "None", "dnsConfig": config})),
            "nameserver 1.1.1.1\noptions ndots:2\n"
        );
        let config = json!({"options": [{"name": "ndots", "value": "2"}, {"name": "debug"}]});
        assert!(render_for(json!({"dnsConfig": config})).ends_with("options ndots:2 debug\n"));
    }

    #[test]
    fn an_empty_host_file_is_fine() {
        assert_eq!(HostResolver::parse("\u{0}\nnameserver\nsearch\n"), HostResolver::default());
    }
}

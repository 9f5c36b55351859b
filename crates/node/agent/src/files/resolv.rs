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

/// A pod's file, and what had to be left out of it, in the words of upstream's `DNSConfigForming` Events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub config: HostResolver,
    pub text: String,
    pub left_out: Vec<String>,
}

/// libc reads no more nameservers than these.
const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
/// Of the whole search line, and of one domain of it: glibc before 2.29 aborts on longer ones.
const SEARCH_LINE: usize = 2048;
const SEARCH_DOMAIN: usize = 253;

/// The file for a pod.
pub fn resolv_conf(pod: &Pod, host: &HostResolver, cluster_dns: IpAddr, cluster_domain: &str) -> Resolver {
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
            resolver.options.push(match option.value.as_deref() {
                Some("") | None => name.clone(),
                Some(value) => format!("{name}:{value}"),
            });
        }
    }
    for list in [&mut resolver.nameservers, &mut resolver.searches] {
        let mut seen = std::collections::HashSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    let left_out = [limit_nameservers(&mut resolver.nameservers), limit_searches(&mut resolver.searches)];
    let left_out = left_out.into_iter().flatten().collect();
    Resolver { text: render(&resolver), config: resolver, left_out }
}

fn limit_nameservers(all: &mut Vec<String>) -> Option<String> {
    (all.len() > NAMESERVERS).then(|| {
        all.truncate(NAMESERVERS);
        format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            all.join(" ")
        )
    })
}

fn limit_searches(all: &mut Vec<String>) -> Option<String> {
    let before = all.len();
    all.truncate(SEARCHES);
    all.retain(|domain| domain.len() <= SEARCH_DOMAIN);
    let line = |all: &[String]| all.iter().map(|domain| domain.len() + 1).sum::<usize>().saturating_sub(1);
    while line(all) > SEARCH_LINE {
        all.pop();
    }
    (all.len() < before).then(|| {
        format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            all.join(" ")
        )
    })
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
        let resolver = resolver_for(spec);
        assert_eq!(resolver.left_out, Vec::<String>::new());
        resolver.text
    }

    fn resolver_for(spec: Value) -> Resolver {
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
    fn what_is_too_much_is_left_out_and_said() {
        let config = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.1", "1.1.1.3", "1.1.1.4"]});
        let resolver = resolver_for(json!({"dnsPolicy": "None", "dnsConfig": config}));
        assert_eq!(resolver.text, "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n");
        let said = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
            1.1.1.1 1.1.1.2 1.1.1.3";
        assert_eq!(resolver.left_out, [said]);

        let applied = |searches: Vec<String>| {
            let config = json!({"nameservers": ["1.1.1.1"], "searches": searches});
            let resolver = resolver_for(json!({"dnsPolicy": "None", "dnsConfig": config}));
            let line = resolver.text.lines().next().unwrap().strip_prefix("search ").unwrap().to_owned();
            let said =
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ";
            assert!(resolver.left_out.iter().all(|text| *text == format!("{said}{line}")), "{:?}", resolver.left_out);
            (line.split(' ').count(), line.len(), resolver.left_out.len())
        };
        assert_eq!(applied((0..32).map(|n| format!("d{n}.test")).collect()), (32, 277, 0));
        assert_eq!(applied((0..40).map(|n| format!("d{n}.test")).collect()), (32, 277, 1));
        // Nine domains of 227 characters and their spaces are 2051.
        assert_eq!(applied((1..10).map(|n| format!("{n}{}", "x".repeat(226))).collect()), (8, 1823, 1));
        assert_eq!(applied(vec!["y".repeat(254), "ok.test".into()]), (1, 7, 1));
    }

    #[test]
    fn an_empty_host_file_is_fine() {
        assert_eq!(HostResolver::parse("\u{0}\nnameserver\nsearch\n"), HostResolver::default());
    }
}

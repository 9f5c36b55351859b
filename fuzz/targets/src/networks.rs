//! What operators write for CNI plug-ins, and what those answer.

use std::net::{IpAddr, Ipv4Addr};

/// A configuration that is read is read the same from what is kept of it; a pod's addresses are one of each family.
pub fn cni(data: &[u8]) {
    if let Ok(list) = net_cni::NetworkList::parse(data) {
        assert!(!list.plugins.is_empty());
        assert!(list.plugins.iter().all(|plugin| !plugin.kind.contains('/')), "{list:?}");
        let again = net_cni::NetworkList::parse(list.source.as_bytes()).expect("it was read before");
        assert_eq!(again, list);
    }
    let Ok(answer) = serde_json::from_slice(data) else { return };
    let preferred = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(found) = net_cni::addresses(&answer, preferred) {
        match &found[..] {
            [one] => assert!(!one.is_unspecified()),
            [first, second] => assert!(first.is_ipv4() && second.is_ipv6()),
            other => panic!("{other:?}"),
        }
    }
}

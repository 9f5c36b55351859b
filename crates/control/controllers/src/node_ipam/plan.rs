//! Which block of pod addresses a node gets. Pure.

use std::collections::BTreeSet;

use base_sys::route::{IpCidr, host_prefix};

/// A node's share of the cluster's addresses: `--node-cidr-mask-size-ipv4` and `-ipv6` of upstream, and k3s's.
fn node_prefix(cluster: IpCidr) -> u8 {
    cluster.prefix().max(if cluster.is_ipv4() { 24 } else { 64 })
}

/// The first block of `cluster` that overlaps none of `used`; a cluster range smaller than a block is one node's alone.
pub fn free_block(cluster: IpCidr, used: &BTreeSet<IpCidr>) -> Option<IpCidr> {
    let prefix = node_prefix(cluster);
    let step = 1_u128 << (host_prefix(cluster.network()) - prefix);
    let blocks = (0..1_u128 << (prefix - cluster.prefix())).filter_map(|number| cluster.nth(number * step));
    let mut blocks = blocks.filter_map(|network| IpCidr::new(network, prefix).ok());
    blocks.find(|block| !used.iter().any(|used| used.overlaps(*block)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn free(cluster: &str, used: &[&str]) -> Option<String> {
        let used = used.iter().map(|block| block.parse().unwrap()).collect();
        free_block(cluster.parse().unwrap(), &used).map(|block| block.to_string())
    }

    #[test]
    fn the_first_free_block_is_given() {
        assert_eq!(free("10.42.0.0/16", &[]).as_deref(), Some("10.42.0.0/24"));
        assert_eq!(free("10.42.0.0/16", &["10.42.0.0/24", "10.42.2.0/24"]).as_deref(), Some("10.42.1.0/24"));
        // Given by hand, of another size.
        assert_eq!(free("10.42.0.0/16", &["10.42.0.0/23"]).as_deref(), Some("10.42.2.0/24"));
        assert_eq!(free("10.42.0.0/16", &["192.0.2.0/24", "::/0"]).as_deref(), Some("10.42.0.0/24"));
        assert_eq!(free("fd42::/56", &["fd42::/64", "0.0.0.0/0"]).as_deref(), Some("fd42:0:0:1::/64"));
    }

    #[test]
    fn a_range_that_is_used_up_has_none() {
        assert_eq!(free("10.42.0.0/23", &["10.42.0.0/24", "10.42.1.0/24"]), None);
        assert_eq!(free("10.42.0.0/26", &[]).as_deref(), Some("10.42.0.0/26"));
        assert_eq!(free("10.42.0.0/26", &["10.42.0.0/26"]), None);
        assert_eq!(free("fd42::/108", &[]).as_deref(), Some("fd42::/108"));
        assert_eq!(free("fd42::/63", &["fd42::/64", "fd42:0:0:1::/64"]), None);
    }
}

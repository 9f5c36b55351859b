//! The network between a cluster's nodes.

use anyhow::{Result, ensure};

use crate::host::run;
use crate::{Cluster, eventually};

impl Cluster {
    /// The network between the nodes carries packets of their own addresses only, as those of clouds do. Resolves once
    /// the nodes have found the direct ways, and then that they are gone: a probe on its way is believed.
    pub fn only_node_addresses_pass(&self) -> Result<()> {
        let others = self.nodes()?.len() - 1;
        // For each of the others its pods, and the address that is there to be probed.
        self.routes("dev eth0", 2 * others)?;
        let rules = "add table bridge cloud; add chain bridge cloud forward { type filter hook forward priority 0; }; \
            add rule bridge cloud forward ip saddr 10.42.0.0/16 drop; add rule bridge cloud forward ip daddr 10.42.0.0/16 drop; \
            add rule bridge cloud forward ip6 saddr fd42::/56 drop; add rule bridge cloud forward ip6 daddr fd42::/56 drop";
        self.node("nft", &[rules])?.ok();
        self.routes("dev vx-", others)
    }

    /// Takes that back.
    pub fn every_address_passes(&self) -> Result<()> {
        self.node("nft", &["delete table bridge cloud"])?.ok();
        Ok(())
    }

    /// Waits until every node has so many routes of ours with these words, in each of its families.
    pub fn routes(&self, words: &str, count: usize) -> Result<()> {
        for node in self.nodes()? {
            eventually(words, || {
                for family in &node.addresses {
                    let family = if family.is_ipv4() { "-4" } else { "-6" };
                    let routes = run("ip", &["-n", &node.namespace, family, "route", "show", "proto", "83"])?;
                    ensure!(routes.matches(words).count() == count, "{}: {routes}", node.name);
                }
                Ok(())
            });
        }
        Ok(())
    }
}

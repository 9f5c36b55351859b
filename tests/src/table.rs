//! What the kernel's service table holds, read with the real `nft`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;

impl Cluster {
    /// The endpoints that the kernel sends new TCP connections to `address` to; `None` where it knows no such service.
    pub fn programmed(&self, address: SocketAddr) -> Result<Option<BTreeSet<SocketAddr>>> {
        let front = [address.ip().to_string().into(), "tcp".into(), address.port().into()];
        self.endpoints_in("service-counts", "service-slots", &front)
    }

    /// As [`Cluster::programmed`], for a node port and clients inside the cluster.
    pub fn programmed_node_port(&self, port: u16) -> Result<Option<BTreeSet<SocketAddr>>> {
        self.endpoints_in("node-port-counts", "node-port-slots", &["tcp".into(), port.into()])
    }

    /// `front` is the key after the origin.
    fn endpoints_in(&self, counts: &str, slots: &str, front: &[Value]) -> Result<Option<BTreeSet<SocketAddr>>> {
        let mut key = vec![Value::from(0)];
        key.extend(front.iter().cloned());
        let counts = self.elements(counts)?;
        let Some((_, count)) = counts.iter().find(|(fields, _)| *fields == key) else { return Ok(None) };
        let count = count.as_u64().context("a count is a number")?;
        let mut endpoints = BTreeSet::new();
        for (fields, endpoint) in self.elements(slots)? {
            if let Some((slot, front)) = fields.split_last()
                && front == key
            {
                // Surplus slots go right after the count has gone down.
                ensure!(slot.as_u64().is_some_and(|slot| slot < count), "slot {slot} of {count}");
                let ip = endpoint["concat"][0].as_str().context("an endpoint has an address")?;
                let port = endpoint["concat"][1].as_u64().context("an endpoint has a port")?;
                endpoints.insert(format!("{ip}:{port}").parse().context("an endpoint")?);
            }
        }
        ensure!(endpoints.len() as u64 == count, "{} slots for a count of {count}", endpoints.len());
        Ok(Some(endpoints))
    }

    /// The elements of one of the table's maps: fields of the key, value.
    fn elements(&self, map: &str) -> Result<Vec<(Vec<Value>, Value)>> {
        let list = |arguments: &[&str]| -> Result<Vec<Value>> {
            let answer = self.node("nft", arguments)?;
            ensure!(answer.success, "nft: {}", answer.stderr);
            let json: Value = serde_json::from_str(&answer.stdout).context("nft prints JSON")?;
            Ok(json["nftables"].as_array().context("nft prints a list")?.clone())
        };
        let tables = list(&["-j", "list", "tables", "inet"])?;
        let names = tables.iter().filter_map(|table| table["table"]["name"].as_str());
        let table = names.into_iter().find(|name| name.starts_with("sampan-")).context("no table of ours")?;
        let listed = list(&["-j", "list", "map", "inet", table, map])?;
        let map = listed.iter().find_map(|item| item.get("map")).context("no such map")?;
        let elements = map["elem"].as_array().cloned().unwrap_or_default();
        let pairs = elements.into_iter().map(|pair| {
            let key = pair[0]["concat"].as_array().context("keys are concatenated")?.clone();
            Ok((key, pair[1].clone()))
        });
        pairs.collect()
    }
}

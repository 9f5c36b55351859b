//! Brings the allocation keys and the services back into step: at start, and whenever a release may have failed.

use std::collections::BTreeMap;

use base_meta::Status;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use machinery_storage::{Error, Expect, Op};

use super::allocations::{Allocations, Owner, PREFIX, Record, failed};
use super::take;

/// A create takes its address, then stores its service: between the two it looks like a leak.
const IN_FLIGHT: SignedDuration = SignedDuration::from_secs(60);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Keys that no service holds, deleted.
    pub reclaimed: usize,
    /// Keys of services that had none, written.
    pub restored: usize,
    /// Addresses or ports that two services hold; only their users can mend that.
    pub disputed: usize,
}

impl Allocations {
    /// `services` are all there are, read just now.
    pub async fn repair(&self, services: &[Service]) -> Result<Repaired, Status> {
        let mut wanted: BTreeMap<String, Owner> = BTreeMap::new();
        let mut repaired = Repaired::default();
        for service in services {
            for each in take::held(service) {
                if let Some(first) = wanted.insert(each.key(), take::owner(service)) {
                    repaired.disputed += 1;
                    tracing::error!(
                        key = each.key(),
                        first = format!("{}/{}", first.namespace, first.name),
                        second = format!("{:?}/{:?}", service.metadata.namespace, service.metadata.name),
                        "two services hold one address or node port: delete and recreate one of them"
                    );
                }
            }
        }
        let now = Timestamp::now();
        for entry in self.storage.list(PREFIX, None, 0, None).await.map_err(failed)?.entries {
            let record = serde_json::from_slice::<Record>(&entry.value).ok();
            match (wanted.remove(&*entry.key), record) {
                (Some(owner), Some(record)) if record.owner == owner => {}
                (Some(owner), _) => {
                    let op = Op::Put(Record::bytes(&owner, now)?);
                    if self.storage.write(&entry.key, Expect::At(entry.modified), op).await.is_ok() {
                        repaired.restored += 1;
                    }
                }
                (None, Some(record)) if now.duration_since(record.since) < IN_FLIGHT => {}
                (None, _) => {
                    self.delete(&entry.key, entry.modified, entry.value).await.map_err(failed)?;
                    repaired.reclaimed += 1;
                }
            }
        }
        for (key, owner) in wanted {
            match self.storage.write(&key, Expect::Absent, Op::Put(Record::bytes(&owner, now)?)).await {
                Ok(_) => repaired.restored += 1,
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if repaired != Repaired::default() {
            tracing::info!(?repaired, "allocations of services repaired");
        }
        Ok(repaired)
    }
}

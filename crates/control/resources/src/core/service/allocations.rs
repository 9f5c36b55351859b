//! Service addresses and node ports as stored keys: whoever creates the key has the address, so several API servers
//! never hand out one twice. The value names the owner, for release and repair.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use base_meta::Status;
use bytes::Bytes;
use jiff::Timestamp;
use machinery_registry::{Registry, Strategy};
use machinery_storage::{Error, Expect, Op, Revision, Storage};
use serde::{Deserialize, Serialize};

use super::ranges::{NodePortRange, ServiceRange};
use crate::define::server_context;
use crate::networking::ip_address::{self, IpAddressStrategy};
use crate::networking::service_cidr::{self, ServiceCidrStrategy};

pub(super) const PREFIX: &str = "/sampan/allocations/";
/// Before the whole range is read for what is free, this many random keys are tried.
const GUESSES: usize = 8;

/// One thing a service can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Allocation {
    ClusterIp(IpAddr),
    NodePort(u16),
}

impl Allocation {
    pub(super) fn key(self) -> String {
        match self {
            Self::ClusterIp(ip) => format!("{PREFIX}clusterips/{ip}"),
            Self::NodePort(port) => format!("{PREFIX}nodeports/{port}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What is stored under an allocation's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// Repair leaves young ones alone: their service may be about to be stored.
    pub(super) since: Timestamp,
}

impl Record {
    pub(super) fn bytes(owner: &Owner, since: Timestamp) -> Result<Bytes, Status> {
        let record = Self { owner: owner.clone(), since };
        Ok(serde_json::to_vec(&record).map_err(Status::internal)?.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("already allocated")]
    Taken,
    #[error("range is full")]
    Full,
}

/// `Ok(Err(_))`: the range's answer; `Err(_)`: the store's.
pub(crate) type Taken<T> = Result<Result<T, Refused>, Status>;

pub struct Allocations {
    pub(super) storage: Arc<dyn Storage>,
    /// Of the cluster's configuration, one per family; the first is of Services that do not say.
    services: Vec<ServiceRange>,
    /// Further ranges, once their registry is there.
    further: OnceLock<Arc<Registry<ServiceCidrStrategy>>>,
    /// Addresses that somebody holds by an IPAddress.
    held: OnceLock<Arc<Registry<IpAddressStrategy>>>,
    pub(super) node_ports: NodePortRange,
}

impl Allocations {
    /// The API server's own.
    pub fn first_service_ip(&self) -> IpAddr {
        self.services[0].first()
    }

    /// `services` are one or two ranges, of different families.
    pub fn new(storage: Arc<dyn Storage>, services: Vec<ServiceRange>, node_ports: NodePortRange) -> Self {
        assert!(!services.is_empty(), "the configuration names a service range");
        Self { storage, services, further: OnceLock::new(), held: OnceLock::new(), node_ports }
    }

    /// From now on ServiceCIDRs and IPAddresses count as well.
    pub(crate) fn follow(&self, cidrs: Arc<Registry<ServiceCidrStrategy>>, held: Arc<Registry<IpAddressStrategy>>) {
        // There is one registry of each, and this is told of once.
        let _ = self.further.set(cidrs);
        let _ = self.held.set(held);
    }

    /// The ranges of the configuration.
    pub fn configured(&self) -> Vec<String> {
        self.services.iter().map(ToString::to_string).collect()
    }

    /// Whether an IPAddress says that something else than a Service has the address.
    async fn is_held(&self, which: Allocation) -> Result<bool, Status> {
        let (Allocation::ClusterIp(ip), Some(held)) = (which, self.held.get()) else { return Ok(false) };
        let ctx = server_context(held.strategy().def().gvr(), None);
        match held.get_typed(&ctx, &ip.to_string()).await {
            Ok(address) => Ok(!ip_address::is_of_a_service(&address)),
            Err(status) if status.code == 404 => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// The cluster's families, that of Services that do not say first.
    pub(super) fn families(&self) -> Vec<&'static str> {
        self.services.iter().map(ServiceRange::family).collect()
    }

    /// Those of the configuration, then those of ServiceCIDRs that are ready and stay.
    pub(super) async fn ranges(&self) -> Result<Vec<ServiceRange>, Status> {
        let mut all = self.services.clone();
        let Some(further) = self.further.get() else { return Ok(all) };
        for cidr in further.list_typed(None).await?.iter().filter(|cidr| service_cidr::is_ready(cidr)) {
            let blocks = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
            for range in blocks.filter_map(|block| ServiceRange::parse(block).ok()) {
                if !all.contains(&range) {
                    all.push(range);
                }
            }
        }
        Ok(all)
    }

    /// This one and no other; a dry run only looks.
    pub(super) async fn take(&self, which: Allocation, owner: &Owner, dry_run: bool) -> Taken<()> {
        if self.is_held(which).await? {
            return Ok(Err(Refused::Taken));
        }
        if dry_run {
            let free = self.storage.get(&which.key()).await.map_err(failed)?.is_none();
            return Ok(if free { Ok(()) } else { Err(Refused::Taken) });
        }
        match self.storage.write(&which.key(), Expect::Absent, Op::Put(Record::bytes(owner, Timestamp::now())?)).await {
            Ok(_) => Ok(Ok(())),
            Err(Error::Conflict { .. }) => Ok(Err(Refused::Taken)),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) async fn take_any_ip(&self, family: &str, owner: &Owner, dry_run: bool) -> Taken<IpAddr> {
        for range in self.ranges().await?.into_iter().filter(|range| range.family() == family) {
            let ip = |number| Allocation::ClusterIp(range.address(number));
            if let Ok(Allocation::ClusterIp(ip)) = self.take_any(range.band(), ip, owner, dry_run).await? {
                return Ok(Ok(ip));
            }
        }
        Ok(Err(Refused::Full))
    }

    pub(super) async fn take_any_port(&self, owner: &Owner, dry_run: bool) -> Taken<u16> {
        let band = self.node_ports.band();
        let port = |number| Allocation::NodePort(self.node_ports.port(number));
        match self.take_any(band, port, owner, dry_run).await? {
            Ok(Allocation::NodePort(port)) => Ok(Ok(port)),
            Ok(Allocation::ClusterIp(_)) => Ok(Err(Refused::Full)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// A few guesses, which nearly always hit, then whatever a listing shows to be free.
    async fn take_any(
        &self,
        band: super::ranges::Band,
        which: impl Fn(u64) -> Allocation,
        owner: &Owner,
        dry_run: bool,
    ) -> Taken<Allocation> {
        for _ in 0..GUESSES.min(usize::try_from(band.size).unwrap_or(GUESSES)) {
            let guess = which(band.guess());
            if self.take(guess, owner, dry_run).await?.is_ok() {
                return Ok(Ok(guess));
            }
        }
        let listing = self.storage.list(PREFIX, None, 0, None).await.map_err(failed)?;
        let taken: std::collections::HashSet<&str> = listing.entries.iter().map(|entry| &*entry.key).collect();
        for number in band.candidates() {
            let candidate = which(number);
            if !taken.contains(candidate.key().as_str()) && self.take(candidate, owner, dry_run).await?.is_ok() {
                return Ok(Ok(candidate));
            }
        }
        Ok(Err(Refused::Full))
    }

    /// Gives back what the owner holds; what another holds by now is left alone. What fails here, repair catches.
    pub(crate) async fn release(&self, which: Allocation, owner: &Owner) {
        let key = which.key();
        let result = match self.storage.get(&key).await {
            Ok(Some(entry)) => match serde_json::from_slice::<Record>(&entry.value) {
                Ok(record) if record.owner != *owner => return,
                _ => self.delete(&key, entry.modified, entry.value).await,
            },
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(key, error = &error as &dyn std::error::Error, "an allocation was not released");
        }
    }

    pub(super) async fn delete(&self, key: &str, at: Revision, last: Bytes) -> Result<(), Error> {
        match self.storage.write(key, Expect::At(at), Op::Delete { last }).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn failed(error: Error) -> Status {
    tracing::error!(error = &error as &dyn std::error::Error, "an allocation failed in storage");
    match error {
        Error::Closed => Status::service_unavailable("the server is shutting down"),
        Error::Full { .. } => Status::internal("no space left for the datastore"),
        _ => Status::internal("the datastore failed"),
    }
}

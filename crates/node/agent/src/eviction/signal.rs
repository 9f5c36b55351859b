//! What of a node can run short, and how short is too short. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use base_meta::quantity::{Format, Quantity};

/// What upstream's thresholds name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// Of the cgroup of all pods.
    AllocatableMemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

/// What a node says of itself while something is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

/// What pods are evicted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Storage,
    Inodes,
    Pids,
}

impl Signal {
    pub const ALL: [Self; 7] = [
        Self::MemoryAvailable,
        Self::AllocatableMemoryAvailable,
        Self::NodeFsAvailable,
        Self::NodeFsInodesFree,
        Self::ImageFsAvailable,
        Self::ImageFsInodesFree,
        Self::PidAvailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::AllocatableMemoryAvailable => "allocatableMemory.available",
            Self::NodeFsAvailable => "nodefs.available",
            Self::NodeFsInodesFree => "nodefs.inodesFree",
            Self::ImageFsAvailable => "imagefs.available",
            Self::ImageFsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    pub fn pressure(self) -> Pressure {
        match self.resource() {
            Resource::Memory => Pressure::Memory,
            Resource::Storage | Resource::Inodes => Pressure::Disk,
            Resource::Pids => Pressure::Pid,
        }
    }

    pub fn resource(self) -> Resource {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemoryAvailable => Resource::Memory,
            Self::NodeFsAvailable | Self::ImageFsAvailable => Resource::Storage,
            Self::NodeFsInodesFree | Self::ImageFsInodesFree => Resource::Inodes,
            Self::PidAvailable => Resource::Pids,
        }
    }
}

impl Pressure {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Pid];

    /// The type of its node condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }

    /// Reason and message of its condition, in upstream's words.
    pub fn words(self, holds: bool) -> (&'static str, &'static str) {
        match (self, holds) {
            (Self::Memory, true) => ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            (Self::Memory, false) => ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            (Self::Disk, true) => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            (Self::Disk, false) => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            (Self::Pid, true) => ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            (Self::Pid, false) => ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        }
    }

    /// Reason of the node's Event when it comes or goes.
    pub fn event(self, holds: bool) -> &'static str {
        match (self, holds) {
            (Self::Memory, true) => "NodeHasInsufficientMemory",
            (Self::Memory, false) => "NodeHasSufficientMemory",
            (Self::Disk, true) => "NodeHasDiskPressure",
            (Self::Disk, false) => "NodeHasNoDiskPressure",
            (Self::Pid, true) => "NodeHasInsufficientPID",
            (Self::Pid, false) => "NodeHasSufficientPID",
        }
    }
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Storage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// An amount of it as it is printed.
    pub fn quantity(self, amount: u64) -> Quantity {
        let format = match self {
            Self::Memory | Self::Storage => Format::BinarySi,
            Self::Inodes | Self::Pids => Format::DecimalSi,
        };
        Quantity::from_value(i64::try_from(amount).unwrap_or(i64::MAX), format)
    }
}

/// Bytes, inodes or processes, or a share of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Absolute(Quantity),
    /// 0.05 is five percent.
    Share(f64),
}

impl Amount {
    /// Of what has this capacity.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Absolute(quantity) => u64::try_from(quantity.value()).unwrap_or_default(),
            Self::Share(share) => (capacity as f64 * share) as u64,
        }
    }
}

/// Less than this is too short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub value: Amount,
    /// How long it may be short before a pod goes; `None`: a hard threshold, for which one goes at once.
    pub grace: Option<Duration>,
    /// How much beyond the threshold is freed once something is.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// `enough`: also short while less than the least to reclaim has been freed.
    pub fn is_met(&self, observed: Observation, enough: bool) -> bool {
        let beyond = self.reclaim.filter(|_| enough).map_or(0, |reclaim| reclaim.of(observed.capacity));
        observed.available < self.value.of(observed.capacity).saturating_add(beyond)
    }
}

/// What there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub available: u64,
    pub capacity: u64,
}

/// What could be observed.
pub type Observations = BTreeMap<Signal, Observation>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_met_below_its_amount_or_share() {
        let at = |available| Observation { available, capacity: 1000 };
        let ten = Quantity::from_value(10, Format::DecimalSi);
        let table = [(Amount::Absolute(ten), 9, 10), (Amount::Share(0.05), 49, 50)];
        for (value, below, not_below) in table {
            let hard = Threshold { signal: Signal::NodeFsAvailable, value, grace: None, reclaim: None };
            assert!(hard.is_met(at(below), true) && !hard.is_met(at(not_below), true), "{value:?}");
            let more = Threshold { reclaim: Some(Amount::Absolute(ten)), ..hard };
            assert!(!more.is_met(at(not_below), false) && more.is_met(at(not_below + 9), true), "{value:?}");
            assert!(!more.is_met(at(not_below + 10), true), "{value:?}");
        }
    }

    #[test]
    fn signals_have_the_names_that_they_are_asked_for_by() {
        for signal in Signal::ALL {
            assert_eq!(Signal::named(signal.name()), Some(signal));
        }
        assert_eq!(Signal::named("memory"), None);
    }
}

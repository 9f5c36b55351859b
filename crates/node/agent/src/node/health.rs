//! How the node is, as its conditions say it.

use tokio::sync::watch;

use crate::eviction::{Pressure, Pressures};
use crate::pods::Machine;
use crate::shutdown::NOT_READY;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Why pods cannot be connected.
    pub(super) network: Option<String>,
    pub(super) pressures: Pressures,
    pub(super) shutting_down: bool,
}

/// Type, status, reason and message of a condition.
pub(super) type Said = (&'static str, &'static str, &'static str, String);

impl Health {
    /// In upstream's words.
    pub(super) fn said(&self) -> impl Iterator<Item = Said> + use<> {
        let pressures = self.pressures.clone();
        let pressures = Pressure::ALL.into_iter().map(move |pressure| {
            let holds = pressures.contains(&pressure);
            let (reason, message) = pressure.words(holds);
            (pressure.condition(), if holds { "True" } else { "False" }, reason, message.to_owned())
        });
        pressures.chain([self.ready()])
    }

    fn ready(&self) -> Said {
        let network = self.network.as_ref().map(|trouble| {
            let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";
            format!("{network} message:Network plugin returns error: {trouble}")
        });
        let shutdown = self.shutting_down.then(|| NOT_READY.to_owned());
        let why: Vec<String> = network.into_iter().chain(shutdown).collect();
        let message = match why.as_slice() {
            [] => return ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned()),
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        ("Ready", "False", "KubeletNotReady", message)
    }
}

/// Tells when that changes.
#[derive(Clone)]
pub struct HealthWatch {
    network: watch::Receiver<Option<String>>,
    pressures: watch::Receiver<Pressures>,
    shutting_down: watch::Receiver<bool>,
}

impl HealthWatch {
    pub fn of(machine: &Machine) -> Self {
        Self {
            network: machine.network.trouble(),
            pressures: machine.pressures.subscribe(),
            shutting_down: machine.shutting_down.subscribe(),
        }
    }

    /// What it is by now.
    pub(super) fn seen(&mut self) -> Health {
        Health {
            network: self.network.borrow_and_update().clone(),
            pressures: self.pressures.borrow_and_update().clone(),
            shutting_down: *self.shutting_down.borrow_and_update(),
        }
    }

    pub(super) fn now(&self) -> Health {
        Health {
            network: self.network.borrow().clone(),
            pressures: self.pressures.borrow().clone(),
            shutting_down: *self.shutting_down.borrow(),
        }
    }

    /// From what was last [`Self::seen`].
    pub(super) async fn changed(&mut self) {
        // Who tells lives as long as the node.
        tokio::select! {
            Ok(()) = self.network.changed() => {}
            Ok(()) = self.pressures.changed() => {}
            Ok(()) = self.shutting_down.changed() => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(health: &Health) -> Vec<(&'static str, &'static str, &'static str)> {
        health.said().map(|(kind, status, reason, _)| (kind, status, reason)).collect()
    }

    #[test]
    fn what_is_short_is_said_and_a_node_stays_ready() {
        let health = Health { pressures: Pressures::from([Pressure::Disk]), ..Health::default() };
        let expected = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "True", "KubeletHasDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        ];
        assert_eq!(told(&health), expected);
    }

    #[test]
    fn without_a_network_it_is_not_ready() {
        let health = Health { network: Some("no plug-in".into()), ..Health::default() };
        let (_, status, _, message) = health.said().last().unwrap();
        assert_eq!((status, message.ends_with("Network plugin returns error: no plug-in")), ("False", true));
    }

    #[test]
    fn a_node_that_goes_down_is_not_ready_and_says_all_that_is_wrong() {
        let health = Health { shutting_down: true, ..Health::default() };
        let (_, status, reason, message) = health.said().last().unwrap();
        assert_eq!((status, reason, message.as_str()), ("False", "KubeletNotReady", "node is shutting down"));
        let both = Health { network: Some("none".into()), ..health };
        let message = both.said().last().unwrap().3;
        assert!(message.starts_with("[container runtime network") && message.ends_with(", node is shutting down]"));
    }
}

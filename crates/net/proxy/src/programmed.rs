//! What the kernel has been told, for those who wait for it: the node publishes the revision, and a pod's end waits for
//! its address to leave.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Shared by the driver, which writes, and the readers.
#[derive(Clone, Debug)]
pub(crate) struct Programmed {
    /// Absent until the first load: an earlier run's rules may still be there.
    in_service: Arc<Mutex<Option<HashMap<IpAddr, usize>>>>,
    revision: Arc<watch::Sender<u64>>,
}

impl Programmed {
    pub(crate) fn new() -> Self {
        Self { in_service: Arc::default(), revision: Arc::new(watch::Sender::new(0)) }
    }

    /// The first load, or one after an error.
    pub(crate) fn replace(&self, in_service: HashMap<IpAddr, usize>, revision: u64) {
        *self.in_service.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_service);
        self.publish(revision);
    }

    pub(crate) fn update(&self, entered: &[IpAddr], left: &[IpAddr], revision: u64) {
        {
            let mut guard = self.in_service.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = guard.get_or_insert_default();
            entered.iter().for_each(|ip| count_up(counts, *ip));
            left.iter().for_each(|ip| {
                count_down(counts, *ip);
            });
        }
        self.publish(revision);
    }

    /// Wakes everyone who waits, also when a deletion changed no revision.
    fn publish(&self, revision: u64) {
        self.revision.send_modify(|current| *current = revision.max(*current));
    }

    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Resolves with the first load.
    pub(crate) async fn loaded(&self) {
        self.until(|in_service| in_service.is_some()).await;
    }

    /// Resolves once no Service sends new connections to `ip`, save as a last resort.
    pub(crate) async fn withdrawn(&self, ip: IpAddr) {
        self.until(|in_service| in_service.is_some_and(|counts| !counts.contains_key(&ip))).await;
    }

    async fn until(&self, holds: impl Fn(Option<&HashMap<IpAddr, usize>>) -> bool) {
        let mut revision = self.revision();
        loop {
            // Seen before looking, so that a change in between wakes us.
            revision.mark_unchanged();
            let done = holds(self.in_service.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
            if done || revision.changed().await.is_err() {
                return;
            }
        }
    }
}

pub(crate) fn count_up(counts: &mut HashMap<IpAddr, usize>, ip: IpAddr) {
    *counts.entry(ip).or_default() += 1;
}

/// Whether that was the last.
pub(crate) fn count_down(counts: &mut HashMap<IpAddr, usize>, ip: IpAddr) -> bool {
    match counts.get_mut(&ip) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        Some(_) => counts.remove(&ip).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 2));

    #[tokio::test]
    async fn withdrawal_waits_for_the_last_service_and_for_the_first_load() {
        let programmed = Programmed::new();
        let waiting = tokio::spawn({
            let programmed = programmed.clone();
            async move { programmed.withdrawn(IP).await }
        });
        programmed.replace(HashMap::from([(IP, 2)]), 5);
        programmed.update(&[], &[IP], 6);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        programmed.update(&[], &[IP], 6);
        waiting.await.expect("the wait does not panic");
        assert_eq!(*programmed.revision().borrow(), 6);
        programmed.withdrawn(IP).await;
    }
}

//! What of the node its pods have taken, so that nobody is promised what another has: asked when a pod comes and when one
//! is to have more.
//!
//! Who has to wait for others to give back waits in line: higher priority first, then guaranteed pods, then who came first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::pod::requests::{Amounts, requests};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;
use tokio::sync::mpsc::UnboundedSender;

use crate::pods::Message;

/// By resource: processors in thousandths, everything else in its own unit.
pub type Units = BTreeMap<String, i64>;

pub fn units(amounts: &Amounts) -> Units {
    let unit = |name: &String, amount: &base_meta::quantity::Quantity| {
        let units = if name == "cpu" { amount.milli_value() } else { amount.value() };
        (name.clone(), units)
    };
    amounts.iter().map(|(name, amount)| unit(name, amount)).collect()
}

/// What a pod takes.
pub fn asked(spec: &PodSpec) -> Units {
    let mut asked = units(&requests(spec));
    asked.insert("pods".into(), 1);
    asked
}

/// The first resource that does not suffice. It prints as upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    #[error("Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}")]
    Ever { resource: String, requested: i64, capacity: i64 },
    #[error("Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}")]
    Now { resource: String, requested: i64, used: i64, capacity: i64 },
}

/// Whose turn comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    pub priority: Reverse<i32>,
    pub guaranteed: Reverse<bool>,
    pub since: Timestamp,
    pub uid: String,
}

#[derive(Default)]
struct State {
    taken: HashMap<String, Units>,
    waiting: BTreeMap<Turn, (Units, UnboundedSender<Message>)>,
}

pub struct Capacity {
    all: Units,
    state: Mutex<State>,
}

impl Capacity {
    /// `all`: what of the node is for pods.
    pub fn new(all: Units) -> Self {
        Self { all, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the larger of what the pod has and what it asks, until [`Self::settle`].
    pub fn take(&self, uid: &str, asks: &Units) -> Result<(), Shortage> {
        self.forget(uid);
        self.state().take(&self.all, uid, asks)
    }

    /// What a pod has by now; what it had beyond goes to those who wait.
    pub fn settle(&self, uid: &str, has: Units) {
        let mut state = self.state();
        state.taken.insert(uid.to_owned(), has);
        state.next(&self.all);
    }

    /// Wakes the pod's worker once what it asks is taken for it.
    pub fn wait(&self, turn: Turn, asks: Units, worker: UnboundedSender<Message>) {
        self.state().waiting.insert(turn, (asks, worker));
    }

    /// The pod waits for nothing.
    pub fn forget(&self, uid: &str) {
        self.state().waiting.retain(|turn, _| turn.uid != uid);
    }

    /// Nothing of the pod runs any more.
    pub fn release(&self, uid: &str) {
        self.forget(uid);
        let mut state = self.state();
        if state.taken.remove(uid).is_some() {
            state.next(&self.all);
        }
    }
}

/// Upstream's order: the number of pods, processors, memory, the rest by name.
fn order(name: &str) -> u8 {
    match name {
        "pods" => 0,
        "cpu" => 1,
        "memory" => 2,
        _ => 3,
    }
}

impl State {
    fn take(&mut self, all: &Units, uid: &str, asks: &Units) -> Result<(), Shortage> {
        let has = self.taken.get(uid).cloned().unwrap_or_default();
        let of = |units: &Units, name: &str| units.get(name).copied().unwrap_or(0);
        let mut more: Vec<_> = asks.iter().filter(|(name, asked)| **asked > of(&has, name)).collect();
        more.sort_by_key(|(name, _)| order(name));
        for (name, requested) in more {
            // What the node does not offer is the scheduler's business.
            let Some(capacity) = all.get(name).copied() else { continue };
            let others = self.taken.iter().filter(|(other, _)| *other != uid);
            let used: i64 = others.map(|(_, units)| of(units, name)).sum();
            let (resource, requested) = (name.clone(), *requested);
            if requested > capacity && !has.is_empty() {
                return Err(Shortage::Ever { resource, requested, capacity });
            }
            if requested > capacity - used {
                return Err(Shortage::Now { resource, requested, used, capacity });
            }
        }
        let taken = self.taken.entry(uid.to_owned()).or_default();
        for (name, asked) in asks {
            let slot = taken.entry(name.clone()).or_default();
            *slot = (*slot).max(*asked);
        }
        Ok(())
    }

    /// Takes for those who wait, in turn, what has become free.
    fn next(&mut self, all: &Units) {
        for (turn, (asks, worker)) in std::mem::take(&mut self.waiting) {
            if self.take(all, &turn.uid, &asks).is_ok() {
                // A worker that has ended is about to give it back.
                let _ = worker.send(Message::RoomMade);
            } else {
                self.waiting.insert(turn, (asks, worker));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn of(cpu: i64, memory: i64) -> Units {
        Units::from([("pods".into(), 1), ("cpu".into(), cpu), ("memory".into(), memory)])
    }

    fn node() -> Capacity {
        Capacity::new(Units::from([("pods".into(), 2), ("cpu".into(), 1000), ("memory".into(), 100)]))
    }

    #[test]
    fn nobody_is_promised_what_another_has() {
        let node = node();
        node.take("a", &of(600, 50)).unwrap();
        let short = node.take("b", &of(500, 80)).unwrap_err();
        assert_eq!(
            short.to_string(),
            "Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
        );
        node.take("b", &of(400, 50)).unwrap();
        let short = node.take("c", &of(0, 0)).unwrap_err();
        assert_eq!(short.to_string(), "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2");
        let short = node.take("b", &of(400, 200)).unwrap_err();
        assert_eq!(short.to_string(), "Node didn't have enough capacity: memory, requested: 200, capacity: 100");
        let foreign = Units::from([("example.com/gpu".into(), 1)]);
        node.take("a", &foreign).unwrap();
    }

    #[test]
    fn what_is_given_back_goes_to_those_who_wait_in_turn() {
        let node = node();
        node.take("a", &of(500, 10)).unwrap();
        node.take("b", &of(400, 10)).unwrap();
        let turn = |uid: &str, priority, second| Turn {
            priority: Reverse(priority),
            guaranteed: Reverse(false),
            since: Timestamp::from_second(second).unwrap(),
            uid: uid.into(),
        };
        let (first, mut told_first) = mpsc::unbounded_channel();
        let (second, mut told_second) = mpsc::unbounded_channel();
        node.wait(turn("a", 0, 1), of(600, 10), first);
        node.wait(turn("b", 7, 2), of(700, 10), second);
        // Half of it is still in use while it is being given back.
        node.take("b", &of(400, 5)).unwrap();
        assert!(told_first.try_recv().is_err());
        node.wait(turn("b", 7, 2), of(700, 10), told(&mut told_second));
        node.settle("a", of(200, 10));
        assert!(told_second.try_recv().is_ok(), "the higher priority");
        assert!(told_first.try_recv().is_err());
        node.release("b");
        assert!(told_first.try_recv().is_ok());
    }

    /// A new sender to the same receiver.
    fn told(receiver: &mut mpsc::UnboundedReceiver<Message>) -> UnboundedSender<Message> {
        let (sender, new) = mpsc::unbounded_channel();
        *receiver = new;
        sender
    }
}

//! A de-duplicating queue of keys: a key waits at most once, and is worked on by one worker at a time.
//! The semantics are client-go's rate-limited work queue's.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The delay of the n-th consecutive retry of a key: `initial`·2ⁿ, at most `max`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(5), max: Duration::from_secs(60) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In `ready`.
    Waiting,
    /// A worker has it.
    Working,
    /// A worker has it and it was added again.
    WorkingAgain,
}

struct Inner<K> {
    ready: VecDeque<K>,
    states: HashMap<K, State>,
    /// Keys to add later, soonest first; the sequence number breaks ties and needs no order on `K`.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: HashMap<u64, K>,
    sequence: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// Cheap to clone; clones are the same queue.
pub struct WorkQueue<K> {
    inner: Arc<Mutex<Inner<K>>>,
    wake: Arc<Notify>,
    backoff: Backoff,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), wake: Arc::clone(&self.wake), backoff: self.backoff }
    }
}

impl<K: Clone + Eq + Hash + Send> WorkQueue<K> {
    pub fn new(backoff: Backoff) -> Self {
        let inner = Inner {
            ready: VecDeque::new(),
            states: HashMap::new(),
            delayed: BinaryHeap::new(),
            delayed_keys: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Self { inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()), backoff }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `key`; no-op while it waits already. A key being worked on is queued again when its worker is done.
    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Queues `key` once `delay` has passed.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut inner = self.lock();
        let sequence = inner.sequence;
        inner.sequence += 1;
        inner.delayed.push(Reverse((Instant::now() + delay, sequence)));
        inner.delayed_keys.insert(sequence, key);
        drop(inner);
        // The waiting worker may have to wake sooner than it meant to.
        self.wake.notify_one();
    }

    /// Queues `key` after its back-off, which doubles until [`Self::forget`].
    pub fn retry(&self, key: K) {
        let failures = {
            let mut inner = self.lock();
            let failures = inner.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let delay = self.backoff.initial.saturating_mul(1u32 << failures.min(20)).min(self.backoff.max);
        self.add_after(key, delay);
    }

    /// The key succeeded: its next retry starts at the initial delay.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key, or `None` once the queue is closed. Hand it back with [`Self::done`].
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.wake.notified();
            let sleep_until = {
                let mut inner = self.lock();
                if inner.closed {
                    // Let the other workers see it too.
                    self.wake.notify_one();
                    return None;
                }
                inner.promote(Instant::now());
                if let Some(key) = inner.ready.pop_front() {
                    inner.states.insert(key.clone(), State::Working);
                    if !inner.ready.is_empty() || !inner.delayed.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                inner.delayed.peek().map(|Reverse((at, _))| *at)
            };
            match sleep_until {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// The worker has finished with `key`.
    pub fn done(&self, key: &K) {
        let mut inner = self.lock();
        if inner.states.remove(key) == Some(State::WorkingAgain) {
            inner.add(key.clone());
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Ends every [`Self::next`].
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Keys waiting now, delayed ones included.
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.ready.len() + inner.delayed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    /// Whether a worker has something new to do.
    fn add(&mut self, key: K) -> bool {
        match self.states.entry(key) {
            Entry::Occupied(mut entry) => {
                if *entry.get() == State::Working {
                    entry.insert(State::WorkingAgain);
                }
                false
            }
            Entry::Vacant(entry) => {
                self.ready.push_back(entry.key().clone());
                entry.insert(State::Waiting);
                true
            }
        }
    }

    /// Moves what is due from `delayed` to `ready`.
    fn promote(&mut self, now: Instant) {
        let mut seen = HashSet::new();
        while let Some(Reverse((at, sequence))) = self.delayed.peek().copied() {
            if at > now {
                break;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&sequence)
                && seen.insert(key.clone())
            {
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::new(Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(3) })
    }

    #[tokio::test]
    async fn a_key_waits_once_and_comes_back_if_added_while_worked_on() {
        let queue = queue();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_back_off_until_forgotten() {
        let queue = queue();
        let start = Instant::now();
        for expected in [1, 3, 6, 9] {
            queue.retry("a");
            assert_eq!(queue.next().await, Some("a"));
            queue.done(&"a");
            assert_eq!(start.elapsed().as_secs(), expected);
        }
        queue.forget(&"a");
        queue.retry("a");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_key_overtakes_a_later_one_that_is_already_awaited() {
        let queue = queue();
        queue.add_after("late", Duration::from_secs(60));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!(waiting.await.expect("the worker ran"), Some("soon"));
    }

    #[tokio::test]
    async fn closing_ends_every_worker() {
        let queue = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.expect("the worker ran"), None);
        }
    }
}

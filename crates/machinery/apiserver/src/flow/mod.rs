//! Who is served next when there are more requests than seats.
//!
//! ```text
//!  request ─▶ level ─▶ a seat free? ── yes ─▶ served, seat given back
//!                        │ no
//!                        ▼
//!              queue of its user: 50 wait at most, 15 s at most ── else 429, Retry-After
//!                        │
//!   levels below their own seats first, then any ◀─┘ users of a level in turn
//! ```
//! Every level has seats of its own that no other level takes from it; seats that are idle serve whoever waits. So a
//! greedy client delays its own requests, those of its level by its turn, and nobody else's.

mod levels;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base_meta::Status;
use tokio::sync::oneshot;

use crate::authorization::Attributes;
use crate::limits::Limits;
use levels::Level;

/// `queueLengthLimit` of upstream's suggested levels.
const QUEUE: usize = 50;
/// A quarter of a request's time.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Flows {
    state: Mutex<State>,
}

struct State {
    seats: usize,
    used: usize,
    levels: [Queues; Level::ALL.len()],
    /// The level whose turn it is among those that have no more seats of their own.
    turn: usize,
}

#[derive(Default)]
struct Queues {
    own: usize,
    used: usize,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Seat>>>,
    /// Users with requests waiting, in turn.
    users: VecDeque<String>,
}

/// A request being served; dropped when it has been.
pub(crate) struct Seat {
    flows: Arc<Flows>,
    level: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let granted = {
            let mut state = self.flows.lock();
            state.used -= 1;
            state.levels[self.level].used -= 1;
            state.grant()
        };
        // Outside the lock: a waiter that has just left drops its seat right here.
        for (level, waiter) in granted {
            let _ = waiter.send(Seat { flows: self.flows.clone(), level });
        }
    }
}

impl Flows {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let seats = limits.read_only + limits.mutating;
        let shares: usize = Level::ALL.into_iter().map(Level::shares).sum();
        let levels =
            Level::ALL.map(|level| Queues { own: (seats * level.shares()).div_ceil(shares), ..Queues::default() });
        Arc::new(Self { state: Mutex::new(State { seats, used: 0, levels, turn: 0 }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat; `None` for who needs none. Dropping the future leaves the queue.
    pub(crate) async fn enter(self: &Arc<Self>, attributes: &Attributes<'_>) -> Result<Option<Seat>, Status> {
        let Some(level) = Level::of(attributes).map(Level::index) else { return Ok(None) };
        let turn = {
            let mut state = self.lock();
            if state.free(level) {
                state.take(level);
                return Ok(Some(Seat { flows: self.clone(), level }));
            }
            state.levels[level].wait(&attributes.user.name).ok_or_else(full)?
        };
        match tokio::time::timeout(PATIENCE, turn).await {
            Ok(Ok(seat)) => Ok(Some(seat)),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// Of each level: its name, how many requests wait, how many are being served.
    pub(crate) fn count(&self) -> Vec<(&'static str, usize, usize)> {
        let state = self.lock();
        let count = |level: Level| {
            let queues = &state.levels[level.index()];
            (level.name(), queues.waiting.values().map(VecDeque::len).sum(), queues.used)
        };
        Level::ALL.into_iter().map(count).collect()
    }
}

fn full() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", 1)
}

impl State {
    fn free(&self, level: usize) -> bool {
        let queues = &self.levels[level];
        queues.users.is_empty() && (queues.used < queues.own || self.used < self.seats)
    }

    fn take(&mut self, level: usize) {
        self.used += 1;
        self.levels[level].used += 1;
    }

    /// Takes seats for those whose turn has come.
    fn grant(&mut self) -> Vec<(usize, oneshot::Sender<Seat>)> {
        let mut granted = Vec::new();
        while let Some(level) = self.next_level() {
            match self.levels[level].next() {
                Some(waiter) => {
                    self.take(level);
                    granted.push((level, waiter));
                }
                None => self.levels[level].users.clear(),
            }
        }
        granted
    }

    fn next_level(&mut self) -> Option<usize> {
        let own = |queues: &Queues| !queues.users.is_empty() && queues.used < queues.own;
        if let Some(level) = self.levels.iter().position(own) {
            return Some(level);
        }
        if self.used >= self.seats {
            return None;
        }
        let count = self.levels.len();
        let level = (0..count).map(|step| (self.turn + step) % count).find(|at| !self.levels[*at].users.is_empty())?;
        self.turn = (level + 1) % count;
        Some(level)
    }
}

impl Queues {
    /// `None`: too many of this user's wait already.
    fn wait(&mut self, user: &str) -> Option<oneshot::Receiver<Seat>> {
        let (sender, receiver) = oneshot::channel();
        match self.waiting.get_mut(user) {
            Some(queue) => {
                queue.retain(|waiter| !waiter.is_closed());
                if queue.len() >= QUEUE {
                    return None;
                }
                queue.push_back(sender);
            }
            None => {
                self.waiting.insert(user.to_owned(), VecDeque::from([sender]));
                self.users.push_back(user.to_owned());
            }
        }
        Some(receiver)
    }

    /// The first request, still waited for, of the user whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Seat>> {
        while let Some(user) = self.users.pop_front() {
            let Some(queue) = self.waiting.get_mut(&user) else { continue };
            let waiter = std::iter::from_fn(|| queue.pop_front()).find(|waiter| !waiter.is_closed());
            if queue.is_empty() {
                self.waiting.remove(&user);
            } else {
                self.users.push_back(user);
            }
            if waiter.is_some() {
                return waiter;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;

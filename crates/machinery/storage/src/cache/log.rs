//! What lately happened, once for all watchers: each keeps only its place in here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Event;
use crate::Revision;

/// How much of the past is kept for slow watchers and for watches that start in it.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub events: usize,
    /// Of encoded objects.
    pub bytes: usize,
    /// Beyond `few`, events older than this go too.
    pub age: Duration,
    pub few: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { events: 16_384, bytes: 8 << 20, age: Duration::from_secs(75), few: 64 }
    }
}

#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<(Instant, Arc<Event>)>,
    /// The place of the first event; the place after the last is `first + events.len()`.
    first: u64,
    /// Every event after this revision is in the log.
    complete_after: Revision,
    bytes: usize,
    keep: Keep,
}

/// A place that the log has forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forgotten;

impl Log {
    pub(super) fn new(complete_after: Revision, keep: Keep) -> Self {
        Self { events: VecDeque::new(), first: 0, complete_after, bytes: 0, keep }
    }

    /// Every event after this revision can be had.
    pub(super) fn complete_after(&self) -> Revision {
        self.complete_after
    }

    /// The place of the next event to come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(super) fn push(&mut self, event: Arc<Event>, now: Instant) {
        self.bytes += event.object.json().len();
        self.events.push_back((now, event));
        while let Some((at, oldest)) = self.events.front() {
            let crowded = self.events.len() > self.keep.events || self.bytes > self.keep.bytes;
            let aged = self.events.len() > self.keep.few && now.duration_since(*at) > self.keep.age;
            // The newest always stays: whoever waits for it may be any number of bytes behind.
            if self.events.len() == 1 || !(crowded || aged) {
                break;
            }
            self.bytes -= oldest.object.json().len();
            self.complete_after = oldest.revision();
            self.first += 1;
            self.events.pop_front();
        }
    }

    /// Events were missed: no watcher can go on from before.
    pub(super) fn interrupt(&mut self, complete_after: Revision) {
        self.first = self.end() + 1;
        self.events.clear();
        self.bytes = 0;
        self.complete_after = complete_after;
    }

    /// The place of the first event after `revision`.
    pub(super) fn place_after(&self, revision: Revision) -> Result<u64, Forgotten> {
        if revision < self.complete_after {
            return Err(Forgotten);
        }
        Ok(self.first + self.events.partition_point(|(_, event)| event.revision() <= revision) as u64)
    }

    /// The first event at `place` or later whose key starts with `prefix`, and its place.
    pub(super) fn find(&self, place: u64, prefix: &str) -> Result<Option<(u64, &Arc<Event>)>, Forgotten> {
        let skip = usize::try_from(place.checked_sub(self.first).ok_or(Forgotten)?).unwrap_or(usize::MAX);
        let rest = self.events.iter().enumerate().skip(skip);
        let found = rest.map(|(n, (_, event))| (self.first + n as u64, event));
        Ok(found.into_iter().find(|(_, event)| event.object.key.starts_with(prefix)))
    }

    /// Newest first, those after `revision`.
    pub(super) fn back_to(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        self.events.iter().rev().map(|(_, event)| event).take_while(move |event| event.revision() > revision)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EventKind, Meta, Object};

    fn event(key: &str, revision: u64) -> Arc<Event> {
        let json = Bytes::from_static(br#"{"metadata":{}}"#);
        let object = Object::new(key.into(), Revision(revision), Meta::default(), json).expect("well formed");
        Arc::new(Event::new(EventKind::Updated, Arc::new(object), None))
    }

    #[test]
    fn places_outlive_the_events_before_them() {
        let now = Instant::now();
        let mut log = Log::new(Revision(5), Keep { events: 2, ..Keep::default() });
        assert_eq!(log.place_after(Revision(4)), Err(Forgotten));
        assert_eq!(log.place_after(Revision(5)), Ok(0));
        for revision in [6, 8, 9] {
            log.push(event("/a", revision), now);
        }
        assert_eq!(log.complete_after(), Revision(6));
        assert!(log.find(0, "/").is_err());
        assert_eq!(log.place_after(Revision(7)), Ok(1));
        assert!(matches!(log.find(1, "/"), Ok(Some((1, event))) if event.revision() == Revision(8)));
        assert!(matches!(log.find(1, "/b"), Ok(None)));
        assert!(matches!(log.find(3, "/"), Ok(None)));
        assert_eq!(log.back_to(Revision(8)).count(), 1);
    }

    #[test]
    fn bytes_and_age_bound_it_but_the_newest_stays() {
        let now = Instant::now();
        let mut log = Log::new(Revision(1), Keep { bytes: 1, ..Keep::default() });
        log.push(event("/a", 2), now);
        log.push(event("/a", 3), now);
        assert_eq!((log.complete_after(), log.end()), (Revision(2), 2));

        let mut log = Log::new(Revision(1), Keep { few: 1, ..Keep::default() });
        log.push(event("/a", 2), now);
        log.push(event("/a", 3), now + Duration::from_secs(80));
        assert_eq!((log.complete_after(), log.end()), (Revision(2), 2));
    }

    #[test]
    fn an_interruption_strands_every_place() {
        let mut log = Log::new(Revision(1), Keep::default());
        log.push(event("/a", 2), Instant::now());
        let (first, end) = (0, log.end());
        log.interrupt(Revision(9));
        assert!(log.find(first, "/").is_err() && log.find(end, "/").is_err());
        assert!(log.find(log.end(), "/").is_ok());
        assert_eq!(log.place_after(Revision(9)), Ok(log.end()));
    }
}

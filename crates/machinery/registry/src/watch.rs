//! WATCH: the cache's events as one watcher's selectors see them.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base_meta::Status;
use base_meta::field::{Error as FieldError, Path};
use futures::StreamExt as _;
use futures::future::{self, Either};
use futures::stream::{self, BoxStream};
use machinery_storage::cache::{Event, EventKind, Start, Watcher};
use machinery_storage::{Cache, Error, Freshness, Object, Revision};
use tokio::time::Instant;

use crate::core::Core;
use crate::dialect::Dialect;
use crate::read::{forbidden_match, invalid_options, parse_version};
use crate::request::VersionMatch;
use crate::resource::WatchEvent;
use crate::select::Filter;
use crate::{ListOptions, RequestContext, failure};

/// How often a watcher that asked for bookmarks hears how far it has come, as upstream's.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What one change is to a watcher with these selectors; `None`: nothing.
pub(crate) fn seen(event: &Event, filter: &Filter) -> Option<WatchEvent> {
    let object = &event.object;
    let was = event.previous.as_ref().is_some_and(|previous| filter.matches(previous));
    match event.kind {
        EventKind::Deleted => (was || filter.matches(object)).then(|| WatchEvent::Deleted(object.clone())),
        EventKind::Created | EventKind::Updated => match (was, filter.matches(object)) {
            (false, true) => Some(WatchEvent::Added(object.clone())),
            (true, true) => Some(WatchEvent::Modified(object.clone())),
            // It leaves: sent as it was when the watcher could see it, as of this change.
            (true, false) => {
                let last = event.previous.as_ref()?;
                Some(WatchEvent::Deleted(Arc::new(last.at(object.revision))))
            }
            (false, false) => None,
        },
    }
}

/// Where a watch begins, and whether it announces what exists.
struct Opening {
    start: Start,
    initial: Option<Freshness>,
    announce_end: bool,
}

fn opening(options: &ListOptions) -> Result<Opening, Status> {
    let version = parse_version(&options.resource_version)?;
    let initial =
        |freshness, announce_end| Opening { start: Start::Initial(freshness), initial: Some(freshness), announce_end };
    let from = |start| Opening { start, initial: None, announce_end: false };
    match (options.send_initial_events, options.version_match) {
        (None, Some(_)) => {
            return Err(forbidden_match(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => {}
        (Some(_), _) => {
            return Err(forbidden_match("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
        }
    }
    if options.send_initial_events == Some(true) && !options.bookmarks {
        return Err(invalid_options(FieldError::forbidden(
            &Path::new("sendInitialEvents"),
            "sendInitialEvents requires setting allowWatchBookmarks to true",
        )));
    }
    Ok(match (options.send_initial_events, version) {
        (Some(true), None) => initial(Freshness::Latest, true),
        (Some(true), Some(Revision(0))) => initial(Freshness::Any, true),
        (Some(true), Some(revision)) => initial(Freshness::NotOlderThan(revision), true),
        (Some(false), None | Some(Revision(0))) => from(Start::Now),
        (None, None) => initial(Freshness::Latest, false),
        (None, Some(Revision(0))) => initial(Freshness::Any, false),
        (_, Some(revision)) => from(Start::After(revision)),
    })
}

impl Core {
    /// Of stored objects, chosen by the dialect's fields.
    pub(crate) async fn open_watch(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        let filter = Filter::new(dialect, options)?;
        let range = self.range(ctx, &filter);
        let opening = opening(options)?;
        let only_key = self.only_key(ctx, &filter);
        // One object's watch looks that object up instead of taking a list of all.
        let (start, single) = match (&opening.initial, &only_key) {
            (Some(freshness), Some(key)) => {
                self.cache.wait(*freshness).await.map_err(failure::status)?;
                (Start::Now, Some(key))
            }
            _ => (opening.start, None),
        };
        let mut watcher = match self.cache.watch(start, &range).await {
            Ok(watcher) => watcher,
            Err(error @ Error::Compacted { .. }) => {
                return Ok(stream::iter([WatchEvent::Error(failure::status(error))]).boxed());
            }
            Err(error) => return Err(failure::status(error)),
        };
        let mut skip_until = Revision::default();
        let initial = match single {
            None => watcher.take_initial(),
            Some(key) => {
                let found = self.find(key, Freshness::NotOlderThan(watcher.progress())).await?;
                // Events up to this version may still be in the watcher's future.
                skip_until = found.as_ref().map(|object| object.revision).unwrap_or_default();
                found.into_iter().collect()
            }
        };
        let pending: VecDeque<_> = initial.into_iter().filter(|object| filter.matches(object)).collect();
        let now = Instant::now();
        let session = Session {
            cache: Arc::downgrade(&self.cache),
            filter,
            only_key,
            told: skip_until.max(watcher.progress()),
            skip_until,
            pending,
            announce_end: opening.announce_end,
            bookmarks: options.bookmarks.then(|| now + BOOKMARK_EVERY),
            deadline: options.timeout.map(|timeout| now + timeout),
            watcher,
            ended: false,
        };
        Ok(stream::unfold(session, |mut session| async move {
            let event = session.next().await?;
            Some((event, session))
        })
        .boxed())
    }
}

/// One watcher's state between events.
struct Session {
    /// A watch does not keep a kind served that is gone.
    cache: Weak<Cache>,
    watcher: Watcher,
    filter: Filter,
    only_key: Option<String>,
    /// Events up to here are already in `pending`.
    skip_until: Revision,
    pending: VecDeque<Arc<Object>>,
    /// A bookmark is owed once `pending` is empty.
    announce_end: bool,
    /// The revision that the client last heard of.
    told: Revision,
    /// When the next bookmark is due; `None`: the client wants none.
    bookmarks: Option<Instant>,
    deadline: Option<Instant>,
    ended: bool,
}

enum Woken {
    Event(Option<Result<Arc<Event>, Error>>),
    Clock,
}

impl Session {
    async fn next(&mut self) -> Option<WatchEvent> {
        if self.ended {
            return None;
        }
        if let Some(object) = self.pending.pop_front() {
            return Some(WatchEvent::Added(object));
        }
        if std::mem::take(&mut self.announce_end) {
            return Some(WatchEvent::Bookmark { revision: self.told, initial_events_end: true });
        }
        loop {
            match self.wake().await {
                Woken::Event(None) => return None,
                Woken::Event(Some(Err(Error::Closed))) => return None,
                Woken::Event(Some(Err(error))) => {
                    self.ended = true;
                    return Some(WatchEvent::Error(failure::status(error)));
                }
                Woken::Event(Some(Ok(event))) => {
                    let ours = self.only_key.as_deref().is_none_or(|key| *event.object.key == *key);
                    if ours
                        && event.revision() > self.skip_until
                        && let Some(seen) = seen(&event, &self.filter)
                    {
                        self.told = event.revision();
                        return Some(seen);
                    }
                }
                Woken::Clock => {
                    let now = Instant::now();
                    self.ended = self.deadline.is_some_and(|deadline| deadline <= now);
                    if let Some(bookmark) = self.bookmark(now).await {
                        return Some(bookmark);
                    }
                    if self.ended {
                        return None;
                    }
                }
            }
        }
    }

    /// The next event, or the earlier of deadline and bookmark.
    async fn wake(&mut self) -> Woken {
        let alarm = match (self.deadline, self.bookmarks) {
            (Some(deadline), Some(bookmark)) => Some(deadline.min(bookmark)),
            (deadline, bookmark) => deadline.or(bookmark),
        };
        let Some(alarm) = alarm else { return Woken::Event(self.watcher.next().await) };
        let clock = pin!(tokio::time::sleep_until(alarm));
        match future::select(self.watcher.next(), clock).await {
            Either::Left((event, _)) => Woken::Event(event),
            Either::Right(_) => Woken::Clock,
        }
    }

    /// How far the watcher has come, where that is news to the client.
    async fn bookmark(&mut self, now: Instant) -> Option<WatchEvent> {
        let due = self.bookmarks.as_mut()?;
        *due = now + BOOKMARK_EVERY;
        // Moves the watcher past writes to other kinds; if the store is gone the stream will say so.
        let _ = self.cache.upgrade()?.wait(Freshness::Latest).await;
        let revision = self.watcher.progress();
        (revision > self.told).then(|| {
            self.told = revision;
            WatchEvent::Bookmark { revision, initial_events_end: false }
        })
    }
}

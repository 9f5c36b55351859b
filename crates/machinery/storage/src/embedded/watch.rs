//! A watch: first what the history has, then what the writer publishes.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};

use super::blocking;
use super::hub::{Hub, Queue, Taken};
use super::read::Reader;
use crate::{Batch, Error, Result, Revision};

/// Changes read from the history at once.
const CHUNK: usize = 512;

struct Follower {
    hub: Arc<Hub>,
    reader: Reader,
    queue: Arc<Queue>,
    /// Everything up to here was yielded.
    reached: Revision,
    phase: Phase,
}

enum Phase {
    /// The history up to this revision comes first; the queue receives what follows it.
    Behind(Revision),
    Live,
}

/// Attaches the queue before it returns, so nothing written from then on is missed.
pub(super) async fn start(
    hub: Arc<Hub>,
    reader: Reader,
    prefix: &str,
    after: Revision,
) -> Result<BoxStream<'static, Result<Batch>>> {
    let (queue, head) = hub.attach(prefix)?;
    if after > head {
        return Err(Error::Future { asked: after, newest: head });
    }
    let mut follower = Follower { hub, reader, queue, reached: after, phase: Phase::Behind(head) };
    // Reports a compacted start to the caller; the first batch also tells it how far the watch has got.
    let first = follower.behind(head).await?;
    let rest = stream::try_unfold(follower, |mut follower| async move {
        let batch = follower.next().await?;
        Ok(Some((batch, follower)))
    });
    Ok(stream::iter([Ok(first)]).chain(rest).boxed())
}

impl Follower {
    async fn next(&mut self) -> Result<Batch> {
        loop {
            if let Phase::Behind(head) = self.phase {
                return self.behind(head).await;
            }
            match self.queue.take() {
                Taken::Batch(batch) => {
                    self.reached = batch.revision;
                    return Ok(batch);
                }
                Taken::Nothing => self.queue.pushed().await,
                Taken::Lost => self.phase = Phase::Behind(self.hub.reattach(&self.queue)),
                Taken::Closed => return Err(Error::Closed),
            }
        }
    }

    async fn behind(&mut self, head: Revision) -> Result<Batch> {
        let (changes, reached) = if self.reached == head {
            (Vec::new(), head)
        } else {
            let (reader, queue, after) = (self.reader.clone(), self.queue.clone(), self.reached);
            blocking(move || reader.history(queue.prefix(), after, head, CHUNK)).await.unwrap_or(Err(Error::Closed))?
        };
        self.reached = reached;
        if reached == head {
            self.phase = Phase::Live;
        }
        Ok(Batch { changes, revision: reached })
    }
}

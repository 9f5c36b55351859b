//! What the cache would have to read out of an object that this process has just written: the writer knows it already.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use machinery_storage::Meta;

/// More than this are not waited for: an entry that no event ever asks for must not stay.
const MOST: usize = 256;

/// Objects on their way into the store, by their bytes; each until its event comes.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<VecDeque<(Bytes, Meta)>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Bytes, Meta)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self, json: &Bytes, meta: &Meta) {
        let mut all = self.lock();
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back((json.clone(), meta.clone()));
    }

    /// Of the event, or of a write that failed.
    pub(crate) fn take(&self, json: &[u8]) -> Option<Meta> {
        let mut all = self.lock();
        let at = all.iter().position(|(bytes, _)| **bytes == *json)?;
        all.remove(at).map(|(_, meta)| meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_once_and_old_ones_make_room() {
        let pending = Pending::default();
        let json = |n: usize| Bytes::from(n.to_string());
        for n in 0..=MOST {
            pending.announce(&json(n), &Meta { name: n.to_string().into(), ..Meta::default() });
        }
        assert_eq!(pending.take(&json(0)), None);
        assert_eq!(pending.take(&json(1)).map(|meta| meta.name), Some("1".into()));
        assert_eq!(pending.take(&json(1)), None);
        assert_eq!(pending.lock().len(), MOST - 1);
    }
}

//! One call at a time for each volume: staging and unstaging must not cross.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use api::csi::Handle;
use tokio::sync::OwnedMutexGuard;

#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<Handle, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    pub(super) async fn lock(&self, volume: &Handle) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = all.get(volume).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                all.retain(|_, lock| lock.strong_count() > 0);
                let lock = Arc::default();
                all.insert(volume.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

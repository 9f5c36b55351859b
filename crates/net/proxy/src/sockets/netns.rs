//! Whose sockets are balanced: those of the node's network namespace and of its pods'.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_sys::netns::NetNs;

use super::Error;
use super::maps::{Maps, NAME};

type Cookie = [u8; 8];

/// A handle; clones share what is known. Where sockets are not balanced it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    maps: Arc<Maps>,
    /// By the sandbox's name. The map has the same, for the next run.
    cookies: Mutex<HashMap<String, Cookie>>,
}

impl Namespaces {
    /// Takes over what an earlier run knew, and enters the calling thread's namespace as the node's.
    pub(super) fn open(maps: Arc<Maps>) -> Result<Self, Error> {
        let node = NetNs::current()?.cookie()?.to_ne_bytes();
        let mut cookies = HashMap::new();
        for cookie in maps.netns.keys()? {
            let name = maps.netns.get(&cookie)?.map(|name| text(&name)).unwrap_or_default();
            if name.is_empty() {
                maps.netns.remove(&cookie)?;
            } else {
                cookies.insert(name, cookie);
            }
        }
        maps.netns.set(&node, &[0; NAME])?;
        Ok(Self(Some(Arc::new(Known { maps, cookies: Mutex::new(cookies) }))))
    }

    /// The sockets of a sandbox are balanced from now on.
    pub async fn enter(&self, sandbox: &str, netns: &Path) {
        let (sandbox, netns) = (sandbox.to_owned(), netns.to_owned());
        self.work(move |known| known.enter(&sandbox, &netns)).await;
    }

    /// The sandbox is gone. An unknown one is fine.
    pub async fn leave(&self, sandbox: &str) {
        let sandbox = sandbox.to_owned();
        self.work(move |known| known.leave(|other| other == sandbox)).await;
    }

    /// All but these sandboxes are gone.
    pub async fn keep(&self, live: &[String]) {
        let live = live.to_vec();
        self.work(move |known| known.leave(|other| !live.iter().any(|live| live == other))).await;
    }

    /// Nothing depends on the outcome: what is not balanced here is so by nftables.
    async fn work(&self, work: impl FnOnce(&Known) -> Result<(), Error> + Send + 'static) {
        let Some(known) = self.0.clone() else { return };
        let done = tokio::task::spawn_blocking(move || work(&known)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a pod's sockets are not balanced; its packets to services are translated"
            );
        }
    }
}

impl Known {
    fn enter(&self, sandbox: &str, netns: &Path) -> Result<(), Error> {
        let cookie = NetNs::open(netns)?.cookie()?.to_ne_bytes();
        let mut name = [0; NAME];
        let room = name.get_mut(..sandbox.len()).ok_or_else(|| Error::Name(sandbox.into()))?;
        room.copy_from_slice(sandbox.as_bytes());
        let mut cookies = self.lock();
        if let Some(former) = cookies.get(sandbox).filter(|former| **former != cookie) {
            self.maps.netns.remove(former)?;
        }
        self.maps.netns.set(&cookie, &name)?;
        cookies.insert(sandbox.into(), cookie);
        Ok(())
    }

    fn leave(&self, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut cookies = self.lock();
        let names: Vec<String> = cookies.keys().filter(|name| gone(name)).cloned().collect();
        for name in names {
            if let Some(cookie) = cookies.get(&name) {
                self.maps.netns.remove(cookie)?;
            }
            cookies.remove(&name);
        }
        Ok(())
    }

    /// A panic under the lock left nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Cookie>> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(name: &[u8; NAME]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

//! Static pods: those of files of this node, which run whether or not there is an API server, and show themselves there as
//! mirror pods.
//!
//! ```text
//! directory ──inotify──▶ read ──▶ manifests (watch) ──▶ supervisor: a worker per pod, its uid the hash of its text
//!                                     └───────────────▶ mirror: an object per pod in the API, made anew when deleted
//! ```

mod mirror;
mod read;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::ObjectKey;
use nix::sys::inotify::AddWatchFlags;
use tokio::sync::watch;

use crate::inotify::Changes;
use crate::seams::chain;

pub use mirror::Mirror;

/// Annotations of static pods: upstream's.
pub const HASH: &str = "kubernetes.io/config.hash";
pub const SEEN: &str = "kubernetes.io/config.seen";
pub const SOURCE: &str = "kubernetes.io/config.source";
pub const SOURCE_FILE: &str = "file";
/// On a mirror pod: the hash of the pod that it shows.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The pods that there are to be, by name.
pub type Manifests = BTreeMap<ObjectKey, Arc<Pod>>;

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether it is a static pod itself: its object is in no API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some(SOURCE_FILE) && mirrored(pod).is_none()
}

/// The hash of the static pod that an object of the API shows.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    annotation(pod, MIRROR)
}

/// What tells one version of a static pod from another.
pub fn hash(pod: &Pod) -> Option<&str> {
    annotation(pod, HASH)
}

/// Follows a directory; without one there are no static pods.
pub fn follow(tasks: &Tasks, directory: Option<&Path>, node: &str) -> io::Result<watch::Receiver<Manifests>> {
    let (sender, receiver) = watch::channel(Manifests::new());
    let Some(directory) = directory else { return Ok(receiver) };
    // A file counts once it is whole: closed, moved here, or gone.
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ONLYDIR;
    let mut changes = Changes::of(directory, flags)?;
    let directory = Directory { path: directory.to_owned(), node: node.to_owned() };
    sender.send_replace(directory.read());
    tasks.spawn("static-pods", async move {
        loop {
            if let Err(error) = changes.next().await {
                tracing::error!(directory = %directory.path.display(), %error, "static pods are not followed any more");
                return;
            }
            let manifests = directory.read();
            sender.send_if_modified(|known| {
                let uids = |all: &Manifests| all.values().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
                let changed = uids(known) != uids(&manifests);
                if changed {
                    *known = manifests;
                }
                changed
            });
        }
    });
    Ok(receiver)
}

struct Directory {
    path: PathBuf,
    node: String,
}

impl Directory {
    /// What is bad is told in the log, and left out.
    fn read(&self) -> Manifests {
        let mut manifests = Manifests::new();
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()),
            Err(error) => {
                tracing::error!(directory = %self.path.display(), %error, "static pods not read");
                return manifests;
            }
        };
        let mut files: Vec<_> = entries.filter(|path| path.is_file() && !hidden(path)).collect();
        files.sort();
        for path in files {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "static pod not read");
                    continue;
                }
            };
            for pod in read::parse(&path, &text, &self.node, Timestamp::now()) {
                match pod {
                    Ok(pod) => {
                        let key = ObjectKey::of(&pod);
                        if manifests.contains_key(&key) {
                            tracing::error!(file = %path.display(), pod = %key, "another file has a static pod of this name");
                            continue;
                        }
                        manifests.insert(key, Arc::new(pod));
                    }
                    Err(error) => {
                        tracing::error!(file = %path.display(), error = %chain(&error), "no static pod");
                    }
                }
            }
        }
        manifests
    }
}

/// Its name begins with a dot.
pub fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let pod = |name: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
            )
        };
        std::fs::write(dir.path().join("a.yaml"), pod("a")).unwrap();
        std::fs::write(dir.path().join(".hidden.yaml"), pod("hidden")).unwrap();
        std::fs::write(dir.path().join("bad.yaml"), "kind: Pod").unwrap();
        let tasks = Tasks::root("test");
        let mut manifests = follow(&tasks, Some(dir.path()), "one").unwrap();
        let names = |all: &Manifests| all.keys().map(|key| key.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&manifests.borrow_and_update()), ["a-one"]);
        std::fs::write(dir.path().join("b.yaml"), pod("b")).unwrap();
        manifests.wait_for(|all| names(all) == ["a-one", "b-one"]).await.unwrap();
        std::fs::write(dir.path().join("c.yaml"), pod("b")).unwrap();
        std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
        manifests.wait_for(|all| names(all) == ["b-one"]).await.unwrap();
        assert!(follow(&tasks, Some(&dir.path().join("b.yaml")), "one").is_err(), "no directory");
        assert!(follow(&tasks, None, "one").unwrap().borrow().is_empty());
        tasks.cancel();
    }
}

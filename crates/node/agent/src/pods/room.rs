//! What volumes take of the disk: a pod whose emptyDir takes more than it may is evicted.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Volume;
use tokio::sync::mpsc;

use crate::pods::Message;
use crate::volumes;

/// Upstream's eviction-monitoring period: no event tells that a directory has grown.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks at a volume with a limit until it is over it; `None` where there is none.
pub(super) fn watch(
    volume: &Volume,
    path: PathBuf,
    outbox: mpsc::UnboundedSender<Message>,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let bytes = volumes::limit_on_disk(volume)?;
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?.0.clone();
    let message = format!("Usage of EmptyDir volume {:?} exceeds the limit {limit:?}. ", volume.name);
    Some(async move {
        loop {
            tokio::time::sleep(PERIOD).await;
            let path = path.clone();
            // A deep tree takes its time.
            let used = tokio::task::spawn_blocking(move || volumes::used(&path)).await;
            if used.is_ok_and(|used| used > bytes) {
                let _ = outbox.send(Message::Evicted { message });
                return;
            }
        }
    })
}

//! Core `v1` Events: what `kubectl describe` shows under an object. Repeats of one event are counted, not added.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base_tasks::Tasks;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How many different recent events are remembered for counting.
const REMEMBERED: usize = 1024;
/// Events waiting to be written; more are dropped, as events are best effort.
const PENDING: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Normal,
    Warning,
}

/// The object an event is about (`v1 ObjectReference`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Regarding {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// For instance `spec.containers{nginx}`.
    pub field_path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Occurrence {
    regarding: Regarding,
    kind: EventKind,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
}

/// Writes events in the background. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: Arc<mpsc::Sender<Occurrence>>,
}

/// What was written for an occurrence, to be counted up.
struct Written {
    namespace: String,
    name: String,
    count: u64,
}

impl Recorder {
    /// `component` is the event's source (`kubelet`, `deployment-controller`); `host` the node for node components.
    pub fn new(tasks: &Tasks, client: kube::Client, component: &'static str, host: Option<String>) -> Self {
        let (queue, mut pending) = mpsc::channel::<Occurrence>(PENDING);
        tasks.spawn("events", async move {
            let mut written: HashMap<Occurrence, Written> = HashMap::new();
            while let Some(occurrence) = pending.recv().await {
                if written.len() >= REMEMBERED {
                    written.clear();
                }
                if let Err(error) = write(&client, component, host.as_deref(), &mut written, occurrence).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "an event was not written");
                }
            }
        });
        Self { queue: Arc::new(queue) }
    }

    /// Fire and forget: an event that cannot be written is dropped.
    pub fn event(&self, regarding: &Regarding, kind: EventKind, reason: &str, message: &str) {
        self.annotated(regarding, kind, (reason, message), BTreeMap::new());
    }

    /// The same, with annotations for programs that read it.
    pub fn annotated(
        &self,
        regarding: &Regarding,
        kind: EventKind,
        (reason, message): (&str, &str),
        annotations: BTreeMap<String, String>,
    ) {
        let (regarding, reason, message) = (regarding.clone(), reason.to_owned(), message.to_owned());
        let occurrence = Occurrence { regarding, kind, reason, message, annotations };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!("the event queue is full; one dropped");
        }
    }
}

async fn write(
    client: &kube::Client,
    component: &str,
    host: Option<&str>,
    written: &mut HashMap<Occurrence, Written>,
    occurrence: Occurrence,
) -> kube::Result<()> {
    let now = jiff::Timestamp::now();
    let seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if let Some(before) = written.get_mut(&occurrence) {
        let patch = json!({ "count": before.count + 1, "lastTimestamp": seconds });
        let path = format!("/api/v1/namespaces/{}/events/{}", before.namespace, before.name);
        match client.request::<Value>(request("PATCH", &path, Some("application/merge-patch+json"), &patch)).await {
            Ok(_) => {
                before.count += 1;
                return Ok(());
            }
            // Deleted or expired: written anew below.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let regarding = &occurrence.regarding;
    let namespace = if regarding.namespace.is_empty() { "default" } else { &regarding.namespace };
    // Upstream's form: the object's name and a time in hexadecimal nanoseconds.
    let name = format!("{}.{:x}", regarding.name, now.as_nanosecond());
    let mut involved = json!({
        "apiVersion": regarding.api_version,
        "kind": regarding.kind,
        "name": regarding.name,
        "uid": regarding.uid,
    });
    if !regarding.namespace.is_empty() {
        involved["namespace"] = regarding.namespace.clone().into();
    }
    if let Some(field_path) = &regarding.field_path {
        involved["fieldPath"] = field_path.clone().into();
    }
    let mut source = json!({ "component": component });
    if let Some(host) = host {
        source["host"] = host.into();
    }
    let mut metadata = json!({ "name": name, "namespace": namespace });
    if !occurrence.annotations.is_empty() {
        metadata["annotations"] = json!(occurrence.annotations);
    }
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": metadata,
        "involvedObject": involved,
        "reason": occurrence.reason,
        "message": occurrence.message,
        "source": source,
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
        "type": match occurrence.kind { EventKind::Normal => "Normal", EventKind::Warning => "Warning" },
        "reportingComponent": component,
        "reportingInstance": host.unwrap_or_default(),
    });
    let path = format!("/api/v1/namespaces/{namespace}/events");
    client.request::<Value>(request("POST", &path, None, &event)).await?;
    let namespace = namespace.to_owned();
    written.insert(occurrence, Written { namespace, name, count: 1 });
    Ok(())
}

fn request(method: &str, path: &str, content_type: Option<&str>, body: &Value) -> http::Request<Vec<u8>> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type.unwrap_or("application/json"))
        .body(body.to_string().into_bytes())
        .expect("the method, path and header are made of valid parts")
}

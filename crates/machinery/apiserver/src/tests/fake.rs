//! A resource in memory: no write path, only what the server needs to be asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base_meta::Status;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use machinery_registry::resource::{Answer, Deleted, List, WatchEvent, Written};
use machinery_registry::{
    Body, CreateOptions, DeleteOptions, ListOptions, MediaType, Patch, Payload, RequestContext, Resource, ResourceDef,
    SubresourceHandler, UpdateOptions,
};
use machinery_storage::{Meta, Object, Revision};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(crate) struct Fake {
    def: ResourceDef,
    revision: AtomicU64,
    objects: Mutex<BTreeMap<String, Arc<Object>>>,
    watchers: Mutex<Vec<mpsc::UnboundedSender<WatchEvent>>>,
    /// A write of the object named `slow` waits for it.
    pub(super) release: Notify,
    /// Told once such a write is waiting.
    pub(super) waiting: Notify,
    /// Told once such a write has gone through.
    pub(super) written: Notify,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Self::of(super::sample::def())
    }

    pub(super) fn of(def: ResourceDef) -> Arc<Self> {
        Arc::new(Self {
            def,
            revision: AtomicU64::new(0),
            objects: Mutex::default(),
            watchers: Mutex::default(),
            release: Notify::new(),
            waiting: Notify::new(),
            written: Notify::new(),
        })
    }

    pub(crate) fn put(&self, name: &str, mut value: Value) -> Arc<Object> {
        value["metadata"]["name"] = json!(name);
        let revision = Revision(self.revision.fetch_add(1, Ordering::Relaxed) + 1);
        let meta = Meta { name: name.into(), uid: "u-1".into(), ..Meta::default() };
        let object = Object::new(name.into(), revision, meta, Bytes::from(value.to_string())).unwrap();
        let object = Arc::new(object);
        let old = self.objects.lock().unwrap().insert(name.into(), object.clone());
        self.tell(match old {
            Some(_) => WatchEvent::Modified(object.clone()),
            None => WatchEvent::Added(object.clone()),
        });
        object
    }

    pub(super) fn tell(&self, event: WatchEvent) {
        self.watchers.lock().unwrap().retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn find(&self, ctx: &RequestContext, name: &str) -> Result<Arc<Object>, Status> {
        self.objects.lock().unwrap().get(name).cloned().ok_or_else(|| Status::not_found(&ctx.gvr, name))
    }

    fn all(&self) -> List {
        List {
            items: self.objects.lock().unwrap().values().cloned().collect(),
            revision: Revision(self.revision.load(Ordering::Relaxed)),
            continue_token: String::new(),
            remaining: None,
        }
    }
}

fn decode(payload: &Payload) -> Result<(String, Value), Status> {
    let value: Value = match payload.media {
        MediaType::Json => serde_json::from_slice(&payload.bytes).map_err(|e| Status::bad_request(e.to_string()))?,
        MediaType::Yaml => serde_norway::from_slice(&payload.bytes).map_err(|e| Status::bad_request(e.to_string()))?,
    };
    match value["metadata"]["name"].as_str() {
        Some(name) => Ok((name.to_owned(), value)),
        None => Err(Status::bad_request("no name")),
    }
}

#[async_trait::async_trait]
impl Resource for Fake {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        let (name, value) = decode(&body)?;
        match name.as_str() {
            "panic" => panic!("asked to"),
            "hang" => std::future::pending().await,
            "slow" => {
                self.waiting.notify_one();
                self.release.notified().await;
            }
            _ => {}
        }
        ctx.warnings.add(format!("made by {}", options.field_manager.unwrap_or_default()));
        let object = self.put(&name, value);
        self.written.notify_one();
        Ok(Written { object, created: true })
    }

    async fn get(&self, ctx: &RequestContext, name: &str, _resource_version: &str) -> Result<Arc<Object>, Status> {
        self.find(ctx, name)
    }

    async fn list(&self, _: &RequestContext, _: &ListOptions) -> Result<List, Status> {
        Ok(self.all())
    }

    async fn watch(&self, _: &RequestContext, options: &ListOptions) -> Result<BoxStream<'static, WatchEvent>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let initial: Vec<_> = self.all().items.into_iter().map(WatchEvent::Added).collect();
        self.watchers.lock().unwrap().push(sender);
        let bookmark = options.bookmarks.then_some(WatchEvent::Bookmark {
            revision: Revision(self.revision.load(Ordering::Relaxed)),
            initial_events_end: options.send_initial_events == Some(true),
        });
        Ok(stream::iter(initial).chain(stream::iter(bookmark)).chain(UnboundedReceiverStream::new(receiver)).boxed())
    }

    async fn update(&self, _: &RequestContext, _name: &str, body: Payload, _: UpdateOptions) -> Result<Answer, Status> {
        let (name, value) = decode(&body)?;
        Ok(Answer::Object(Written { object: self.put(&name, value), created: false }))
    }

    async fn patch(&self, ctx: &RequestContext, name: &str, patch: Patch, _: UpdateOptions) -> Result<Answer, Status> {
        let kind = match patch {
            Patch::Json(_) => "json",
            Patch::Merge(_) => "merge",
            Patch::Strategic(_) => "strategic",
            Patch::Apply(_) => "apply",
        };
        let mut value = self.find(ctx, name)?.to_value().unwrap();
        value["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        value["patched"] = json!(kind);
        Ok(Answer::Object(Written { object: self.put(name, value), created: kind == "apply" }))
    }

    async fn get_scale(&self, _: &RequestContext, name: &str) -> Result<Value, Status> {
        Ok(json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": { "name": name } }))
    }

    async fn delete(&self, ctx: &RequestContext, name: &str, options: DeleteOptions) -> Result<Deleted, Status> {
        let object = self.find(ctx, name)?;
        if options.grace_period_seconds.is_some_and(|seconds| seconds > 0) {
            return Ok(Deleted::Pending(object));
        }
        self.objects.lock().unwrap().remove(name);
        self.tell(WatchEvent::Deleted(object.clone()));
        Ok(Deleted::Gone(object))
    }

    async fn delete_collection(&self, _: &RequestContext, _: &ListOptions, _: DeleteOptions) -> Result<List, Status> {
        let list = self.all();
        self.objects.lock().unwrap().clear();
        Ok(list)
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        Ok(vec![json!(&*object.meta.name), json!(object.json().len())])
    }

    fn handler(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        (subresource == "exec").then(|| Arc::new(Echo) as Arc<dyn SubresourceHandler>)
    }
}

/// Answers with what it was asked; where the client wants an upgrade, echoes on the upgraded connection.
struct Echo;

#[async_trait::async_trait]
impl SubresourceHandler for Echo {
    fn also_needs(&self) -> Option<&'static str> {
        Some("create")
    }

    async fn handle(
        &self,
        ctx: &RequestContext,
        name: &str,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        if request.headers().contains_key("upgrade") {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
            let mut response = http::Response::new(Body::default());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            return Ok(response);
        }
        let text = format!("{} {} {:?} {name}", request.method(), request.uri(), ctx.subresource);
        Ok(crate::respond::text(http::StatusCode::OK, text))
    }
}

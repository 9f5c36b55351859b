//! How every part talks to the API: the `kube` client over a tower service, shared informers, and events.
//!
//! In process there is neither TCP nor TLS, yet the request takes the same path through the API server, with the
//! caller's own identity; [`Remote`] reaches the server of another process. Names no kind of its own beyond the core `Event` it writes.

mod events;
mod informer;
mod raw;
mod remote;

pub use events::{EventKind, Recorder, Regarding};
pub use informer::{Change, Informer, Lagging, informer};
pub use kube;
pub use remote::{Error as RemoteError, Remote};

use tower::{BoxError, Service};

/// Where an object lives; `namespace` is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A client over `service`: the API server of this process, or a fake in tests.
pub fn over<S, B>(service: S) -> kube::Client
where
    S: Service<http::Request<kube::client::Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, "default")
}

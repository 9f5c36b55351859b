//! One function per verb: options from the query, the registry's answer, the form the client takes.

mod connect;
mod read;
mod write;

use std::sync::Arc;

use base_meta::Status;
use base_meta::schema::SchemaRef;
use bytes::BytesMut;
use http::{Method, Response, StatusCode};
use machinery_registry::request::Warnings;
use machinery_registry::{Body, RequestContext, Resource, UserInfo, Verb};
use machinery_storage::Object;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::definitions;
use crate::forms;
use crate::forms::table::Include;
use crate::metrics::Metrics;
use crate::negotiate::{self, Accepted, Encoding, Protobuf, Transform};
use crate::path::ResourcePath;
use crate::protobuf::{self, Part};
use crate::query::Query;
use crate::respond::Style;

/// One authorized request for a resource that exists.
pub(crate) struct Call<'a> {
    pub(crate) resource: &'a Arc<dyn Resource>,
    pub(crate) path: &'a ResourcePath<'a>,
    pub(crate) query: &'a Query<'a>,
    pub(crate) parts: &'a http::request::Parts,
    pub(crate) ctx: RequestContext,
    /// Why the caller may not create what it updates or applies; `None`: it may.
    pub(crate) no_create: Option<Box<Status>>,
    /// Ends watches.
    pub(crate) ended: &'a CancellationToken,
    pub(crate) metrics: &'a Metrics,
}

/// The context of a request for `resource`; `Err` where the path's shape does not fit its scope.
pub(crate) fn context(
    resource: &dyn Resource,
    path: &ResourcePath<'_>,
    user: Arc<UserInfo>,
    warnings: Warnings,
) -> Result<RequestContext, Status> {
    let def = resource.def();
    // The path of a namespace itself has the namespace twice; it is cluster-scoped nevertheless.
    let namespace = if def.namespaced() { path.namespace } else { "" };
    let misplaced = if def.namespaced() {
        namespace.is_empty() && !path.name.is_empty()
    } else {
        !path.namespace.is_empty() && path.resource != "namespaces"
    };
    if misplaced {
        return Err(Status::no_such_path());
    }
    Ok(RequestContext {
        user,
        gvr: def.gvr(),
        subresource: (!path.subresource.is_empty()).then(|| path.subresource.into()),
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        warnings,
    })
}

pub(crate) async fn dispatch(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let def = call.resource.def();
    let path = call.path;
    if !path.subresource.is_empty() {
        return subresource(call, body).await;
    }
    let verb = match path.verb {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        _ => return Err(Status::method_not_allowed()),
    };
    let collection = matches!(verb, Verb::List | Verb::Create | Verb::DeleteCollection);
    let fits = collection == path.name.is_empty() || verb == Verb::Watch;
    // A namespaced object is made and deleted in a namespace, though all namespaces are listed and watched at once.
    let placed = !def.namespaced() || call.ctx.namespace.is_some() || matches!(verb, Verb::List | Verb::Watch);
    let reads = matches!(verb, Verb::Get | Verb::List | Verb::Watch);
    let method_fits = !reads || call.parts.method == Method::GET;
    if !def.verbs.contains(&verb) || !fits || !placed || !method_fits {
        return Err(Status::method_not_allowed());
    }
    match verb {
        Verb::Get => read::get(call).await,
        Verb::List => read::list(call).await,
        Verb::Watch => read::watch(call).await,
        Verb::Create => write::create(call, body).await,
        Verb::Update => write::update(call, body).await,
        Verb::Patch => write::patch(call, body).await,
        Verb::Delete => write::delete(call, body).await,
        Verb::DeleteCollection => write::delete_collection(call, body).await,
    }
}

async fn subresource(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let name = call.path.subresource;
    let Some(sub) = call.resource.def().subresource(name) else { return Err(Status::no_such_path()) };
    let verb = match call.parts.method {
        Method::GET => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => return Err(Status::method_not_allowed()),
    };
    if !sub.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    if let Some(handler) = call.resource.handler(name) {
        return connect::handle(call, &*handler, sub, verb, body).await;
    }
    if call.path.rest {
        return Err(Status::no_such_path());
    }
    match verb {
        Verb::Get if name == "scale" => read::scale(call).await,
        Verb::Get => read::get(call).await,
        Verb::Update => write::update(call, body).await,
        Verb::Patch => write::patch(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

impl Call<'_> {
    fn accepted(&self, list: bool) -> Result<Accepted, Status> {
        negotiate::object(&self.parts.headers, list, self.protobuf())
    }

    fn protobuf(&self) -> Protobuf {
        let def = self.resource.def();
        Protobuf { whole: Part::Whole.encodable(def), metadata: Part::Metadata.encodable(def) }
    }

    /// Of an answer that is not an object of the resource: a Scale, a Status.
    async fn send_value(&self, encoding: Encoding, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
        if encoding != Encoding::Protobuf {
            return Ok(self.style(encoding).send_value(code, value).await);
        }
        match definitions::of_answer(self.resource.def().schema.table, value) {
            Some((gvk, schema)) => {
                Ok(self.style(encoding).deliver(code, protobuf::value(&gvk, schema, value)?.into()).await)
            }
            None => Ok(self.style(Encoding::Json).send_value(code, value).await),
        }
    }

    /// What a body of this request is an object of, where that has a message.
    fn body_schema(&self) -> Option<SchemaRef> {
        definitions::of_body(self.resource.def(), self.path.subresource).filter(|schema| protobuf::describes(*schema))
    }

    fn style(&self, encoding: Encoding) -> Style {
        Style::new(encoding, &self.parts.headers, self.query)
    }

    fn user_agent(&self) -> Option<&str> {
        self.parts.headers.get(http::header::USER_AGENT)?.to_str().ok()
    }

    /// One object in the form that was negotiated.
    async fn send(&self, accepted: Accepted, code: StatusCode, object: &Object) -> Result<Response<Body>, Status> {
        if let Some(part) = accepted.protobuf() {
            let bytes = protobuf::object(self.resource.def(), part, object)?;
            return Ok(self.style(accepted.encoding).deliver(code, bytes.into()).await);
        }
        let mut json = BytesMut::new();
        match accepted.transform {
            Transform::None => object.write_json(&mut json),
            Transform::Metadata => forms::write_metadata(&mut json, object)?,
            Transform::Table => {
                let include = Include::parse(self.query)?;
                forms::table::write_single(&mut json, &**self.resource, include, true, object.revision, Some(object))?;
            }
        }
        Ok(self.style(accepted.encoding).send(code, json.freeze()).await)
    }

    async fn send_list(
        &self,
        accepted: Accepted,
        list: machinery_registry::resource::List,
    ) -> Result<Response<Body>, Status> {
        let style = self.style(accepted.encoding);
        if let Some(part) = accepted.protobuf() {
            let bytes = protobuf::list(self.resource.def(), part, &list)?;
            return Ok(style.deliver(StatusCode::OK, bytes.into()).await);
        }
        let gvk = &self.resource.def().gvk;
        let json = match accepted.transform {
            Transform::None if style.is_plain() && forms::list_size(&list) >= forms::long::LONG => {
                return Ok(style.stream(StatusCode::OK, forms::long::list(gvk, list)));
            }
            Transform::None => forms::list(gvk, &list),
            Transform::Metadata => forms::metadata_list(&list)?,
            Transform::Table => forms::table::list(&**self.resource, Include::parse(self.query)?, &list)?,
        };
        Ok(style.send(StatusCode::OK, json.freeze()).await)
    }
}

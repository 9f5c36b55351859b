//! Subresources that serve themselves: the whole request goes to the resource's handler, upgrade and all, once admission
//! has seen what it is about: the options of a connection, or the body.

use base_meta::Status;
use base_meta::schema::{SchemaRef, Shape};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use machinery_registry::admission::{Operation, Options, Writing};
use machinery_registry::{Body, MediaType, Payload, SubresourceDef, SubresourceHandler, Verb};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::Call;
use crate::negotiate::{self, Encoding};
use crate::options::{self, Change};
use crate::query::Query;
use crate::{body, limits};

pub(super) async fn handle(
    call: &Call<'_>,
    handler: &dyn SubresourceHandler,
    sub: &SubresourceDef,
    verb: Verb,
    body: Body,
) -> Result<Response<Body>, Status> {
    // The extensions hold the connection's upgrade.
    let mut parts = call.parts.clone();
    let streams = limits::streams(call.path.subresource);
    // Streams may be long; the plain bodies (Binding, Eviction) may not, and reach the handler as JSON.
    let body = if streams {
        if sub.gvk.kind.ends_with("Options") {
            let asked = connection(call, sub);
            let before = asked.clone();
            let name = call.path.name;
            let asked = call.resource.admit_body(&call.ctx, name, Operation::Connect, asked, Options::None).await?;
            if asked != before {
                parts.uri = with_options(&parts.uri, call.body_schema(), call.query, &asked)?;
            }
        }
        body
    } else if matches!(verb, Verb::Create | Verb::Update) {
        let payload = body::object(&parts.headers, body, call.body_schema()).await?;
        let bytes = admitted(call, verb, payload).await?;
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    } else {
        http_body_util::Limited::new(body, body::LIMIT).boxed_unsync()
    };
    let request = Request::from_parts(parts, body);
    let response = handler.handle(&call.ctx, call.path.name, request).await?;
    if streams || !negotiate::prefers_protobuf(&call.parts.headers) {
        return Ok(response);
    }
    as_protobuf(call, response).await
}

/// The body as admission leaves it. One that is not JSON is the handler's to refuse.
async fn admitted(call: &Call<'_>, verb: Verb, payload: Payload) -> Result<bytes::Bytes, Status> {
    let value: Result<Value, String> = match payload.media {
        MediaType::Json => serde_json::from_slice(&payload.bytes).map_err(|error| error.to_string()),
        MediaType::Yaml => serde_norway::from_slice(&payload.bytes).map_err(|error| error.to_string()),
    };
    let value = match value {
        Ok(value) if value.is_object() => value,
        _ => return Ok(payload.bytes),
    };
    let create;
    let update;
    let (operation, options) = match verb {
        Verb::Create => {
            create = options::create(call.query, call.user_agent())?;
            (Operation::Create, Options::Create(create.writing()))
        }
        _ => {
            update = options::update(call.query, call.user_agent(), Change::Update)?;
            let (dry_run, manager) = (update.dry_run, update.field_manager.as_deref());
            (Operation::Update, Options::Update(Writing { dry_run, manager, validation: update.field_validation }))
        }
    };
    let admitted = call.resource.admit_body(&call.ctx, call.path.name, operation, value, options).await?;
    Ok(admitted.to_string().into())
}

/// `PodExecOptions` and its like: what the query says, by the fields of the kind.
fn connection(call: &Call<'_>, sub: &SubresourceDef) -> Value {
    let mut asked = call.body_schema().map(|schema| parameters(schema, call.query)).unwrap_or_default();
    let path = call.parts.uri.path();
    if call.path.rest
        && let Some((_, rest)) = path.split_once(&format!("/{}/", call.path.subresource))
    {
        asked.insert("path".into(), format!("/{rest}").into());
    }
    asked.insert("kind".into(), json!(sub.gvk.kind));
    asked.insert("apiVersion".into(), json!(sub.gvk.api_version()));
    Value::Object(asked)
}

fn parameters(schema: SchemaRef, query: &Query<'_>) -> Map<String, Value> {
    let mut found = Map::new();
    for field in schema.root_type().fields {
        let value = match (query.get(field.name), field.shape) {
            (None, _) => continue,
            (Some(_), Shape::Bool) => query.flag(field.name).then_some(Value::Bool(true)),
            (Some(_), Shape::List(items)) => {
                let numbers = matches!(schema.table.nested(items), Shape::Int(_));
                let item = |text: &str| match text.parse::<i64>() {
                    Ok(number) if numbers => json!(number),
                    _ => json!(text),
                };
                Some(query.all(field.name).map(item).collect())
            }
            (Some(text), Shape::Int(_)) => text.parse::<i64>().ok().map(Value::from),
            (Some(text), _) => Some(text.into()),
        };
        if let Some(value) = value {
            found.insert(field.name.to_owned(), value);
        }
    }
    found
}

/// The address with the options in its query as admission leaves them. A path below a proxy stays what it was.
fn with_options(uri: &Uri, schema: Option<SchemaRef>, query: &Query<'_>, options: &Value) -> Result<Uri, Status> {
    let known = schema.map(|schema| schema.root_type().fields).unwrap_or_default();
    let is_known = |name: &str| known.iter().any(|field| field.name == name);
    let mut pairs: Vec<(String, String)> =
        query.pairs().filter(|(name, _)| !is_known(name)).map(|(name, value)| (name.into(), value.into())).collect();
    for field in known {
        let values = match &options[field.name] {
            Value::Null => continue,
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            pairs.push((field.name.to_owned(), text));
        }
    }
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    let address = format!("{}?{}", uri.path(), query.join("&"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(address.parse().map_err(Status::internal)?);
    Uri::from_parts(parts).map_err(Status::internal)
}

/// Handlers answer in JSON; what they answer is of a kind that the table knows.
async fn as_protobuf(call: &Call<'_>, response: Response<Body>) -> Result<Response<Body>, Status> {
    let json = HeaderValue::from_static("application/json");
    if response.headers().get(CONTENT_TYPE) != Some(&json) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(Status::internal)?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    let mut answer = call.send_value(Encoding::Protobuf, parts.status, &value).await?;
    for (name, value) in parts.headers {
        if let Some(name) = name.filter(|name| name != CONTENT_TYPE && name != CONTENT_LENGTH) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base_meta::schema::{Table, Type, TypeId};

    use super::*;
    use crate::tests::sample::field;

    static OPTIONS: Table = Table {
        types: &[Type {
            name: "io.k8s.api.core.v1.PodExecOptions",
            fields: &[
                field(1, "stdin", Shape::Bool),
                field(4, "tty", Shape::Bool),
                field(5, "container", Shape::String),
                field(6, "command", Shape::List(0)),
            ],
            atomic_map: false,
        }],
        shapes: &[Shape::String],
        prose: &[],
    };

    #[test]
    fn options_are_asked_for_as_admission_leaves_them() {
        let schema = SchemaRef { table: &OPTIONS, root: TypeId(0) };
        let uri: Uri =
            "/api/v1/namespaces/a/pods/p/exec?command=sh&command=-c&stdin=true&container=x&other=1".parse().unwrap();
        let query = Query::parse(uri.query().unwrap()).unwrap();
        let mut options = Value::Object(parameters(schema, &query));
        assert_eq!(options, json!({"command": ["sh", "-c"], "stdin": true, "container": "x"}));
        options["command"] = json!(["echo", "a b&c"]);
        options["tty"] = json!(true);
        options.as_object_mut().unwrap().remove("stdin");
        let changed = with_options(&uri, Some(schema), &query, &options).unwrap();
        assert_eq!(changed.path(), uri.path());
        let query = Query::parse(changed.query().unwrap()).unwrap();
        assert_eq!(Value::Object(parameters(schema, &query)), options);
        assert_eq!(query.text("other"), "1");
    }
}

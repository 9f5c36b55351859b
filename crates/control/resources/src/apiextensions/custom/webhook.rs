//! Conversion by a webhook: `apiextensions.k8s.io/v1 ConversionReview` over HTTPS, to a Service or a URL.

use std::fmt;
use std::time::Duration;

use base_meta::{GroupVersion, Reason, Status};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{WebhookClientConfig, WebhookConversion};
use machinery_dial::{ClientConfig, Dialer, Server, ServiceReference};
use machinery_registry::Conversion;
use serde_json::{Value, json};

/// Upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer holds as many objects as were asked for, so it may be large; not without end.
const MAX_ANSWER: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no webhook is configured")]
    NotConfigured,
    #[error("{0}")]
    Configured(String),
    #[error("Post {url:?}: {reason}")]
    Post { url: String, reason: machinery_dial::Error },
    #[error("the server answered {0}")]
    Refused(http::StatusCode),
    #[error("reading its answer: {0}")]
    Answer(serde_json::Error),
    #[error("{0}")]
    Said(String),
}

pub(crate) struct Webhook {
    /// `stable.example.com/v1, Kind=CronTab`, for messages.
    kind: String,
    /// `None`: none is configured. A bad configuration is told to whoever needs the conversion.
    server: Option<Result<Server, String>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn dialed(config: &WebhookClientConfig) -> ClientConfig {
    let service = config.service.as_ref().map(|service| ServiceReference {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        path: service.path.clone(),
        port: service.port.and_then(|port| u16::try_from(port).ok()),
    });
    ClientConfig { url: config.url.clone(), service, ca_bundle: config.ca_bundle.clone(), ..ClientConfig::default() }
}

impl Webhook {
    pub(crate) fn new(kind: String, webhook: Option<&WebhookConversion>, dialer: &Dialer) -> Self {
        let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
        let server = config.map(|config| dialer.server(&dialed(config)).map_err(|error| error.to_string()));
        Self { kind, server }
    }

    async fn call(&self, review: &Value) -> Result<Value, Error> {
        let server = match &self.server {
            None => return Err(Error::NotConfigured),
            Some(Err(problem)) => return Err(Error::Configured(problem.clone())),
            Some(Ok(server)) => server,
        };
        let body = serde_json::to_vec(review).map_err(Error::Answer)?;
        let path = server.path_within(TIMEOUT);
        match server.call(&path, body.into(), TIMEOUT, MAX_ANSWER).await {
            Ok((status, bytes)) if status.is_success() => serde_json::from_slice(&bytes).map_err(Error::Answer),
            Ok((status, _)) => Err(Error::Refused(status)),
            Err(reason) => Err(Error::Post { url: server.url(&path), reason }),
        }
    }

    async fn ask(&self, objects: &[Value], to: &GroupVersion) -> Result<Vec<Value>, Error> {
        let uid = objects.first().map(|object| object["metadata"]["uid"].clone()).unwrap_or_default();
        let uid = if uid.is_string() { uid } else { json!(self.kind) };
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": to.to_string(), "objects": objects},
        });
        answered(self.call(&review).await?, &review["request"]["uid"], objects, to)
    }
}

/// The objects of an answer, one for each of `asked`.
fn answered(mut answer: Value, uid: &Value, asked: &[Value], to: &GroupVersion) -> Result<Vec<Value>, Error> {
    if answer["response"]["uid"] != *uid {
        return Err(Error::Said(format!("expected response.uid {uid}")));
    }
    let result = &answer["response"]["result"];
    if result["status"] != "Success" {
        let message = result["message"].as_str().unwrap_or("response did not say why");
        return Err(Error::Said(message.to_owned()));
    }
    match answer.pointer_mut("/response/convertedObjects").map(Value::take) {
        Some(Value::Array(converted)) if converted.len() == asked.len() => {
            asked.iter().zip(converted).map(|(before, after)| kept(before, after, to)).collect()
        }
        Some(Value::Array(converted)) => {
            Err(Error::Said(format!("webhook returned {} objects, expected {}", converted.len(), asked.len())))
        }
        _ => Err(Error::Said("webhook returned no objects".into())),
    }
}

/// What an answer of any bytes makes of `asked`, for fuzzing.
#[cfg(feature = "test-util")]
pub fn conversion_answer(body: &[u8], asked: &[Value], to: &GroupVersion) -> Option<Vec<Value>> {
    answered(serde_json::from_slice(body).ok()?, &json!("uid"), asked, to).ok()
}

/// A conversion may change labels and annotations, nothing else of metadata.
fn kept(before: &Value, mut after: Value, to: &GroupVersion) -> Result<Value, Error> {
    if after["apiVersion"] != to.to_string() || after["kind"] != before["kind"] {
        let said = &after["apiVersion"];
        return Err(Error::Said(format!("webhook returned an object of {said}, expected {:?}", to.to_string())));
    }
    let mut metadata = before["metadata"].clone();
    let mut changed = after["metadata"].take();
    for name in ["labels", "annotations"] {
        match (changed.get_mut(name).map(Value::take), metadata.as_object_mut()) {
            (None | Some(Value::Null), Some(fields)) => drop(fields.remove(name)),
            (Some(value), Some(fields)) => drop(fields.insert(name.into(), value)),
            _ => {}
        }
    }
    after["metadata"] = metadata;
    Ok(after)
}

#[async_trait::async_trait]
impl Conversion for Webhook {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        let wanted = to.to_string();
        let other: Vec<Value> = objects.iter().filter(|object| object["apiVersion"] != wanted).cloned().collect();
        if other.is_empty() {
            return Ok(objects);
        }
        let failed = |error: Error| {
            let message = format!("conversion webhook for {} failed: {error}", self.kind);
            Status::new(Reason::InternalError, message)
        };
        let mut converted = self.ask(&other, to).await.map_err(failed)?.into_iter();
        Ok(objects
            .into_iter()
            .map(|object| if object["apiVersion"] == wanted { object } else { converted.next().unwrap_or_default() })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_kept_but_for_labels_and_annotations() {
        let to = GroupVersion::parse("example.com/v2").expect("a version");
        let before = json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "a", "uid": "1", "labels": {"x": "y"}}});
        let after = json!({"apiVersion": "example.com/v2", "kind": "X", "metadata": {"name": "b", "annotations": {"p": "q"}}, "spec": {}});
        let kept_ = kept(&before, after, &to).expect("a good conversion");
        assert_eq!(kept_["metadata"], json!({"name": "a", "uid": "1", "annotations": {"p": "q"}}));
        for bad in [
            json!({}),
            json!({"apiVersion": "example.com/v1", "kind": "X"}),
            json!({"apiVersion": "example.com/v2", "kind": "Y"}),
        ] {
            assert!(kept(&before, bad, &to).is_err());
        }
    }

    #[test]
    fn an_answer_of_any_shape_is_an_error_at_most() {
        let to = GroupVersion::parse("example.com/v2").expect("a version");
        let asked = [json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "a"}})];
        let said = |converted: Value| json!({"response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": converted}});
        for answer in [
            json!([]),
            json!("x"),
            Value::Null,
            json!({"response": []}),
            said(Value::Null),
            said(json!([])),
            said(json!(["x"])),
        ] {
            assert!(answered(answer, &json!("u"), &asked, &to).is_err());
        }
        for metadata in [json!("x"), json!([]), Value::Null, json!({})] {
            let object = json!({"apiVersion": "example.com/v2", "kind": "X", "metadata": metadata});
            let converted = answered(said(json!([object])), &json!("u"), &asked, &to).expect("converted");
            assert_eq!(converted[0]["metadata"], json!({"name": "a"}));
        }
    }

    #[tokio::test]
    async fn what_is_not_configured_is_an_error() {
        struct Nowhere;
        #[async_trait::async_trait]
        impl machinery_dial::Resolver for Nowhere {
            async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<(String, u16), String> {
                Err("nowhere".into())
            }
        }
        let dialer = Dialer::new(std::sync::Arc::new(Nowhere), base_tasks::Tasks::root("test"));
        let to = GroupVersion::parse("example.com/v2").expect("a version");
        let configured = |config: Value| WebhookConversion {
            client_config: Some(serde_json::from_value(config).expect("a configuration")),
            ..WebhookConversion::default()
        };
        let service = json!({"service": {"namespace": "a", "name": "b"}});
        let bad = configured(json!({"url": "http://x"}));
        for (webhook, said) in [
            (None, "no webhook is configured"),
            (Some(&bad), "\"http://x\" is not an HTTPS URL"),
            (Some(&configured(service)), "Post \"https://b.a.svc:443/?timeout=30s\": nowhere"),
        ] {
            let webhook = Webhook::new("example.com/v1, Kind=X".into(), webhook, &dialer);
            let failed =
                webhook.convert(vec![json!({"apiVersion": "example.com/v1"})], &to).await.expect_err("no server");
            assert_eq!(failed.message, format!("conversion webhook for example.com/v1, Kind=X failed: {said}"));
        }
    }
}

//! Kinds that are asked and answered, never stored: the access reviews, and reviews of who is calling.

mod access;
mod identity;
mod rules;
mod selectors;

use std::sync::Arc;

use base_meta::schema::{self, Decoded};
use base_meta::{Gvk, Status, field};
use machinery_registry::resource::Written;
use machinery_registry::{
    Column, CreateOptions, FieldValidation, MediaType, Payload, RequestContext, Resource, ResourceDef, Scope, UserInfo,
    Verb,
};
use machinery_storage::{Meta, Object, Revision};
use serde_json::{Value, json};

use crate::authorization::Chain;
use crate::rbac::Rbac;
use crate::tokens::{BootstrapTokens, ServiceAccountTokens};

/// What a review answers: the object as it was asked, with its status.
#[async_trait::async_trait]
trait Answering: Send + Sync + 'static {
    async fn answer(&self, ctx: &RequestContext, asked: Value) -> Result<Value, Status>;
}

const COLUMNS: &[Column] =
    &[Column { name: "Name", kind: "string", format: "name", description: "It has none.", priority: 0 }];

/// Every review, over the server's own authorizers; `admission` is asked first.
pub fn resources(
    rbac: &Arc<Rbac>,
    chain: &Arc<Chain>,
    tokens: &Arc<ServiceAccountTokens>,
    bootstrap: &Arc<BootstrapTokens>,
    admission: &machinery_registry::Chain,
) -> Vec<Arc<dyn Resource>> {
    let access = |of| access::Access { chain: chain.clone(), of };
    const AUTHORIZATION: &str = "authorization.k8s.io";
    const AUTHENTICATION: &str = "authentication.k8s.io";
    vec![
        review(admission, AUTHORIZATION, "SubjectAccessReview", Scope::Cluster, access(access::Of::Anyone)),
        review(admission, AUTHORIZATION, "SelfSubjectAccessReview", Scope::Cluster, access(access::Of::Caller)),
        review(admission, AUTHORIZATION, "LocalSubjectAccessReview", Scope::Namespaced, access(access::Of::AnyoneHere)),
        review(admission, AUTHORIZATION, "SelfSubjectRulesReview", Scope::Cluster, rules::Rules(rbac.clone())),
        review(admission, AUTHENTICATION, "SelfSubjectReview", Scope::Cluster, identity::WhoAmI),
        review(
            admission,
            AUTHENTICATION,
            "TokenReview",
            Scope::Cluster,
            identity::Token(tokens.clone(), bootstrap.clone()),
        ),
    ]
}

fn review(
    admission: &machinery_registry::Chain,
    group: &'static str,
    kind: &'static str,
    scope: Scope,
    answering: impl Answering,
) -> Arc<dyn Resource> {
    let gvk = Gvk::of(group, "v1", kind);
    let schema = api::schema::by_gvk(&gvk).expect("the schema table has every built-in kind: a test looks each one up");
    let singular = kind.to_ascii_lowercase();
    let def = ResourceDef {
        plural: format!("{singular}s").into(),
        singular: singular.into(),
        scope,
        verbs: &[Verb::Create],
        columns: COLUMNS,
        gvk,
        schema,
        short_names: &[],
        categories: &[],
        subresources: Vec::new(),
        fields: &[],
        answers_deleted: false,
        deprecation: None,
        published: None,
        stored_as: None,
    };
    Arc::new(Review { def, answering, admission: admission.clone() })
}

struct Review<A> {
    def: ResourceDef,
    answering: A,
    admission: machinery_registry::Chain,
}

impl<A: Answering> Review<A> {
    fn decode(&self, ctx: &RequestContext, body: &Payload, validation: FieldValidation) -> Result<Value, Status> {
        let kind = &self.def.gvk.kind;
        let refuse = |problem: &dyn std::fmt::Display| {
            let version = &self.def.gvk.version;
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {problem}"))
        };
        let decoded = match body.media {
            MediaType::Json => schema::decode(self.def.schema, &body.bytes),
            MediaType::Yaml => {
                let value = machinery_registry::yaml::from_slice(&body.bytes).map_err(|error| refuse(&error))?;
                schema::conform(self.def.schema, value)
            }
        };
        let Decoded { mut value, strict_errors, .. } = decoded.map_err(|error| refuse(&error.client_message()))?;
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => strict_errors.iter().for_each(|error| ctx.warnings.add(error)),
            FieldValidation::Strict if strict_errors.is_empty() => {}
            FieldValidation::Strict => return Err(refuse(&schema::strict_message(&strict_errors))),
        }
        let said = value.get("kind").and_then(Value::as_str).filter(|said| !said.is_empty());
        if said.is_some_and(|said| said != kind) {
            return Err(refuse(&format!("the body is a {}", said.unwrap_or_default())));
        }
        value["apiVersion"] = json!(self.def.gvk.api_version());
        value["kind"] = json!(kind);
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        Ok(value)
    }
}

#[async_trait::async_trait]
impl<A: Answering> Resource for Review<A> {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        let asked = self.decode(ctx, &body, options.field_validation)?;
        let name = asked["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let asked = self.admission.pass(&self.def, ctx, &name, options.writing(), asked).await?;
        let answer = self.answering.answer(ctx, asked).await?;
        let json = serde_json::to_vec(&answer).map_err(Status::internal)?;
        let object = Object::new("".into(), Revision::default(), Meta::default(), json.into());
        Ok(Written { object: Arc::new(object.map_err(Status::internal)?), created: true })
    }

    fn row(&self, _: &Object) -> Result<Vec<Value>, Status> {
        Ok(vec![json!("")])
    }
}

/// As `authentication.k8s.io/v1 UserInfo`.
fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn invalid(asked: &Value, errors: &[field::Error]) -> Result<(), Status> {
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    match Gvk::parse(text("apiVersion"), text("kind")) {
        Some(gvk) if !errors.is_empty() => Err(Status::invalid(&gvk, "", errors)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

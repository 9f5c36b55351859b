//! From a request's bytes to a value that follows the kind's schema, or to upstream's words for why not.

use base_meta::schema::{self, Decoded};
use base_meta::{GroupVersion, Status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use crate::core::Core;
use crate::custom::CustomSchema;
use crate::dialect::Dialect;
use crate::{FieldValidation, MediaType, Payload, RequestContext, duplicates, yaml};

#[derive(Debug, Default, Deserialize)]
struct TypeMeta {
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
}

impl Dialect {
    /// Decodes a body of this kind; `kind` and `apiVersion` may be missing from it, as upstream lets them.
    pub(crate) fn decode(
        &self,
        ctx: &RequestContext,
        payload: &Payload,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let (mut decoded, duplicates) = match payload.media {
            MediaType::Json => {
                let decoded = match &self.custom {
                    None => schema::decode(self.def.schema, &payload.bytes),
                    Some(custom) => duplicates::parse(&payload.bytes)
                        .map_err(schema::DecodeError::Syntax)
                        .and_then(|(value, duplicates)| self.fit(&**custom, value, duplicates)),
                };
                match decoded {
                    Ok(decoded) => {
                        self.check_type(decoded.value["apiVersion"].as_str(), decoded.value["kind"].as_str())?;
                        (decoded, None)
                    }
                    // That it is something else goes before what is wrong with it.
                    Err(error) => {
                        let head: TypeMeta = serde_json::from_slice(&payload.bytes).map_err(|error| {
                            self.unrecognized(&format!("json parse error: {error}"), &payload.bytes)
                        })?;
                        self.check_type(head.api_version.as_deref(), head.kind.as_deref())?;
                        return Err(self.unfit(&error));
                    }
                }
            }
            MediaType::Yaml => {
                let value: Value = yaml::from_slice(&payload.bytes)
                    .map_err(|error| self.unrecognized(&format!("yaml parse error: {error}"), &payload.bytes))?;
                let head = TypeMeta::deserialize(&value)
                    .map_err(|error| self.unrecognized(&format!("json parse error: {error}"), &payload.bytes))?;
                self.check_type(head.api_version.as_deref(), head.kind.as_deref())?;
                // The untyped form alone refuses a key that is set twice.
                let strict = serde_norway::from_slice::<serde_norway::Value>(&payload.bytes);
                let decoded = self.fitted(value).map_err(|error| self.unfit(&error))?;
                (decoded, strict.err().map(|error| error.to_string()))
            }
        };
        decoded.strict_errors.extend(duplicates);
        self.report(ctx, validation, &decoded.strict_errors, |message| {
            Status::bad_request(self.cannot_be_handled(&self.def.gvk.kind, &self.def.gvk.version, message))
        })?;
        self.name_type(&mut decoded.value);
        Ok(decoded.value)
    }

    /// Unknown and duplicate fields fail, warn or vanish.
    pub(crate) fn report(
        &self,
        ctx: &RequestContext,
        validation: FieldValidation,
        strict_errors: &[String],
        refuse: impl FnOnce(&str) -> Status,
    ) -> Result<(), Status> {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => strict_errors.iter().for_each(|error| ctx.warnings.add(error)),
            FieldValidation::Strict if strict_errors.is_empty() => {}
            FieldValidation::Strict => {
                return Err(refuse(&schema::strict_message(strict_errors)));
            }
        }
        Ok(())
    }

    /// Brings a parsed value to what the schema knows.
    pub(crate) fn fitted(&self, value: Value) -> Result<Decoded, schema::DecodeError> {
        match &self.custom {
            None => schema::conform(self.def.schema, value),
            Some(custom) => self.fit(&**custom, value, Vec::new()),
        }
    }

    /// Metadata by the table, the rest by the kind's own schema.
    fn fit(
        &self,
        custom: &dyn CustomSchema,
        value: Value,
        mut strict_errors: Vec<String>,
    ) -> Result<Decoded, schema::DecodeError> {
        let Value::Object(mut content) = value else { return schema::conform(self.def.schema, value) };
        let known = self.def.schema.root_type().fields;
        let head = known.iter().filter_map(|field| content.remove_entry(field.name)).collect();
        let head = schema::conform(self.def.schema, Value::Object(head))?;
        strict_errors.extend(head.strict_errors);
        if let Value::Object(head) = head.value {
            content.extend(head);
        }
        let mut value = Value::Object(content);
        let unknown = custom.prune(&mut value);
        strict_errors.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
        if self.is_converted() {
            custom.default(&mut value);
        }
        Ok(Decoded { value, strict_errors })
    }

    fn unfit(&self, error: &schema::DecodeError) -> Status {
        let gvk = &self.def.gvk;
        Status::bad_request(self.cannot_be_handled(&gvk.kind, &gvk.version, &error.client_message()))
    }

    fn name_type(&self, value: &mut Value) {
        if let Value::Object(object) = value {
            object.insert("apiVersion".into(), self.def.gvk.api_version().into());
            object.insert("kind".into(), self.def.gvk.kind.as_ref().into());
        }
    }

    /// Either may be missing.
    fn check_type(&self, api_version: Option<&str>, kind: Option<&str>) -> Result<(), Status> {
        let expected = &self.def.gvk;
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or(&expected.kind);
        let expected_version = expected.api_version();
        let api_version = api_version.filter(|text| !text.is_empty()).unwrap_or(&expected_version);
        if kind == expected.kind {
            if api_version == expected_version {
                return Ok(());
            }
            if !self.is_known(api_version, kind) {
                let version =
                    GroupVersion::parse(api_version).map_or_else(|| api_version.into(), |parsed| parsed.version);
                return Err(Status::bad_request(self.cannot_be_handled(
                    kind,
                    &version,
                    &unregistered(api_version, kind),
                )));
            }
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected_version})"
            )));
        }
        let version = GroupVersion::parse(api_version).map_or_else(|| api_version.into(), |parsed| parsed.version);
        let problem = if self.is_known(api_version, kind) {
            format!("converting ({version}.{kind}) to ({version}.{}): unknown conversion", expected.kind)
        } else {
            unregistered(api_version, kind)
        };
        Err(Status::bad_request(self.cannot_be_handled(kind, &version, &problem)))
    }

    /// Whether the schema has such a kind; definition names end in `.<group's first part>.<version>.<Kind>`.
    fn is_known(&self, api_version: &str, kind: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or(group);
        let ending = format!(".{package}.{version}.{kind}");
        self.def.schema.table.types.iter().any(|known| known.name.ends_with(&ending))
    }

    fn cannot_be_handled(&self, kind: &str, version: &str, problem: &str) -> String {
        format!("{kind} in version {version:?} cannot be handled as a {}: {problem}", self.def.gvk.kind)
    }

    fn unrecognized(&self, problem: &str, bytes: &[u8]) -> Status {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {problem} ({})",
            self.def.gvk.kind,
            summary(bytes)
        ))
    }

    /// A patched document, checked as a body is.
    pub(crate) fn conform(
        &self,
        ctx: &RequestContext,
        value: Value,
        validation: FieldValidation,
        refuse: impl Fn(&str) -> Status,
    ) -> Result<Value, Status> {
        let head = TypeMeta::deserialize(&value).map_err(|error| refuse(&error.to_string()))?;
        self.check_type(head.api_version.as_deref(), head.kind.as_deref())?;
        let mut decoded = self.fitted(value).map_err(|error| refuse(&error.client_message()))?;
        self.report(ctx, validation, &decoded.strict_errors, refuse)?;
        self.name_type(&mut decoded.value);
        Ok(decoded.value)
    }
}

impl Core {
    /// The body's namespace must be the path's, or is filled from it; a cluster-scoped kind loses it.
    pub(crate) fn fit_namespace(&self, ctx: &RequestContext, meta: &mut ObjectMeta) -> Result<(), Status> {
        let path = self.namespace(ctx)?;
        match (path, meta.namespace.as_deref().filter(|namespace| !namespace.is_empty())) {
            (Some(path), Some(body)) if path != body => Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            )),
            (path, _) => {
                meta.namespace = path.map(str::to_owned);
                Ok(())
            }
        }
    }

    /// An update's body names the object of the URL.
    pub(crate) fn check_name(&self, ctx: &RequestContext, name: &str, meta: &ObjectMeta) -> Result<(), Status> {
        let body = meta.name.as_deref().unwrap_or_default();
        if body.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        if body != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({body}) does not match the name on the URL ({name})"
            )));
        }
        let body = meta.namespace.as_deref().unwrap_or_default();
        match self.namespace(ctx)? {
            Some(path) if !body.is_empty() && body != path => Err(Status::bad_request(format!(
                "the namespace of the object ({body}) does not match the namespace on the request ({path})"
            ))),
            _ => Ok(()),
        }
    }

    /// As [`Self::check_name`], before anything else is known of the body.
    pub(crate) fn check_named(&self, ctx: &RequestContext, name: &str, body: &Value) -> Result<(), Status> {
        let text = |field: &str| body["metadata"][field].as_str().map(str::to_owned);
        let meta = ObjectMeta { name: text("name"), namespace: text("namespace"), ..ObjectMeta::default() };
        self.check_name(ctx, name, &meta)
    }
}

fn unregistered(api_version: &str, kind: &str) -> String {
    format!(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    )
}

/// Enough of a body to recognise it by.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let head = &bytes[..bytes.len().min(MOST)];
    let text = match bytes.first() {
        None => return "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(head).into_owned(),
        Some(_) => head.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if bytes.len() > MOST { format!("{text} ...") } else { text }
}

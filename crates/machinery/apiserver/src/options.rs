//! Query parameters and DeleteOptions bodies as the typed options of the registry, with upstream's validation.

use std::time::Duration;

use base_meta::field::{Error, Path};
use base_meta::selector::{FieldSelector, LabelSelector};
use base_meta::{Gvk, Status};
use machinery_registry::request::{Propagation, VersionMatch};
use machinery_registry::{CreateOptions, DeleteOptions, FieldValidation, ListOptions, ResourceDef, UpdateOptions};
use serde::Deserialize;

use crate::query::Query;

/// Longest `fieldManager`.
const MANAGER_LIMIT: usize = 128;

pub(crate) fn create(query: &Query<'_>, user_agent: Option<&str>) -> Result<CreateOptions, Status> {
    let mut errors = Vec::new();
    let options = CreateOptions {
        dry_run: dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut errors),
        field_manager: manager(query, &mut errors),
        field_validation: field_validation(query, &mut errors),
    };
    finish("CreateOptions", &errors)?;
    Ok(CreateOptions { field_manager: options.field_manager.or_else(|| manager_of(user_agent)), ..options })
}

/// What an update's body is: apply has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Update,
    Patch,
    Apply,
}

pub(crate) fn update(query: &Query<'_>, user_agent: Option<&str>, change: Change) -> Result<UpdateOptions, Status> {
    let mut errors = Vec::new();
    let mut options = UpdateOptions {
        dry_run: dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut errors),
        field_manager: manager(query, &mut errors),
        field_validation: field_validation(query, &mut errors),
        force: query.flag("force"),
        no_create: None,
    };
    match change {
        Change::Update => {}
        Change::Patch if query.get("force").is_some() => {
            errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        Change::Patch => {}
        Change::Apply if options.field_manager.is_none() => {
            // As upstream: a user agent does not stand in for the name an applier chose.
            errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        Change::Apply => {}
    }
    finish(if change == Change::Update { "UpdateOptions" } else { "PatchOptions" }, &errors)?;
    options.field_manager = options.field_manager.or_else(|| manager_of(user_agent));
    Ok(options)
}

/// The `DeleteOptions` a client may send as the body of a delete.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    kind: Option<String>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// A body, where there is one, replaces the query wholly. `json` is already JSON whatever came.
pub(crate) fn delete(query: &Query<'_>, json: Option<&[u8]>) -> Result<DeleteOptions, Status> {
    let body = match json {
        Some(json) => decode_delete(json)?,
        None => DeleteBody {
            grace_period_seconds: query.integer("gracePeriodSeconds")?,
            propagation_policy: query.get("propagationPolicy").map(str::to_owned),
            orphan_dependents: query.boolean("orphanDependents"),
            dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
            ..DeleteBody::default()
        },
    };

    let mut errors = Vec::new();
    let directives = body.dry_run.unwrap_or_default();
    let dry_run = dry_run(&directives.iter().map(String::as_str).collect::<Vec<_>>(), &mut errors);
    if body.orphan_dependents.is_some() && body.propagation_policy.is_some() {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(Error::invalid(
            &Path::new("propagationPolicy"),
            &propagation_text(&body.propagation_policy),
            detail,
        ));
    }
    let propagation = match body.propagation_policy.as_deref() {
        None => body.orphan_dependents.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            errors.push(Error::not_supported(
                &Path::new("propagationPolicy"),
                other,
                &["Foreground", "Background", "Orphan", "nil"],
            ));
            None
        }
    };
    if let Some(seconds) = body.grace_period_seconds.filter(|seconds| *seconds < 0) {
        // Upstream lets a negative period through and acts on it as if it were one second.
        tracing::debug!(seconds, "negative grace period taken as 1");
    }
    finish("DeleteOptions", &errors)?;
    let preconditions = body.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds: body.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds }),
        propagation,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
    })
}

fn decode_delete(json: &[u8]) -> Result<DeleteBody, Status> {
    let body: DeleteBody = serde_json::from_slice(json)
        .map_err(|error| Status::bad_request(format!("unable to decode the delete options: {error}")))?;
    match body.kind.as_deref() {
        None | Some("DeleteOptions") => Ok(body),
        Some(other) => {
            Err(Status::bad_request(format!("decoded object cannot be converted to DeleteOptions: {other}")))
        }
    }
}

fn propagation_text(policy: &Option<String>) -> String {
    policy.clone().unwrap_or_default()
}

/// Of a list, watch or deletecollection.
pub(crate) fn list(query: &Query<'_>, def: &ResourceDef, watch: bool) -> Result<ListOptions, Status> {
    let labels = match query.text("labelSelector") {
        "" => LabelSelector::default(),
        text => LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?,
    };
    let fields = match query.text("fieldSelector") {
        "" => FieldSelector::default(),
        text => FieldSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?,
    };
    known_fields(&fields, def)?;
    let limit = query.integer("limit")?.unwrap_or(0);
    let resource_version = query.text("resourceVersion").to_owned();
    let continue_token = query.text("continue").to_owned();
    let send_initial_events = query.boolean("sendInitialEvents");

    let match_text = query.text("resourceVersionMatch");
    let (version_match, errors) = if watch {
        watch_match(match_text, send_initial_events, !continue_token.is_empty())
    } else {
        list_match(match_text, send_initial_events, &resource_version, !continue_token.is_empty())
    };
    finish("ListOptions", &errors)?;

    Ok(ListOptions {
        labels,
        fields,
        resource_version,
        version_match,
        // A negative limit means none, as upstream's.
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token,
        bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events,
        timeout: query
            .integer("timeoutSeconds")?
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0)
            .map(Duration::from_secs),
    })
}

const MATCH: &str = "resourceVersionMatch";

fn version_match(text: &str) -> Option<VersionMatch> {
    match text {
        "Exact" => Some(VersionMatch::Exact),
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        _ => None,
    }
}

fn forbid(field: &str, detail: &str) -> Error {
    Error::forbidden(&Path::new(field), detail)
}

/// What contradicts what in a list's options, in upstream's order.
fn list_match(text: &str, initial: Option<bool>, version: &str, continues: bool) -> (Option<VersionMatch>, Vec<Error>) {
    let mut errors = Vec::new();
    let found = version_match(text);
    if !text.is_empty() {
        if version.is_empty() {
            errors.push(forbid(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if continues {
            errors.push(forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if found.is_none() {
            errors.push(Error::not_supported(&Path::new(MATCH), text, &["Exact", "NotOlderThan", ""]));
        }
        if found == Some(VersionMatch::Exact) && version == "0" {
            errors.push(forbid(MATCH, r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#));
        }
    }
    if initial.is_some() {
        errors.push(forbid("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    (found, errors)
}

/// The same of a watch's.
fn watch_match(text: &str, initial: Option<bool>, continues: bool) -> (Option<VersionMatch>, Vec<Error>) {
    let mut errors = Vec::new();
    let found = version_match(text);
    if initial.is_some() && found != Some(VersionMatch::NotOlderThan) {
        errors.push(forbid(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !text.is_empty() {
        if initial.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(forbid(MATCH, detail));
        }
        if found != Some(VersionMatch::NotOlderThan) {
            errors.push(Error::not_supported(&Path::new(MATCH), text, &["NotOlderThan"]));
        }
        if continues {
            errors.push(forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    (found, errors)
}

fn known_fields(fields: &FieldSelector, def: &ResourceDef) -> Result<(), Status> {
    let unknown = fields.terms.iter().find(|term| {
        let field = term.field.as_str();
        field != "metadata.name" && !(field == "metadata.namespace" && def.namespaced()) && !def.fields.contains(&field)
    });
    match unknown {
        None => Ok(()),
        Some(term) => Err(Status::bad_request(format!("field label not supported: {}", term.field))),
    }
}

fn dry_run(directives: &[&str], errors: &mut Vec<Error>) -> bool {
    if directives.iter().any(|directive| *directive != "All") {
        let value = serde_json::Value::from(directives.to_vec());
        errors.push(Error::not_supported(&Path::new("dryRun"), &value, &["All"]));
    }
    !directives.is_empty()
}

fn field_validation(query: &Query<'_>, errors: &mut Vec<Error>) -> FieldValidation {
    match query.text("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let path = Path::new("fieldValidation");
            errors.push(Error::not_supported(&path, other, &["Ignore", "Strict", "Warn"]));
            FieldValidation::Warn
        }
    }
}

fn manager(query: &Query<'_>, errors: &mut Vec<Error>) -> Option<String> {
    let name = query.text("fieldManager");
    let path = Path::new("fieldManager");
    if name.len() > MANAGER_LIMIT {
        errors.push(Error::too_long(&path, MANAGER_LIMIT));
    }
    if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
        errors.push(Error::invalid(&path, name, format!("should only contain printable characters (at byte {at})")));
    }
    (!name.is_empty()).then(|| name.to_owned())
}

/// `kubectl/v1.36.2 (linux/amd64) …` manages fields as `kubectl`.
fn manager_of(user_agent: Option<&str>) -> Option<String> {
    let name = user_agent?.split('/').next()?;
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let end = (0..=name.len().min(MANAGER_LIMIT)).rev().find(|at| name.is_char_boundary(*at))?;
    (end > 0).then(|| name[..end].to_owned())
}

fn finish(kind: &'static str, errors: &[Error]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&Gvk::of("meta.k8s.io", "v1", kind), "", errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(errors: &[Error]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn contradictions_of_a_list() {
        let of = |text, version, continues| details(&list_match(text, None, version, continues).1);
        assert_eq!(of("", "", true), [""; 0]);
        assert_eq!(of("NotOlderThan", "0", false), [""; 0]);
        assert_eq!(of("Exact", "7", false), [""; 0]);
        let forbidden = "resourceVersionMatch: Forbidden: resourceVersionMatch";
        assert_eq!(of("Exact", "", false), [format!("{forbidden} is forbidden unless resourceVersion is provided")]);
        assert_eq!(
            of("Exact", "0", true),
            [
                format!("{forbidden} is forbidden when continue is provided"),
                format!(r#"{forbidden} "exact" is forbidden for resourceVersion "0""#),
            ]
        );
        let unknown = of("Newest", "1", false);
        let expected =
            r#"resourceVersionMatch: Unsupported value: "Newest": supported values: "Exact", "NotOlderThan", """#;
        assert_eq!(unknown, [expected]);
        assert_eq!(list_match("", Some(true), "", false).1.len(), 1);
    }

    #[test]
    fn contradictions_of_a_watch() {
        let of = |text, initial, continues| watch_match(text, initial, continues).1.len();
        assert_eq!(of("", None, true), 0);
        assert_eq!(of("NotOlderThan", Some(true), false), 0);
        assert_eq!(of("", Some(true), false), 1);
        assert_eq!(of("Exact", Some(false), false), 2);
        assert_eq!(of("NotOlderThan", None, true), 2);
    }
}

//! Secrets.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::config::{MAX_BYTES, still_immutable, unchanged};
use super::{Errors, formats, immutable, said};

pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub fn secret(secret: &Secret) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("data");
    let mut total = 0;
    for (key, value) in secret.data.iter().flatten() {
        formats::invalid(&path.key(key), key, names::config_map_key(key), &mut errors);
        total += value.0.len();
    }
    if total > MAX_BYTES {
        errors.push(Error::too_long(&path, MAX_BYTES));
    }
    by_type(secret, &path, &mut errors);
    errors
}

fn by_type(secret: &Secret, path: &Path, errors: &mut Errors) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice());
    let needs = |key: &str, errors: &mut Errors| {
        if value(key).is_none() {
            errors.push(Error::required(&path.key(key), ""));
        }
    };
    match said(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let name = secret.metadata.annotations.as_ref().and_then(|all| all.get(SERVICE_ACCOUNT_NAME));
            if name.is_none_or(String::is_empty) {
                let path = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
                errors.push(Error::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => docker(value(".dockercfg"), &path.key(".dockercfg"), errors),
        "kubernetes.io/dockerconfigjson" => {
            docker(value(".dockerconfigjson"), &path.key(".dockerconfigjson"), errors);
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errors.push(Error::required(&path.key("username"), ""));
            errors.push(Error::required(&path.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(<[u8]>::is_empty) => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            needs("tls.crt", errors);
            needs("tls.key", errors);
        }
        _ => {}
    }
}

fn docker(config: Option<&[u8]>, path: &Path, errors: &mut Errors) {
    match config {
        None => errors.push(Error::required(path, "")),
        // The content is secret: it is never printed back.
        Some(bytes) if serde_json::from_slice::<Value>(bytes).is_err() => {
            errors.push(Error::invalid(path, "<secret contents redacted>", "must be valid JSON"));
        }
        Some(_) => {}
    }
}

pub fn secret_update(new: &Secret, old: &Secret) -> Errors {
    let mut errors = Errors::new();
    immutable(&new.type_, &old.type_, &Path::new("type"), &mut errors);
    if old.immutable == Some(true) {
        still_immutable(new.immutable, &mut errors);
        unchanged("data", &new.data, &old.data, &mut errors);
    }
    errors.extend(secret(new));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn types_ask_for_their_keys() {
        let table = [
            (json!({"type": "Opaque"}), vec![]),
            (
                json!({"type": "kubernetes.io/tls"}),
                vec!["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
            (json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}), vec![]),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (json!({"type": "kubernetes.io/ssh-auth"}), vec!["data[ssh-privatekey]: Required value"]),
            (json!({"type": "kubernetes.io/dockerconfigjson"}), vec!["data[.dockerconfigjson]: Required value"]),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
                vec!["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be valid JSON"],
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ];
        for (value, expected) in table {
            assert_eq!(printed(secret(&object(value.clone()))), expected, "{value}");
        }
        let found = printed(secret(&object(json!({"data": {"..": ""}}))));
        assert_eq!(found, ["data[..]: Invalid value: \"..\": must not be '..'"]);
    }

    #[test]
    fn the_type_and_immutable_data_stay() {
        let old: Secret = object(json!({"type": "Opaque", "immutable": true, "data": {"a": "MQ=="}}));
        let new: Secret = object(json!({"type": "x", "immutable": true}));
        assert_eq!(
            printed(secret_update(&new, &old)),
            [
                "type: Invalid value: \"x\": field is immutable",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }
}

//! VolumeAttachments.

use base_meta::field::{Error, Path};
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeError};

use super::{Errors, immutable, segments};

/// In bytes.
const MAX_METADATA: usize = 256 * 1024;
const MAX_MESSAGE: usize = 1024;

pub fn volume_attachment(attachment: &VolumeAttachment) -> Errors {
    let mut errors = any_version(attachment);
    segments::driver(&attachment.spec.attacher, &Path::new("spec.attacher"), &mut errors);
    if let Some(name) = &attachment.spec.source.persistent_volume_name {
        segments::subdomain(name, &Path::new("spec.source.persistentVolumeName"), &mut errors);
    }
    errors
}

/// The rules that upstream also applies on update.
fn any_version(attachment: &VolumeAttachment) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &attachment.spec);
    if spec.attacher.is_empty() {
        errors.push(Error::required(&path.child("attacher"), ""));
    }
    let at = path.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&spec.source.inline_volume_spec, &spec.source.persistent_volume_name) {
        (None, None) => errors.push(Error::required(&at, one)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(&at, one)),
        (None, Some(name)) if name.is_empty() => errors
            .push(Error::required(&at.child("persistentVolumeName"), "must specify non empty persistentVolumeName")),
        (None, Some(_)) | (Some(_), None) => {}
    }
    segments::subdomain(&spec.node_name, &path.child("nodeName"), &mut errors);
    if let Some(status) = &attachment.status {
        let path = Path::new("status");
        let size: usize = status.attachment_metadata.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_METADATA {
            errors.push(Error::too_long(&path.child("attachmentMetadata"), MAX_METADATA));
        }
        failure(status.attach_error.as_ref(), &path.child("attachError"), &mut errors);
        failure(status.detach_error.as_ref(), &path.child("detachError"), &mut errors);
    }
    errors
}

fn failure(failure: Option<&VolumeError>, path: &Path, errors: &mut Errors) {
    let Some(failure) = failure else { return };
    if super::said(&failure.message).len() > MAX_MESSAGE {
        // The number is upstream's, which names another limit than the one it checks.
        errors.push(Error::too_long(&path.child("message"), MAX_METADATA));
    }
    if let Some(code) = failure.error_code.filter(|code| *code < 0) {
        let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
        errors.push(Error::invalid(&path.child("errorCode"), code, detail));
    }
}

pub fn volume_attachment_update(new: &VolumeAttachment, old: &VolumeAttachment) -> Errors {
    let mut errors = any_version(new);
    immutable(&new.spec, &old.spec, &Path::new("spec"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"spec": {"attacher": "a.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}, "status": {}});
        let made = |changes: &[(&str, Value)]| -> VolumeAttachment { object(with(&base, changes)) };
        assert!(volume_attachment(&made(&[])).is_empty());
        let table = [
            ("/spec/attacher", json!(""), "spec.attacher: Required value"),
            ("/spec/attacher", json!("A b"), "spec.attacher: Invalid value: \"A b\""),
            ("/spec/nodeName", json!("N"), "spec.nodeName: Invalid value: \"N\""),
            ("/spec/source", json!({}), "spec.source: Required value: must specify exactly one of"),
            ("/spec/source/inlineVolumeSpec", json!({}), "spec.source: Forbidden: must specify exactly one of"),
            ("/spec/source/persistentVolumeName", json!("A"), "spec.source.persistentVolumeName: Invalid value: \"A\""),
            ("/status/attachError", json!({"message": "x".repeat(1025)}), "status.attachError.message: Too long"),
            ("/status/detachError", json!({"errorCode": -1}), "status.detachError.errorCode: Invalid value: -1"),
        ];
        for (pointer, value, expected) in table {
            let found = printed(volume_attachment(&made(&[(pointer, value)])));
            assert!(found.iter().any(|error| error.starts_with(expected)), "{pointer}: {found:?}");
        }
        let moved = made(&[("/spec/nodeName", json!("m"))]);
        assert!(printed(volume_attachment_update(&moved, &made(&[])))[0].ends_with("field is immutable"));
    }
}

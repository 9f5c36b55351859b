//! What is asked of a driver: pure, from the volume's and the pod's objects.

use std::collections::BTreeMap;

use api::csi::{Handle, attachment, digest};
use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, Pod, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriverSpec;
use machinery_client::ObjectKey;
use node_grpc::messages::csi::{AccessMode, AccessType, Capability, Mode, MountVolume, VolumeCapability};

use super::Driver;

const READ_WRITE_ONCE: &str = "ReadWriteOnce";

/// A driver's volume as one pod wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The PersistentVolume's name, or the one in the pod of a volume that is the pod's own.
    pub name: String,
    pub(super) id: Handle,
    /// Made for the pod and gone with it.
    pub(super) ephemeral: bool,
    pub(super) read_only: bool,
    pub(super) fs_type: String,
    pub(super) modes: Vec<String>,
    pub(super) mount_options: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) stage_secret: Option<ObjectKey>,
    pub(super) publish_secret: Option<ObjectKey>,
    pub(super) expand_secret: Option<ObjectKey>,
}

fn secret(reference: Option<&SecretReference>) -> Option<ObjectKey> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    reference.map(|reference| ObjectKey::new(text(&reference.namespace), text(&reference.name)))
}

impl Wanted {
    pub fn of_volume(volume: &PersistentVolume, source: &CSIPersistentVolumeSource, read_only: bool) -> Self {
        let spec = volume.spec.as_ref();
        Self {
            name: volume.metadata.name.clone().unwrap_or_default(),
            id: Handle { driver: source.driver.clone(), handle: source.volume_handle.clone() },
            ephemeral: false,
            read_only: read_only || source.read_only == Some(true),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            modes: spec.and_then(|spec| spec.access_modes.clone()).unwrap_or_default(),
            mount_options: spec.and_then(|spec| spec.mount_options.clone()).unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: secret(source.node_stage_secret_ref.as_ref()),
            publish_secret: secret(source.node_publish_secret_ref.as_ref()),
            expand_secret: secret(source.node_expand_secret_ref.as_ref()),
        }
    }

    pub fn of_pod(pod: &Pod, name: &str, source: &CSIVolumeSource) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let handle = format!("csi-{}", digest(&[meta.uid.as_deref().unwrap_or_default(), name]));
        Self {
            name: name.to_owned(),
            id: Handle { driver: source.driver.clone(), handle },
            ephemeral: true,
            read_only: source.read_only == Some(true),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            modes: Vec::new(),
            mount_options: Vec::new(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: None,
            expand_secret: None,
            publish_secret: source
                .node_publish_secret_ref
                .as_ref()
                .map(|secret| ObjectKey::new(namespace, secret.name.clone())),
        }
    }

    /// Its VolumeAttachment on a node.
    pub(super) fn attachment(&self, node: &str) -> String {
        attachment(&self.id.handle, &self.id.driver, node)
    }

    /// `group` is the pod's, where the driver sees to it.
    pub(super) fn capability(&self, driver: &Driver, group: Option<u32>) -> VolumeCapability {
        let mount = MountVolume {
            fs_type: self.fs_type.clone(),
            mount_flags: self.mount_options.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        };
        VolumeCapability {
            access_type: Some(AccessType::Mount(mount)),
            access_mode: Some(AccessMode { mode: self.mode(driver) as i32 }),
        }
    }

    /// Of the volume's modes the first, as upstream.
    fn mode(&self, driver: &Driver) -> Mode {
        let tells_apart = driver.can(Capability::SingleNodeMultiWriter);
        match self.modes.first().map_or(READ_WRITE_ONCE, String::as_str) {
            READ_WRITE_ONCE if tells_apart => Mode::SingleNodeMultiWriter,
            "ReadWriteOncePod" if tells_apart => Mode::SingleNodeSingleWriter,
            READ_WRITE_ONCE | "ReadWriteOncePod" => Mode::SingleNodeWriter,
            "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
            "ReadWriteMany" => Mode::MultiNodeMultiWriter,
            _ => Mode::Unknown,
        }
    }

    /// Whether what the volume holds is given to the pod's group here, on the node.
    pub(super) fn owned_here(&self, spec: Option<&CSIDriverSpec>) -> bool {
        if self.read_only {
            return false;
        }
        match spec.and_then(|spec| spec.fs_group_policy.as_deref()) {
            Some("None") => false,
            Some("File") => true,
            _ => !self.fs_type.is_empty() && (self.ephemeral || self.modes.iter().any(|mode| mode == READ_WRITE_ONCE)),
        }
    }

    /// What a driver that asks for it is told of the pod.
    pub(super) fn pod_info(&self, pod: &Pod) -> BTreeMap<String, String> {
        let meta = &pod.metadata;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_ref());
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        BTreeMap::from([
            ("csi.storage.k8s.io/pod.name".to_owned(), text(meta.name.as_ref())),
            ("csi.storage.k8s.io/pod.namespace".to_owned(), text(meta.namespace.as_ref())),
            ("csi.storage.k8s.io/pod.uid".to_owned(), text(meta.uid.as_ref())),
            ("csi.storage.k8s.io/serviceAccount.name".to_owned(), text(account)),
            ("csi.storage.k8s.io/ephemeral".to_owned(), self.ephemeral.to_string()),
        ])
    }
}

//! Pure: the volume that a claim gets, and what becomes of one whose claim is gone.

use api::volume::{Claim, Class, LOCAL_PATH, PROVISIONED_BY, Volume};
use serde_json::{Value, json};

/// Keeps a volume's object until its directory is removed.
pub const FINALIZER: &str = "sampan.io/local-path";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node on which volumes can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub node: String,
    pub hostname: String,
    /// Below which its volumes are.
    pub directory: String,
}

/// Whether the claim waits for us.
pub fn ours(claim: &Claim) -> bool {
    claim.provisioner.as_deref() == Some(LOCAL_PATH)
        && !claim.bind_completed
        && !claim.deleting
        && claim.volume.is_none()
}

/// Where its volume is to be; where nobody has chosen, on the first of all nodes.
pub fn site<'a>(claim: &Claim, class: &Class, sites: &'a [Site]) -> Result<&'a Site, Option<String>> {
    match &claim.selected_node {
        Some(node) => sites
            .iter()
            .find(|site| site.node == *node)
            .ok_or_else(|| Some(format!("node {node:?} has no directory for local volumes"))),
        // The scheduler chooses.
        None if class.waits => Err(None),
        None => sites.first().ok_or_else(|| Some("no node has a directory for local volumes".to_owned())),
    }
}

/// The name of the volume that is made for a claim.
pub fn name(claim: &Claim) -> String {
    format!("pvc-{}", claim.uid)
}

/// `size` as the claim writes it.
pub fn volume(claim: &Claim, size: &str, class: &Class, site: &Site) -> Result<Value, String> {
    if claim.volume_mode != "Filesystem" {
        return Err(format!("volumeMode {} is not supported by {LOCAL_PATH}", claim.volume_mode));
    }
    if let Some(mode) = claim.modes.iter().find(|mode| !matches!(&***mode, "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Err(format!("access mode {mode} is not supported by {LOCAL_PATH}: its volumes are of one node"));
    }
    if claim.selector.is_some() {
        return Err("claim.Spec.Selector is not supported".to_owned());
    }
    let name = name(claim);
    let host = json!({"key": HOSTNAME, "operator": "In", "values": [site.hostname]});
    Ok(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: LOCAL_PATH}, "finalizers": [FINALIZER]},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": claim.modes,
            "volumeMode": "Filesystem",
            "storageClassName": class.name,
            "persistentVolumeReclaimPolicy": class.reclaim,
            "hostPath": {"path": format!("{}/{name}", site.directory), "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": claim.uid},
        },
    }))
}

/// What its node has said of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Nobody has asked.
    There,
    Asked,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// The node is to remove its directory.
    Ask,
    /// The object goes, and with it what the node has said.
    Delete,
}

/// `directory` is `None` when the node is gone, and what it held with it.
pub fn reclaim(volume: &Volume, directory: Option<Directory>) -> Step {
    let over = volume.phase == "Released" || (volume.deleting && volume.phase != "Bound");
    if volume.provisioned_by.as_deref() != Some(LOCAL_PATH) || !over {
        return Step::Nothing;
    }
    match (volume.reclaim == "Delete", directory) {
        // Who deletes the object of what is to be kept, keeps the directory.
        (false, _) if volume.deleting => Step::Delete,
        (false, _) => Step::Nothing,
        (true, Some(Directory::There)) => Step::Ask,
        (true, Some(Directory::Asked)) => Step::Nothing,
        (true, Some(Directory::Gone) | None) => Step::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site_of(node: &str) -> Site {
        Site { node: node.into(), hostname: node.into(), directory: format!("/data/{node}") }
    }

    fn claim(modes: &[&str]) -> Claim {
        Claim {
            uid: "u".into(),
            volume_mode: "Filesystem".into(),
            modes: modes.iter().map(|mode| (*mode).to_owned()).collect(),
            ..Claim::default()
        }
    }

    #[test]
    fn the_volume_is_where_the_pod_goes() {
        let sites = [site_of("one"), site_of("two")];
        let class = Class { waits: true, reclaim: "Delete".into(), ..Class::default() };
        assert_eq!(site(&claim(&[]), &class, &sites), Err(None));
        let placed = Claim { selected_node: Some("two".into()), ..claim(&["ReadWriteOnce"]) };
        let found = site(&placed, &class, &sites).expect("a site");
        let made = volume(&placed, "1Gi", &class, found).expect("a volume");
        assert_eq!(made["spec"]["hostPath"]["path"], "/data/two/pvc-u");
        assert_eq!(made["spec"]["capacity"]["storage"], "1Gi");
        let elsewhere = Claim { selected_node: Some("three".into()), ..placed };
        assert_eq!(
            site(&elsewhere, &class, &sites),
            Err(Some("node \"three\" has no directory for local volumes".into()))
        );
        let at_once = Class { waits: false, ..class };
        assert_eq!(site(&claim(&[]), &at_once, &sites), Ok(&sites[0]));
    }

    #[test]
    fn what_one_node_cannot_have_is_refused() {
        let class = Class::default();
        let refused = |claim: Claim| volume(&claim, "1Gi", &class, &site_of("one")).expect_err("refused");
        assert!(refused(claim(&["ReadWriteMany"])).starts_with("access mode ReadWriteMany"));
        assert!(refused(Claim { volume_mode: "Block".into(), ..claim(&[]) }).starts_with("volumeMode Block"));
    }

    #[test]
    fn the_directory_goes_before_the_object() {
        let released = Volume {
            provisioned_by: Some(LOCAL_PATH.into()),
            phase: "Released".into(),
            reclaim: "Delete".into(),
            ..Volume::default()
        };
        assert_eq!(reclaim(&released, Some(Directory::There)), Step::Ask);
        assert_eq!(reclaim(&released, Some(Directory::Asked)), Step::Nothing);
        assert_eq!(reclaim(&released, Some(Directory::Gone)), Step::Delete);
        assert_eq!(reclaim(&released, None), Step::Delete, "its node is gone");
        let kept = Volume { reclaim: "Retain".into(), ..released.clone() };
        assert_eq!(reclaim(&kept, Some(Directory::There)), Step::Nothing);
        assert_eq!(reclaim(&Volume { deleting: true, ..kept }, Some(Directory::There)), Step::Delete);
        let bound = Volume { phase: "Bound".into(), deleting: true, ..released.clone() };
        assert_eq!(reclaim(&bound, Some(Directory::There)), Step::Nothing);
        let foreign = Volume { provisioned_by: Some("other".into()), ..released };
        assert_eq!(reclaim(&foreign, None), Step::Nothing);
    }
}

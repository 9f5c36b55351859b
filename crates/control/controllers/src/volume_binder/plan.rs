//! Pure: which volume a claim gets, and how both are.

use std::sync::Arc;

use api::volume::{Claim, Class, NO_PROVISIONER, Volume, best};
use machinery_client::EventKind;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub kind: EventKind,
    pub reason: &'static str,
    pub message: String,
}

impl Told {
    fn new(kind: EventKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// With this volume; what of it is done already is left alone.
    Bind(String),
    /// It has none yet.
    Pending(Option<Told>),
    /// Somebody is to make one.
    Provision { provisioner: String, told: Told },
    /// It had one.
    Lost(Told),
}

/// `consumers` are pods that use it and wait.
pub fn claim(claim: &Claim, volumes: &[Arc<Volume>], class: Option<&Class>, consumers: &[String]) -> ClaimStep {
    if claim.bind_completed {
        return bound(claim, volumes);
    }
    match &claim.volume {
        Some(name) => asked(claim, volumes.iter().find(|volume| volume.name == *name)),
        None => unbound(claim, volumes, class, consumers),
    }
}

fn bound(claim: &Claim, volumes: &[Arc<Volume>]) -> ClaimStep {
    let lost = |reason, message: &str| ClaimStep::Lost(Told::new(EventKind::Warning, reason, message));
    let Some(name) = &claim.volume else {
        return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    };
    match volumes.iter().find(|volume| volume.name == *name) {
        None => lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        Some(volume) if volume.claim.is_none() || volume.is_for(claim) => ClaimStep::Bind(name.clone()),
        Some(_) => lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
    }
}

/// It says itself which it wants.
fn asked(claim: &Claim, volume: Option<&Arc<Volume>>) -> ClaimStep {
    let Some(volume) = volume else { return ClaimStep::Pending(None) };
    let name = &volume.name;
    let refused = |reason, message| ClaimStep::Pending(Some(Told::new(EventKind::Warning, reason, message)));
    match (&volume.claim, volume.mismatch(claim)) {
        (None, Some(why)) => refused("VolumeMismatch", format!("Cannot bind to requested volume {name:?}: {why}")),
        (None, None) => ClaimStep::Bind(name.clone()),
        (Some(_), _) if volume.is_for(claim) => ClaimStep::Bind(name.clone()),
        _ => refused("FailedBinding", format!("volume {name:?} already bound to a different claim.")),
    }
}

fn unbound(claim: &Claim, volumes: &[Arc<Volume>], class: Option<&Class>, consumers: &[String]) -> ClaimStep {
    let waits = class.is_some_and(|class| class.waits) && claim.selected_node.is_none();
    if let Some(volume) = best(claim, volumes.iter().map(|volume| &**volume), None, waits) {
        return ClaimStep::Bind(volume.name.clone());
    }
    let normal = |reason, message| ClaimStep::Pending(Some(Told::new(EventKind::Normal, reason, message)));
    if waits {
        return match consumers {
            [] => normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
            [pod] => normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        };
    }
    match class {
        Some(class) if class.provisioner == NO_PROVISIONER => {
            normal("FailedBinding", "no volume plugin matched name: kubernetes.io/no-provisioner".to_owned())
        }
        Some(class) => {
            let provisioner = class.provisioner.clone();
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
                 the system administrator. If volume creation is delayed, please verify that the provisioner is \
                 running and correctly registered."
            );
            ClaimStep::Provision { provisioner, told: Told::new(EventKind::Normal, "ExternalProvisioning", message) }
        }
        None if !claim.class.is_empty() => ClaimStep::Pending(Some(Told::new(
            EventKind::Warning,
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io {:?} not found", claim.class),
        ))),
        None => normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set".to_owned(),
        ),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    Nothing,
    Phase(&'static str),
    /// Its claim has another volume: it is free again, for all or for the claim that its author named.
    Unbind,
}

/// `claim` is the one that it names, if that is still the same.
pub fn volume(volume: &Volume, claim: Option<&Claim>) -> VolumeStep {
    let phase =
        |wanted: &'static str| if volume.phase == wanted { VolumeStep::Nothing } else { VolumeStep::Phase(wanted) };
    if volume.claim.as_ref().is_none_or(|claim| claim.uid.is_none()) {
        return phase("Available");
    }
    let released = || if volume.phase == "Failed" { VolumeStep::Nothing } else { phase("Released") };
    let Some(claim) = claim else { return released() };
    match &claim.volume {
        // Bringing them together is the claim's business.
        None => VolumeStep::Nothing,
        Some(name) if *name == volume.name => phase("Bound"),
        Some(_) if volume.provisioned_by.is_some() && volume.reclaim == "Delete" => released(),
        Some(_) => VolumeStep::Unbind,
    }
}

#[cfg(test)]
mod tests {
    use api::volume::ClaimRef;

    use super::*;

    fn wants(class: &str) -> Claim {
        Claim { namespace: "n".into(), name: "c".into(), uid: "u".into(), class: class.into(), ..Claim::default() }
    }

    fn free(name: &str, class: &str) -> Arc<Volume> {
        Arc::new(Volume { name: name.into(), class: class.into(), phase: "Available".into(), ..Volume::default() })
    }

    fn of(uid: Option<&str>) -> Arc<Volume> {
        let claim = ClaimRef { namespace: "n".into(), name: "c".into(), uid: uid.map(ToOwned::to_owned) };
        Arc::new(Volume { claim: Some(claim), ..(*free("v", "")).clone() })
    }

    fn class(waits: bool, provisioner: &str) -> Class {
        Class { name: "k".into(), provisioner: provisioner.into(), waits, ..Class::default() }
    }

    fn reason(step: &ClaimStep) -> &str {
        match step {
            ClaimStep::Bind(_) => "Bind",
            ClaimStep::Pending(None) => "Pending",
            ClaimStep::Pending(Some(told)) | ClaimStep::Lost(told) | ClaimStep::Provision { told, .. } => told.reason,
        }
    }

    #[test]
    fn a_claim_gets_what_there_is_or_somebody_is_asked() {
        let step = |claimed: &Claim, volumes: &[Arc<Volume>], class: Option<&Class>| {
            reason(&claim(claimed, volumes, class, &[])).to_owned()
        };
        let plain = wants("");
        assert_eq!(step(&plain, &[free("v", "")], None), "Bind");
        assert_eq!(step(&plain, &[free("v", "k")], None), "FailedBinding");
        let classy = wants("k");
        assert_eq!(step(&classy, &[], None), "ProvisioningFailed");
        assert_eq!(step(&classy, &[], Some(&class(false, "p"))), "ExternalProvisioning");
        assert_eq!(step(&classy, &[], Some(&class(true, "p"))), "WaitForFirstConsumer");
        assert_eq!(step(&classy, &[free("v", "k")], Some(&class(true, "p"))), "WaitForFirstConsumer", "not before");
        let placed = Claim { selected_node: Some("one".into()), ..wants("k") };
        assert_eq!(step(&placed, &[], Some(&class(true, "p"))), "ExternalProvisioning");
        let waiting = claim(&classy, &[], Some(&class(true, "p")), &["a".into(), "b".into()]);
        let ClaimStep::Pending(Some(told)) = waiting else { panic!("{waiting:?}") };
        assert_eq!(told.message, "waiting for pods a,b to be scheduled");
    }

    #[test]
    fn who_asks_for_a_volume_gets_that_or_none() {
        let asks = Claim { volume: Some("v".into()), ..wants("") };
        let step = |volumes: &[Arc<Volume>]| reason(&claim(&asks, volumes, None, &[])).to_owned();
        assert_eq!(step(&[]), "Pending");
        assert_eq!(step(&[free("v", "")]), "Bind");
        assert_eq!(step(&[free("v", "k")]), "VolumeMismatch");
        assert_eq!(step(&[of(Some("u"))]), "Bind");
        assert_eq!(step(&[of(Some("other"))]), "FailedBinding");
    }

    #[test]
    fn a_bound_claim_can_lose_its_volume() {
        let bound = Claim { volume: Some("v".into()), bind_completed: true, ..wants("") };
        let step = |volumes: &[Arc<Volume>]| reason(&claim(&bound, volumes, None, &[])).to_owned();
        assert_eq!(step(&[of(Some("u"))]), "Bind");
        assert_eq!(step(&[]), "ClaimLost");
        assert_eq!(step(&[of(Some("other"))]), "ClaimMisbound");
    }

    #[test]
    fn a_volume_follows_its_claim() {
        let bound = Claim { volume: Some("v".into()), ..wants("") };
        let elsewhere = Claim { volume: Some("w".into()), ..wants("") };
        let made = Volume { provisioned_by: Some("p".into()), reclaim: "Delete".into(), ..(*of(Some("u"))).clone() };
        assert_eq!(volume(&free("v", ""), None), VolumeStep::Nothing);
        assert_eq!(volume(&of(None), None), VolumeStep::Nothing, "set aside is free");
        assert_eq!(volume(&of(Some("u")), Some(&bound)), VolumeStep::Phase("Bound"));
        assert_eq!(volume(&of(Some("u")), Some(&wants(""))), VolumeStep::Nothing);
        assert_eq!(volume(&of(Some("u")), None), VolumeStep::Phase("Released"));
        assert_eq!(volume(&of(Some("u")), Some(&elsewhere)), VolumeStep::Unbind);
        assert_eq!(volume(&made, Some(&elsewhere)), VolumeStep::Phase("Released"));
    }
}

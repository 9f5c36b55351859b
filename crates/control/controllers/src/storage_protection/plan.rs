//! Pure: whether something still uses a claim, a volume or a class of volume attributes.

use std::collections::BTreeSet;

use crate::world::PodFacts;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimFacts {
    pub deleting: bool,
    pub held: bool,
    /// Classes of volume attributes that it has, or asks for.
    pub classes: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeFacts {
    pub deleting: bool,
    pub held: bool,
    pub bound: bool,
    pub class: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassFacts {
    pub deleting: bool,
    pub held: bool,
}

/// A pod that has ended uses nothing any more.
pub fn frees_claim(name: &str, claim: &ClaimFacts, pods: impl IntoIterator<Item = impl AsRef<PodFacts>>) -> bool {
    let uses = |pod: &PodFacts| !pod.terminal() && pod.claims.iter().any(|claim| claim == name);
    claim.deleting && claim.held && !pods.into_iter().any(|pod| uses(pod.as_ref()))
}

pub fn frees_volume(volume: &VolumeFacts) -> bool {
    volume.deleting && volume.held && !volume.bound
}

pub fn frees_class(
    name: &str,
    class: &ClassFacts,
    claims: impl IntoIterator<Item = impl AsRef<ClaimFacts>>,
    volumes: impl IntoIterator<Item = impl AsRef<VolumeFacts>>,
) -> bool {
    class.deleting
        && class.held
        && !claims.into_iter().any(|claim| claim.as_ref().classes.contains(name))
        && !volumes.into_iter().any(|volume| volume.as_ref().class.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::Phase;

    #[test]
    fn a_claim_waits_for_the_pods_that_use_it() {
        let claim = |deleting, held| ClaimFacts { deleting, held, ..ClaimFacts::default() };
        let pod = |name: &str, ended| {
            let phase = if ended { Phase::Succeeded } else { Phase::Running };
            Arc::new(PodFacts { claims: vec![name.to_owned()], phase, ..PodFacts::default() })
        };
        let table = [
            (claim(true, true), vec![], true),
            (claim(false, true), vec![], false),
            (claim(true, false), vec![], false),
            (claim(true, true), vec![pod("c", false)], false),
            (claim(true, true), vec![pod("c", true), pod("other", false)], true),
        ];
        for (claim, pods, expected) in table {
            assert_eq!(frees_claim("c", &claim, pods.clone()), expected, "{claim:?} {pods:?}");
        }
    }

    #[test]
    fn a_volume_waits_for_its_claim_and_a_class_for_both() {
        let volume = |bound| VolumeFacts { deleting: true, held: true, bound, class: Some("fast".into()) };
        assert!(frees_volume(&volume(false)));
        assert!(!frees_volume(&volume(true)));
        let class = ClassFacts { deleting: true, held: true };
        let claim = ClaimFacts { classes: ["slow".to_owned()].into(), ..ClaimFacts::default() };
        let frees = |name: &str, claims: &[ClaimFacts], volumes: &[VolumeFacts]| {
            let claims: Vec<_> = claims.iter().cloned().map(Arc::new).collect();
            let volumes: Vec<_> = volumes.iter().cloned().map(Arc::new).collect();
            frees_class(name, &class, claims, volumes)
        };
        assert!(frees("free", std::slice::from_ref(&claim), &[volume(true)]));
        assert!(!frees("slow", &[claim], &[]));
        assert!(!frees("fast", &[], &[volume(false)]));
    }
}

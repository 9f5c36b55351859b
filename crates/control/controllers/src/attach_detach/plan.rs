//! Which volumes a node is to have attached: pure.

use std::collections::BTreeSet;
use std::time::Duration;

/// After so long a volume is taken from a node that is not healthy, whatever that last said of it: upstream's.
pub(super) const PATIENCE: Duration = Duration::from_secs(360);

/// A volume that pods of a node want there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// The PersistentVolume's name.
    pub(super) volume: String,
    pub(super) driver: String,
    /// As the node's status names it.
    pub(super) unique_name: String,
    /// Its VolumeAttachment's.
    pub(super) attachment: String,
    /// One node at a time.
    pub(super) exclusive: bool,
}

/// A VolumeAttachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) volume: Option<String>,
    pub(super) attached: bool,
    pub(super) deleting: bool,
    /// Why attaching it has failed.
    pub(super) error: Option<String>,
}

impl Attachment {
    /// Made by this controller or upstream's; others are for those who made them.
    fn is_ours(&self) -> bool {
        self.name.strip_prefix("csi-").is_some_and(|hash| hash.len() == 64)
    }
}

/// What is known of the node.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeState {
    pub(super) name: String,
    /// Volumes that it says it uses, and the names of their attachments.
    pub(super) in_use: Vec<(String, String)>,
    /// Nothing of it runs any more, whatever it last said: it is gone, or an administrator says so.
    pub(super) over: bool,
    pub(super) healthy: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) attach: Vec<Wanted>,
    /// They are another node's still.
    pub(super) blocked: Vec<Wanted>,
    pub(super) detach: Vec<String>,
    /// What the node's status is to say, sorted.
    pub(super) attached: BTreeSet<String>,
    /// Unwanted, and the node says that it uses them.
    pub(super) awaited: Vec<String>,
}

/// `waited` is for how long an attachment has been unwanted.
pub(super) fn plan(
    node: &NodeState,
    wanted: &BTreeSet<Wanted>,
    all: &[Attachment],
    waited: impl Fn(&str) -> Duration,
) -> Plan {
    let mut plan = Plan::default();
    for one in wanted {
        let own = all.iter().find(|attachment| attachment.name == one.attachment);
        let elsewhere = |other: &Attachment| other.node != node.name && other.volume.as_ref() == Some(&one.volume);
        match own {
            // It is being detached: it is attached anew once that is over.
            Some(own) if own.deleting => {}
            Some(own) if own.attached => drop(plan.attached.insert(one.unique_name.clone())),
            Some(_) => {}
            None if one.exclusive && all.iter().any(elsewhere) => plan.blocked.push(one.clone()),
            None => plan.attach.push(one.clone()),
        }
    }
    let here = all.iter().filter(|attachment| attachment.node == node.name && attachment.is_ours());
    for attachment in here.filter(|attachment| !attachment.deleting) {
        if wanted.iter().any(|one| one.attachment == attachment.name) {
            continue;
        }
        let used = node.in_use.iter().find(|(_, name)| *name == attachment.name);
        let forced = node.over || (!node.healthy && waited(&attachment.name) >= PATIENCE);
        match used {
            Some((unique_name, _)) if !forced => {
                plan.attached.insert(unique_name.clone());
                plan.awaited.push(attachment.name.clone());
            }
            _ => plan.detach.push(attachment.name.clone()),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(volume: &str, node: &str) -> String {
        api::csi::attachment(volume, "d", node)
    }

    fn wanted(volume: &str, exclusive: bool) -> Wanted {
        Wanted {
            volume: volume.into(),
            driver: "d".into(),
            unique_name: api::csi::unique_name("d", volume),
            attachment: name(volume, "one"),
            exclusive,
        }
    }

    fn attachment(volume: &str, node: &str, attached: bool) -> Attachment {
        let (name, volume) = (name(volume, node), Some(volume.to_owned()));
        Attachment { name, node: node.into(), volume, attached, ..Attachment::default() }
    }

    fn node(in_use: &[&str]) -> NodeState {
        let in_use = in_use.iter().map(|volume| (api::csi::unique_name("d", volume), name(volume, "one"))).collect();
        NodeState { name: "one".into(), in_use, over: false, healthy: true }
    }

    fn planned(node: &NodeState, wanted: &[Wanted], all: &[Attachment], waited: u64) -> Plan {
        plan(node, &wanted.iter().cloned().collect(), all, |_| Duration::from_secs(waited))
    }

    #[test]
    fn what_is_wanted_is_attached_and_then_said_to_be() {
        let one = wanted("a", true);
        let all = std::slice::from_ref(&one);
        assert_eq!(planned(&node(&[]), all, &[], 0).attach, all);
        let asked = planned(&node(&[]), all, &[attachment("a", "one", false)], 0);
        assert_eq!(asked, Plan::default(), "its attacher is at it");
        let done = planned(&node(&[]), all, &[attachment("a", "one", true)], 0);
        assert_eq!(done, Plan { attached: BTreeSet::from([one.unique_name]), ..Plan::default() });
    }

    #[test]
    fn a_volume_of_one_node_waits_until_the_other_has_let_go() {
        let elsewhere = [attachment("a", "two", true)];
        assert_eq!(planned(&node(&[]), &[wanted("a", true)], &elsewhere, 0).blocked, [wanted("a", true)]);
        assert_eq!(planned(&node(&[]), &[wanted("a", false)], &elsewhere, 0).attach, [wanted("a", false)]);
    }

    #[test]
    fn what_is_not_wanted_goes_once_the_node_no_longer_uses_it() {
        let all = [attachment("a", "one", true)];
        let detach = vec![name("a", "one")];
        assert_eq!(planned(&node(&[]), &[], &all, 0), Plan { detach: detach.clone(), ..Plan::default() });
        let used = planned(&node(&["a"]), &[], &all, 400);
        assert_eq!((used.detach.len(), used.awaited.len(), used.attached.len()), (0, 1, 1), "it is healthy");
        let ill = NodeState { healthy: false, ..node(&["a"]) };
        assert!(planned(&ill, &[], &all, 359).detach.is_empty());
        assert_eq!(planned(&ill, &[], &all, 360).detach, detach);
        let over = NodeState { over: true, ..node(&["a"]) };
        assert_eq!(planned(&over, &[], &all, 0).detach, detach);
        let foreign = Attachment { name: "by-hand".into(), ..attachment("a", "one", true) };
        assert_eq!(planned(&node(&[]), &[], &[foreign], 0), Plan::default());
    }
}

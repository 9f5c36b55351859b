//! Who owns whom, over every kind; and what follows when an owner goes.

use std::collections::{HashMap, HashSet};

/// The finalizer of a foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that asks for dependents to be orphaned.
pub const ORPHAN: &str = "orphan";

pub type Uid = String;

/// Where to find an object: an index into the collector's resources, and its key there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub resource: usize,
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: Uid,
    pub blocks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub place: Place,
    pub owners: Vec<OwnerRef>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
}

impl Node {
    fn foreground(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
    }

    fn orphaning(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| finalizer == ORPHAN)
    }
}

/// What to do about one object. Everything is checked against the live object before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delete it, in the background or (when an owner of it waits) in the foreground.
    Delete { foreground: bool },
    /// Drop references to owners that are gone while others remain.
    DropOwners(Vec<Uid>),
    /// Its dependents are gone or let go: remove this finalizer.
    RemoveFinalizer(&'static str),
    /// These owners are in no list we watch: ask the API whether they exist, then look again.
    Verify(Vec<OwnerRef>),
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    /// Owners that the API said do not exist.
    absent: HashSet<Uid>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Takes in an object; returns the uids to look at.
    pub fn apply(&mut self, uid: Uid, node: Node) -> Vec<Uid> {
        let mut look = vec![uid.clone()];
        if let Some(old) = self.nodes.get(&uid) {
            for owner in &old.owners {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(&uid);
                    look.push(owner.uid.clone());
                }
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if node.foreground() || node.orphaning() {
            look.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        self.absent.remove(&uid);
        self.nodes.insert(uid, node);
        look
    }

    /// Takes an object out; returns the uids to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let mut look = Vec::new();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in node.owners {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(uid);
                    if set.is_empty() {
                        self.dependents.remove(&owner.uid);
                    }
                }
                look.push(owner.uid);
            }
        }
        if let Some(dependents) = self.dependents.get(uid) {
            self.absent.insert(uid.to_owned());
            look.extend(dependents.iter().cloned());
        }
        look
    }

    /// Objects of a resource that a fresh list no longer has.
    pub fn missing(&self, resource: usize, listed: &HashSet<Uid>) -> Vec<Uid> {
        let of_kind = self.nodes.iter().filter(|(_, node)| node.place.resource == resource);
        of_kind.filter(|(uid, _)| !listed.contains(*uid)).map(|(uid, _)| uid.clone()).collect()
    }

    /// The API says that this owner does not exist.
    pub fn mark_absent(&mut self, uid: Uid) {
        if !self.nodes.contains_key(&uid) {
            self.absent.insert(uid);
        }
    }

    pub fn dependents(&self, uid: &str) -> Vec<(&Uid, &Node)> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|dependent| self.nodes.get_key_value(dependent))
            .collect()
    }

    /// What to do about one object now.
    pub fn plan(&self, uid: &str) -> Option<Action> {
        let node = self.nodes.get(uid)?;
        if node.orphaning() {
            // Its dependents are patched by the executor when their owner asks; done once none refers to it.
            return self.dependents(uid).is_empty().then_some(Action::RemoveFinalizer(ORPHAN));
        }
        if node.foreground() {
            let blocked = self
                .dependents(uid)
                .into_iter()
                .any(|(_, dependent)| dependent.owners.iter().any(|owner| owner.uid == uid && owner.blocks));
            if !blocked {
                return Some(Action::RemoveFinalizer(FOREGROUND));
            }
        }
        if node.owners.is_empty() || node.deleting {
            return None;
        }
        let unknown: Vec<OwnerRef> = node
            .owners
            .iter()
            .filter(|owner| !self.nodes.contains_key(&owner.uid) && !self.absent.contains(&owner.uid))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Some(Action::Verify(unknown));
        }
        let (mut solid, mut waiting, mut gone) = (0, false, Vec::new());
        for owner in &node.owners {
            match self.nodes.get(&owner.uid) {
                None => gone.push(owner.uid.clone()),
                Some(found) if found.foreground() => {
                    waiting |= owner.blocks;
                    gone.push(owner.uid.clone());
                }
                Some(found) if found.orphaning() => return Some(Action::DropOwners(vec![owner.uid.clone()])),
                Some(_) => solid += 1,
            }
        }
        match (solid, gone.is_empty()) {
            (0, _) => Some(Action::Delete { foreground: waiting && !self.dependents(uid).is_empty() }),
            (_, false) => Some(Action::DropOwners(gone)),
            (_, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, owners: &[&str]) -> Node {
        Node {
            place: Place { resource: 0, namespace: "default".into(), name: name.into() },
            owners: owners
                .iter()
                .map(|uid| OwnerRef {
                    api_version: "v1".into(),
                    kind: "Kind".into(),
                    name: (*uid).into(),
                    uid: (*uid).into(),
                    blocks: true,
                })
                .collect(),
            deleting: false,
            finalizers: Vec::new(),
        }
    }

    fn deleting(mut node: Node, finalizer: &str) -> Node {
        node.deleting = true;
        node.finalizers = vec![finalizer.into()];
        node
    }

    #[test]
    fn a_dependent_follows_its_last_owner() {
        let mut graph = Graph::default();
        graph.apply("owner".into(), node("owner", &[]));
        graph.apply("other".into(), node("other", &[]));
        graph.apply("child".into(), node("child", &["owner", "other"]));
        assert_eq!(graph.plan("child"), None);
        assert_eq!(graph.remove("owner"), ["child"]);
        assert_eq!(graph.plan("child"), Some(Action::DropOwners(vec!["owner".into()])));
        graph.apply("child".into(), node("child", &["other"]));
        graph.remove("other");
        assert_eq!(graph.plan("child"), Some(Action::Delete { foreground: false }));
    }

    #[test]
    fn an_owner_never_seen_is_asked_for_first() {
        let mut graph = Graph::default();
        graph.apply("child".into(), node("child", &["elsewhere"]));
        assert!(matches!(graph.plan("child"), Some(Action::Verify(owners)) if owners[0].uid == "elsewhere"));
        graph.mark_absent("elsewhere".into());
        assert_eq!(graph.plan("child"), Some(Action::Delete { foreground: false }));
    }

    #[test]
    fn foreground_deletion_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        graph.apply("owner".into(), node("owner", &[]));
        graph.apply("child".into(), node("child", &["owner"]));
        let look = graph.apply("owner".into(), deleting(node("owner", &[]), FOREGROUND));
        assert!(look.contains(&"child".to_owned()));
        assert_eq!(graph.plan("owner"), None);
        assert_eq!(graph.plan("child"), Some(Action::Delete { foreground: false }));
        assert_eq!(graph.remove("child"), ["owner"]);
        assert_eq!(graph.plan("owner"), Some(Action::RemoveFinalizer(FOREGROUND)));
    }

    #[test]
    fn orphans_lose_their_owner_and_live() {
        let mut graph = Graph::default();
        graph.apply("owner".into(), node("owner", &[]));
        graph.apply("child".into(), node("child", &["owner"]));
        graph.apply("owner".into(), deleting(node("owner", &[]), ORPHAN));
        assert_eq!(graph.plan("owner"), None);
        assert_eq!(graph.plan("child"), Some(Action::DropOwners(vec!["owner".into()])));
        let look = graph.apply("child".into(), node("child", &[]));
        assert!(look.contains(&"owner".to_owned()));
        assert_eq!(graph.plan("owner"), Some(Action::RemoveFinalizer(ORPHAN)));
    }
}

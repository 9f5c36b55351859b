//! taint, cordon, drain, uncordon; top.

use anyhow::{Result, ensure};
use tests::{Cluster, Options, eventually, must};

use crate::{each_kubectl, field, in_order, refused, say};

#[test]
fn a_node_is_emptied_and_taken_back() {
    must(each_kubectl(&Options { images: vec!["busybox"], ..Options::default() }, |cluster, _| {
        taints(cluster)?;
        let waiter = ["run", "w", "--image=busybox:1.37", "--", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
        cluster.kubectl(&waiter)?.ok();
        say(cluster, "wait --for=condition=Ready pod/w --timeout=60s")?;
        assert_eq!(say(cluster, "cordon one")?, "node/one cordoned\n");
        in_order(&say(cluster, "get node one")?, &["Ready,SchedulingDisabled"]);
        let error = refused(cluster, "drain one")?;
        in_order(&error, &["default/w"]);
        // 1.20 evicts with an Eviction of policy/v1beta1, which outlives the rest of its group's version.
        in_order(
            &say(cluster, "drain one --force --ignore-daemonsets --timeout=60s")?,
            &["evicting pod default/w", "node/one"],
        );
        assert_eq!(say(cluster, "get pods -o name")?, "");
        assert_eq!(say(cluster, "uncordon one")?, "node/one uncordoned\n");
        // The taint of that name goes a moment after the field.
        eventually("the node takes pods", || {
            let spec = field(cluster, "node/one", ".spec")?;
            ensure!(!spec.contains("unschedulable"), "{spec}");
            Ok(())
        });
        in_order(&say(cluster, "top nodes")?, &["NAME", "one"]);
        Ok(())
    }));
}

fn taints(cluster: &Cluster) -> Result<()> {
    assert_eq!(say(cluster, "taint node one key=value:NoSchedule")?, "node/one tainted\n");
    assert_eq!(field(cluster, "node/one", ".spec.taints[0].key")?, "key");
    in_order(
        &refused(cluster, "taint node one key=other:NoSchedule")?,
        &["already has key taint(s) with same effect(s) and --overwrite is false"],
    );
    assert_eq!(say(cluster, "taint node one key=other:NoSchedule --overwrite")?, "node/one modified\n");
    in_order(&say(cluster, "describe node one")?, &["Taints:", "key=other:NoSchedule"]);
    assert_eq!(say(cluster, "taint node one key-")?, "node/one untainted\n");
    say(cluster, "label node one zone=a")?;
    assert_eq!(say(cluster, "get nodes -l zone=a -o name")?, "node/one\n");
    Ok(())
}

//! What containers may do: system calls, and what of the machine they see.

use anyhow::Result;
use serde_json::{Value, json};
use tests::Cluster;

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

#[test]
fn containers_are_confined_as_they_ask() {
    on_a_cluster(|cluster| {
        profiles(cluster)?;
        files_of_the_node(cluster)?;
        files_that_are_not_there(cluster)?;
        privileges_that_are_not_gained(cluster)?;
        what_is_hidden(cluster)?;
        who_runs_is_told(cluster)
    });
}

fn confined(fields: Value, profile: &Value) -> Value {
    with(fields, &json!({"securityContext": {"seccompProfile": profile}}))
}

/// 2: filtered. A pipe is two forks.
const SHOW: &str = "grep ^Seccomp: /proc/self/status | tr -d '[:space:]'; echo; \
    unshare -U true 2>/dev/null && echo unshared || echo refused";

fn profiles(cluster: &Cluster) -> Result<()> {
    let default = json!({"type": "RuntimeDefault"});
    create(cluster, "plain", &script(SHOW), &json!({}))?;
    create(cluster, "default", &confined(script(SHOW), &default), &json!({}))?;
    create(cluster, "of-the-pod", &script(SHOW), &json!({"securityContext": {"seccompProfile": default.clone()}}))?;
    let own = confined(script(SHOW), &json!({"type": "Unconfined"}));
    create(cluster, "own", &own, &json!({"securityContext": {"seccompProfile": default.clone()}}))?;
    let admin = json!({"securityContext": {"seccompProfile": default.clone(), "capabilities": {"add": ["SYS_ADMIN"]}}});
    create(cluster, "admin", &with(script(SHOW), &admin), &json!({}))?;
    let privileged = json!({"securityContext": {"seccompProfile": default.clone(), "privileged": true}});
    create(cluster, "privileged", &with(script(SHOW), &privileged), &json!({}))?;
    for (pod, shown) in [
        ("plain", "Seccomp:0\nunshared\n"),
        ("default", "Seccomp:2\nrefused\n"),
        ("of-the-pod", "Seccomp:2\nrefused\n"),
        ("own", "Seccomp:0\nunshared\n"),
        ("admin", "Seccomp:2\nunshared\n"),
        ("privileged", "Seccomp:0\nunshared\n"),
    ] {
        reaches(cluster, pod, "status.phase", "Succeeded")?;
        assert_eq!(log(cluster, pod)?, shown, "{pod}");
    }
    let sleeper = |more: &Value| {
        let context = with(json!({"seccompProfile": default.clone()}), more);
        with(script("sleep infinity"), &json!({"securityContext": context}))
    };
    let nobody = json!({"runAsUser": 1000, "allowPrivilegeEscalation": false});
    for (pod, fields) in [("entered", sleeper(&json!({}))), ("entered-by-nobody", sleeper(&nobody))] {
        create(cluster, pod, &fields, &json!({"terminationGracePeriodSeconds": 0}))?;
        reaches(cluster, pod, "status.phase", "Running")?;
        let executed =
            |script: &str| -> Result<String> { Ok(cluster.kubectl(&["exec", pod, "--", "sh", "-c", script])?.ok()) };
        assert_eq!(executed(SHOW)?, "Seccomp:2\nrefused\n", "{pod}");
        let capabilities = |process: &str| executed(&format!("grep ^Cap /proc/{process}/status"));
        assert_eq!(capabilities("self")?, capabilities("1")?, "{pod} keeps nothing of what loading the filter took");
    }
    Ok(())
}

fn files_of_the_node(cluster: &Cluster) -> Result<()> {
    let directory = cluster.data_dir().join("agent/seccomp/of");
    std::fs::create_dir_all(&directory)?;
    let errno = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [errno]});
    std::fs::write(directory.join("no-mkdir.json"), profile.to_string())?;
    let localhost = json!({"type": "Localhost", "localhostProfile": "of/no-mkdir.json"});
    create(cluster, "local", &confined(script("mkdir /x 2>&1; touch /y && echo touched"), &localhost), &json!({}))?;
    reaches(cluster, "local", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "local")?, "mkdir: can't create directory '/x': No space left on device\ntouched\n");
    Ok(())
}

fn files_that_are_not_there(cluster: &Cluster) -> Result<()> {
    std::fs::write(cluster.data_dir().join("agent/seccomp/bad.json"), r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#)?;
    for (pod, file, cause) in [
        ("missing", "none.json", "No such file or directory"),
        ("malformed", "bad.json", "unknown variant `SCMP_ACT_MAYBE`"),
    ] {
        let localhost = json!({"type": "Localhost", "localhostProfile": file});
        create(cluster, pod, &confined(script("true"), &localhost), &json!({}))?;
        reaches(cluster, pod, "status.containerStatuses[0].state.waiting.reason", "CreateContainerError")?;
        has_event(cluster, pod, "Warning Failed Error: cannot load seccomp profile");
        let status = super::status(cluster, pod)?;
        assert!(status["state"]["waiting"]["message"].to_string().contains(cause), "{status}");
    }
    Ok(())
}

fn privileges_that_are_not_gained(cluster: &Cluster) -> Result<()> {
    let show = "grep ^NoNewPrivs: /proc/self/status | tr -d '[:space:]'";
    for (pod, allowed, shown) in [("may", true, "NoNewPrivs:0"), ("may-not", false, "NoNewPrivs:1")] {
        let context = json!({"securityContext": {"allowPrivilegeEscalation": allowed}});
        create(cluster, pod, &with(script(show), &context), &json!({}))?;
        reaches(cluster, pod, "status.phase", "Succeeded")?;
        assert_eq!(log(cluster, pod)?.trim_end(), shown);
    }
    Ok(())
}

/// In the status of a container, as its first process says, also when that has ended.
fn who_runs_is_told(cluster: &Cluster) -> Result<()> {
    let show = script("id -u; id -g; id -G");
    let context = json!({"runAsUser": 1000, "runAsGroup": 3000, "supplementalGroups": [4000], "fsGroup": 5000});
    create(cluster, "somebody", &show, &json!({"securityContext": context}))?;
    create(cluster, "root", &show, &json!({}))?;
    for pod in ["somebody", "root"] {
        reaches(cluster, pod, "status.phase", "Succeeded")?;
    }
    // Runtimes tell it from v1.31 of the interface on.
    let told = |user: Value| if cluster.containerd.is_some() { Value::Null } else { user };
    let user = super::status(cluster, "somebody")?["user"]["linux"].clone();
    assert_eq!(user, told(json!({"uid": 1000, "gid": 3000, "supplementalGroups": [3000, 4000, 5000]})));
    assert_eq!(log(cluster, "somebody")?, "1000\n3000\n3000 4000 5000\n");
    let user = super::status(cluster, "root")?["user"]["linux"].clone();
    assert_eq!(user, told(json!({"uid": 0, "gid": 0, "supplementalGroups": [0]})));
    assert_eq!(log(cluster, "root")?, "0\n0\n0\n");
    Ok(())
}

fn what_is_hidden(cluster: &Cluster) -> Result<()> {
    let show = "wc -c < /proc/timer_list; touch /proc/sys/kernel/shmmax 2>/dev/null && echo writable || echo read-only";
    create(cluster, "masked", &script(show), &json!({}))?;
    let unmasked = json!({"securityContext": {"procMount": "Unmasked"}});
    create(cluster, "unmasked", &with(script(show), &unmasked), &json!({}))?;
    for pod in ["masked", "unmasked"] {
        reaches(cluster, pod, "status.phase", "Succeeded")?;
    }
    assert_eq!(log(cluster, "masked")?, "0\nread-only\n");
    let shown = log(cluster, "unmasked")?;
    assert!(shown.ends_with("\nwritable\n") && !shown.starts_with("0\n"), "{shown}");
    Ok(())
}

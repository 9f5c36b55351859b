//! From what the interface answers to what the seams say. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use node_grpc::messages::cri;
use serde_json::Value;

use crate::config::RuntimeFeatures;
use crate::seams::{ContainerState, ContainerUser, Exit};

pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default()
}

pub(super) fn container(status: &cri::ContainerStatus) -> ContainerState {
    match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::Created) => ContainerState::Created,
        Ok(cri::ContainerState::Running) => ContainerState::Running { started_at: timestamp(status.started_at) },
        Ok(cri::ContainerState::Exited) => ContainerState::Exited(exit(status)),
        Ok(cri::ContainerState::Unknown) | Err(_) => ContainerState::Exited(Exit {
            reason: Some("ContainerStatusUnknown".into()),
            exit_code: 137,
            ..exit(status)
        }),
    }
}

fn exit(status: &cri::ContainerStatus) -> Exit {
    let reason = status.reason.as_str();
    Exit {
        exit_code: status.exit_code,
        signal: None,
        oom_killed: reason == "OOMKilled",
        started_at: (status.started_at > 0).then(|| timestamp(status.started_at)),
        finished_at: timestamp(status.finished_at),
        // The plain ones follow from the exit code.
        reason: Some(reason.to_owned()).filter(|reason| !matches!(&**reason, "" | "Completed" | "Error" | "OOMKilled")),
        message: status.message.clone(),
    }
}

/// Who it runs as. Runtimes tell it from v1.31 of the interface on.
pub(super) fn user(status: &cri::ContainerStatus) -> Option<ContainerUser> {
    let linux = status.user.as_ref()?.linux.as_ref()?;
    let id = |id: i64| u32::try_from(id).ok();
    let groups = linux.supplemental_groups.iter().filter_map(|group| id(*group)).collect();
    Some(ContainerUser { uid: id(linux.uid)?, gid: id(linux.gid)?, groups })
}

/// Whether a listed state is the one that was seen before.
pub(super) fn agrees(seen: &ContainerState, listed: i32) -> bool {
    let listed = cri::ContainerState::try_from(listed).unwrap_or(cri::ContainerState::Unknown);
    match seen {
        ContainerState::Created => listed == cri::ContainerState::Created,
        ContainerState::Running { .. } => listed == cri::ContainerState::Running,
        ContainerState::Exited(_) => matches!(listed, cri::ContainerState::Exited | cri::ContainerState::Unknown),
    }
}

pub(super) fn ips(status: &cri::PodSandboxStatus) -> Vec<IpAddr> {
    let network = status.network.iter();
    let texts = network.flat_map(|network| [&network.ip].into_iter().chain(&network.additional_ips));
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// What is told beside a status: containerd and CRI-O write JSON below `info`.
fn told(info: &BTreeMap<String, String>) -> Option<Value> {
    serde_json::from_str(info.get("info")?).ok()
}

/// The first process.
pub(super) fn pid(info: &BTreeMap<String, String>) -> Option<u32> {
    told(info)?["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

/// A sandbox's network namespace; `None` with the node's.
pub(super) fn netns(info: &BTreeMap<String, String>) -> Option<PathBuf> {
    let info = told(info)?;
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    network["path"].as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where the runtime reads the configuration of networks, and where the plug-ins are: containerd tells.
pub(super) fn cni(info: &BTreeMap<String, String>) -> Option<(PathBuf, PathBuf)> {
    let config: Value = serde_json::from_str(info.get("config")?).ok()?;
    let of = |name: &str| config["cni"][name].as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
    Some((of("confDir")?, of("binDir")?))
}

/// The configuration of an image.
pub(super) fn image_config(info: &BTreeMap<String, String>) -> Value {
    told(info).map(|mut told| told["imageSpec"]["config"].take()).unwrap_or_default()
}

/// What its handler without a name can do. Pods with users of their own are not asked of it, whatever it says.
pub(super) fn features(status: &cri::StatusResponse) -> RuntimeFeatures {
    let handler = status.runtime_handlers.iter().find(|handler| handler.name.is_empty());
    let mounts = handler.and_then(|handler| handler.features).unwrap_or_default();
    RuntimeFeatures {
        recursive_read_only_mounts: mounts.recursive_read_only_mounts,
        supplemental_groups_policy: status.features.unwrap_or_default().supplemental_groups_policy,
        users: None,
    }
}

/// Why the runtime cannot run pods, or not connect them.
pub(super) fn trouble(status: &cri::RuntimeStatus) -> Option<String> {
    let unmet = |kind: &str| {
        let found = status.conditions.iter().find(|condition| condition.kind == kind);
        match found {
            Some(condition) if condition.status => None,
            Some(condition) => Some(condition.message.clone()),
            None => Some(format!("the container runtime does not say {kind}")),
        }
    };
    unmet(cri::RUNTIME_READY).or_else(|| unmet(cri::NETWORK_READY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(json: &str) -> BTreeMap<String, String> {
        [("info".to_owned(), json.to_owned())].into()
    }

    #[test]
    fn a_runtime_can_do_what_it_says() {
        let older = features(&cri::StatusResponse::default());
        assert!(!older.recursive_read_only_mounts && !older.supplemental_groups_policy);
        let can = cri::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true };
        let handler = |name: &str| cri::RuntimeHandler { name: name.into(), features: Some(can) };
        let other = cri::StatusResponse { runtime_handlers: vec![handler("kata")], ..Default::default() };
        assert!(!features(&other).recursive_read_only_mounts);
        let groups = cri::RuntimeFeatures { supplemental_groups_policy: true, ..Default::default() };
        let newer = cri::StatusResponse {
            runtime_handlers: vec![handler("kata"), handler("")],
            features: Some(groups),
            ..Default::default()
        };
        let newer = features(&newer);
        assert!(newer.recursive_read_only_mounts && newer.supplemental_groups_policy && newer.users.is_none());
    }

    #[test]
    fn who_a_container_runs_as_is_told_by_newer_runtimes() {
        assert_eq!(user(&cri::ContainerStatus::default()), None);
        let linux = cri::LinuxContainerUser { uid: 7, gid: 8, supplemental_groups: vec![8, 9] };
        let told = cri::ContainerUser { linux: Some(linux) };
        let status = cri::ContainerStatus { user: Some(told), ..Default::default() };
        assert_eq!(user(&status), Some(ContainerUser { uid: 7, gid: 8, groups: vec![8, 9] }));
    }

    #[test]
    fn ends_are_told_with_their_reasons() {
        let status = |state: cri::ContainerState, reason: &str| cri::ContainerStatus {
            state: state as i32,
            reason: reason.into(),
            exit_code: 137,
            finished_at: 2_000_000_000,
            ..Default::default()
        };
        let of = |reason| match container(&status(cri::ContainerState::Exited, reason)) {
            ContainerState::Exited(exit) => (exit.oom_killed, exit.reason, exit.started_at),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("OOMKilled"), (true, None, None));
        assert_eq!(of("Error"), (false, None, None));
        assert_eq!(of("StartError"), (false, Some("StartError".into()), None));
        let ContainerState::Exited(lost) = container(&status(cri::ContainerState::Unknown, "")) else { panic!() };
        assert_eq!((lost.exit_code, lost.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
        assert_eq!(container(&status(cri::ContainerState::Created, "")), ContainerState::Created);
        assert!(agrees(&ContainerState::Exited(lost), cri::ContainerState::Exited as i32));
        assert!(!agrees(&ContainerState::Created, cri::ContainerState::Running as i32));
    }

    #[test]
    fn what_is_told_beside_a_status_is_read_and_may_be_missing() {
        let told = info(
            r#"{"pid": 42, "runtimeSpec": {"linux": {"namespaces": [{"type": "ipc"}, {"type": "network", "path": "/n"}]}}}"#,
        );
        assert_eq!((pid(&told), netns(&told)), (Some(42), Some("/n".into())));
        for rubbish in ["", "[]", r#"{"pid": 0}"#, r#"{"pid": -1, "runtimeSpec": 3}"#] {
            assert_eq!((pid(&info(rubbish)), netns(&info(rubbish))), (None, None));
        }
        assert_eq!(image_config(&info(r#"{"imageSpec": {"config": {"User": "7"}}}"#))["User"], "7");
        assert!(image_config(&BTreeMap::new()).is_null());
        let config = [("config".to_owned(), r#"{"cni": {"confDir": "/c", "binDir": "/b"}}"#.to_owned())].into();
        assert_eq!(cni(&config), Some(("/c".into(), "/b".into())));
        assert_eq!(cni(&BTreeMap::new()), None);
    }

    #[test]
    fn both_conditions_must_hold() {
        let of = |runtime, network| {
            let condition = |kind: &str, status| cri::RuntimeCondition {
                kind: kind.into(),
                status,
                message: format!("no {kind}"),
                ..Default::default()
            };
            let conditions = vec![condition(cri::RUNTIME_READY, runtime), condition(cri::NETWORK_READY, network)];
            trouble(&cri::RuntimeStatus { conditions })
        };
        assert_eq!(of(true, true), None);
        assert_eq!(of(true, false).as_deref(), Some("no NetworkReady"));
        assert_eq!(of(false, true).as_deref(), Some("no RuntimeReady"));
        assert!(trouble(&cri::RuntimeStatus::default()).is_some());
    }
}

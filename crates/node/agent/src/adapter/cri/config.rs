//! From the seams' specifications to the interface's. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use node_grpc::Message;
use node_grpc::messages::cri;
use node_oci::{Groups, MASKED, READ_ONLY, page_size};

use crate::seams::{
    Access, ContainerSpec, Mount, Processes, Propagation, Resources, SandboxSpec, Seccomp, Security, label,
};

/// The sandbox's configuration, which the interface wants again with each of its containers.
const KEPT: &str = "sampan.io/sandbox";
/// Of the container: `tty` and `stdin`.
const TERMINAL: &str = "sampan.io/terminal";

pub(super) fn sandbox(spec: &SandboxSpec, attempt: u32, groups: &Groups) -> cri::PodSandboxConfig {
    let text = |key: &str| spec.labels.get(key).cloned().unwrap_or_default();
    let metadata = cri::PodSandboxMetadata {
        name: text(label::POD_NAME),
        uid: text(label::POD_UID),
        namespace: text(label::POD_NAMESPACE),
        attempt,
    };
    let group = groups.path(&format!("{}/pod{}", spec.cgroup_parent, metadata.uid));
    let security_context = cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        privileged: spec.privileged,
        seccomp: Some(profile(cri::ProfileType::RuntimeDefault, "")),
        ..Default::default()
    };
    let linux = cri::LinuxPodSandboxConfig {
        cgroup_parent: Path::new("/").join(group).to_string_lossy().into_owned(),
        security_context: Some(security_context),
        sysctls: spec.sysctls.clone(),
        resources: Some(resources(&spec.resources)),
        ..Default::default()
    };
    let mut config = cri::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: if spec.host_network { String::new() } else { spec.hostname.clone() },
        log_directory: spec.log_directory.to_string_lossy().into_owned(),
        labels: spec.labels.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    let kept = STANDARD.encode(config.encode_to_vec());
    config.annotations.insert(KEPT.to_owned(), kept);
    config
}

/// The configuration that a sandbox was made from, if it is one of ours.
pub(super) fn kept(annotations: &BTreeMap<String, String>) -> Option<cri::PodSandboxConfig> {
    let kept = STANDARD.decode(annotations.get(KEPT)?).ok()?;
    let mut config = cri::PodSandboxConfig::decode(&*kept).ok()?;
    config.annotations.clone_from(annotations);
    Some(config)
}

/// Whether a sandbox of these annotations logs below a directory.
pub(super) fn is_below(annotations: &BTreeMap<String, String>, directory: &Path) -> bool {
    kept(annotations).is_some_and(|config| Path::new(&config.log_directory).starts_with(directory))
}

/// The pod's cgroup, below the data directory's.
pub(super) fn group(config: &cri::PodSandboxConfig) -> String {
    let path = config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
    // `/<data directory's>/<group>`.
    path.trim_start_matches('/').split_once('/').map(|(_, group)| group.to_owned()).unwrap_or_default()
}

/// The log of a container by its labels.
pub(super) fn log(config: &cri::PodSandboxConfig, labels: &BTreeMap<String, String>) -> PathBuf {
    let text = |key: &str| labels.get(key).map(String::as_str).unwrap_or_default();
    Path::new(&config.log_directory).join(text(label::CONTAINER_NAME)).join(format!("{}.log", text(label::ATTEMPT)))
}

fn namespaces(spec: &SandboxSpec) -> cri::NamespaceOption {
    let shared = |host| if host { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    let pid = match spec.processes {
        Processes::Own => cri::NamespaceMode::Container,
        Processes::Shared => cri::NamespaceMode::Pod,
        Processes::Host => cri::NamespaceMode::Node,
    };
    cri::NamespaceOption {
        network: shared(spec.host_network) as i32,
        ipc: shared(spec.host_ipc) as i32,
        pid: pid as i32,
        ..Default::default()
    }
}

fn profile(kind: cri::ProfileType, path: &str) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref: path.to_owned() }
}

/// `seccomp`: where a profile of the node's own is.
pub(super) fn container(
    spec: &ContainerSpec,
    sandbox: &cri::PodSandboxConfig,
    seccomp: Option<&Path>,
) -> cri::ContainerConfig {
    let log = spec.log_path.strip_prefix(&sandbox.log_directory).unwrap_or(&spec.log_path);
    let shared = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let mut namespaces = shared.and_then(|shared| shared.namespace_options.clone()).unwrap_or_default();
    if let Some(target) = &spec.processes_of {
        namespaces.pid = cri::NamespaceMode::Target as i32;
        namespaces.target_id.clone_from(target);
    }
    let named = [("tty", spec.tty), ("stdin", spec.stdin)];
    let named: Vec<_> = named.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(cri::ImageSpec {
            image: spec.labels.get(label::IMAGE_ID).cloned().unwrap_or_default(),
            user_specified_image: spec.image.clone(),
            ..Default::default()
        }),
        command: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: spec.env.iter().map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        labels: spec.labels.clone(),
        annotations: [(TERMINAL.to_owned(), named.join(","))].into(),
        log_path: log.to_string_lossy().into_owned(),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(&spec.resources)),
            security_context: Some(security(&spec.security, namespaces, seccomp)),
        }),
        stop_signal: stop_signal(spec.labels.get(label::STOP_SIGNAL).map(String::as_str).unwrap_or_default()),
        ..Default::default()
    }
}

/// Whether a container of these annotations has a terminal, and reads.
pub(super) fn terminal(annotations: &BTreeMap<String, String>) -> (bool, bool) {
    let named = annotations.get(TERMINAL).map(String::as_str).unwrap_or_default();
    let has = |name| named.split(',').any(|one| one == name);
    (has("tty"), has("stdin"))
}

fn stop_signal(name: &str) -> i32 {
    let number = cri::SIGNALS.iter().position(|known| !name.is_empty() && *known == name);
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
}

fn mount(mount: &Mount) -> cri::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => cri::MountPropagation::Private,
        Propagation::HostToContainer => cri::MountPropagation::HostToContainer,
        Propagation::Bidirectional => cri::MountPropagation::Bidirectional,
    };
    cri::Mount {
        container_path: mount.target.to_string_lossy().into_owned(),
        host_path: mount.source.to_string_lossy().into_owned(),
        readonly: mount.access != Access::ReadWrite,
        recursive_read_only: mount.access == Access::ReadOnlyRecursive,
        propagation: propagation as i32,
        ..Default::default()
    }
}

fn security(
    security: &Security,
    namespaces: cri::NamespaceOption,
    seccomp: Option<&Path>,
) -> cri::LinuxContainerSecurityContext {
    let paths = |all: &[&str]| match security.privileged || security.unmasked_proc {
        true => Vec::new(),
        false => all.iter().map(|path| (*path).to_owned()).collect(),
    };
    // A group is only taken with a user, which is the image's where the pod says none.
    let image_user = security.image_user.split(':').next().unwrap_or_default();
    let (user, name) = match (security.user, security.group) {
        (Some(user), _) => (Some(user), ""),
        (None, None) => (None, ""),
        (None, Some(_)) if image_user.is_empty() => (Some(0), ""),
        (None, Some(_)) => match image_user.parse() {
            Ok(user) => (Some(user), ""),
            Err(_) => (None, image_user),
        },
    };
    let groups = match security.only_these_groups {
        true => cri::SupplementalGroupsPolicy::Strict,
        false => cri::SupplementalGroupsPolicy::Merge,
    };
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: security.capabilities_add.clone(),
            drop_capabilities: security.capabilities_drop.clone(),
            ..Default::default()
        }),
        privileged: security.privileged,
        namespace_options: Some(namespaces),
        run_as_user: user.map(i64::from),
        run_as_username: name.to_owned(),
        run_as_group: security.group.map(i64::from),
        supplemental_groups: security.supplemental_groups.iter().copied().map(i64::from).collect(),
        supplemental_groups_policy: groups as i32,
        readonly_rootfs: security.read_only_rootfs,
        no_new_privs: security.no_new_privileges,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(match (&security.seccomp, seccomp) {
            (Some(Seccomp::Profile(_)), Some(path)) => profile(cri::ProfileType::Localhost, &path.to_string_lossy()),
            (Some(_), _) => profile(cri::ProfileType::RuntimeDefault, ""),
            (None, _) => profile(cri::ProfileType::Unconfined, ""),
        }),
        ..Default::default()
    }
}

/// What is unlimited is not said.
pub(super) fn resources(resources: &Resources) -> cri::LinuxContainerResources {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let limits = resources.huge_pages.iter();
    cri::LinuxContainerResources {
        cpu_period: number(resources.cpu_period),
        // -1 takes a bound away again.
        cpu_quota: resources.cpu_quota.unwrap_or(-1),
        cpu_shares: number(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_limit.unwrap_or_default(),
        oom_score_adj: resources.oom_score_adj.into(),
        hugepage_limits: limits
            .map(|(size, limit)| cri::HugepageLimit { page_size: page_size(*size), limit: *limit })
            .collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        let labels = [(label::POD_NAME, "web"), (label::POD_NAMESPACE, "default"), (label::POD_UID, "u1")];
        SandboxSpec {
            id: "proposed".into(),
            hostname: "web".into(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            host_network: false,
            host_ipc: true,
            processes: Processes::Own,
            users: None,
            sysctls: BTreeMap::new(),
            cgroup_parent: "kubepods/burstable".into(),
            resources: Resources::default(),
            privileged: false,
            log_directory: "/data/agent/logs/default_web_u1".into(),
        }
    }

    #[test]
    fn a_sandbox_is_known_again_by_what_it_keeps() {
        let config = sandbox(&spec(), 3, &Groups::new("sampan-1"));
        let linux = config.linux.clone().unwrap();
        assert_eq!(linux.cgroup_parent, "/sampan-1/kubepods/burstable/podu1");
        let namespaces = linux.security_context.unwrap().namespace_options.unwrap();
        let modes = [cri::NamespaceMode::Pod, cri::NamespaceMode::Container, cri::NamespaceMode::Node];
        assert_eq!([namespaces.network, namespaces.pid, namespaces.ipc], modes.map(|mode| mode as i32));
        assert_eq!(kept(&config.annotations).as_ref(), Some(&config));
        assert_eq!(group(&config), "kubepods/burstable/podu1");
        assert!(is_below(&config.annotations, Path::new("/data/agent")));
        assert!(!is_below(&config.annotations, Path::new("/data/agen")));
        let labels = [(label::CONTAINER_NAME, "c"), (label::ATTEMPT, "2")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(log(&config, &labels), Path::new("/data/agent/logs/default_web_u1/c/2.log"));
    }

    #[test]
    fn what_others_annotate_is_not_ours() {
        for text in ["", "%", "AAAA"] {
            assert_eq!(kept(&[(KEPT.to_owned(), text.to_owned())].into()).map(|_| ()), (text.is_empty()).then_some(()));
        }
        assert!(!is_below(&BTreeMap::new(), Path::new("/")));
    }

    #[test]
    fn a_group_without_a_user_is_given_the_images() {
        let of = |image_user: &str, user, group| {
            let asked = Security { image_user: image_user.into(), user, group, ..Security::default() };
            let context = security(&asked, cri::NamespaceOption::default(), None);
            (context.run_as_user, context.run_as_username, context.run_as_group)
        };
        assert_eq!(of("7:8", None, None), (None, String::new(), None));
        assert_eq!(of("7:8", None, Some(9)), (Some(7), String::new(), Some(9)));
        assert_eq!(of("www:8", None, Some(9)), (None, "www".into(), Some(9)));
        assert_eq!(of("", None, Some(9)), (Some(0), String::new(), Some(9)));
        assert_eq!(of("www", Some(5), None), (Some(5), String::new(), None));
    }

    #[test]
    fn what_is_masked_is_not_for_the_privileged() {
        let masked = |asked: Security| security(&asked, cri::NamespaceOption::default(), None).masked_paths.len();
        assert_eq!(masked(Security::default()), MASKED.len());
        assert_eq!(masked(Security { privileged: true, ..Security::default() }), 0);
        assert_eq!(masked(Security { unmasked_proc: true, ..Security::default() }), 0);
    }

    #[test]
    fn signals_and_terminals_are_told_by_name() {
        assert_eq!(
            [stop_signal("SIGTERM"), stop_signal("SIGQUIT"), stop_signal("NONE"), stop_signal("")],
            [23, 18, 0, 0]
        );
        let of = |text: &str| terminal(&[(TERMINAL.to_owned(), text.to_owned())].into());
        assert_eq!([of("tty,stdin"), of("stdin"), of("")], [(true, true), (false, true), (false, false)]);
        assert_eq!(terminal(&BTreeMap::new()), (false, false));
    }
}

//! From what a client asks for to what the runtime is asked for. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_grpc::messages::cri;
use node_grpc::{Code, Status};

use super::foreign::Said;
use crate::container::command_line;
use crate::seams::{
    Access, ContainerSpec, IdRange, Image, Mount, Processes, Propagation, Resources, SandboxSpec, Seccomp, Security,
    label,
};

/// What the kernel gives a cgroup that nothing is said of.
const SHARES: u64 = 1024;
const PERIOD: u64 = 100_000;

pub fn invalid(message: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, message)
}

fn refused(message: &str) -> Status {
    Status::new(Code::Unimplemented, message)
}

/// A sandbox of a client's own. Its cgroup is not among those of the pods, and goes by its id: uids are what clients say.
pub fn sandbox(id: &str, config: &cri::PodSandboxConfig) -> Result<SandboxSpec, Status> {
    use cri::NamespaceMode::{Container, Node};
    let metadata = config.metadata.as_ref().ok_or_else(|| invalid("sandbox config must include metadata"))?;
    if metadata.name.is_empty() || metadata.namespace.is_empty() || metadata.uid.is_empty() {
        return Err(invalid("sandbox metadata must include name, namespace and uid"));
    }
    if config.port_mappings.iter().any(|port| port.host_port > 0) {
        return Err(refused("ports of the node are given to pods of the API alone"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let namespaces = security.namespace_options.unwrap_or_default();
    let mode = |mode: i32| cri::NamespaceMode::try_from(mode).map_err(|_| invalid("a namespace of no known mode"));
    let (network, pid, ipc) = (mode(namespaces.network)?, mode(namespaces.pid)?, mode(namespaces.ipc)?);
    let host_network = network == Node;
    let said = Said {
        uid: metadata.uid.clone(),
        attempt: metadata.attempt,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_directory: config.log_directory.clone(),
        privileged: security.privileged,
        pid: pid.into(),
        ipc: ipc.into(),
    };
    let labels = [
        (label::POD_NAME, metadata.name.clone()),
        (label::POD_NAMESPACE, metadata.namespace.clone()),
        (label::POD_UID, id.to_owned()),
        (label::FOREIGN, said.text()),
    ];
    Ok(SandboxSpec {
        id: id.to_owned(),
        hostname: if config.hostname.is_empty() { metadata.name.clone() } else { config.hostname.clone() },
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        host_network,
        host_ipc: ipc == Node,
        processes: match pid {
            Node => Processes::Host,
            Container => Processes::Own,
            _ => Processes::Shared,
        },
        users: namespaces.userns_options.map(users).transpose()?.flatten(),
        sysctls: linux.sysctls,
        cgroup_parent: String::new(),
        resources: resources(linux.resources.as_ref(), Resources::unbounded())?,
        privileged: security.privileged,
        log_directory: config.log_directory.clone().into(),
    })
}

/// One range for users and groups alike, as containerd and crun take it.
fn users(asked: cri::UserNamespace) -> Result<Option<IdRange>, Status> {
    if asked.mode != i32::from(cri::NamespaceMode::Pod) {
        return Ok(None);
    }
    match (asked.uids.as_slice(), asked.gids.as_slice()) {
        ([range], [groups]) if range == groups && range.container_id == 0 && range.host_id > 0 && range.length > 0 => {
            Ok(Some(IdRange { first: range.host_id, length: range.length }))
        }
        _ => Err(invalid("a user namespace has one range of users from 0 on, and the same of groups")),
    }
}

/// What [`container`] is made from beside what was asked for.
pub struct Around<'a> {
    pub id: String,
    /// The sandbox's.
    pub labels: &'a BTreeMap<String, String>,
    pub image: &'a Image,
    /// `/etc/hosts` and the like, where the client mounts none of its own.
    pub files: Vec<Mount>,
    /// Where the log goes when nothing is said of it.
    pub log_path: PathBuf,
    pub seccomp: Option<Seccomp>,
    pub hostname: &'a str,
}

pub fn container(config: cri::ContainerConfig, around: Around<'_>) -> Result<ContainerSpec, Status> {
    let metadata = config.metadata.unwrap_or_default();
    if metadata.name.is_empty() {
        return Err(invalid("container config must include a name"));
    }
    if !config.devices.is_empty() {
        return Err(refused("devices are not passed to containers"));
    }
    let said_of_sandbox = Said::of(around.labels).unwrap_or_default();
    let image = around.image;
    let args = command_line(config.command, config.args, image);
    if args.is_empty() {
        return Err(invalid("no command specified"));
    }
    let linux = config.linux.unwrap_or_default();
    let asked = linux.security_context.unwrap_or_default();
    if asked.privileged && !said_of_sandbox.privileged {
        return Err(invalid("no privileged container allowed in sandbox"));
    }
    let target = asked.namespace_options.as_ref();
    let target = target.filter(|options| options.pid == i32::from(cri::NamespaceMode::Target));
    let processes_of = target.map(|options| options.target_id.clone());
    let signal = usize::try_from(config.stop_signal).ok().and_then(|number| cri::SIGNALS.get(number));
    let signal = signal.filter(|name| !name.is_empty()).map(|name| (*name).to_owned());
    let said = Said { labels: config.labels, annotations: config.annotations, ..Said::default() };
    let asked_image = config.image.unwrap_or_default();
    let name = image_name(asked_image, image);
    let pod = [label::POD_NAME, label::POD_NAMESPACE, label::POD_UID];
    let labels = [
        (label::CONTAINER_NAME, metadata.name.clone()),
        (label::ATTEMPT, metadata.attempt.to_string()),
        (label::IMAGE, name.clone()),
        (label::IMAGE_ID, image.id.clone()),
        (label::STOP_SIGNAL, signal.or_else(|| image.stop_signal.clone()).unwrap_or_default()),
        (label::FOREIGN, said.text()),
    ];
    let of_pod = pod.into_iter().map(|key| (key, around.labels.get(key).cloned().unwrap_or_default()));
    let mut mounts = config.mounts.into_iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    let own = around.files.into_iter().filter(|file| !mounts.iter().any(|mount| mount.target == file.target));
    let own: Vec<_> = own.collect();
    mounts.extend(own);
    let env = std::iter::once(("HOSTNAME".to_owned(), around.hostname.to_owned()));
    let of_image = image.env.iter().filter_map(|pair| pair.split_once('='));
    let env = env.chain(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let log = Some(config.log_path).filter(|path| !path.is_empty() && !said_of_sandbox.log_directory.is_empty());
    Ok(ContainerSpec {
        id: around.id,
        name: metadata.name,
        attempt: metadata.attempt,
        image: name,
        labels: of_pod.chain(labels).map(|(key, value)| (key.to_owned(), value)).collect(),
        layers: image.layers.clone(),
        args,
        env: env.chain(config.envs.into_iter().map(|pair| (pair.key, pair.value))).collect(),
        working_dir: if config.working_dir.is_empty() { image.working_dir.clone() } else { config.working_dir },
        mounts,
        tty: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: log.map_or(around.log_path, |path| PathBuf::from(said_of_sandbox.log_directory).join(path)),
        security: security(asked, image, around.seccomp)?,
        resources: resources(linux.resources.as_ref(), Resources::unbounded())?,
        processes_of,
    })
}

/// As the user wrote it, or one of its names where what was written is its id.
fn image_name(asked: cri::ImageSpec, image: &Image) -> String {
    if !asked.user_specified_image.is_empty() {
        return asked.user_specified_image;
    }
    let hex = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    let name = image.names.first().filter(|_| hex(&image.digest).starts_with(&hex(&asked.image)));
    name.cloned().unwrap_or(asked.image)
}

fn mount(mount: cri::Mount) -> Result<Mount, Status> {
    if mount.image.is_some() {
        return Err(refused("images are not mounted"));
    }
    if !mount.container_path.starts_with('/') || !mount.host_path.starts_with('/') {
        return Err(invalid(format!(
            "mount {:?} of {:?}: both must be absolute",
            mount.container_path, mount.host_path
        )));
    }
    let access = match (mount.readonly, mount.recursive_read_only) {
        (false, true) => return Err(invalid("a mount that is read-only with all below it must be read-only")),
        (false, false) => Access::ReadWrite,
        (true, false) => Access::ReadOnly,
        (true, true) => Access::ReadOnlyRecursive,
    };
    let propagation = match cri::MountPropagation::try_from(mount.propagation) {
        Ok(cri::MountPropagation::Private) => Propagation::Private,
        Ok(cri::MountPropagation::HostToContainer) => Propagation::HostToContainer,
        Ok(cri::MountPropagation::Bidirectional) => Propagation::Bidirectional,
        Err(_) => return Err(invalid("a mount of no known propagation")),
    };
    Ok(Mount { source: mount.host_path.into(), target: mount.container_path.into(), access, propagation })
}

fn security(
    asked: cri::LinuxContainerSecurityContext,
    image: &Image,
    seccomp: Option<Seccomp>,
) -> Result<Security, Status> {
    let id = |id: i64| u32::try_from(id).map_err(|_| invalid(format!("{id} is no id of a user or a group")));
    let capabilities = asked.capabilities.unwrap_or_default();
    if asked.run_as_group.is_some() && asked.run_as_user.is_none() && asked.run_as_username.is_empty() {
        return Err(invalid("a group is given without a user"));
    }
    let image_user = if asked.run_as_username.is_empty() { image.user.clone() } else { asked.run_as_username };
    Ok(Security {
        image_user,
        user: asked.run_as_user.map(id).transpose()?,
        group: asked.run_as_group.map(id).transpose()?,
        supplemental_groups: asked.supplemental_groups.into_iter().map(id).collect::<Result<_, _>>()?,
        only_these_groups: asked.supplemental_groups_policy == i32::from(cri::SupplementalGroupsPolicy::Strict),
        privileged: asked.privileged,
        capabilities_add: capabilities.add_capabilities,
        capabilities_drop: capabilities.drop_capabilities,
        no_new_privileges: asked.no_new_privs,
        read_only_rootfs: asked.readonly_rootfs,
        seccomp,
        // An empty list of masked paths is what a client leaves that says nothing of them.
        unmasked_proc: false,
    })
}

impl Resources {
    /// What a cgroup has that nothing is said of.
    pub(super) fn unbounded() -> Self {
        Self { cpu_shares: SHARES, cpu_period: PERIOD, ..Self::default() }
    }
}

/// What was asked for, over what there is: 0 and nothing leave it as it is, a quota or a limit below 0 takes it away.
pub fn resources(asked: Option<&cri::LinuxContainerResources>, before: Resources) -> Result<Resources, Status> {
    let Some(asked) = asked else { return Ok(before) };
    if !asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty() || !asked.unified.is_empty() {
        return Err(refused("processors, memory nodes and cgroup files are not set for single containers"));
    }
    let bound = |asked: i64, before: Option<i64>| match asked {
        0 => before,
        limit => Some(limit).filter(|limit| *limit > 0),
    };
    let amount = |asked: i64, before: u64| u64::try_from(asked).ok().filter(|asked| *asked > 0).unwrap_or(before);
    let mut huge_pages = before.huge_pages;
    for limit in &asked.hugepage_limits {
        let size =
            page_size(&limit.page_size).ok_or_else(|| invalid(format!("{:?} is no size of pages", limit.page_size)))?;
        huge_pages.insert(size, limit.limit);
    }
    let score = i32::try_from(asked.oom_score_adj).ok().filter(|score| (-1000..=1000).contains(score));
    let score = score.ok_or_else(|| invalid("an OOM score is from -1000 to 1000"))?;
    Ok(Resources {
        cpu_shares: amount(asked.cpu_shares, before.cpu_shares),
        cpu_quota: bound(asked.cpu_quota, before.cpu_quota),
        cpu_period: amount(asked.cpu_period, before.cpu_period),
        memory_limit: bound(asked.memory_limit_in_bytes, before.memory_limit),
        pids_limit: before.pids_limit,
        huge_pages,
        oom_score_adj: if score == 0 { before.oom_score_adj } else { score },
    })
}

/// `2MB`: a power of 1024.
fn page_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests;

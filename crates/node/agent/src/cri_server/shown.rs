//! Sandboxes and containers as the interface shows them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use node_grpc::messages::cri;

use super::foreign::Said;
use crate::seams::{Access, Container, ContainerState, Inspection, Mount, Propagation, Resources, Sandbox, label};

type Map = BTreeMap<String, String>;

/// Those of the node's own that upstream's kubelet gives as annotations.
const ANNOTATIONS: [&str; 2] = [label::ATTEMPT, label::SPEC_HASH];
/// What is the node's own business.
const INTERNAL: &str = "sampan.io/";

pub fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// Labels and annotations: a client's own as it said them, a pod's as upstream's kubelet gives them.
pub fn told(labels: &Map) -> (Map, Map) {
    if let Some(said) = Said::of(labels) {
        return (said.labels, said.annotations);
    }
    let shown = labels.iter().filter(|(key, _)| !key.starts_with(INTERNAL));
    let shown = shown.map(|(key, value)| (key.clone(), value.clone()));
    let (annotations, labels) = shown.partition(|(key, _)| ANNOTATIONS.contains(&key.as_str()));
    (labels, annotations)
}

fn text(labels: &Map, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

pub fn pod_metadata(labels: &Map) -> cri::PodSandboxMetadata {
    let (name, namespace) = (text(labels, label::POD_NAME), text(labels, label::POD_NAMESPACE));
    let (uid, attempt) = match Said::of(labels) {
        Some(said) => (said.uid, said.attempt),
        None => (text(labels, label::POD_UID), 0),
    };
    cri::PodSandboxMetadata { name, uid, namespace, attempt }
}

pub fn sandbox_state(sandbox: &Sandbox) -> cri::PodSandboxState {
    if sandbox.ready { cri::PodSandboxState::Ready } else { cri::PodSandboxState::NotReady }
}

pub fn sandbox(sandbox: &Sandbox) -> cri::PodSandbox {
    let (labels, annotations) = told(&sandbox.labels);
    cri::PodSandbox {
        id: sandbox.id.clone(),
        metadata: Some(pod_metadata(&sandbox.labels)),
        state: sandbox_state(sandbox).into(),
        created_at: nanoseconds(sandbox.created_at),
        labels,
        annotations,
        runtime_handler: String::new(),
    }
}

/// `pod`: whose it is, where it is one of the node's.
pub fn sandbox_status(sandbox: &Sandbox, ips: &[IpAddr], pod: Option<&Pod>) -> cri::PodSandboxStatus {
    let cri::PodSandbox { id, metadata, state, created_at, labels, annotations, runtime_handler } =
        self::sandbox(sandbox);
    let mut ips = ips.iter().map(ToString::to_string);
    let network = cri::PodSandboxNetworkStatus { ip: ips.next().unwrap_or_default(), additional_ips: ips.collect() };
    let namespaces = cri::Namespace { options: Some(namespaces(sandbox, pod)) };
    cri::PodSandboxStatus {
        id,
        metadata,
        state,
        created_at,
        network: Some(network),
        linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(namespaces) }),
        labels,
        annotations,
        runtime_handler,
    }
}

fn namespaces(sandbox: &Sandbox, pod: Option<&Pod>) -> cri::NamespaceOption {
    use cri::NamespaceMode::{Container, Node, Pod};
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let (pid, ipc) = match Said::of(&sandbox.labels) {
        Some(said) => (said.pid, said.ipc),
        None => {
            let is = |value: Option<bool>| value == Some(true);
            let pid = match spec {
                Some(spec) if is(spec.host_pid) => Node,
                Some(spec) if is(spec.share_process_namespace) => Pod,
                _ => Container,
            };
            (pid.into(), if spec.is_some_and(|spec| is(spec.host_ipc)) { Node } else { Pod }.into())
        }
    };
    let network = if sandbox.netns.is_some() { Pod } else { Node };
    cri::NamespaceOption { network: network.into(), pid, ipc, ..Default::default() }
}

pub fn container_metadata(labels: &Map) -> cri::ContainerMetadata {
    cri::ContainerMetadata {
        name: text(labels, label::CONTAINER_NAME),
        attempt: text(labels, label::ATTEMPT).parse().unwrap_or_default(),
    }
}

pub fn container_state(container: &Container) -> cri::ContainerState {
    match container.state {
        ContainerState::Created => cri::ContainerState::Created,
        ContainerState::Running { .. } => cri::ContainerState::Running,
        ContainerState::Exited(_) => cri::ContainerState::Exited,
    }
}

/// `image_digest`: of the image's configuration.
pub fn container(sandbox: &str, container: &Container, created_at: Timestamp, image_digest: &str) -> cri::Container {
    let (labels, annotations) = told(&container.labels);
    cri::Container {
        id: container.id.clone(),
        pod_sandbox_id: sandbox.to_owned(),
        metadata: Some(container_metadata(&container.labels)),
        image: Some(image(&container.labels)),
        image_ref: text(&container.labels, label::IMAGE_ID),
        state: container_state(container).into(),
        created_at: nanoseconds(created_at),
        labels,
        annotations,
        image_id: image_digest.to_owned(),
    }
}

fn image(labels: &Map) -> cri::ImageSpec {
    let name = text(labels, label::IMAGE);
    cri::ImageSpec { user_specified_image: name.clone(), image: name, ..Default::default() }
}

pub fn container_status(container: &Container, inspected: &Inspection, image_digest: &str) -> cri::ContainerStatus {
    let (labels, annotations) = told(&container.labels);
    let mut status = cri::ContainerStatus {
        id: container.id.clone(),
        metadata: Some(container_metadata(&container.labels)),
        state: container_state(container).into(),
        created_at: nanoseconds(inspected.created_at),
        image: Some(image(&container.labels)),
        image_ref: text(&container.labels, label::IMAGE_ID),
        image_id: image_digest.to_owned(),
        labels,
        annotations,
        mounts: inspected.mounts.iter().map(mount).collect(),
        log_path: inspected.log_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        resources: Some(cri::ContainerResources { linux: Some(resources(&inspected.resources)) }),
        stop_signal: signal(&text(&container.labels, label::STOP_SIGNAL)),
        ..Default::default()
    };
    match &container.state {
        ContainerState::Created => {}
        ContainerState::Running { started_at } => status.started_at = nanoseconds(*started_at),
        ContainerState::Exited(exit) => {
            status.started_at = exit.started_at.map(nanoseconds).unwrap_or_default();
            status.finished_at = nanoseconds(exit.finished_at);
            status.exit_code = exit.exit_code;
            status.reason = exit.reason().to_owned();
            status.message.clone_from(&exit.message);
        }
    }
    status
}

/// The interface's number of a signal; 0 for one that it has none for.
fn signal(name: &str) -> i32 {
    let number = cri::SIGNALS.iter().skip(1).position(|known| {
        // As images write them.
        name.strip_prefix("SIG").unwrap_or(name).eq_ignore_ascii_case(&known[3..])
    });
    number.and_then(|number| i32::try_from(number + 1).ok()).unwrap_or_default()
}

fn mount(mount: &Mount) -> cri::Mount {
    cri::Mount {
        container_path: mount.target.display().to_string(),
        host_path: mount.source.display().to_string(),
        readonly: mount.access != Access::ReadWrite,
        recursive_read_only: mount.access == Access::ReadOnlyRecursive,
        propagation: match mount.propagation {
            Propagation::Private => cri::MountPropagation::Private,
            Propagation::HostToContainer => cri::MountPropagation::HostToContainer,
            Propagation::Bidirectional => cri::MountPropagation::Bidirectional,
        }
        .into(),
        ..Default::default()
    }
}

fn resources(resources: &Resources) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: i64::try_from(resources.cpu_period).unwrap_or_default(),
        cpu_quota: resources.cpu_quota.unwrap_or_default(),
        cpu_shares: i64::try_from(resources.cpu_shares).unwrap_or_default(),
        memory_limit_in_bytes: resources.memory_limit.unwrap_or_default(),
        oom_score_adj: resources.oom_score_adj.into(),
        hugepage_limits: resources
            .huge_pages
            .iter()
            .map(|(size, limit)| cri::HugepageLimit { page_size: page_size(*size), limit: *limit })
            .collect(),
        ..Default::default()
    }
}

/// As the interface writes a size of pages: `2MB`.
fn page_size(bytes: u64) -> String {
    let units = [(30, "GB"), (20, "MB"), (10, "KB")];
    let unit = units.into_iter().find(|(shift, _)| bytes >= 1 << shift).unwrap_or((0, "B"));
    format!("{}{}", bytes >> unit.0, unit.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_labels_are_those_that_upstreams_kubelet_gives() {
        let labels = [(label::POD_NAME, "web"), (label::ATTEMPT, "3"), (label::IMAGE, "nginx")];
        let labels: Map = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (shown, annotations) = told(&labels);
        assert_eq!(shown.keys().collect::<Vec<_>>(), [label::POD_NAME]);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), [label::ATTEMPT]);
        assert_eq!(container_metadata(&labels).attempt, 3);
    }

    #[test]
    fn signals_have_the_interfaces_numbers() {
        assert_eq!(["SIGTERM", "QUIT", "sigint", "", "9", "SIGRTMIN+3"].map(signal), [23, 18, 0, 0, 0, 38]);
        assert_eq!(signal("int"), 10);
    }

    #[test]
    fn sizes_of_pages_are_powers_of_1024() {
        assert_eq!([2 << 20, 1 << 30, 64 << 10].map(page_size), ["2MB", "1GB", "64KB"]);
    }
}

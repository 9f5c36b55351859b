//! Containers: those of the node's pods are shown, stopped and removed, those in a client's own sandboxes are made as well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use node_grpc::messages::cri;
use node_grpc::{Code, Status};

use super::find::gone_is_none;
use super::sandboxes::has_all;
use super::{Server, failed, info, new_id, shown, spec};
use crate::adapter::parse_seccomp;
use crate::container::signal_number;
use crate::seams::{Container, ContainerState, ContainerUser, Image, Sandbox, Seccomp, label};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// A process that the kernel does not let go of in that time keeps its container.
const KILLED: Duration = Duration::from_secs(60);

impl Server {
    pub(super) async fn create_container(&self, request: cri::CreateContainerRequest) -> Result<String, Status> {
        let config = request.config.unwrap_or_default();
        let _making = self.making.lock().await;
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        if !sandbox.is_foreign() {
            let pod = shown::pod_metadata(&sandbox.labels);
            let message =
                format!("the sandbox is of pod {}/{}, whose containers are its spec's", pod.namespace, pod.name);
            return Err(Status::new(Code::FailedPrecondition, message));
        }
        let wanted = config.metadata.clone();
        let same = |container: &&Container| Some(shown::container_metadata(&container.labels)) == wanted;
        if let Some(before) = sandbox.containers.iter().find(same) {
            let message = format!("a container of that name and attempt is there: {}", before.id);
            return Err(Status::new(Code::AlreadyExists, message));
        }
        let reference = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
        let image = self.image(reference).await?;
        let image = image.ok_or_else(|| Status::new(Code::NotFound, format!("image {reference:?} not found")))?;
        for mount in &config.mounts {
            ensure_source(Path::new(&mount.host_path))?;
        }
        let id = new_id()?;
        let hostname = request.sandbox_config.map(|config| config.hostname).filter(|name| !name.is_empty());
        let around = spec::Around {
            labels: &sandbox.labels,
            image: &image,
            files: self.file_mounts(&sandbox.id),
            log_path: self.files_dir(&sandbox.id).join(format!("{id}.log")),
            seccomp: seccomp(&config)?,
            hostname: &hostname.unwrap_or_else(|| shown::pod_metadata(&sandbox.labels).name),
            id: id.clone(),
        };
        let asked = spec::container(config, around)?;
        self.machine.runtime.create_container(&sandbox.id, asked).await.map_err(failed)
    }

    pub(super) async fn start_container(&self, id: &str) -> Result<(), Status> {
        let (_, container) = self.container(id).await?;
        if container.state != ContainerState::Created {
            return Err(wrong_state(&container));
        }
        self.machine.runtime.start_container(&container.id).await.map(drop).map_err(failed)
    }

    pub(super) async fn stop_container(&self, request: &cri::StopContainerRequest) -> Result<(), Status> {
        let Some((_, container)) = gone_is_none(self.container(&request.container_id).await)? else { return Ok(()) };
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or_default());
        self.stop(&container, grace).await
    }

    /// Returns when it does not run any more. Without time it is killed at once.
    async fn stop(&self, container: &Container, grace: Duration) -> Result<(), Status> {
        let id = container.id.as_str();
        let ContainerState::Running { .. } = container.state else { return Ok(()) };
        let runtime = &self.machine.runtime;
        if !grace.is_zero() {
            let own = container.labels.get(label::STOP_SIGNAL).and_then(|signal| signal_number(signal));
            runtime.signal_container(id, own.unwrap_or(SIGTERM)).await.map_err(failed)?;
            if let Ok(ended) = tokio::time::timeout(grace, self.runtime.ended(id)).await {
                return ended.map_err(failed);
            }
        }
        runtime.signal_container(id, SIGKILL).await.map_err(failed)?;
        match tokio::time::timeout(KILLED, self.runtime.ended(id)).await {
            Ok(ended) => ended.map_err(failed),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, format!("container {id:?} was killed and still runs"))),
        }
    }

    /// One that runs is killed first. Its log stays with a pod's others, and goes with its sandbox where that is a client's own.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let Some((_, container)) = gone_is_none(self.container(id).await)? else { return Ok(()) };
        self.stop(&container, Duration::ZERO).await?;
        self.machine.runtime.remove_container(&container.id).await.map_err(failed)
    }

    pub(super) async fn list_containers(
        &self,
        request: cri::ListContainersRequest,
    ) -> Result<cri::ListContainersResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let images = self.machine.images.list().await;
        let mut containers = Vec::new();
        for sandbox in self.sandboxes().await? {
            for container in &sandbox.containers {
                // One that went meanwhile is not there.
                let Ok(inspected) = self.runtime.inspect(&container.id).await else { continue };
                let digest = digest(container, &images);
                containers.push(shown::container(&sandbox.id, container, inspected.created_at, digest));
            }
        }
        containers.retain(|item| {
            item.id.starts_with(&filter.id)
                && item.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter.state.is_none_or(|wanted| wanted.state == item.state)
                && has_all(&item.labels, &filter.label_selector)
        });
        Ok(cri::ListContainersResponse { containers })
    }

    pub(super) async fn container_status(
        &self,
        request: cri::ContainerStatusRequest,
    ) -> Result<cri::ContainerStatusResponse, Status> {
        let (sandbox, container) = self.container(&request.container_id).await?;
        let inspected = self.runtime.inspect(&container.id).await.map_err(failed)?;
        let more = serde_json::json!({ "sandboxID": sandbox.id, "pid": inspected.pid, "spec": inspected.spec });
        Ok(cri::ContainerStatusResponse {
            status: Some(self.shown_container(&container).await?),
            info: info(request.verbose, "info", &more),
        })
    }

    pub(super) async fn shown_container(&self, container: &Container) -> Result<cri::ContainerStatus, Status> {
        let inspected = self.runtime.inspect(&container.id).await.map_err(failed)?;
        let images = self.machine.images.list().await;
        // One that does not run yet is nobody's.
        let user = self.machine.runtime.container_user(&container.id).await.map_err(failed)?;
        let user = user.map(|ContainerUser { uid, gid, groups }| cri::LinuxContainerUser {
            uid: uid.into(),
            gid: gid.into(),
            supplemental_groups: groups.into_iter().map(i64::from).collect(),
        });
        let status = shown::container_status(container, &inspected, digest(container, &images));
        Ok(cri::ContainerStatus { user: user.map(|user| cri::ContainerUser { linux: Some(user) }), ..status })
    }

    pub(super) async fn update_container(&self, request: cri::UpdateContainerResourcesRequest) -> Result<(), Status> {
        let container = self.running(&request.container_id).await?.1;
        let before = self.runtime.inspect(&container.id).await.map_err(failed)?.resources;
        let resources = spec::resources(request.linux.as_ref(), before)?;
        self.machine.runtime.resize_container(&container.id, &resources).await.map_err(failed)
    }

    pub(super) async fn running(&self, id: &str) -> Result<(Sandbox, Container), Status> {
        let found = self.container(id).await?;
        match found.1.state {
            ContainerState::Running { .. } => Ok(found),
            _ => Err(wrong_state(&found.1)),
        }
    }
}

fn wrong_state(container: &Container) -> Status {
    let state = match container.state {
        ContainerState::Created => "CONTAINER_CREATED",
        ContainerState::Running { .. } => "CONTAINER_RUNNING",
        ContainerState::Exited(_) => "CONTAINER_EXITED",
    };
    Status::new(Code::FailedPrecondition, format!("container {:?} is in {state} state", container.id))
}

/// Of the image's configuration; empty where the image is gone.
fn digest<'a>(container: &Container, images: &'a [Image]) -> &'a str {
    let id = container.labels.get(label::IMAGE_ID);
    images.iter().find(|image| Some(&image.id) == id).map(|image| image.digest.as_str()).unwrap_or_default()
}

/// What is mounted is made a directory where there is nothing, as other runtimes do.
fn ensure_source(path: &Path) -> Result<(), Status> {
    if path.as_os_str().is_empty() || path.exists() {
        return Ok(());
    }
    let failed = |error| Status::new(Code::Unknown, format!("make the directory {}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(failed)
}

fn seccomp(config: &cri::ContainerConfig) -> Result<Option<Seccomp>, Status> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(profile) = security.and_then(|security| security.seccomp.as_ref()) else { return Ok(None) };
    match cri::ProfileType::try_from(profile.profile_type) {
        Ok(cri::ProfileType::RuntimeDefault) => Ok(Some(Seccomp::RuntimeDefault)),
        Ok(cri::ProfileType::Unconfined) => Ok(None),
        Ok(cri::ProfileType::Localhost) => {
            let path = PathBuf::from(&profile.localhost_ref);
            let failed =
                |cause: String| spec::invalid(format!("cannot load seccomp profile {}: {cause}", path.display()));
            let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
            let profile = parse_seccomp(&text).map_err(|error| failed(error.to_string()))?;
            Ok(Some(Seccomp::Profile(profile)))
        }
        Err(_) => Err(spec::invalid("a seccomp profile of no known type")),
    }
}

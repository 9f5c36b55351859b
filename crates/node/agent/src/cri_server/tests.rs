//! Calls as they come, on a machine in memory.

use async_trait::async_trait;
use serde_json::Value;

use super::*;
use crate::fakes::{START, World};
use crate::seams::{ContainerState, Inspection, SandboxUsage, Usage, label};

#[async_trait]
impl Embedded for World {
    async fn inspect(&self, id: &str) -> Result<Inspection, SeamError> {
        let state = self.state.lock().unwrap();
        let spec = state.specs.get(id).ok_or_else(|| SeamError::new("find container", id, "it is not there"))?;
        Ok(Inspection {
            created_at: START.parse().unwrap(),
            pid: None,
            log_path: Some(spec.log_path.clone()),
            mounts: spec.mounts.clone(),
            resources: spec.resources.clone(),
            spec: Value::Null,
        })
    }

    async fn ended(&self, id: &str) -> Result<(), SeamError> {
        self.until("the container ends", |state| {
            let mut containers = state.sandboxes.values().flat_map(|sandbox| &sandbox.containers);
            !containers.any(|one| one.id == id && matches!(one.state, ContainerState::Running { .. }))
        })
        .await;
        Ok(())
    }
}

struct Served {
    world: Arc<World>,
    server: Server,
    _dir: tempfile::TempDir,
}

fn serve() -> Served {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let config = CriConfig { socket: dir.path().join("cri.sock"), images_dir: dir.path().join("images") };
    let machine = world.machine(dir.path());
    let server = Server::new(&Tasks::root("test"), machine, Arc::clone(&world) as Arc<dyn Embedded>, config);
    Served { world, server, _dir: dir }
}

impl Served {
    async fn call<A: Message + Default>(&self, method: &str, request: impl Message) -> Result<A, Status> {
        let answer = self.server.answer(method, &request.encode_to_vec()).await?;
        Ok(A::decode(&*answer).unwrap())
    }

    async fn code(&self, method: &str, request: impl Message) -> Code {
        self.server.answer(method, &request.encode_to_vec()).await.map_or_else(|status| status.code, |_| Code::Ok)
    }

    async fn sandbox(&self) -> String {
        let metadata =
            cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "ns".into(), attempt: 0 };
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let config = cri::PodSandboxConfig { metadata: Some(metadata), labels, ..Default::default() };
        let request = cri::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        self.call(cri::RUN_POD_SANDBOX, request).await.unwrap()
    }

    fn create(sandbox: &str, image: &str) -> cri::CreateContainerRequest {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: image.into(), ..Default::default() }),
            ..Default::default()
        };
        cri::CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), sandbox_config: None }
    }

    async fn status(&self, container: &str) -> cri::ContainerStatus {
        let request = cri::ContainerStatusRequest { container_id: container.into(), verbose: true };
        self.call::<cri::ContainerStatusResponse>(cri::CONTAINER_STATUS, request).await.unwrap().status.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_lives_from_its_creation_to_its_removal() {
    let served = serve();
    let sandbox = served.sandbox().await;
    let container: String = served.call(cri::CREATE_CONTAINER, Served::create(&sandbox, "nginx")).await.unwrap();
    assert_eq!(served.status(&container).await.state(), cri::ContainerState::Created);
    assert_eq!(served.code(cri::CREATE_CONTAINER, Served::create(&sandbox, "nginx")).await, Code::AlreadyExists);
    assert_eq!(
        served
            .code(
                cri::EXEC_SYNC,
                cri::ExecSyncRequest { container_id: container.clone(), cmd: vec!["x".into()], timeout: 0 }
            )
            .await,
        Code::FailedPrecondition
    );
    served.call::<()>(cri::START_CONTAINER, container.clone()).await.unwrap();
    assert_eq!(served.code(cri::START_CONTAINER, container.clone()).await, Code::FailedPrecondition);
    let image =
        || cri::RemoveImageRequest { image: Some(cri::ImageSpec { image: "nginx".into(), ..Default::default() }) };
    assert_eq!(served.code(cri::REMOVE_IMAGE, image()).await, Code::FailedPrecondition, "it is in use");
    // It takes no notice of its own signal, and is killed when its time is over.
    served.world.state.lock().unwrap().ignored_signals = vec![3];
    let stop = cri::StopContainerRequest { container_id: container[..7].into(), timeout: 10 };
    let began = tokio::time::Instant::now();
    served.call::<()>(cri::STOP_CONTAINER, stop.clone()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    let status = served.status(&container).await;
    assert_eq!((status.state(), status.exit_code, &*status.reason), (cri::ContainerState::Exited, 137, "Error"));
    served.call::<()>(cri::STOP_CONTAINER, stop).await.unwrap();
    served.call::<()>(cri::REMOVE_CONTAINER, container.clone()).await.unwrap();
    served.call::<()>(cri::REMOVE_CONTAINER, container).await.unwrap();
    served.call::<()>(cri::REMOVE_IMAGE, image()).await.unwrap();
    served.call::<()>(cri::REMOVE_POD_SANDBOX, sandbox.clone()).await.unwrap();
    served.call::<()>(cri::REMOVE_POD_SANDBOX, sandbox).await.unwrap();
    let calls = served.world.state.lock().unwrap().calls.join("; ");
    let wanted = "create sandbox; attach network; create c #0; start c; signal c 3 at 0ms; signal c 9 at 10000ms; \
                  remove image sha256:aaaa; detach network; remove sandbox";
    assert_eq!(calls, wanted);
}

#[tokio::test]
async fn lists_are_filtered() {
    let served = serve();
    let sandbox = served.sandbox().await;
    served.call::<String>(cri::CREATE_CONTAINER, Served::create(&sandbox, "sha256:aa")).await.unwrap();
    let sandboxes = |filter: cri::PodSandboxFilter| async {
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        served.call::<cri::ListPodSandboxResponse>(cri::LIST_POD_SANDBOX, request).await.unwrap().items.len()
    };
    let labelled = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    type Sandboxes = cri::PodSandboxFilter;
    assert_eq!(sandboxes(Sandboxes::default()).await, 1);
    assert_eq!(sandboxes(Sandboxes { label_selector: labelled("b"), ..Default::default() }).await, 1);
    assert_eq!(sandboxes(Sandboxes { label_selector: labelled("c"), ..Default::default() }).await, 0);
    let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::NotReady.into() });
    assert_eq!(sandboxes(Sandboxes { state, ..Default::default() }).await, 0);
    assert_eq!(sandboxes(Sandboxes { id: "x".into(), ..Default::default() }).await, 0);
    let containers = |filter: cri::ContainerFilter| async {
        let request = cri::ListContainersRequest { filter: Some(filter) };
        served.call::<cri::ListContainersResponse>(cri::LIST_CONTAINERS, request).await.unwrap().containers
    };
    type Containers = cri::ContainerFilter;
    let all = containers(Containers { pod_sandbox_id: sandbox, ..Default::default() }).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].image.as_ref().unwrap().image, "docker.io/library/nginx:latest", "not the id it was asked by");
    let state = Some(cri::ContainerStateValue { state: cri::ContainerState::Running.into() });
    assert!(containers(Containers { state, ..Default::default() }).await.is_empty());
    assert!(containers(Containers { pod_sandbox_id: "x".into(), ..Default::default() }).await.is_empty());
}

#[tokio::test]
async fn a_pods_sandbox_takes_no_containers_of_others() {
    let served = serve();
    let id = served.sandbox().await;
    served.world.state.lock().unwrap().sandboxes.get_mut(&id).unwrap().labels.remove(label::FOREIGN);
    assert_eq!(served.code(cri::CREATE_CONTAINER, Served::create(&id, "nginx")).await, Code::FailedPrecondition);
    served.call::<()>(cri::REMOVE_POD_SANDBOX, id.clone()).await.unwrap();
    assert!(served.world.state.lock().unwrap().sandboxes.contains_key(&id), "its worker removes it");
}

#[tokio::test]
async fn what_is_unknown_is_not_found_or_gone_already() {
    let served = serve();
    let x = || "x".to_owned();
    for method in
        [cri::START_CONTAINER, cri::CONTAINER_STATUS, cri::POD_SANDBOX_STATUS, cri::CONTAINER_STATS, cri::EXEC]
    {
        assert_eq!(served.code(method, x()).await, Code::NotFound, "{method}");
    }
    for method in [cri::STOP_CONTAINER, cri::REMOVE_CONTAINER, cri::STOP_POD_SANDBOX, cri::REMOVE_POD_SANDBOX] {
        assert_eq!(served.code(method, x()).await, Code::Ok, "{method}");
    }
    let sandbox = served.sandbox().await;
    assert_eq!(served.code(cri::CREATE_CONTAINER, Served::create(&sandbox, "absent")).await, Code::NotFound);
    let absent = cri::ImageStatusRequest {
        image: Some(cri::ImageSpec { image: "absent".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(served.call::<cri::ImageStatusResponse>(cri::IMAGE_STATUS, absent).await.unwrap().image, None);
    assert_eq!(served.code("runtime.v1.RuntimeService/Juggle", ()).await, Code::Unimplemented);
    assert_eq!(served.server.answer(cri::EXEC, b"\x0a\x7fx").await.unwrap_err().code, Code::Internal);
}

#[tokio::test]
async fn a_network_that_has_trouble_is_not_ready_and_leaves_nothing_behind() {
    let served = serve();
    served.world.network_trouble.send_replace(Some("no plug-in".into()));
    let status: cri::StatusResponse = served.call(cri::STATUS, true).await.unwrap();
    let conditions = status.status.unwrap().conditions;
    let told: Vec<_> = conditions.iter().map(|one| (&*one.kind, one.status, &*one.message)).collect();
    assert_eq!(told, [("RuntimeReady", true, ""), ("NetworkReady", false, "no plug-in")]);
    assert!(serde_json::from_str::<Value>(&status.info["config"]).unwrap()["socket"].is_string());
    let metadata = cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "ns".into(), attempt: 0 };
    let config = cri::PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
    let request = cri::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    assert_eq!(served.code(cri::RUN_POD_SANDBOX, request).await, Code::Unknown);
    assert!(served.world.state.lock().unwrap().sandboxes.is_empty());
}

#[tokio::test]
async fn what_is_used_is_told_of_what_is_asked_for() {
    let served = serve();
    let sandbox = served.sandbox().await;
    let usage = Usage { cpu: 5, memory: 3, ..Usage::default() };
    let used = |id: &str| SandboxUsage { id: id.into(), usage, ..SandboxUsage::default() };
    served.world.state.lock().unwrap().usage = vec![used(&sandbox), used("another")];
    let one: cri::PodSandboxStatsResponse = served.call(cri::POD_SANDBOX_STATS, sandbox).await.unwrap();
    let linux = one.stats.unwrap().linux.unwrap();
    assert_eq!(linux.cpu.unwrap().usage_core_nano_seconds, Some(5));
    assert_eq!(linux.memory.unwrap().usage_bytes, Some(3));
    let all = cri::ListPodSandboxStatsRequest::default();
    let all: cri::ListPodSandboxStatsResponse = served.call(cri::LIST_POD_SANDBOX_STATS, all).await.unwrap();
    assert_eq!(all.stats.len(), 1);
}

//! What is asked for, and what is refused.

use super::*;

fn sandbox_config() -> cri::PodSandboxConfig {
    let metadata = cri::PodSandboxMetadata { name: "p".into(), uid: "../u".into(), namespace: "ns".into(), attempt: 1 };
    cri::PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
}

fn in_namespaces(options: cri::NamespaceOption) -> cri::PodSandboxConfig {
    let security = cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    let linux = cri::LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() };
    cri::PodSandboxConfig { linux: Some(linux), ..sandbox_config() }
}

#[test]
fn a_sandbox_goes_by_its_id_whatever_its_client_says() {
    let asked = sandbox("id", &sandbox_config()).unwrap();
    assert_eq!((asked.labels[label::POD_UID].as_str(), asked.hostname.as_str()), ("id", "p"));
    let said = Said::of(&asked.labels).unwrap();
    assert_eq!((said.uid.as_str(), said.attempt), ("../u", 1));
    assert_eq!((asked.host_network, asked.host_ipc, asked.processes), (false, false, Processes::Shared));
    let nodes = cri::NamespaceOption { network: 2, pid: 2, ipc: 2, ..Default::default() };
    let asked = sandbox("id", &in_namespaces(nodes)).unwrap();
    assert_eq!((asked.host_network, asked.host_ipc, asked.processes), (true, true, Processes::Host));
    let own = cri::NamespaceOption { pid: 1, ..Default::default() };
    assert_eq!(sandbox("id", &in_namespaces(own)).unwrap().processes, Processes::Own);
}

#[test]
fn users_of_a_sandbox_are_one_range_of_users_and_of_groups() {
    let range = |host_id, container_id| cri::IdMapping { host_id, container_id, length: 65_536 };
    let asked = |mode: cri::NamespaceMode, uids: &[cri::IdMapping], gids: &[cri::IdMapping]| {
        let users = cri::UserNamespace { mode: mode.into(), uids: uids.to_vec(), gids: gids.to_vec() };
        let options = cri::NamespaceOption { userns_options: Some(users), ..Default::default() };
        sandbox("id", &in_namespaces(options)).map(|spec| spec.users).map_err(|status| status.code)
    };
    let (one, pod) = (range(131_072, 0), cri::NamespaceMode::Pod);
    assert_eq!(asked(pod, &[one], &[one]), Ok(Some(IdRange { first: 131_072, length: 65_536 })));
    assert_eq!(asked(cri::NamespaceMode::Node, &[], &[]), Ok(None));
    for (uids, gids) in [
        (vec![], vec![]),
        (vec![one], vec![range(65_536, 0)]),
        (vec![range(131_072, 1)], vec![range(131_072, 1)]),
        (vec![range(0, 0)], vec![range(0, 0)]),
        (vec![one, one], vec![one, one]),
    ] {
        assert_eq!(asked(pod, &uids, &gids), Err(Code::InvalidArgument), "{uids:?}");
    }
}

#[test]
fn a_sandbox_that_cannot_be_is_refused() {
    let code = |config: &cri::PodSandboxConfig| sandbox("id", config).unwrap_err().code;
    assert_eq!(code(&cri::PodSandboxConfig::default()), Code::InvalidArgument);
    let mut nameless = sandbox_config();
    nameless.metadata = Some(cri::PodSandboxMetadata::default());
    assert_eq!(code(&nameless), Code::InvalidArgument);
    assert_eq!(code(&in_namespaces(cri::NamespaceOption { pid: 9, ..Default::default() })), Code::InvalidArgument);
    let port = cri::PortMapping { host_port: 80, ..Default::default() };
    assert_eq!(code(&cri::PodSandboxConfig { port_mappings: vec![port], ..sandbox_config() }), Code::Unimplemented);
}

fn image() -> Image {
    Image {
        id: "repo@sha256:1".into(),
        digest: "sha256:abc".into(),
        names: vec!["repo:1".into()],
        entrypoint: vec!["/entry".into()],
        cmd: vec!["arg".into()],
        env: vec!["A=1".into(), "B=2".into()],
        user: "web".into(),
        stop_signal: Some("SIGQUIT".into()),
        ..Image::default()
    }
}

fn container_config() -> cri::ContainerConfig {
    let image = cri::ImageSpec { image: "abc".into(), ..Default::default() };
    let metadata = cri::ContainerMetadata { name: "c".into(), attempt: 2 };
    cri::ContainerConfig { metadata: Some(metadata), image: Some(image), ..Default::default() }
}

fn made(config: cri::ContainerConfig, said: &Said) -> Result<ContainerSpec, Status> {
    let labels = BTreeMap::from([(label::FOREIGN.to_owned(), said.text()), (label::POD_UID.into(), "u".into())]);
    let files = vec![Mount {
        source: "/files/hosts".into(),
        target: "/etc/hosts".into(),
        access: Access::ReadWrite,
        propagation: Propagation::Private,
    }];
    let (labels, image, hostname) = (&labels, &image(), "h");
    let log_path = PathBuf::from("/own.log");
    container(config, Around { id: "i".into(), labels, image, files, log_path, seccomp: None, hostname })
}

#[test]
fn a_container_has_what_its_image_says_where_nothing_is_asked() {
    let spec = made(container_config(), &Said::default()).unwrap();
    assert_eq!(spec.args, ["/entry", "arg"]);
    let env = [("HOSTNAME", "h"), ("A", "1"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(spec.env, env);
    assert_eq!((spec.security.image_user.as_str(), spec.image.as_str()), ("web", "repo:1"));
    assert_eq!(spec.labels[label::STOP_SIGNAL], "SIGQUIT");
    assert_eq!((spec.labels[label::ATTEMPT].as_str(), spec.labels[label::POD_UID].as_str()), ("2", "u"));
    assert_eq!(spec.log_path, PathBuf::from("/own.log"));
    assert_eq!((spec.mounts.len(), spec.resources), (1, Resources::unbounded()));
}

#[test]
fn what_is_asked_for_wins() {
    let hosts = cri::Mount {
        container_path: "/etc/hosts".into(),
        host_path: "/mine".into(),
        readonly: true,
        recursive_read_only: true,
        propagation: 1,
        ..Default::default()
    };
    let security = cri::LinuxContainerSecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(5),
        supplemental_groups: vec![7],
        ..Default::default()
    };
    let linux = cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() };
    let config = cri::ContainerConfig {
        command: vec!["sh".into()],
        envs: vec![cri::KeyValue { key: "A".into(), value: "9".into() }],
        mounts: vec![hosts],
        log_path: "c.log".into(),
        stop_signal: 10,
        linux: Some(linux),
        ..container_config()
    };
    let said = Said { log_directory: "/logs".into(), ..Said::default() };
    let spec = made(config, &said).unwrap();
    assert_eq!(spec.args, ["sh"]);
    assert_eq!(spec.env.last(), Some(&("A".into(), "9".into())));
    assert_eq!(spec.mounts.len(), 1);
    let mount = (spec.mounts[0].access, spec.mounts[0].propagation);
    assert_eq!(mount, (Access::ReadOnlyRecursive, Propagation::HostToContainer));
    assert_eq!((spec.log_path, &*spec.labels[label::STOP_SIGNAL]), ("/logs/c.log".into(), "SIGINT"));
    assert_eq!((spec.security.user, spec.security.group), (Some(0), Some(5)));
    assert_eq!(spec.security.supplemental_groups, [7]);
}

#[test]
fn a_container_that_cannot_be_is_refused() {
    let code = |config: cri::ContainerConfig| made(config, &Said::default()).unwrap_err().code;
    let with = |security: cri::LinuxContainerSecurityContext| {
        let linux = cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() };
        cri::ContainerConfig { linux: Some(linux), ..container_config() }
    };
    let mounting = |container_path: &str, host_path: &str, recursive_read_only| {
        let (container_path, host_path) = (container_path.into(), host_path.into());
        let mount = cri::Mount { container_path, host_path, recursive_read_only, ..Default::default() };
        cri::ContainerConfig { mounts: vec![mount], ..container_config() }
    };
    type Security = cri::LinuxContainerSecurityContext;
    for config in [
        cri::ContainerConfig { metadata: None, ..container_config() },
        with(Security { privileged: true, ..Default::default() }),
        with(Security { run_as_group: Some(1), ..Default::default() }),
        with(Security { run_as_user: Some(-1), ..Default::default() }),
        mounting("x", "/x", false),
        mounting("/x", "", false),
        mounting("/x", "/x", true),
    ] {
        assert_eq!(code(config.clone()), Code::InvalidArgument, "{config:?}");
    }
    let device = cri::Device::default();
    assert_eq!(code(cri::ContainerConfig { devices: vec![device], ..container_config() }), Code::Unimplemented);
    let privileged = with(Security { privileged: true, ..Default::default() });
    assert!(made(privileged, &Said { privileged: true, ..Said::default() }).unwrap().security.privileged);
}

#[test]
fn amounts_are_laid_over_those_before() {
    type Asked = cri::LinuxContainerResources;
    let over = |asked: Asked| resources(Some(&asked), Resources { memory_limit: Some(5), ..Resources::unbounded() });
    let of = |limit| over(Asked { memory_limit_in_bytes: limit, ..Default::default() }).unwrap().memory_limit;
    assert_eq!((of(0), of(7), of(-1)), (Some(5), Some(7), None));
    let pages = |page_size: &str| {
        let hugepage_limits = vec![cri::HugepageLimit { page_size: page_size.into(), limit: 1 }];
        over(Asked { hugepage_limits, ..Default::default() }).map(|resources| resources.huge_pages.into_keys().next())
    };
    assert_eq!((pages("2MB"), pages("1GB")), (Ok(Some(2 << 20)), Ok(Some(1 << 30))));
    for bad in ["", "2", "MB", "2XB", "0MB", "99999999999999999999GB", "9999999999999999GB"] {
        assert_eq!(pages(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
    }
    let refused = over(Asked { cpuset_cpus: "0".into(), ..Default::default() });
    assert_eq!(refused.unwrap_err().code, Code::Unimplemented);
    let mad = over(Asked { oom_score_adj: 5000, ..Default::default() });
    assert_eq!(mad.unwrap_err().code, Code::InvalidArgument);
}

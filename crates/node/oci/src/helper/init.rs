//! Starting a container: cgroup, root file system, user, then libcontainer.

use std::fs;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::fchown;

use super::binds::Connected;
use super::console::Console;
use super::executor::Command;
use super::rootfs::{self, ROOTFS, Rootfs};
use super::user::{self, Identity};
use super::users::{self, Users};
use super::{HelperError, Job, capabilities, oci, step};
use crate::kernel;
use crate::layout;
use crate::spec::{IdRange, Mount};

pub(super) fn start(job: &mut Job) -> Result<(), HelperError> {
    let cgroup = job.cgroup();
    job.cgroups.create(&cgroup).map_err(step("make the container's cgroup"))?;
    job.cgroups.limit(&cgroup, &job.container.spec.resources).map_err(step("limit the container"))?;
    job.join_grouping_hierarchies()?;
    job.set_oom_score();

    let spec = &job.container.spec;
    rootfs::isolate().map_err(step("make a mount namespace"))?;
    let sandbox = job.directory.sandbox().ok_or_else(|| HelperError::Other("no sandbox directory".to_owned()))?;
    let users = Users::of(&sandbox, &job.sandbox.spec).map_err(step("find the pod's user namespace"))?;
    let pods = oci::pod_mounts(&sandbox, &job.sandbox.spec, spec);
    let all: Vec<Mount> = pods.into_iter().chain(spec.mounts.iter().cloned()).collect();
    let connected = Connected::take(&all)?;
    let rootfs =
        Rootfs::mount(&job.directory, &spec.layers, users.as_ref()).map_err(step("mount the image's layers"))?;
    let read = |path| rootfs.read(path).map_err(step(format!("read the image's /{path}")));
    let mut mounts = connected.place(&job.directory, &all, users.as_ref())?;
    let identity = user::resolve(&spec.user, &read("etc/passwd")?, &read("etc/group")?)?;
    let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    rootfs.make_directory(Path::new(cwd)).map_err(step(format!("make the working directory {cwd}")))?;
    own_standard_streams(job.sandbox.spec.users, &identity);
    let root = stage(job, users.is_some(), &mut mounts)?;

    let status = fs::read_to_string("/proc/self/status").map_err(step("read our own capabilities"))?;
    // Root of a user namespace has them all, there.
    let permitted = if users.is_some() { u64::MAX } else { capabilities::permitted(&status) };
    let granted = capabilities::grant(&spec.capabilities, spec.privileged, permitted).map_err(HelperError::Other)?;
    if !granted.missing.is_empty() {
        job.warnings.push(format!("capabilities not ours to give: {}", granted.missing.join(", ")));
    }
    let plan = oci::Plan {
        sandbox: &job.sandbox.spec,
        container: spec,
        root: &root,
        users: users.is_some().then(|| sandbox.userns()),
        mounts: &mounts,
        identity: &identity,
        capabilities: &granted.capabilities,
        cgroup: &cgroup,
        cgroups: &job.cgroups,
        processes: job.pid_namespace()?,
        host_devices: if spec.privileged { oci::host_devices() } else { Vec::new() },
    };
    layout::save(&job.directory.oci_config(), &plan.config()).map_err(step("write the container's configuration"))?;
    launch(job)
}

/// Where the root file system is, and the mounts, by paths that the container's users can walk: nobody but root enters our
/// own directories.
fn stage(job: &Job, own_users: bool, mounts: &mut [Mount]) -> Result<PathBuf, HelperError> {
    if !own_users {
        return Ok(job.directory.rootfs());
    }
    let made = job.directory.mounts();
    let stage = Users::stage(&job.directory.0).map_err(step("find a place for the container's mounts"))?;
    kernel::clone_tree(&made)
        .and_then(|tree| kernel::attach(&tree, &stage))
        .map_err(step(format!("show the container's mounts at {}", stage.display())))?;
    for mount in mounts {
        if let Ok(below) = mount.source.strip_prefix(&made) {
            mount.source = stage.join(below);
        }
    }
    Ok(stage.join(ROOTFS))
}

fn launch(job: &mut Job) -> Result<(), HelperError> {
    let spec = &job.container.spec;
    let state = job.directory.oci_state();
    fs::create_dir_all(&state).map_err(step("make the container's state directory"))?;
    let console = spec.tty.then(|| Console::listen(&state)).transpose().map_err(step("listen for the terminal"))?;
    let mut container = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_executor(Command { reporter: job.reporter })
        .with_root_path(&state)
        .map_err(step("open the container's state directory"))?
        .with_console_socket(console.as_ref().map(Console::path))
        .as_init(&job.directory.0)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(step("create the container"))?;
    let terminal = console.map(Console::receive).transpose().map_err(step("receive the terminal"))?;
    let pid = container.pid().ok_or_else(|| HelperError::Other("the container has no process".to_owned()))?;
    container.start().map_err(step("start the container"))?;
    let warnings = std::mem::take(&mut job.warnings);
    job.reporter.started(pid.as_raw(), warnings, terminal.as_ref()).map_err(step("report the start"))
}

/// So that a process of another user can open `/dev/stdout`. `/dev/null` has its owner already, and on a
/// terminal this is not possible from here.
pub(super) fn own_standard_streams(users: Option<IdRange>, identity: &Identity) {
    let Some((uid, gid)) = users::outside(users, identity) else { return };
    for standard in 0..3 {
        let is_pipe = nix::sys::stat::fstat(standard).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = fchown(standard, Some(uid), Some(gid));
        }
    }
}

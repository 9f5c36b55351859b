//! Starting a container: cgroup, root file system, user, then libcontainer.

use std::fs;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::{Gid, Uid, fchown};

use super::binds::Connected;
use super::console::Console;
use super::executor::Command;
use super::rootfs::{self, Rootfs};
use super::user::{self, Identity};
use super::{HelperError, Job, capabilities, oci, step};
use crate::layout;

pub(super) fn start(job: &mut Job) -> Result<(), HelperError> {
    let cgroup = job.cgroup();
    job.cgroups.create(&cgroup).map_err(step("make the container's cgroup"))?;
    job.cgroups.limit(&cgroup, &job.container.spec.resources).map_err(step("limit the container"))?;
    job.join_grouping_hierarchies()?;
    job.set_oom_score();

    let spec = &job.container.spec;
    rootfs::isolate().map_err(step("make a mount namespace"))?;
    let connected = Connected::take(&spec.mounts)?;
    let rootfs = Rootfs::mount(&job.directory, &spec.layers).map_err(step("mount the image's layers"))?;
    let read = |path| rootfs.read(path).map_err(step(format!("read the image's /{path}")));
    let mounts = connected.place(&job.directory, &spec.mounts)?;
    let identity = user::resolve(&spec.user, &read("etc/passwd")?, &read("etc/group")?)?;
    let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    rootfs.make_directory(Path::new(cwd)).map_err(step(format!("make the working directory {cwd}")))?;
    own_standard_streams(&identity);

    let status = fs::read_to_string("/proc/self/status").map_err(step("read our own capabilities"))?;
    let granted = capabilities::grant(&spec.capabilities, spec.privileged, capabilities::permitted(&status))
        .map_err(HelperError::Other)?;
    if !granted.missing.is_empty() {
        job.warnings.push(format!("capabilities not ours to give: {}", granted.missing.join(", ")));
    }
    let plan = oci::Plan {
        directory: &job.directory,
        sandbox: &job.sandbox.spec,
        container: spec,
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

fn launch(job: &mut Job) -> Result<(), HelperError> {
    let spec = &job.container.spec;
    let state = job.directory.oci_state();
    fs::create_dir_all(&state).map_err(step("make the container's state directory"))?;
    let console = spec.tty.then(|| Console::listen(&state)).transpose().map_err(step("listen for the terminal"))?;
    let mut container = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_executor(Command { reporter: job.reporter, confinement: None })
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
pub(super) fn own_standard_streams(identity: &Identity) {
    for standard in 0..3 {
        let is_pipe = nix::sys::stat::fstat(standard).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = fchown(standard, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)));
        }
    }
}

//! From a fresh process to a shim that answers: session, cgroup, namespaces, socket.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::{dup2, sethostname, setsid};

use super::pause::{self, Pause};
use super::users;
use crate::cgroup::{self, Cgroups};
use crate::kernel;
use crate::layout::{self, SHIM_SOCKET, SandboxDir, SandboxRecord, ShimRecord};
use crate::spec::Processes;
use crate::wire;

/// What the server needs.
pub(super) struct Prepared {
    pub(super) directory: SandboxDir,
    pub(super) listener: UnixListener,
    pub(super) signals: SignalFd,
    pub(super) cgroups: Cgroups,
    pub(super) record: SandboxRecord,
    /// Lives as long as this.
    _pause: Option<Pause>,
}

#[derive(Debug)]
pub(super) struct SetupError {
    operation: &'static str,
    cause: String,
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.cause)
    }
}

fn failed<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> SetupError {
    move |cause| SetupError { operation, cause: cause.to_string() }
}

pub(super) fn prepare(directory: &SandboxDir) -> Result<Prepared, SetupError> {
    let record: SandboxRecord = layout::load(&directory.record()).map_err(failed("read the sandbox's record"))?;
    kernel::close_inherited(); // whatever our starter had open would stay open as long as the pod
    setsid().map_err(failed("start a session"))?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022)); // containers inherit it
    let signals = take_signals().map_err(failed("take signals over"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("become the reaper of descendants"))?;
    let _ = nix::sys::prctl::set_name(c"sampan-shim"); // only for people who look at processes
    // The last to go when memory runs out; refused without CAP_SYS_RESOURCE, and nothing depends on it.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");

    let cgroups = Cgroups::discover().map_err(failed("find the cgroup hierarchies"))?;
    let own = cgroup::shims(&record.cgroup_root);
    cgroups
        .create(&own)
        .and_then(|()| cgroups.join(&own))
        .map_err(|e| SetupError { operation: "enter the shims' cgroup", cause: crate::error::chain(&e) })?;

    let mut pause = namespaces(directory, &record)?;
    let listener = listen(&directory.0).map_err(failed("listen on the shim's socket"))?;
    if pause.is_none() && record.spec.processes == Processes::Shared {
        pause = Some(pause::start(&directory.0).map_err(failed("make the pod's pid namespace"))?);
    }
    let first = pause.as_ref().map(|pause| pause.pid);
    let shim = ShimRecord { pid: std::process::id(), protocol: wire::VERSION, pause: first };
    layout::save(&directory.shim_record(), &shim).map_err(failed("record the shim"))?;
    Ok(Prepared { directory: directory.clone(), listener, signals, cgroups, record, _pause: pause })
}

/// Everything that would end us by default is either read as an event or ignored; only SIGKILL ends a shim.
fn take_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// The shim itself lives in the pod's namespaces, so its helpers and their containers are born into them. A pod with its
/// own users gets its first process here, where it is to have one.
fn namespaces(directory: &SandboxDir, record: &SandboxRecord) -> Result<Option<Pause>, SetupError> {
    let spec = &record.spec;
    let mut flags = CloneFlags::empty();
    if !spec.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    if !spec.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    let pause = match spec.users {
        Some(users) => users::enter(directory, users, flags, spec.processes == Processes::Shared)
            .map_err(failed("make the pod's user namespace"))?,
        None => unshare(flags).map(|()| None).map_err(failed("make the pod's namespaces"))?,
    };
    if !spec.host_network {
        sethostname(&spec.hostname).map_err(failed("set the pod's host name"))?;
        kernel::loopback_up().map_err(failed("bring the pod's loopback up"))?;
        // As containerd 2 does: with a network of their own, unprivileged users may use low ports and ping.
        write_sysctl("net.ipv4.ip_unprivileged_port_start", "0")?;
        write_sysctl("net.ipv4.ping_group_range", "0 2147483647")?;
        let pin = directory.netns();
        File::create(&pin).map_err(failed("make the network namespace's file"))?;
        let source = Path::new("/proc/self/ns/net");
        mount(Some(source), &pin, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(failed("pin the network namespace"))?;
    }
    for (name, value) in &spec.sysctls {
        write_sysctl(name, value)?;
    }
    if spec.host_ipc {
        return Ok(pause); // containers get the host's /dev/shm
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let shm = directory.shm();
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=64m"))
        .map_err(failed("mount the pod's shared memory"))?;
    Ok(pause)
}

fn write_sysctl(name: &str, value: &str) -> Result<(), SetupError> {
    // A slash in the name stands for itself, a dot for a separator; `..` must not leave the directory.
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(path, value).map_err(|e| SetupError { operation: "set a sysctl", cause: format!("{name}: {e}") })
}

/// The address of a Unix socket has room for 107 bytes only; the directory is entered by descriptor instead.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    let entrance = nix::fcntl::open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let entrance = kernel::inherited(entrance)?;
    let path = Path::new("/proc/self/fd").join(entrance.as_raw_fd().to_string()).join(SHIM_SOCKET);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The starter waits for the end of our standard output; nothing may be written to any of them later.
pub(super) fn close_standard_streams() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    for standard in 0..3 {
        let _ = dup2(null.as_raw_fd(), standard);
    }
}

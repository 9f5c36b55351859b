//! The way of a further process into a running container: its namespaces, its user, its filter of system calls. What
//! libcontainer has for it does not enter user namespaces, and filters before the process has given up its rights.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libcontainer::capabilities::{drop_privileges, reset_effective};
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Process};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::tty::setup_console;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::unistd::{ForkResult, Gid, Uid, chdir, fork, setsid};

use super::executor::become_command;
use super::report::Reporter;
use super::{HelperError, step};
use crate::error::chain;
use crate::kernel;

/// The namespaces of a container that are not its pod's.
pub(super) struct Namespaces {
    cgroup: File,
    processes: File,
    mounts: File,
    /// Of a pod with its own.
    users: Option<File>,
}

impl Namespaces {
    /// Those of the container whose first process this is.
    pub(super) fn of(pid: i32, own_users: bool) -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/{pid}/ns/{name}"));
        Ok(Self {
            cgroup: open("cgroup")?,
            processes: open("pid")?,
            mounts: open("mnt")?,
            users: own_users.then(|| open("user")).transpose()?,
        })
    }
}

/// What is to run there.
pub(super) struct Entry {
    pub(super) namespaces: Namespaces,
    pub(super) process: Process,
    pub(super) seccomp: Option<LinuxSeccomp>,
}

impl Entry {
    /// Makes the process, whose pid in our own namespace is answered, with its terminal if it has one. How it fares from
    /// there on it reports itself.
    pub(super) fn start(self, reporter: Reporter) -> Result<(i32, Option<OwnedFd>), HelperError> {
        // Until it has become the command, nobody in the container may look into it or take its descriptors.
        set_dumpable(false).map_err(step("hide from the container"))?;
        setns(&self.namespaces.cgroup, CloneFlags::CLONE_NEWCGROUP).map_err(step("enter the cgroup namespace"))?;
        setns(&self.namespaces.processes, CloneFlags::CLONE_NEWPID).map_err(step("enter the pid namespace"))?;
        let terminal = self.process.terminal() == Some(true);
        let sockets = terminal.then(UnixStream::pair).transpose().map_err(step("make a socket for the terminal"))?;
        let (ours, theirs) = sockets.unzip();
        // SAFETY: a helper has a single thread, so that the child may go on in it.
        match unsafe { fork() }.map_err(step("fork"))? {
            ForkResult::Child => {
                drop(ours);
                reporter.failed(&self.become_process(theirs), true);
                // SAFETY: the child ends here, without the destructors of what is its parent's.
                unsafe { libc::_exit(1) }
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let received = ours.map(|socket| kernel::receive(socket.as_fd(), &mut [0; 64])).transpose();
                let (_, descriptors) = received.map_err(step("receive the terminal"))?.unzip();
                Ok((child.as_raw(), descriptors.into_iter().flatten().next()))
            }
        }
    }

    /// Returns only when it has failed, in the words of an exec's failure.
    fn become_process(&self, terminal: Option<UnixStream>) -> String {
        match self.enter(terminal) {
            Ok(()) => become_command(&self.process),
            Err(failure) => failure,
        }
    }

    fn enter(&self, terminal: Option<UnixStream>) -> Result<(), String> {
        let syscall = create_syscall();
        setsid().map_err(failed("setsid"))?;
        setns(&self.namespaces.mounts, CloneFlags::CLONE_NEWNS).map_err(failed("enter the mount namespace"))?;
        if let Some(users) = &self.namespaces.users {
            setns(users, CloneFlags::CLONE_NEWUSER).map_err(failed("enter the user namespace"))?;
            syscall.set_id(Uid::from_raw(0), Gid::from_raw(0)).map_err(failed("become root of the user namespace"))?;
        }
        self.change_directory()?;
        if let Some(socket) = terminal {
            setup_console(&*syscall, socket.into_raw_fd(), false).map_err(failed("make the terminal"))?;
        }
        let user = self.process.user();
        let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
        syscall.set_groups(&groups).map_err(failed("set the groups"))?;
        syscall.set_id(Uid::from_raw(user.uid()), Gid::from_raw(user.gid())).map_err(failed("set the user"))?;
        let may_gain = self.process.no_new_privileges() != Some(true);
        if may_gain {
            // A right is needed to load the filter.
            self.filter()?;
        } else {
            set_no_new_privs().map_err(failed("give up new privileges"))?;
        }
        reset_effective(&*syscall).map_err(failed("set the capabilities"))?;
        if let Some(capabilities) = self.process.capabilities() {
            drop_privileges(capabilities, &*syscall).map_err(failed("set the capabilities"))?;
        }
        if may_gain { Ok(()) } else { self.filter() }
    }

    fn filter(&self) -> Result<(), String> {
        let loaded = self.seccomp.as_ref().map(initialize_seccomp).transpose();
        loaded.map(drop).map_err(failed("load the seccomp filter"))
    }

    /// Wherever a name leads, it must lead to a place in the container.
    fn change_directory(&self) -> Result<(), String> {
        let cwd = self.process.cwd();
        let named = |error: io::Error| format!("exec: chdir to cwd {cwd:?}: {error}");
        chdir(cwd).map_err(|errno| named(errno.into()))?;
        let real = std::env::current_dir().map_err(named)?;
        if real.starts_with(Path::new("/")) {
            return Ok(());
        }
        Err(named(io::Error::other("it is outside of the container")))
    }
}

fn failed<E: std::error::Error + 'static>(operation: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("exec: {operation}: {}", chain(&error))
}

//! A pod's own users: a user namespace, and the pod's other namespaces as its property, so that root of the pod may do in
//! them what root does. The shim itself stays what it is, with all its rights on the node: a child makes the namespaces,
//! the shim enters those that it needs, and the child ends.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};

use super::pause::{self, Pause};
use crate::kernel;
use crate::layout::SandboxDir;
use crate::spec::IdRange;

/// The child's word that a step is done; anything else is why it is not.
const DONE: u8 = b'.';

/// Makes the user namespace, pins it, and enters the new namespaces that `flags` name. With `pause`, it also makes a pid
/// namespace and starts that process in it.
pub(super) fn enter(
    directory: &SandboxDir,
    users: IdRange,
    flags: CloneFlags,
    pause: bool,
) -> io::Result<Option<Pause>> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let (held, life) = if pause { pause::life().map(|(life, held)| (Some(held), Some(life)))? } else { (None, None) };
    // SAFETY: the shim has a single thread, so that the child may go on in it.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((ours, held));
            let made = make(&theirs, flags, life.map(|life| (directory.0.as_path(), life)));
            let said = made.map_err(|error| (&theirs).write_all(error.to_string().as_bytes()));
            // SAFETY: the child ends here, without the destructors of what is its parent's.
            unsafe { libc::_exit(i32::from(said.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop((theirs, life));
            let entered = follow(&mut ours, child.as_raw(), directory, users, flags);
            drop(ours); // it waits for this
            let _ = waitpid(child, None);
            let pid = entered?;
            Ok(held.map(|held| Pause::new(pid, held)))
        }
    }
}

/// The child's part.
fn make(mut shim: &UnixStream, flags: CloneFlags, pause: Option<(&Path, OwnedFd)>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(named("make a user namespace"))?;
    shim.write_all(&[DONE])?;
    shim.read_exact(&mut [0])?; // its users are there
    setgroups(&[])
        .and_then(|()| setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)))
        .and_then(|()| setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)))
        .map_err(named("become root of the user namespace"))?;
    unshare(flags).map_err(named("make the namespaces of the user namespace"))?;
    let mut pid = 0;
    if let Some((directory, life)) = pause {
        unshare(CloneFlags::CLONE_NEWPID).map_err(named("make the pod's pid namespace"))?;
        pid = pause::spawn(directory, life)?;
    }
    shim.write_all(&[DONE])?;
    shim.write_all(&pid.to_be_bytes())?;
    let _ = shim.read(&mut [0]); // until the shim has entered them, or is gone
    Ok(())
}

/// The shim's part; answers the pid of the pause process.
fn follow(
    child: &mut UnixStream,
    pid: i32,
    directory: &SandboxDir,
    users: IdRange,
    flags: CloneFlags,
) -> io::Result<u32> {
    done(child)?;
    let process = kernel::pidfd(pid)?;
    let map = format!("0 {} {}\n", users.first, users.length);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &map)?;
    }
    let pin = directory.userns();
    File::create(&pin)?;
    let namespace = format!("/proc/{pid}/ns/user");
    mount(Some(Path::new(&namespace)), &pin, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    child.write_all(&[DONE])?;
    done(child)?;
    let mut pause = [0; 4];
    child.read_exact(&mut pause)?;
    setns(process, flags).map_err(named("enter the namespaces of the user namespace"))?;
    Ok(u32::from_be_bytes(pause))
}

fn done(child: &mut UnixStream) -> io::Result<()> {
    let mut word = [0];
    if child.read(&mut word)? == 1 && word[0] == DONE {
        return Ok(());
    }
    let mut message = String::from_utf8_lossy(&word).into_owned();
    child.read_to_string(&mut message)?;
    Err(io::Error::other(message))
}

fn named(operation: &'static str) -> impl FnOnce(Errno) -> io::Error {
    move |errno| io::Error::other(format!("{operation}: {}", errno.desc()))
}

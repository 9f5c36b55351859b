//! The system calls that no safe wrapper covers as we need them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A `File` view of a descriptor that someone else owns: reading and writing without closing.
pub(crate) struct BorrowedFile<'a> {
    file: ManuallyDrop<File>,
    _owner: std::marker::PhantomData<&'a OwnedFd>,
}

impl io::Read for BorrowedFile<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.file).read(buf)
    }
}

impl io::Write for BorrowedFile<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self.file).write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn borrow_file(fd: &OwnedFd) -> BorrowedFile<'_> {
    // SAFETY: the descriptor is open for as long as the borrow lives, and `ManuallyDrop` keeps this `File`
    // from closing what it does not own.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    BorrowedFile { file, _owner: std::marker::PhantomData }
}

/// Takes over a descriptor that was inherited across an exec and named on the command line.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: fcntl has just shown that it is open, and only the caller was told its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor above the standard ones. Only for the very start of a process, when it has opened
/// nothing of its own.
pub(crate) fn close_inherited() {
    // SAFETY: nothing in this process holds any of these descriptors yet; the call takes no pointers. It exists
    // since Linux 5.9.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Lets children inherit the descriptor.
pub(crate) fn make_inheritable(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())?;
    Ok(())
}

/// Sends bytes with descriptors on their first byte; returns how many bytes went.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes and the descriptors sent with them.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just installed these descriptors for this call; nobody else knows them.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor or an error.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    owned(fd)
}

/// A private, detached, read-only mount of one file. Whoever reaches the file through it (also by
/// `/proc/<pid>/exe` after executing it) cannot open it for writing.
pub(crate) fn read_only_view(path: &Path) -> io::Result<OwnedFd> {
    let tree = open_tree(path, 0)?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_attributes(&tree, &attributes, 0)?;
    Ok(tree)
}

/// A detached copy of what is mounted at a path and below it, with the propagation that the mounts there have.
pub(crate) fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    open_tree(path, libc::AT_RECURSIVE.cast_unsigned())
}

/// Cuts a detached tree off: no mount arrives in it, and none leaves it.
pub(crate) fn make_private(tree: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    set_attributes(tree, &attributes, libc::AT_RECURSIVE)
}

/// Shows the files of a detached tree's topmost mount as those of a user namespace: what belongs to user 0 there is that
/// of user 0 in the namespace. Not every file system can.
pub(crate) fn map_users(tree: &OwnedFd, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::from(namespace.as_raw_fd().cast_unsigned());
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_attributes(tree, &attributes, 0)
}

fn set_attributes(tree: &OwnedFd, attributes: &libc::mount_attr, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself; the attributes live for the call
    // and their size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Puts a detached tree where it belongs.
pub(crate) fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths are valid C strings for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            4, // MOVE_MOUNT_F_EMPTY_PATH
        )
    })?;
    Ok(())
}

fn open_tree(path: &Path, flags: libc::c_uint) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is a valid C string for the call.
    owned(check(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags,
        )
    })?)
}

/// Opens below `root` as if it were the root directory: neither `..` nor a symbolic link leaves it.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: open_how is plain integers, for which zero is valid; it has private padding in some versions.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | OFlag::O_CLOEXEC).bits().cast_unsigned());
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: path and open_how are valid for the call and the size is given.
    owned(check(unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    })?)
}

/// A file system being configured, for options that do not fit the single page of mount(2).
pub(crate) struct NewMount(OwnedFd);

impl NewMount {
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        // SAFETY: the name is a valid C string for the call.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1 /* FSOPEN_CLOEXEC */)
        })?;
        owned(fd).map(Self)
    }

    pub(crate) fn set(&self, key: &CStr, value: &Path) -> io::Result<()> {
        let value = c_path(value)?;
        self.configure(1 /* FSCONFIG_SET_STRING */, key.as_ptr(), value.as_ptr())
    }

    pub(crate) fn mount_at(self, target: &Path) -> io::Result<()> {
        self.configure(6 /* FSCONFIG_CMD_CREATE */, std::ptr::null(), std::ptr::null())?;
        // SAFETY: no pointers.
        let mount = owned(check(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), 1 /* FSMOUNT_CLOEXEC */, 0)
        })?)?;
        attach(&mount, target)
    }

    fn configure(&self, command: u32, key: *const libc::c_char, value: *const libc::c_char) -> io::Result<()> {
        // SAFETY: key and value are null or valid C strings for the call, as the command asks.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) })?;
        Ok(())
    }
}

/// Brings the loopback link of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFFLAGS fills the request's union member `ifru_flags`; the pointer is valid for the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }.into())?;
    // SAFETY: the call above has set this member of the union.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS only reads the request.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())?;
    Ok(())
}

/// Undoes the signal settings of the Rust runtime and the shim before a foreign program is executed.
pub(crate) fn reset_signals() {
    /// The kernel's `sigaction`, all zero: the default action, no flags, nothing masked.
    static DEFAULT: [u64; 4] = [0; 4];
    // SAFETY: the process is single-threaded and about to exec, so that no handler can run. The C library leaves
    // two signals to itself and ignored, hence the system call: it reads a `sigaction` with a mask of 8 bytes, which
    // is valid for ever; the signals that cannot be changed are refused without harm. An empty set is a valid mask.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn check(result: libc::c_long) -> io::Result<RawFd> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: every caller has just got this descriptor from the kernel as the result of a successful call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

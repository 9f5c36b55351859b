//! The system call and the file system of pins.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::MsFlags;

use super::Error;

/// What the system call does.
#[derive(Clone, Copy)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    ObjectPin = 6,
    ObjectGet = 7,
    TypesLoad = 18,
    LinkCreate = 28,
    LinkUpdate = 29,
}

/// # Safety
/// `attributes` is the C structure of that command, without padding that is not zero, and every address in it is of memory
/// that lives during the call and has the size that the kernel will assume.
pub(super) unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the pointer and the size are of a live local of the caller; what is in it is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// For the commands that return a descriptor.
///
/// # Safety
/// As [`bpf`].
pub(super) unsafe fn bpf_fd<T>(command: Command, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address as the kernel takes it.
pub(super) fn address<T: ?Sized>(pointer: *const T) -> u64 {
    pointer.cast::<()>() as u64
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let pinned = || {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut object = Object { path: address(name.as_ptr()), fd: fd.as_raw_fd().cast_unsigned(), flags: 0 };
        // SAFETY: the structure of this command has no padding; the name ends with zero and outlives the call.
        unsafe { bpf(Command::ObjectPin, &mut object) }
    };
    pinned().map(drop).map_err(|source| Error::Pin { path: path.into(), source })
}

/// `None` where nothing is.
pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let opened = || {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut object = Object { path: address(name.as_ptr()), fd: 0, flags: 0 };
        // SAFETY: the structure of this command has no padding; the name ends with zero and outlives the call.
        unsafe { bpf_fd(Command::ObjectGet, &mut object) }
    };
    match opened() {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Open { path: path.into(), source }),
    }
}

/// A file system of its own for pins, which only root may look at. What is pinned there ends with it.
pub fn mount(path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700")).map_err(Into::into)
}
